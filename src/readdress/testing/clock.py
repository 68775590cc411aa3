"""A clock that runs ahead of the machine's by what a test has advanced it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from readdress.clock import Clock


class AdvancedClock(Clock):
    """The clock of a service; how far it is ahead is the affair of the test that runs, and ends with it."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


class TimeOfService:
    """What a test does with the clock of the service."""

    def __init__(self, clock: AdvancedClock) -> None:
        self._clock = clock

    @property
    def now(self) -> datetime:
        """The service's time, in UTC."""
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0, milliseconds: float = 0
    ) -> datetime:
        """Let so much time pass at once, until the test ends; gives the time it is then. Raises ValueError."""
        ahead = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
        if ahead <= timedelta(0):
            raise ValueError("time only goes forward: advance by more than nothing, as in advance(days=8)")
        self._clock.ahead_ms += round(ahead / timedelta(milliseconds=1))
        return self.now

    def reset(self) -> None:
        """Back to the machine's time."""
        self._clock.ahead_ms = 0
