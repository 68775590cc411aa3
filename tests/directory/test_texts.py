"""The index of texts on SQLite: what is in it, and when."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from conftest import ManualClock
from harness.tables import check_promises
from readdress.directory import addresses, instances, texts
from readdress.store.database import Database, Transaction
from readdress.store.migrations import SQLITE, load_migrations
from readdress.store.sqlite import files as store
from readdress.store.sqlite.database import SqliteDatabase

pytestmark = pytest.mark.sqlite_only


def publish(*ids: str) -> Callable[[Transaction], None]:
    def work(tx: Transaction) -> None:
        if instances.find(tx, account="1", instance_id="i") is None:
            instances.create(tx, instances.Instance("i", "1", None, "SAML", None, 1, 1, 0))
        for address_id in ids:
            addresses.create(
                tx,
                address_id=address_id,
                instance_id="i",
                address=f"{address_id}@example.com",
                display_name=None,
                description=None,
                addresses_max=None,
            )

    return work


def test_the_index_takes_in_a_batch_and_leaves_less_for_later(database: Database) -> None:
    database.run(publish(*"abcdef"))
    assert not database.run(texts.index_some)
    assert database.run(lambda tx: texts.index_some(tx, batch=6))
    assert not database.run(lambda tx: texts.index_some(tx, batch=1))


def test_addresses_that_an_older_program_left_are_numbered_in_the_order_of_their_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = load_migrations(SQLITE, clustered="WITHOUT ROWID")
    monkeypatch.setattr(store, "load_migrations", lambda *_, **__: steps[:3])
    monkeypatch.setattr(texts, "number", lambda *_: None)  # which that program did not know
    with closing(SqliteDatabase(tmp_path / "x.db", clock=ManualClock(), lock_wait_ms=1_000)) as older:
        older.run(publish("b", "a"))
    monkeypatch.undo()
    with closing(SqliteDatabase(tmp_path / "x.db", clock=ManualClock(), lock_wait_ms=1_000)) as newer:
        newer.run(publish("c"))
        check_promises(newer)
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        numbered = connection.execute("SELECT address_id FROM address_number ORDER BY number").fetchall()
    assert numbered == [("a",), ("b",), ("c",)]
