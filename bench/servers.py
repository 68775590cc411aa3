"""The servers that are measured: Readdress on its databases, and the peers, each on a free port of loopback.

Every server ends with the block that started it, by its own process id. A peer that is not installed raises Missing.
"""

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from harness.postgres import SERVANT, PostgresServer
from harness.process import ServiceProcess
from measure import PEERS, POSTGRES, POSTGRES_WORKERS, SQLITE, SQLITE_WORKERS, Missing

START_SECONDS_MAX = 60
BARE = """
import sys, uvicorn
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none", lifespan="off", log_level="error")
"""


def peer_program(name: str) -> str:
    program = PEERS / name
    if not program.exists():
        raise Missing(f"{name}: `make bench-deps` installs it")
    return str(program)


def answers_http(port: int) -> bool:
    """Whatever the answer is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


@contextmanager
def started(
    command: Sequence[str],
    answers: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    poll_s: float = 0.02,
) -> Iterator[subprocess.Popen[bytes]]:
    """The program, once it answers; ended with SIGTERM, and SIGKILL if it doesn't obey."""
    with (log or Path(os.devnull)).open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[0]} did not start; see {log}")
            time.sleep(poll_s)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def bare_command(port: int) -> list[str]:
    return [sys.executable, "-c", BARE, str(port)]


def moto_command(port: int) -> list[str]:
    return [peer_program("moto_server"), "-H", "127.0.0.1", "-p", str(port)]


def ministack_command(_: int) -> list[str]:
    return [peer_program("ministack")]


def ministack_environment(port: int, folder: Path) -> dict[str, str]:
    """It would listen on every interface, and keep its files in places of its own."""
    return {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "TMPDIR": str(folder), "SFTP_ENABLED": "0"}


class Service(NamedTuple):
    """Readdress, and the PostgreSQL that it is on, if it is."""

    who: str
    process: ServiceProcess
    database: PostgresServer | None

    @property
    def pids(self) -> list[int]:
        """The processes that do its work: its own, and those of its database."""
        return [self.process.process.pid, *([self.database.process.pid] if self.database else [])]


@contextmanager
def readdress(folder: Path) -> Iterator[list[Service]]:
    """On SQLite and on a PostgreSQL with fsync on, in one process and in two workers."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(postgres(folder / "postgres"))
        workers = ["--workers", "2"]
        kinds: list[tuple[str, PostgresServer | None, list[str]]] = [
            (SQLITE, None, []),
            (SQLITE_WORKERS, None, workers),
            (POSTGRES, database, []),
            (POSTGRES_WORKERS, database, workers),
        ]
        services = []
        for who, server, options in kinds:
            where = ["--database", server.url(server.create_database())] if server else []
            process = ServiceProcess(folder / who.replace(" ", "-"), *where, *options)
            stack.callback(process.stop)
            services.append(Service(who, process, server))
        yield services


@contextmanager
def postgres(folder: Path) -> Iterator[PostgresServer]:
    """With all its promises, on the same disk as everything else that is measured."""
    folder.mkdir(parents=True)
    if os.geteuid() == 0:
        shutil.chown(folder, SERVANT)
    with PostgresServer({"max_connections": "100"}, folder=folder) as server:
        yield server
