"""A mail host that says what a test has written, whatever it hears: for replies that no honest program gives."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from harness.outgoing import HOSTNAME, TIMEOUTS, local
from readdress.smtp.client import send
from readdress.smtp.outgoing import ClientTimeouts, OutgoingMail, SendResult

WAIT_S_MAX = 10


@dataclass(frozen=True)
class Hear:
    """Wait for a line that begins so."""

    start: str


@dataclass(frozen=True)
class HearContent:
    """Wait for the end of DATA's content."""


@dataclass(frozen=True)
class HearChunk:
    """Wait for a BDAT command and its octets."""


@dataclass(frozen=True)
class HearBytes:
    """Wait for some bytes, whatever they are."""


@dataclass(frozen=True)
class StartTls:
    context: ssl.SSLContext


@dataclass(frozen=True)
class Silence:
    """Say nothing until the client has gone."""


Step: TypeAlias = bytes | str | Hear | HearContent | HearChunk | HearBytes | StartTls | Silence
"""Bytes are said as they are, text with a line end; the connection is closed after the last step."""

GREETING = "220 host.example ESMTP"
BYE: Sequence[Step] = (Hear("QUIT"), "221 bye")
ENVELOPE: Sequence[Step] = (Hear("MAIL"), "250 ok", Hear("RCPT"), "250 ok")


def ehlo(*keywords: str, verb: str = "EHLO") -> list[Step]:
    lines = ["host.example", *keywords]
    said = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}"
    return [Hear(verb), said]


@dataclass
class Heard:
    """What came over one connection: command lines, and contents as they were on the wire."""

    lines: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    is_over: bool = False


class ScriptedHost:
    """Takes connections one after the other, each by the next script."""

    def __init__(self, scripts: Sequence[Sequence[Step]]) -> None:
        self._scripts = list(scripts)
        self.heard: list[Heard] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.port = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks.append(task)
        heard = Heard()
        self.heard.append(heard)
        script = self._scripts[len(self.heard) - 1] if len(self.heard) <= len(self._scripts) else []
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                for step in script:
                    await self._take_step(step, heard, reader, writer)
        except (OSError, EOFError, ssl.SSLError):
            pass  # the client has gone, as many of these scripts want it to
        finally:
            heard.is_over = True
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _take_step(
        self, step: Step, heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match step:
            case bytes() | str():
                writer.write(step if isinstance(step, bytes) else f"{step}\r\n".encode())
                await writer.drain()
            case Hear(start):
                while not (line := await _line(reader, heard)).upper().startswith(start.upper()):
                    pass
            case HearContent():
                heard.contents.append(b"")
                while (raw := await reader.readline()) != b".\r\n":
                    if not raw:
                        raise EOFError
                    heard.contents[-1] += raw
            case HearChunk():
                line = await _line(reader, heard)
                heard.contents.append(await reader.readexactly(int(line.split()[1])))
            case HearBytes():
                await reader.read(65_536)
            case StartTls(context):
                await writer.start_tls(context)
            case Silence():
                while await reader.read(65_536):
                    pass


async def _line(reader: asyncio.StreamReader, heard: Heard) -> str:
    raw = await reader.readline()
    if not raw:
        raise EOFError
    heard.lines.append(raw.decode().rstrip("\r\n"))
    return heard.lines[-1]


@contextlib.asynccontextmanager
async def scripted_host(*scripts: Sequence[Step]) -> AsyncIterator[ScriptedHost]:
    """On a free port of loopback; every script's connection is over at the end."""
    host = ScriptedHost(scripts)
    server = await asyncio.start_server(host.take, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        server.close()
        if host.tasks:
            await asyncio.wait(host.tasks, timeout=WAIT_S_MAX)
        for task in host.tasks:
            task.cancel()


def send_to(
    mail: OutgoingMail, *scripts: Sequence[Step], timeouts: ClientTimeouts = TIMEOUTS, **target: Any
) -> tuple[SendResult, list[Heard]]:
    """Send the mail to a host that has a script for each connection: the result, and what the host heard over each."""

    async def converse() -> tuple[SendResult, list[Heard]]:
        async with scripted_host(*scripts) as host:
            result = await send(local(host.port, **target), mail, timeouts=timeouts, hostname=HOSTNAME)
        return result, host.heard

    return asyncio.run(converse())
