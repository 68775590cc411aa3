"""Token buckets: how often an account may call an operation. Off unless `aws_limits` is on (contract 5)."""

from typing import NamedTuple

from readdress.clock import Clock
from readdress.errors import ThrottlingException

BUCKETS_MAX = 100_000


class Rate(NamedTuple):
    """A bucket of `burst` calls that fills with `per_second` calls a second."""

    per_second: float
    burst: float


class Rates:
    """The buckets of every account and operation, in this process."""

    def __init__(self, rate: Rate | None, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: dict[tuple[str, str], tuple[float, int]] = {}

    def take(self, account: str, operation: str) -> None:
        """One call out of the bucket; raises ThrottlingException, with the time until the next, when it is empty."""
        rate = self._rate
        if rate is None:
            return
        now_ms = self._clock.now_ms()
        level, filled_ms = self._buckets.get((account, operation), (rate.burst, now_ms))
        level = min(rate.burst, level + max(0, now_ms - filled_ms) * rate.per_second / 1000)
        if len(self._buckets) >= BUCKETS_MAX:
            self._buckets.clear()
        self._buckets[account, operation] = (level - 1 if level >= 1 else level, now_ms)
        if level < 1:
            wait_ms = int((1 - level) / rate.per_second * 1000) + 1
            raise ThrottlingException(
                f"Rate exceeded: {operation} may be called {rate.per_second:g} times a second. "
                f"Try again in {wait_ms} ms.",
                retry_after_ms=wait_ms,
            )
