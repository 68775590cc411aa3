"""Works on the simplest table of a PostgreSQL database, and somebody else who stands in their way."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from harness.engine import open_beside
from readdress.store.database import Together, Transaction
from readdress.store.postgres.database import PostgresDatabase
from readdress.store.queries import Query

INSERT = Query("INSERT INTO tag (resource_id, key, value) VALUES ('r', :key, :value)", "insert_tag")
CHANGE = Query("UPDATE tag SET value = :value WHERE key = :key", "change_tag")
LOCK = Query("SELECT key FROM tag WHERE key = :key {lock}", "lock_tag")
COUNT = Query("SELECT count(*) FROM tag", "count_tags")
KEYS = Query("SELECT key FROM tag ORDER BY key", "find_keys")
XID = Query("SELECT pg_current_xact_id()::text", "find_transaction")
WAIT_SECONDS_MAX = 20


class Trouble(Exception):
    pass


def put(key: str, value: str = "v") -> Callable[[Transaction], int]:
    return lambda tx: tx.execute(INSERT, key=key, value=value)


def change(key: str, value: str) -> Callable[[Transaction], int]:
    """Locks the row, and changes it with the next statement."""

    def work(tx: Transaction) -> int:
        tx.lock(LOCK, key=key)
        return tx.execute(CHANGE, key=key, value=value)

    return work


def put_and_tell(key: str) -> Callable[[Transaction], str]:
    """Gives the number of the transaction that wrote it."""

    def work(tx: Transaction) -> str:
        put(key)(tx)
        return transaction_number(tx)

    return work


def transaction_number(tx: Transaction) -> str:
    row = tx.one(XID)
    assert row
    return str(row[0])


def keys(tx: Transaction) -> list[str]:
    return [key for (key,) in tx.all(KEYS)]


def fail_after_writing(tx: Transaction) -> None:
    put("lost")(tx)
    raise Trouble


def fail_before_writing(tx: Transaction) -> None:
    tx.one(COUNT)
    raise Trouble


def touching(*names: str) -> Together:
    return Together("tests", frozenset(names))


@contextmanager
def other_client(store: PostgresDatabase) -> Iterator["psycopg.Connection[Any]"]:
    """Somebody else in the middle of a transaction, which is undone."""
    with psycopg.connect(store._target.conninfo) as connection:
        yield connection
        connection.rollback()


@contextmanager
def locked_by_another(store: PostgresDatabase, key: str) -> Iterator["psycopg.Connection[Any]"]:
    with other_client(store) as other:
        assert other.execute("SELECT 1 FROM tag WHERE key = %s FOR UPDATE", (key,)).fetchone()
        yield other


def backends(store: PostgresDatabase, condition: str = "true") -> list[int]:
    """The server's processes that serve the program; the condition is on pg_stat_activity."""
    with open_beside(store) as rows:
        found = rows.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'readdress' "
            f"AND pid <> pg_backend_pid() AND {condition}"
        ).fetchall()
    return [pid for (pid,) in found]


def wait_for_backends(store: PostgresDatabase, condition: str) -> list[int]:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not (found := backends(store, condition)):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
    return found


def check_nothing_is_left_open(store: PostgresDatabase) -> None:
    """No transaction goes on, on any connection of the program."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while backends(store, "state <> 'idle'"):
        assert time.monotonic() < deadline, "a transaction was left open"
        time.sleep(0.01)
