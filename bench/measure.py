"""What a measure is: a figure of one round, the size of a run, and what a tree of processes has used.

A group of measures is a context manager that starts its servers and yields measures; each measure is a function that
gives its figures once, and is asked again in every round. A peer that is missing raises Missing and is left out.
"""

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

HERE = Path(__file__).parent
OUT = HERE / "out"
PEERS = OUT / "peers" / "bin"

SQLITE, SQLITE_WORKERS, POSTGRES, POSTGRES_WORKERS = (
    "Readdress on SQLite",
    "Readdress on SQLite, 2 workers",
    "Readdress on PostgreSQL",
    "Readdress on PostgreSQL, 2 workers",
)


class Figure(NamedTuple):
    """What one round found: `work` done by `who`, so much in its unit, with so much CPU for each unit of work."""

    work: str
    who: str
    value: float
    unit: str
    cpu_us: float | None = None


class Missing(Exception):
    """A peer or a tool is not there; the text says which, and what installs it."""


Measure: TypeAlias = Callable[[], Iterable[Figure]]


@dataclass(frozen=True)
class Scale:
    """How much is measured: the same measures, longer or shorter."""

    rounds: int = 5
    seconds: float = 1.0  # of load, for each figure
    http_connections: Sequence[int] = (1, 32)
    pairs: int = 512  # of addresses whose aliases change
    mail_connections: int = 20
    messages_min: int = 200  # for each figure, however slow the peer
    sizes: Sequence[int] = (10_000, 1_000_000)  # of the growing directory
    samples: int = 1_000  # of latency, for each figure
    import_rows: int = 200_000


DEFAULT = Scale()
FULL = Scale(sizes=(10_000, 1_000_000, 10_000_000), import_rows=1_500_000)
# For the test suite: everything is done, nothing is measured well.
SHORT = Scale(
    1, 0.2, (32,), pairs=256, messages_min=40, mail_connections=5, sizes=(200, 400), samples=20, import_rows=300
)

Say: TypeAlias = Callable[[str], None]
Group: TypeAlias = Callable[[Scale, Path, Say], AbstractContextManager[list[Measure]]]


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` of all don't exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def tree(pid: int) -> list[int]:
    """A process and all that descend from it, as far as they live."""
    found = [pid]
    for parent in found:
        for task in _tasks(parent):
            found.extend(int(child) for child in _read(f"/proc/{parent}/task/{task}/children").split())
    return found


def cpu_seconds(*pids: int) -> float:
    """What these processes have used so far with their descendants, also those that have ended and were waited for."""
    ticks = 0
    for pid in pids:
        for member in tree(pid):
            ticks += sum(map(int, _read(f"/proc/{member}/stat").rpartition(") ")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, *, peak: bool = False) -> float:
    """Resident memory of a process and its descendants; what they share is counted for each of them."""
    name = "VmHWM:" if peak else "VmRSS:"
    found = (_read(f"/proc/{member}/status").partition(name)[2].split() for member in tree(pid))
    return sum(int(words[0]) for words in found if words) / 1024


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _tasks(pid: int) -> list[str]:
    try:
        return [task.name for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []


def _read(path: str) -> str:
    """Of a process that may end meanwhile."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
