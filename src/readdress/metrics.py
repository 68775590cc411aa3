"""What this process has done since it began, in plain numbers: the rooms count here, and a scrape makes metrics of it.

To count is an addition to a number that is there already, without a lock, so it can't fail and costs next to nothing.
Keys are names and codes of our own, never what a stranger sent: so there are never more than a few.
"""

from bisect import bisect_left
from collections import defaultdict
from typing import Final

SUCCESS: Final = "OK"
# A request that was refused before it was known which operation it calls.
UNKNOWN: Final = "unknown"

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
WORKS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """How many values lie at or below each bound, and above the one before; the last number is for those above all."""

    __slots__ = ("bounds", "numbers", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.numbers = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.numbers[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Counts:
    """Everything that is counted, by what its keys say; durations in seconds."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """As at the beginning, for a process that was forked."""
        self.requests: defaultdict[tuple[str, str], int] = defaultdict(int)  # (operation, code)
        self.request_seconds: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(SECONDS))  # operation
        self.works: defaultdict[tuple[str, str], int] = defaultdict(int)  # (kind, outcome)
        self.commit_works = Histogram(WORKS)
        self.commit_seconds = Histogram(SECONDS)
        self.commit_failures = 0
        self.lock_waits = 0
        self.repeats = 0
        self.messages: defaultdict[tuple[str, int], int] = defaultdict(int)  # (door, reply code)
        self.recipients: defaultdict[tuple[str, int], int] = defaultdict(int)  # the same
        self.received_bytes: defaultdict[str, int] = defaultdict(int)  # door
        self.sessions: defaultdict[tuple[str, str], int] = defaultdict(int)  # (door, end)
        self.deliveries: defaultdict[tuple[str, str], int] = defaultdict(int)  # (transport, outcome)

    def add_commit(self, *, works: int, seconds: float) -> None:
        self.commit_works.add(works)
        self.commit_seconds.add(seconds)


counted = Counts()
