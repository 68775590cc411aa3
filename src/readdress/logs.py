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
from typing import Literal, Self, TextIO

import msgspec

LINES_MAX = 256
_NAME = re.compile(r"%\((\w+)\)")


class Line(str):
    """The text of a line that is written often: `Line("readdress.mail", "message %(message_id)s: %(reply)s")`.

    It is written with its values in their order, at level INFO; JSON has them by name. Where the program's own handler
    is set up it goes there without a LogRecord, which takes longer to make than most of what it tells of.
    """

    __slots__ = ("_logger", "names")
    names: tuple[str, ...]
    _logger: logging.Logger

    def __new__(cls, logger: str, text: str) -> Self:
        line = super().__new__(cls, _NAME.sub("%", text))
        line.names = tuple(_NAME.findall(text))
        line._logger = logging.getLogger(logger)
        return line

    @property
    def logger(self) -> str:
        return self._logger.name

    def write(self, *values: object) -> None:
        if _handler is None:
            self._logger.info(self, *values)
        elif self._logger.isEnabledFor(logging.INFO):
            _handler.take(self, values)


def set_up(*, worker: int = 0, log_format: Literal["text", "json"] = "text") -> None:
    """Everything of level INFO and above goes to stderr; lines of several processes say whose they are."""
    global _handler  # noqa: PLW0603 - as logging's own handlers are the process's
    formatter = _JsonFormatter(worker) if log_format == "json" else _TextFormatter(worker)
    _handler = _Handler(sys.stderr, formatter)
    logging.basicConfig(level=logging.INFO, handlers=[_handler], force=True)
    # What no line shows need not be found out for each of them (the way that Python's documentation names).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001


class _TextFormatter(logging.Formatter):
    _second = 0
    _shown = ""

    def __init__(self, worker: int) -> None:
        self._who = f" worker {worker}" if worker else ""
        super().__init__(f"%(asctime)s %(levelname)s{self._who} %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        return self._show(record.created)

    def show(self, line: Line, values: tuple[object, ...]) -> str:
        return f"{self._show(time.time())} INFO{self._who} {line.logger}: {line % values}"

    def _show(self, at_s: float) -> str:
        second = int(at_s)
        if second != self._second:
            self._second, self._shown = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._shown},{int((at_s - second) * 1000):03d}"


class _JsonFormatter(logging.Formatter):
    """A line is an object; its time is RFC 3339's, in UTC. What its text is made of by name is there by name, too."""

    _second = 0
    _shown = ""

    def __init__(self, worker: int) -> None:
        super().__init__()
        self._worker = worker
        self._encode = msgspec.json.Encoder().encode

    def format(self, record: logging.LogRecord) -> str:
        named: Mapping[str, object] = record.args if isinstance(record.args, Mapping) else {}
        exception = {"exception": self.formatException(record.exc_info)} if record.exc_info else {}
        said = {"level": record.levelname, "logger": record.name, "message": record.getMessage(), **exception}
        return self._show(record.created, named, said)

    def show(self, line: Line, values: tuple[object, ...]) -> str:
        said = {"level": "INFO", "logger": line.logger, "message": line % values}
        return self._show(time.time(), dict(zip(line.names, values, strict=True)), said)

    def _show(self, at_s: float, named: Mapping[str, object], said: Mapping[str, str]) -> str:
        second = int(at_s)
        if second != self._second:
            self._second, self._shown = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        at = f"{self._shown}.{int((at_s - second) * 1000):03d}Z"
        return self._encode({**named, "time": at, "worker": self._worker, **said}).decode()


class _Handler(logging.StreamHandler[TextIO]):
    """Keeps lines for the next turn of the event loop; without one, and from WARNING on, they are written at once."""

    def __init__(self, stream: TextIO, formatter: _TextFormatter | _JsonFormatter) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)
        self._show = formatter.show
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._keep(self.format(record), is_urgent=record.levelno >= logging.WARNING)
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)

    def take(self, line: Line, values: tuple[object, ...]) -> None:
        shown = self._show(line, values)
        self.acquire()
        try:
            self._keep(shown)
        except (OSError, ValueError):  # the stream is full or closed, and a log never ends its program
            pass
        finally:
            self.release()

    def _keep(self, line: str, *, is_urgent: bool = False) -> None:
        self._lines.append(line + self.terminator)
        if is_urgent or len(self._lines) >= LINES_MAX or not self._write_soon():
            self.flush()

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


_handler: _Handler | None = None
