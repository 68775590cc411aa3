"""What this process has done since it began, in plain numbers: the rooms count here, and a scrape makes metrics of it.

To count is an addition to a number that is there already, without a lock, so it can't fail and costs next to nothing.
Keys are names and codes of our own, never what a stranger sent: so there are never more than a few.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

SUCCESS: Final = "OK"
# A request that was refused before it was known which operation it calls.
UNKNOWN: Final = "unknown"

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
WORKS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CALLS_MAX = 256  # few enough that the garbage collector never sees them


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


class DoorCounts:
    """What came in through one mail door; messages and recipients by the code of the reply, sessions by their end."""

    __slots__ = ("messages", "received_bytes", "recipients", "sessions")

    def __init__(self) -> None:
        self.messages: defaultdict[int, int] = defaultdict(int)
        self.recipients: defaultdict[int, int] = defaultdict(int)
        self.sessions: defaultdict[str, int] = defaultdict(int)
        self.received_bytes = 0


class Counts:
    """Everything that is counted, by what its keys say; durations in seconds."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """As at the beginning, for a process that was forked."""
        self._calls: list[tuple[str, str, float]] = []
        self._requests: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._request_seconds: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.works: defaultdict[tuple[str, str], int] = defaultdict(int)  # (kind, outcome)
        self.commit_works = Histogram(WORKS)
        self.commit_seconds = Histogram(SECONDS)
        self.commit_failures = 0
        self.lock_waits = 0
        self.repeats = 0
        self.doors: defaultdict[str, DoorCounts] = defaultdict(DoorCounts)
        self.stored: defaultdict[str, int] = defaultdict(int)  # `inbox`, or `discard` for what is stored nowhere
        self.deliveries: defaultdict[tuple[str, str], int] = defaultdict(int)  # (transport, outcome)

    def add_call(self, operation: str, code: str, seconds: float) -> None:
        """Calls are put into their places many at a time, which costs a third of doing so with each."""
        self._calls.append((operation, code, seconds))
        if len(self._calls) >= CALLS_MAX:
            self._place_calls()

    @property
    def requests(self) -> Mapping[tuple[str, str], int]:
        """By operation and code."""
        self._place_calls()
        return self._requests

    @property
    def request_seconds(self) -> Mapping[str, Histogram]:
        """By operation."""
        self._place_calls()
        return self._request_seconds

    def _place_calls(self) -> None:
        calls, self._calls = self._calls, []
        for operation, code, seconds in calls:
            self._requests[operation, code] += 1
            self._request_seconds[operation].add(seconds)

    def add_commit(self, *, works: int, seconds: float) -> None:
        self.commit_works.add(works)
        self.commit_seconds.add(seconds)


counted = Counts()
