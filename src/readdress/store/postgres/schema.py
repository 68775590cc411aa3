"""The schema of a database that many programs share: made when there is none, and otherwise looked at.

Nodes are upgraded one by one, so a step that changes the schema comes before the program that needs it, and leaves the
older program alone; what the older one can't live with waits for the end (`migrate`). A program that finds a schema it
can't serve says so and does not start.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from readdress.clock import Clock
from readdress.store.database import SchemaError, StoreError
from readdress.store.migrations import AFTER, BEFORE, POSTGRES, Step, check_applied, load_migrations, missing_steps
from readdress.store.postgres.session import Target, check_server, open_session
from readdress.store.postgres.texts import has_index, make_index

_VERSION_TABLE = """
CREATE TABLE IF NOT EXISTS schema_version (
    version BIGINT PRIMARY KEY, phase TEXT NOT NULL, applied_ms BIGINT NOT NULL)"""


def prepare_schema(target: Target, clock: Clock) -> None:
    """Raises SchemaError, also when the server can't be reached."""
    with _open(target) as session:
        check_server(session)
        if _applied(session) is None:
            _apply(session, clock, phases=(BEFORE, AFTER))
            make_index(session)
        check_applied(_applied(session) or {}, _steps())


def check_schema(target: Target) -> None:
    """The same for who only looks: an empty database stays so. Raises SchemaError."""
    with _open(target) as session:
        applied = _applied(session)
        if applied is None:
            raise SchemaError(f"the database {target.shown} is empty: start `readdress serve` on it first")
        check_applied(applied, _steps())


def migrate(target: Target, clock: Clock, *, after: bool) -> list[str]:
    """Run the steps that come before a new program, or those after every node runs it; the names of those that ran."""
    with _open(target) as session:
        check_server(session)
        ran = _apply(session, clock, phases=(BEFORE, AFTER) if after else (BEFORE,))
        return [*ran, "the index of texts"] if make_index(session) else ran


def has_text_index(target: Target) -> bool:
    """Raises SchemaError."""
    with _open(target) as session:
        return has_index(session)


def find_connections_max(target: Target) -> int:
    """How many connections the server has for all its clients together. Raises SchemaError."""
    with _open(target) as session:
        row = session.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        ).fetchone()
    assert row
    return int(row[0])


@contextmanager
def _open(target: Target) -> Iterator["psycopg.Connection[Any]"]:
    """Whatever goes wrong is a SchemaError that says where."""
    try:
        session = open_session(target)
    except StoreError as error:
        raise SchemaError(f"cannot reach the database {target.shown}: {error}") from None
    try:
        with session:
            yield session
    except psycopg.Error as error:
        raise SchemaError(f"cannot read or make the schema of {target.shown}: {error}") from None


def _applied(session: "psycopg.Connection[Any]") -> dict[int, str] | None:
    """Which steps have run, with their phases; None where there is no schema."""
    if session.execute("SELECT to_regclass('schema_version')").fetchone() == (None,):
        return None
    return dict(session.execute("SELECT version, phase FROM schema_version").fetchall())


def _apply(session: "psycopg.Connection[Any]", clock: Clock, *, phases: tuple[str, ...]) -> list[str]:
    """One program at a time; the second finds that nothing is missing."""
    with session.transaction():
        session.execute("SET LOCAL statement_timeout = 0")
        session.execute("SET LOCAL lock_timeout = '60s'")  # another program may be at it
        try:
            with session.transaction():
                session.execute(_VERSION_TABLE)
        except psycopg.errors.UniqueViolation:  # another program makes it at this very moment
            pass
        session.execute("LOCK TABLE schema_version IN ACCESS EXCLUSIVE MODE")
        steps = missing_steps(_applied(session) or {}, _steps(), phases=phases)
        for step in steps:
            for statement in step.statements:
                session.execute(statement.encode())
            session.execute(
                "INSERT INTO schema_version VALUES (%s, %s, %s)", (step.version, step.phase, clock.now_ms())
            )
    return [step.name for step in steps]


def _steps() -> list[Step]:
    # Text is compared by its bytes, as on SQLite: ids and keys have an order that no language has a say in.
    return load_migrations(POSTGRES, clustered="", text='TEXT COLLATE "C"')
