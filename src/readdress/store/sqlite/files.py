"""SQLite's file as a whole: its schema, its backup, and what can be done with it beside the service."""

import contextlib
import os
import sqlite3
from pathlib import Path

from readdress.clock import Clock
from readdress.store.database import SchemaError
from readdress.store.migrations import AFTER, BEFORE, SQLITE, check_applied, load_migrations, missing_steps

_VERSION_TABLE = """
CREATE TABLE IF NOT EXISTS schema_version (
    version BIGINT PRIMARY KEY, phase TEXT NOT NULL, applied_ms BIGINT NOT NULL)"""


def migrate_connection(connection: sqlite3.Connection, clock: Clock) -> list[str]:
    """One process serves the file, so every step that is missing runs at its start; their names."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_VERSION_TABLE)
        steps = load_migrations(SQLITE, clustered="WITHOUT ROWID")
        missing = missing_steps(_applied(connection), steps, phases=(BEFORE, AFTER))
        for step in missing:
            for statement in step.statements:
                connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_version VALUES (?, ?, ?)", (step.version, step.phase, clock.now_ms())
            )
        check_applied(_applied(connection), steps)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return [step.name for step in missing]


def _applied(connection: sqlite3.Connection) -> dict[int, str]:
    return dict(connection.execute("SELECT version, phase FROM schema_version").fetchall())


def migrate(path: Path, clock: Clock) -> list[str]:
    """Run every step that is missing, as a start would; their names. Raises SchemaError."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return migrate_connection(connection, clock)
    except sqlite3.Error as error:
        raise SchemaError(f"cannot migrate the database {path}: {error}") from error


def back_up(path: Path, file: Path) -> int:
    """Copy the database, which may be in use, to a new file at one instant; its size in bytes. Raises SchemaError."""
    with contextlib.closing(open_present(path)) as source:
        return _copy_whole(source, file)


def restore_from(file: Path, path: Path) -> None:
    """Make a database out of a sound backup, where there is none. Raises SchemaError."""
    with contextlib.closing(open_present(file)) as source:
        try:
            check_applied(_applied(source), load_migrations(SQLITE, clustered="WITHOUT ROWID"))
            (verdict,) = source.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.Error as error:
            raise SchemaError(f"{file} is no backup of Readdress: {error}") from error
        if verdict != "ok":
            raise SchemaError(f"{file} is damaged ({verdict}): take another backup")
        _copy_whole(source, path)


def _copy_whole(source: sqlite3.Connection, file: Path) -> int:
    """Under its name it is whole and on disk, or not there."""
    if file.exists():
        raise SchemaError(f"{file} exists: name another file, or move that one away first")
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.rename(file)
        folder = os.open(file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except sqlite3.Error as error:
        raise SchemaError(f"cannot write {file}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return file.stat().st_size


def open_present(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise SchemaError(f"there is no database at {path}: start `readdress serve` first, or name its --data")
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
