"""Copies every table from one database to another, of either engine, in the order of keys, and compares what came.

A copy that was broken off goes on behind the last row of each table. It ends with the same count and the same digest of
every table on both sides, or with CopyMismatch.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from readdress.store.database import Database, Row, Transaction
from readdress.store.queries import Query

ROWS_MAX = 1_000
# A row of content has up to 256 KiB.
CONTENT_ROWS_MAX = 32


class CopyMismatch(Exception):
    """The target has something else than the source; the text says where, and what to do."""


class Table(NamedTuple):
    """A table and the columns of its key."""

    name: str
    key: tuple[str, ...]

    @property
    def rows_max(self) -> int:
        return CONTENT_ROWS_MAX if self.name == "content" else ROWS_MAX


# Those that others refer to come first.
TABLES = (
    Table("instance", ("id",)),
    Table("email_address", ("id",)),
    Table("alias", ("alias_id",)),
    Table("alias_history", ("alias_id", "id")),
    Table("tag", ("resource_id", "key")),
    Table("access_key", ("id",)),
    Table("idempotency_token", ("account", "operation", "token")),
    Table("rate", ("account", "operation")),
    Table("audit", ("request_id",)),
    Table("message", ("id",)),
    Table("content", ("message_id", "part")),
    Table("staged_content", ("message_id",)),
    Table("delivery", ("address_id", "id")),
    Table("spool", ("delivery_id",)),
    Table("attempt", ("delivery_id", "number")),
    Table("srs", ("sender",)),
    Table("console_session", ("id",)),
)
# Not copied: which processes run here is of no use elsewhere.
LEFT_OUT = frozenset({"node", "schema_version"})


_NUMBER = Query(
    "INSERT INTO address_number (address_id) SELECT id FROM email_address"
    " WHERE id NOT IN (SELECT address_id FROM address_number) ORDER BY id",
    "number_addresses",
)
_COLUMNS_OF_SQLITE = Query("SELECT name FROM pragma_table_info(:table_name) ORDER BY name", "sqlite_columns")
_COLUMNS_OF_POSTGRES = Query(
    "SELECT column_name::text FROM information_schema.columns"
    " WHERE table_schema = current_schema() AND table_name = :table_name ORDER BY 1",
    "postgres_columns",
)


def list_columns(tx: Transaction, table_name: str, *, is_postgres: bool) -> list[str]:
    """By name, which is the same order in both engines."""
    query = _COLUMNS_OF_POSTGRES if is_postgres else _COLUMNS_OF_SQLITE
    return [name for (name,) in tx.all(query, table_name=table_name)]


def count_rows(tx: Transaction) -> int:
    return sum(_count(tx, table) for table in TABLES)


def copy(
    source: Transaction,
    target: Database,
    *,
    columns_of: Callable[[str], list[str]],
    on_progress: Callable[[int], None],
) -> int:
    """How many rows the source has. `source` is one read transaction; `on_progress` hears of rows as they are done.

    `columns_of` names the columns of a table. Raises CopyMismatch.
    """
    total = 0
    for table in TABLES:
        columns = columns_of(table.name)
        last = target.run(lambda tx, table=table: _last_key(tx, table))  # type: ignore[misc]
        if last is not None:
            on_progress(target.run(lambda tx, table=table: _count(tx, table)))  # type: ignore[misc]
        for rows in _pages(source, table, columns, after=last):
            target.run(lambda tx, table=table, columns=columns, rows=rows: _insert(tx, table, columns, rows))  # type: ignore[misc]
            on_progress(len(rows))
        total += _compare(source, target, table, columns)
    target.run(_number_addresses)
    return total


def _number_addresses(tx: Transaction) -> None:
    """For the index of texts, where the target has one."""
    if tx.has_text_table:
        tx.execute(_NUMBER)


def _compare(source: Transaction, target: Database, table: Table, columns: list[str]) -> int:
    wanted = _digest(source, table, columns)
    came = target.run(lambda tx: _digest(tx, table, columns))
    if wanted != came:
        raise CopyMismatch(
            f"the table {table.name} has {came[0]} rows and should have {wanted[0]}, or rows that differ: "
            "stop everything that writes to either database, and copy again into an empty one"
        )
    return wanted[0]


def _digest(tx: Transaction, table: Table, columns: list[str]) -> tuple[int, str]:
    """How many rows, and a hash of all of them in the order of keys."""
    count, digest = 0, hashlib.blake2b(digest_size=16)
    for rows in _pages(tx, table, columns, after=None):
        count += len(rows)
        for row in rows:
            for value in row:
                digest.update(_as_bytes(value))
    return count, digest.hexdigest()


def _as_bytes(value: Any) -> bytes:
    """A form in which no two rows look the same."""
    raw = value if isinstance(value, bytes) else str(value).encode()
    return f"{type(value).__name__}:{len(raw)}:".encode() + raw


def _pages(tx: Transaction, table: Table, columns: list[str], *, after: Row | None) -> Iterator[list[Row]]:
    at = [columns.index(column) for column in table.key]
    while True:
        rows = _page(tx, table, columns, after)
        if rows:
            yield rows
        if len(rows) < table.rows_max:
            return
        after = tuple(rows[-1][place] for place in at)


def _page(tx: Transaction, table: Table, columns: list[str], after: Row | None) -> list[Row]:
    key = ", ".join(table.key)
    names = [f"k{number}" for number in range(len(table.key))]
    where = f"WHERE ({key}) > ({', '.join(':' + name for name in names)})" if after else ""
    query = Query(f"SELECT {', '.join(columns)} FROM {table.name} {where} ORDER BY {key} LIMIT :limit")
    return tx.all(query, limit=table.rows_max, **dict(zip(names, after or (), strict=bool(after))))


def _last_key(tx: Transaction, table: Table) -> Row | None:
    order = ", ".join(f"{column} DESC" for column in table.key)
    return tx.one(Query(f"SELECT {', '.join(table.key)} FROM {table.name} ORDER BY {order} LIMIT 1"))


def _count(tx: Transaction, table: Table) -> int:
    row = tx.one(Query(f"SELECT count(*) FROM {table.name}"))
    return int(row[0]) if row else 0


def _insert(tx: Transaction, table: Table, columns: list[str], rows: list[Row]) -> None:
    values = ", ".join(f":{column}" for column in columns)
    query = Query(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({values})", name=f"copy_{table.name}")
    for row in rows:
        tx.send(query, **dict(zip(columns, row, strict=True)))
