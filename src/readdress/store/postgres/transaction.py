"""The Transaction of PostgreSQL: locks and changes wait for the next question, and travel with it.

So a transaction takes as many round trips as its work has questions that depend on each other. What fails on the
server is raised at the question with which the statement travelled, or at the commit.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from readdress.store.database import Row
from readdress.store.postgres.connection import Result
from readdress.store.postgres.dialect import Ask, ask, ask_all
from readdress.store.queries import Query


class PostgresTransaction:
    """`exchange` carries statements to the server and gives their results."""

    __slots__ = ("_begin", "_exchange", "_now_ms", "has_written", "locks", "unsent")

    has_text_table = False

    def __init__(
        self, now_ms: int, exchange: Callable[["PostgresTransaction", Ask], Result], *, begin: Ask | None = None
    ) -> None:
        self._now_ms = now_ms
        self._exchange = exchange
        self._begin = begin
        self.locks: list[Ask] = []
        self.unsent: list[Ask] = []
        self.has_written = False

    @property
    def now_ms(self) -> int:
        return self._now_ms

    def one(self, query: Query, **parameters: Any) -> Row | None:
        rows = self._exchange(self, ask(query, parameters)).rows()
        return rows[0] if rows else None

    def all(self, query: Query, **parameters: Any) -> list[Row]:
        return self._exchange(self, ask(query, parameters)).rows()

    def execute(self, query: Query, **parameters: Any) -> int:
        self.has_written = True
        return self._exchange(self, ask(query, parameters)).changed

    def send(self, query: Query, **parameters: Any) -> None:
        self.unsent.append(ask(query, parameters))

    def execute_all(self, query: Query, rows: Sequence[Mapping[str, Any]]) -> int:
        if not rows:
            return 0
        self.has_written = True
        return self._exchange(self, ask_all(query, rows)).changed

    def lock(self, query: Query, **parameters: Any) -> None:
        self.locks.append(ask(query, parameters))

    @property
    def has_begun(self) -> bool:
        return self._begin is None

    def take_waiting(self) -> list[Ask]:
        """What has to go out before the next question: BEGIN, locks, then changes, each in their order."""
        waiting = [self._begin, *self.locks, *self.unsent] if self._begin else [*self.locks, *self.unsent]
        self._begin = None
        self.has_written |= bool(self.unsent)
        self.locks.clear()
        self.unsent.clear()
        return waiting
