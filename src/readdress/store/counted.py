"""A Database that counts what is asked of it, by kind and outcome; what it can't do, the one behind it can't."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from readdress.metrics import SUCCESS, counted
from readdress.store.database import Database, StoreBusy, StoreError, StoreFull, Together, Work

T = TypeVar("T")


class CountedDatabase:
    """Counts changes that may take turns by the kind of these, others as `other`, and scans.

    Look-ups go straight on: what is around each, a call or a recipient, is counted, and costs little more than a count.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.read = database.read
        self.find = database.find

    def run(self, work: Work[T]) -> T:
        try:
            value = self._database.run(work)
        except BaseException as error:
            _count_failure("other", error)
            raise
        counted.works["other", SUCCESS] += 1
        return value

    async def write(self, work: Work[T], *, together: Together | None = None) -> T:
        kind = together.kind if together else "other"
        try:
            value = await self._database.write(work, together=together)
        except BaseException as error:
            _count_failure(kind, error)
            raise
        counted.works[kind, SUCCESS] += 1
        return value

    async def scan(self, work: Work[T]) -> T:
        try:
            value = await self._database.scan(work)
        except BaseException as error:
            _count_failure("scan", error)
            raise
        counted.works["scan", SUCCESS] += 1
        return value

    def close(self) -> None:
        self._database.close()


@contextmanager
def counting_commit(*, works: int) -> Iterator[None]:
    """Around what makes so many works durable."""
    began = monotonic()
    try:
        yield
    except BaseException:
        counted.commit_failures += 1
        raise
    counted.add_commit(works=works, seconds=monotonic() - began)


# The first that fits; any other error is the work's own, such as a refusal that the caller reads.
_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (StoreBusy, "busy"),
    (StoreFull, "full"),
    (StoreError, "unavailable"),
    (asyncio.CancelledError, "abandoned"),
    (BaseException, "refused"),
)


def _count_failure(kind: str, error: BaseException) -> None:
    outcome = next(outcome for cause, outcome in _OUTCOMES if isinstance(error, cause))
    counted.works[kind, outcome] += 1
