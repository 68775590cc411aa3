"""A real database, of whose statements one fails, or all from one on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from readdress.store.database import Database, Row, StoreUnavailable, Together, Transaction, Work
from readdress.store.queries import Query

T = TypeVar("T")


@dataclass
class Failure:
    """Which statement fails, counted from one: before or after it did its work, once or from then on."""

    at: int
    after: bool = False
    lasting: bool = False
    error: type[Exception] = StoreUnavailable
    seen: int = 0
    happened: bool = False

    def around(self, statement: Callable[[], T]) -> T:
        self.seen += 1
        due = self.seen >= self.at if self.lasting else self.seen == self.at
        if due and not self.after:
            self._happen()
        value = statement()
        if due:
            self._happen()
        return value

    def _happen(self) -> None:
        self.happened = True
        raise self.error(f"statement {self.seen} was made to fail")


class FailingTransaction:
    """A real transaction, but for one statement."""

    def __init__(self, tx: Transaction, failure: Failure) -> None:
        self._tx = tx
        self._failure = failure

    @property
    def now_ms(self) -> int:
        return self._tx.now_ms

    def one(self, query: Query, **parameters: Any) -> Row | None:
        return self._failure.around(lambda: self._tx.one(query, **parameters))

    def all(self, query: Query, **parameters: Any) -> list[Row]:
        return self._failure.around(lambda: self._tx.all(query, **parameters))

    def execute(self, query: Query, **parameters: Any) -> int:
        return self._failure.around(lambda: self._tx.execute(query, **parameters))

    def send(self, query: Query, **parameters: Any) -> None:
        self._failure.around(lambda: self._tx.send(query, **parameters))

    @property
    def has_text_table(self) -> bool:
        return self._tx.has_text_table

    def execute_all(self, query: Query, rows: Sequence[Mapping[str, Any]]) -> int:
        return self._failure.around(lambda: self._tx.execute_all(query, rows))

    def lock(self, query: Query, **parameters: Any) -> None:
        self._failure.around(lambda: self._tx.lock(query, **parameters))


class FailingDatabase:
    """A real database, but for one statement."""

    def __init__(self, database: Database, failure: Failure) -> None:
        self._database = database
        self._failure = failure

    def _failing(self, work: Work[T]) -> Work[T]:
        return lambda tx: work(FailingTransaction(tx, self._failure))

    def run(self, work: Work[T]) -> T:
        return self._database.run(self._failing(work))

    async def write(self, work: Work[T], *, together: Together | None = None) -> T:
        return await self._database.write(self._failing(work), together=together)

    async def read(self, work: Work[T]) -> T:
        return await self._database.read(self._failing(work))

    async def find(self, query: Query, **parameters: Any) -> Row | None:
        return await self.read(lambda tx: tx.one(query, **parameters))

    async def scan(self, work: Work[T]) -> T:
        return await self._database.scan(self._failing(work))

    def close(self) -> None:
        self._database.close()
