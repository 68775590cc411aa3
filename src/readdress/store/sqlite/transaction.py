"""One transaction on one connection to SQLite, and what its failures mean."""

import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from readdress.clock import Clock
from readdress.store.database import Row, StoreBusy, StoreError, StoreFull, StoreUnavailable, Work
from readdress.store.queries import Query, by_number
from readdress.store.sqlite.files import open_present

T = TypeVar("T")


class SqliteTransaction:
    """The Transaction of one connection between its BEGIN and COMMIT."""

    __slots__ = ("_connection", "_now_ms")

    has_text_table = True

    def __init__(self, connection: sqlite3.Connection, now_ms: int) -> None:
        self._connection = connection
        self._now_ms = now_ms

    @property
    def now_ms(self) -> int:
        return self._now_ms

    def one(self, query: Query, **parameters: Any) -> Row | None:
        row: Row | None = self._connection.execute(query, parameters).fetchone()
        return row

    def all(self, query: Query, **parameters: Any) -> list[Row]:
        return self._connection.execute(query, parameters).fetchall()

    def execute(self, query: Query, **parameters: Any) -> int:
        return self._connection.execute(query, parameters).rowcount

    def send(self, query: Query, **parameters: Any) -> None:
        self._connection.execute(query, parameters)

    def execute_all(self, query: Query, rows: Sequence[Mapping[str, Any]]) -> int:
        if not rows:
            return 0
        text, take = by_number(query)
        return self._connection.executemany(text, map(take, rows)).rowcount

    def lock(self, query: Query, **parameters: Any) -> None:
        """Nothing: a writing transaction is alone from its first statement."""


def read_at_one_instant(connection: sqlite3.Connection, work: Work[T], now_ms: int) -> T:
    try:
        connection.execute("BEGIN")
        try:
            return work(SqliteTransaction(connection, now_ms))
        finally:
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise store_error(error) from error


def read_once(path: Path, work: Work[T], *, clock: Clock) -> T:
    """Read an existing file and let go of it, for commands that only look. Raises SchemaError without a file."""
    with contextlib.closing(open_present(path)) as connection:
        return read_at_one_instant(connection, work, clock.now_ms())


def store_error(error: sqlite3.Error) -> StoreError:
    """The one table that says what an engine's failure means."""
    primary_code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kinds: dict[int, Callable[[str], StoreError]] = {
        sqlite3.SQLITE_BUSY: StoreBusy,
        sqlite3.SQLITE_LOCKED: StoreBusy,
        sqlite3.SQLITE_FULL: StoreFull,
    }
    return kinds.get(primary_code, StoreUnavailable)(str(error))
