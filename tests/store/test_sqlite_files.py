"""The schema in SQLite's file: which steps run, and which files are refused."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from conftest import ManualClock
from harness.tables import dump
from readdress.store.database import SchemaError, Transaction
from readdress.store.migrations import SQLITE, Step, load_migrations
from readdress.store.queries import Query
from readdress.store.sqlite import files as store
from readdress.store.sqlite.database import SqliteDatabase

pytestmark = pytest.mark.sqlite_only

INSERT = Query("INSERT INTO tag (resource_id, key, value) VALUES (:resource, :key, :value)")


def put(key: str, value: str = "v") -> Callable[[Transaction], int]:
    return lambda tx: tx.execute(INSERT, resource="r", key=key, value=value)


def test_a_newer_schema_is_refused_and_the_sentence_says_what_to_do(database: SqliteDatabase) -> None:
    database.run(put("kept"))
    database.close()
    newest = load_migrations(SQLITE, clustered="")[-1].version
    with closing(sqlite3.connect(database._path)) as connection, connection:
        connection.execute("INSERT INTO schema_version VALUES (?, 'after', 0)", (newest + 1,))
    before = dump(database._path)
    with pytest.raises(SchemaError, match=rf"version {newest + 1}\b.*\b{newest}\b.*(newer program|backup)"):
        SqliteDatabase(database._path, clock=ManualClock(), lock_wait_ms=100)
    assert dump(database._path) == before


def test_every_step_of_the_schema_runs_once_and_in_order(tmp_path: Path, clock: ManualClock) -> None:
    for _ in range(3):
        SqliteDatabase(tmp_path / "x.db", clock=clock, lock_wait_ms=1_000).close()
        clock.advance(1_000)
    steps = load_migrations(SQLITE, clustered="")
    versions = [step.version for step in steps]
    assert versions == sorted(set(versions))
    assert dump(tmp_path / "x.db")["schema_version"] == [
        (step.version, step.phase, clock.now_ms() - 3_000) for step in steps
    ]


STEPS = [
    Step(9_001, "9001_one.sql", "before", ["CREATE TABLE later (name TEXT)", "INSERT INTO later VALUES ('one')"]),
    Step(
        9_002,
        "9002_two.after.sql",
        "after",
        ["ALTER TABLE later ADD COLUMN second TEXT", "INSERT INTO later VALUES ('two', '2')"],
    ),
]


def with_steps(monkeypatch: pytest.MonkeyPatch, steps: list[Step]) -> None:
    present = load_migrations(SQLITE, clustered="WITHOUT ROWID")
    monkeypatch.setattr(store, "load_migrations", lambda *_, **__: [*present, *steps])


def test_new_steps_run_on_an_old_database_and_keep_what_is_in_it(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run(put("kept"))
    database.close()
    for steps in (STEPS[:1], STEPS, STEPS):
        with_steps(monkeypatch, steps)
        SqliteDatabase(database._path, clock=ManualClock(), lock_wait_ms=1_000).close()
    tables = dump(database._path)
    assert tables["later"] == [("one", None), ("two", "2")]
    assert tables["tag"] == [("r", "kept", "v")]


def test_a_step_that_fails_leaves_the_old_database_as_it_was(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run(put("kept"))
    database.close()
    before = dump(database._path)
    with_steps(
        monkeypatch,
        [*STEPS, Step(9_003, "9003_bad.sql", "before", ["CREATE TABLE more (x TEXT)", "no statement at all"])],
    )
    with pytest.raises(SchemaError):
        SqliteDatabase(database._path, clock=ManualClock(), lock_wait_ms=1_000)
    assert dump(database._path) == before
