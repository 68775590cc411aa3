"""Fixtures: a database of its own for each test, and one real process for all that want to talk to the program."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.engine import ENGINES, POSTGRES, SQLITE, Engine, engine_in_use, provide_postgres, use
from harness.http_client import HttpClient
from harness.instance import Instance
from harness.postgres import PostgresServer
from harness.process import ServiceProcess
from readdress.clock import Clock
from readdress.store.database import Database

pytest_plugins = ["pytester"]

# Programs run as everybody's do, with their bytecode kept, even where the environment forbids it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ACCOUNT = "123456789012"
TESTS = Path(__file__).parent
# Folders whose tests with a running program use both engines.
ON_BOTH = frozenset({"api", "bulk", "mail", "test_database_commands.py", "test_logs.py", "test_metrics.py"})


class ManualClock(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self, now_ms: int = 1_767_225_600_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, ms: int) -> None:
        self._now_ms += ms


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What stores runs on both engines; what looks at doors and wires alone, or is about one engine, on SQLite."""
    if "engine" not in metafunc.fixturenames:
        return
    folder = metafunc.definition.path.relative_to(TESTS).parts[0]
    is_for_both = "database" in metafunc.fixturenames or folder in ON_BOTH
    engines: tuple[str, ...] = ENGINES if is_for_both else (SQLITE,)
    for engine_name in ENGINES:
        if metafunc.definition.get_closest_marker(f"{engine_name}_only"):
            engines = (engine_name,)
    metafunc.parametrize("engine", engines, indirect=True, scope="session")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One for all tests of a worker."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Engine:
    """The database that the test uses, and every program that it starts."""
    if request.param == POSTGRES:
        provide_postgres(request.getfixturevalue("postgres_server"))
    return engine_in_use()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    use(parameters.get("engine", SQLITE))


@pytest.fixture
def database(engine: Engine, tmp_path: Path, clock: ManualClock) -> Iterator[Database]:
    with engine.database(tmp_path, clock) as opened:
        yield opened


@pytest.fixture(scope="session")
def service(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """The real program in development mode, shared by all tests: use a fresh instance and fresh addresses."""
    process = ServiceProcess(tmp_path_factory.mktemp("service"))
    yield process
    process.stop()


@pytest.fixture
def start_service(engine: Engine, tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    """Start programs of one's own, with options; each is ended after the test."""
    started: list[ServiceProcess] = []

    def start(*options: str, data: Path | None = None, **keywords: Any) -> ServiceProcess:
        process = ServiceProcess(data or tmp_path / "data", *options, **keywords)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.process.poll() is None:
            process.stop()


@pytest.fixture(scope="session")
def connect(service: ServiceProcess) -> Iterator[Any]:
    """A boto3 client of the shared service, one for all tests: making one takes longer than most of them."""
    client = service.connect()
    yield client
    client.close()


@pytest.fixture
def http(service: ServiceProcess) -> Iterator[HttpClient]:
    """A raw signed HTTP client of the shared service."""
    client = HttpClient(service.http_address)
    yield client
    client.close()


@pytest.fixture
def instance(service: ServiceProcess, connect: Any, http: HttpClient) -> Instance:
    """A fresh instance in the words of the tests."""
    return Instance(service, connect, http)


@pytest.fixture
def instance_id(connect: Any) -> str:
    """A fresh instance of the shared service."""
    created = connect.create_instance(
        IdentityManagementType="CONNECT_MANAGED", InboundCallsEnabled=True, OutboundCallsEnabled=True
    )
    return str(created["Id"])


@pytest.fixture
def new_address() -> Callable[[str], str]:
    """An address that nobody has published: `new_address("help")` → `help-1f2e…@example.com`."""
    return lambda name: f"{name}-{uuid.uuid4().hex[:12]}@example.com"


@pytest.fixture
def create(connect: Any, instance_id: str, new_address: Callable[[str], str]) -> Callable[..., tuple[str, str]]:
    """Publish an address in the fresh instance: gives (its id, its text)."""

    def create_address(name: str = "help", **members: Any) -> tuple[str, str]:
        text = members.pop("EmailAddress", None) or new_address(name)
        made = connect.create_email_address(InstanceId=instance_id, EmailAddress=text, **members)
        return str(made["EmailAddressId"]), text

    return create_address
