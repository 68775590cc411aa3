"""Start to first answer, and memory at rest and under load: Readdress on SQLite, moto_server and ministack."""

import compileall
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import api
import load
import readdress
import servers
from harness.process import free_port
from measure import SQLITE, Figure, Measure, Missing, Say, Scale, memory_mib

LOAD_SECONDS = 2
START, REST, BUSY = "start to first answer", "memory at rest", "memory under load, at its peak"


@contextmanager
def measures(scale: Scale, folder: Path, say: Say) -> Iterator[list[Measure]]:  # noqa: ARG001 - as every group
    """A new process each time; the load is 32 connections that ask whatever they get an answer to.

    Bytecode is made first, as pip did for the peers when it installed them: a start is no compilation.
    """
    compileall.compile_dir(Path(readdress.__file__).parent, quiet=1)
    yield [
        partial(_list_if_there, say, partial(_measure, who, command, folder, count()))
        for who, command in (
            (SQLITE, readdress_command),
            (api.MOTO, servers.moto_command),
            (api.MINISTACK, servers.ministack_command),
        )
    ]


def _list_if_there(say: Say, measure: Callable[[], list[Figure]]) -> list[Figure]:
    try:
        return measure()
    except Missing as missing:
        say(f"left out: {missing}")
        return []


def readdress_command(port: int) -> list[str]:
    return [sys.executable, "-m", "readdress", "serve", "--dev", "--http", f"127.0.0.1:{port}", "--smtp", "127.0.0.1:0"]


def _measure(who: str, command: Callable[[int], list[str]], folder: Path, numbers: "count[int]") -> list[Figure]:
    port = free_port()
    arguments = command(port)
    if who == SQLITE:
        arguments += ["--data", str(folder / f"start-{next(numbers)}")]
    environment = servers.ministack_environment(port, folder)
    begun = time.perf_counter()
    answers = partial(servers.answers_http, port)
    with servers.started(arguments, answers, environment=environment, poll_s=0.003) as process:
        figures = [Figure(START, who, time.perf_counter() - begun, "s")]
        figures.append(Figure(REST, who, memory_mib(process.pid), "MiB"))
        requests = [load.sign("GET", "/_readdress/live" if who == SQLITE else "/", f"127.0.0.1:{port}")]
        if who == api.MOTO:
            requests = [load.sign("GET", "/instance", f"127.0.0.1:{port}")]
        if who == api.MINISTACK:
            requests = [load.sign("GET", "/v2/email/identities", f"127.0.0.1:{port}", service="ses")]
        try:
            for connections in (1, 32):  # one first, for some load what they need with the first request
                load.run(f"127.0.0.1:{port}", requests, connections=connections, seconds=LOAD_SECONDS, folder=folder)
        except Missing:
            return figures
        return [*figures, Figure(BUSY, who, memory_mib(process.pid, peak=True), "MiB")]
