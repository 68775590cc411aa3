"""Token buckets: how often an account may call an operation, on all nodes together. Off unless `aws_limits` is on.

A bucket is one number, the time at which it will be full again (contract 5). It is taken from in a transaction of its
own: a call that is refused afterwards has cost its token all the same.
"""

from typing import NamedTuple

from readdress.errors import ThrottlingException
from readdress.store.database import Database, Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "api.sql")


class Rate(NamedTuple):
    """A bucket of `burst` calls that fills with `per_second` calls a second."""

    per_second: float
    burst: int

    @property
    def interval_ms(self) -> int:
        return round(1000 / self.per_second)


class Rates:
    """The buckets of every account and operation; without a rate there are none."""

    def __init__(self, rate: Rate | None) -> None:
        self._rate = rate

    async def take(self, database: Database, *, account: str, operation: str) -> None:
        """One call out of the bucket; raises ThrottlingException, with the time until the next, when it is empty."""
        rate = self._rate
        if rate is None:
            return
        wait_ms = await database.write(lambda tx: take(tx, rate, account=account, operation=operation))
        if wait_ms:
            raise ThrottlingException(
                f"Rate exceeded: {operation} may be called {rate.per_second:g} times a second. "
                f"Try again in {wait_ms} ms.",
                retry_after_ms=wait_ms,
            )


def take(tx: Transaction, rate: Rate, *, account: str, operation: str) -> int:
    """0 for a call that may go on, else how many milliseconds it should wait."""
    bucket = {"account": account, "operation": operation}
    latest_ms = tx.now_ms + (rate.burst - 1) * rate.interval_ms
    if tx.execute(sql.take_call, **bucket, now_ms=tx.now_ms, interval_ms=rate.interval_ms, latest_ms=latest_ms):
        return 0
    row = tx.one(sql.find_bucket, **bucket)
    full_ms = row[0] if row else latest_ms + 1
    empty_ms = latest_ms + rate.interval_ms
    if full_ms > empty_ms:  # it was filled by a clock that has gone back since
        full_ms = empty_ms
        tx.send(sql.empty_bucket, **bucket, full_ms=full_ms)
    return max(1, int(full_ms - latest_ms))
