"""The log: lines on a stream, written together when the event loop comes round.

A line for every message costs less than the message this way: the clock's text is made once a second, and what many
messages of one commit say is one write. A program reads JSON better: then a line is an object.
"""

import asyncio
import logging
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Self, TextIO

import msgspec

LINES_MAX = 256
_NAME = re.compile(r"%\((\w+)\)")


class Line(str):
    """The text of a line that is written often: `Line("message %(message_id)s from <%(sender)s>")`.

    It is logged with its values in their order, which costs a third of a dictionary of them; JSON has them by name.
    """

    __slots__ = ("names",)
    names: tuple[str, ...]

    def __new__(cls, text: str) -> Self:
        line = super().__new__(cls, _NAME.sub("%", text))
        line.names = tuple(_NAME.findall(text))
        return line


def set_up(*, worker: int = 0, log_format: Literal["text", "json"] = "text") -> None:
    """Everything of level INFO and above goes to stderr; lines of several processes say whose they are."""
    who = f" worker {worker}" if worker else ""
    handler = _Handler(sys.stderr)
    text = _Formatter(f"%(asctime)s %(levelname)s{who} %(name)s: %(message)s")
    handler.setFormatter(_JsonFormatter(worker) if log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # What no line shows need not be found out for each of them (the way that Python's documentation names).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class _Formatter(logging.Formatter):
    _second = 0
    _shown = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        second = int(record.created)
        if second != self._second:
            self._second, self._shown = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._shown},{int(record.msecs):03d}"


class _JsonFormatter(logging.Formatter):
    """A line is an object; its time is RFC 3339's, in UTC. What its text is made of by name is there by name, too."""

    _second = 0
    _shown = ""

    def __init__(self, worker: int) -> None:
        super().__init__()
        self._worker = worker
        self._encode = msgspec.json.Encoder().encode

    def format(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._second, self._shown = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        line: dict[str, Any] = {
            **_named(record),
            "time": f"{self._shown}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "worker": self._worker,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return self._encode(line).decode()


def _named(record: logging.LogRecord) -> Mapping[str, object]:
    if isinstance(record.msg, Line):
        return dict(zip(record.msg.names, record.args or (), strict=False))
    return record.args if isinstance(record.args, Mapping) else {}


class _Handler(logging.StreamHandler[TextIO]):
    """Keeps lines for the next turn of the event loop; without one, and from WARNING on, they are written at once."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + self.terminator)
            if record.levelno >= logging.WARNING or len(self._lines) >= LINES_MAX or not self._write_soon():
                self.flush()
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)

    def flush(self) -> None:
        self.acquire()
        try:
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("".join(lines))
            super().flush()
        finally:
            self.release()

    def _write_soon(self) -> bool:
        """Whether the event loop will see to it; the first of several lines asks for that."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if len(self._lines) == 1:
            loop.call_soon(self.flush)
        return True
