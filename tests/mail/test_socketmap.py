"""The socketmap door of the real program: asked by Postfix' own postmap, and by a client that does not behave."""

import asyncio
import contextlib
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from harness.engine import Engine
from harness.process import DEV_INSTANCE, ServiceProcess, split_address
from harness.programs import require_program
from harness.socketmap_client import SocketmapClient, netstring
from readdress.config import Config, ConfigError
from readdress.mail.socketmap import REQUEST_BYTES_MAX, SocketmapServer
from readdress.service import Service
from readdress.store.database import Database, Work

DRIPS_MAX = 60
PAUSE_S = 0.2
ALIAS = "alias@example.com"
BOTH = "alias@example.com, primary@example.com"


def publish_pair(process: ServiceProcess) -> dict[str, Any]:
    """alias@ as an alias of primary@; gives what Disassociate takes."""
    client = process.connect()
    ids = {
        name: client.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=f"{name}@example.com")["EmailAddressId"]
        for name in ("primary", "alias")
    }
    pair = {
        "InstanceId": DEV_INSTANCE,
        "EmailAddressId": ids["primary"],
        "AliasConfiguration": {"EmailAddressId": ids["alias"]},
    }
    client.associate_email_address_alias(**pair)
    return pair


@pytest.fixture(scope="module")
def process(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Shared, with the pair published; tests that change it start their own."""
    started = ServiceProcess(tmp_path_factory.mktemp("socketmap"), "--socketmap", "127.0.0.1:0")
    publish_pair(started)
    yield started
    started.stop()


@pytest.fixture
def client(process: ServiceProcess) -> Iterator[SocketmapClient]:
    with SocketmapClient(split_address(process.socketmap)) as connected:
        yield connected


def postmap(endpoint: str, name: str, key: str) -> tuple[int, str, str]:
    """Status, what was found, and what Postfix says when it could not ask: its own client's understanding of us."""
    command = [require_program("postmap"), "-q", key, f"socketmap:{endpoint}:{name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout.rstrip("\n"), done.stderr


def test_postmap_finds_what_is_known_and_misses_the_rest_without_a_word(process: ServiceProcess) -> None:
    # postmap(1): status zero for a key that was found, non-zero for one that was not
    endpoint = f"inet:{process.socketmap}"
    assert postmap(endpoint, "alias", "ALIAS@example.com") == (0, BOTH, "")
    assert postmap(endpoint, "domain", "example.com") == (0, "example.com", "")
    assert postmap(endpoint, "mailbox", ALIAS)[0] == 0
    for name in ("alias", "mailbox", "domain"):
        assert postmap(endpoint, name, "nobody@example.com") == (1, "", "")


@pytest.mark.sqlite_only
def test_an_error_is_neither_silent_nor_not_found(
    start_service: Callable[..., ServiceProcess], process: ServiceProcess
) -> None:
    status, found, said = postmap(f"inet:{process.socketmap}", "aliases", ALIAS)
    assert (status, found) == (1, "")
    assert "permanent error: there is no such map" in said  # socketmap_table(5), PERM

    own = start_service("--socketmap", "127.0.0.1:0")
    publish_pair(own)
    with contextlib.closing(sqlite3.connect(own.data / "readdress.db", isolation_level=None, timeout=10)) as other:
        other.execute("ALTER TABLE email_address RENAME TO broken")
        status, found, said = postmap(f"inet:{own.socketmap}", "alias", ALIAS)
        assert (status, found) == (1, "")
        assert "temporary error: cannot look up now" in said
        assert "email_address" not in said
        with SocketmapClient(split_address(own.socketmap)) as client:
            for request in ("mailbox nobody@example.com", "domain elsewhere.example", "domain example.com"):
                assert client.ask(request) == "TEMP cannot look up now, try again later"
        other.execute("ALTER TABLE broken RENAME TO email_address")
    assert postmap(f"inet:{own.socketmap}", "alias", ALIAS) == (0, BOTH, "")
    own.stop()
    assert "Connection refused" in postmap(f"inet:{own.socketmap}", "alias", ALIAS)[2]


def test_the_next_answer_follows_the_apis_200(start_service: Callable[..., ServiceProcess]) -> None:
    own = start_service("--socketmap", "127.0.0.1:0")
    pair = publish_pair(own)
    connect = own.connect()
    with SocketmapClient(split_address(own.socketmap)) as client:
        for _ in range(20):
            assert client.ask(f"alias {ALIAS}") == f"OK {BOTH}"
            connect.disassociate_email_address_alias(**pair)
            assert client.ask(f"alias {ALIAS}") == f"OK {ALIAS}"
            connect.associate_email_address_alias(**pair)


def test_many_requests_at_once_are_answered_in_their_order(client: SocketmapClient) -> None:
    keys = [f"{number}@example.com" if number % 2 else ALIAS for number in range(2_000)]
    client.send(b"".join(netstring(f"alias {key}") for key in keys))
    for key in keys:
        assert client.read_answer() == (f"OK {BOTH}" if key == ALIAS else "NOTFOUND ")


def test_a_request_may_come_byte_by_byte(client: SocketmapClient) -> None:
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in netstring(f"alias {ALIAS}"):
        client.send(bytes([byte]))
    assert client.read_answer() == f"OK {BOTH}"


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [
        (b"alias \xff\xfe@example.com", "NOTFOUND "),
        (b"alias a b c@example.com", "NOTFOUND "),
        (b"alias ", "NOTFOUND "),
        (b"alias  " + ALIAS.encode(), "NOTFOUND "),
        (b"alias", "PERM a request is"),
        (b"", "PERM a request is"),
        (b"\xff x", "PERM there is no such map"),
        (b"ALIAS x", "PERM there is no such map"),
        (b"alias " + b"x" * (REQUEST_BYTES_MAX - 6), "NOTFOUND "),
    ],
)
def test_what_is_odd_gets_an_answer_and_the_connection_goes_on(
    client: SocketmapClient, request_bytes: bytes, answer: str
) -> None:
    client.send(b"%d:%b," % (len(request_bytes), request_bytes))
    assert client.read_answer().startswith(answer)
    assert client.ask(f"alias {ALIAS}") == f"OK {BOTH}"


def test_a_request_that_is_too_long_is_said_to_be_and_ends_the_connection(client: SocketmapClient) -> None:
    client.send(b"%d:" % (REQUEST_BYTES_MAX + 1))
    assert client.read_answer() == f"PERM a request has {REQUEST_BYTES_MAX} bytes at most"
    assert client.is_closed()


def test_what_is_no_netstring_ends_the_connection_with_one_line_in_the_log(process: ServiceProcess) -> None:
    before = process.errors.count("sent no request")
    with SocketmapClient(split_address(process.socketmap)) as client:
        assert client.ask(f"alias {ALIAS}") == f"OK {BOTH}"
        client.send(b"get a@example.com\n")  # tcp_table(5)
        assert client.is_closed()
    assert process.errors.count("sent no request") == before + 1
    assert "Traceback" not in process.errors


def test_who_hangs_up_in_the_middle_disturbs_nobody(process: ServiceProcess) -> None:
    for data in (b"", b"5", b"20:alias", b"".join([netstring(f"alias {ALIAS}")] * 500)):
        with SocketmapClient(split_address(process.socketmap)) as client:
            client.send(data)
    with SocketmapClient(split_address(process.socketmap)) as client:
        assert client.ask(f"alias {ALIAS}") == f"OK {BOTH}"
    assert "Traceback" not in process.errors


def test_one_connection_too_many_hears_temp(start_service: Callable[..., ServiceProcess]) -> None:
    own = start_service("--socketmap", "127.0.0.1:0", environment={"READDRESS_CONNECTIONS_MAX": "2"})
    address = split_address(own.socketmap)
    with SocketmapClient(address) as first, SocketmapClient(address) as second:
        for client in (first, second):
            assert client.ask("alias a@example.com") == "NOTFOUND "
        with SocketmapClient(address) as third:
            assert third.read_answer() == "TEMP too many connections, try again later"
            assert third.is_closed()
        first.close()
        deadline = time.monotonic() + 10
        answer = ""
        while answer != "NOTFOUND " and time.monotonic() < deadline:
            with SocketmapClient(address) as again, contextlib.suppress(OSError):
                answer = again.ask("alias a@example.com")
        assert answer == "NOTFOUND "


@pytest.mark.parametrize("beginning", [b"", netstring(f"alias {ALIAS}")], ids=["at once", "after a request"])
def test_a_request_that_drips_has_one_deadline(start_service: Callable[..., ServiceProcess], beginning: bytes) -> None:
    own = start_service("--socketmap", "127.0.0.1:0", environment={"READDRESS_COMMAND_TIMEOUT_MS": "1000"})
    with SocketmapClient(split_address(own.socketmap)) as client:
        if beginning:
            client.send(beginning)
            assert client.read_answer() == "NOTFOUND "
        with pytest.raises(OSError):  # it has hung up
            drip(client, b"%d:%b" % (DRIPS_MAX, b"x" * DRIPS_MAX))


def drip(client: SocketmapClient, data: bytes) -> None:
    for byte in data:
        client.send(bytes([byte]))
        time.sleep(PAUSE_S)


def test_a_socket_in_the_file_system(start_service: Callable[..., ServiceProcess], tmp_path: Path) -> None:
    path = tmp_path / "map.sock"
    own = start_service("--socketmap", f"unix:{path}")
    assert own.socketmap == f"unix:{path}"
    publish_pair(own)
    with SocketmapClient(path) as client:
        assert client.ask(f"alias {ALIAS}") == f"OK {BOTH}"
        client.send(b"x")
        assert client.is_closed()
    assert "unix sent no request" in own.errors
    assert postmap(f"unix:{path}", "alias", ALIAS) == (0, BOTH, "")
    own.stop()
    start_service("--socketmap", f"unix:{path}").stop()  # what the last run left there is no obstacle


def test_stopping_lets_go_of_who_waits(start_service: Callable[..., ServiceProcess]) -> None:
    own = start_service("--socketmap", "127.0.0.1:0", environment={"READDRESS_DRAIN_MS": "60000"})
    with SocketmapClient(split_address(own.socketmap)) as idle, SocketmapClient(split_address(own.socketmap)) as half:
        assert idle.ask("alias a@example.com") == "NOTFOUND "
        half.send(b"10:alias")
        assert own.stop(seconds=10) == 0
        assert idle.is_closed()
        assert half.is_closed()


def test_stopping_answers_the_request_in_hand(database: Database) -> None:
    class SlowDatabase:
        """A real one, whose look-up goes on when it is told to."""

        def __init__(self) -> None:
            self.asked = asyncio.Event()
            self.go_on = asyncio.Event()

        async def read(self, work: Work[Any]) -> Any:
            self.asked.set()
            await self.go_on.wait()
            return await database.read(work)

    async def stop_in_the_middle() -> bytes:
        slow = SlowDatabase()
        server = SocketmapServer(cast("Database", slow), connections_max=1, request_s=10, drain_s=10)
        listening = socket.create_server(("127.0.0.1", 0))
        await server.start([listening])
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(netstring("alias a@example.com"))
        await slow.asked.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        slow.go_on.set()
        await stopping
        heard = await reader.read()
        writer.close()
        return heard

    assert asyncio.run(asyncio.wait_for(stop_in_the_middle(), 10)) == b"9:NOTFOUND ,"


def test_development_mode_keeps_it_on_loopback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loopback"):  # contract 4
        Service(Config(data=str(tmp_path), dev=True, socketmap="192.0.2.1:2527"))
