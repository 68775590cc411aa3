"""Which database a configuration names, and what is done with one as a whole: open, look, migrate, copy.

An engine is imported when it is used, so that a laptop on SQLite needs nothing of PostgreSQL.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from readdress.clock import Clock
from readdress.config import Config, ConfigError
from readdress.store.database import Database, Transaction, Work

T = TypeVar("T")


def open_database(config: Config, clock: Clock) -> Database:
    """Raises ConfigError for a URL that names no database we know, SchemaError for one we can't serve."""
    if is_postgres(config):
        database: Database = _postgres("database").PostgresDatabase(
            config.database_url,
            clock=clock,
            lock_wait_ms=config.lock_wait_ms,
            connections_max=config.database_connections,
        )
        return database
    from readdress.store.sqlite.database import SqliteDatabase

    return SqliteDatabase(sqlite_path(config), clock=clock, lock_wait_ms=config.lock_wait_ms)


def look_once(config: Config, work: Work[T], clock: Clock) -> T:
    """Read a database beside whoever serves it. Raises as `open_database`, StoreError."""
    if is_postgres(config):
        seen: T = _postgres("database").read_once(
            config.database_url, work, clock=clock, lock_wait_ms=config.lock_wait_ms
        )
        return seen
    from readdress.store.sqlite.transaction import read_once

    return read_once(sqlite_path(config), work, clock=clock)


def migrate_database(config: Config, clock: Clock, *, after: bool) -> list[str]:
    """Bring the schema forward; the names of the steps that ran. Raises ConfigError, SchemaError."""
    if is_postgres(config):
        ran: list[str] = _postgres("schema").migrate(_target(config), clock, after=after)
        return ran
    from readdress.store.sqlite.files import migrate

    return migrate(sqlite_path(config), clock)


def copy_database(
    source: Config,
    target: Config,
    *,
    resume: bool,
    on_begin: Callable[[int], None],
    on_progress: Callable[[int], None],
) -> int:
    """Copy one database into another; how many rows there are.

    `on_begin` hears how many there are to copy, `on_progress` of those that are done. Raises ConfigError, SchemaError,
    StoreError, CopyMismatch.
    """
    from readdress.store import copying

    clock = Clock()

    def work(tx: Transaction) -> int:
        into = open_database(target, clock)
        try:
            if not resume and into.run(copying.count_rows):
                raise copying.CopyMismatch("the target is not empty: name an empty one, or go on with --resume")
            on_begin(copying.count_rows(tx))
            columns_of = partial(copying.list_columns, tx, is_postgres=is_postgres(source))
            return copying.copy(tx, into, columns_of=columns_of, on_progress=on_progress)
        finally:
            into.close()

    return look_once(source, work, clock)


def find_connections_max(config: Config) -> int:
    """How many connections the PostgreSQL server has for all who are not its masters. Raises SchemaError."""
    allowed: int = _postgres("schema").find_connections_max(_target(config))
    return allowed


def has_text_index(config: Config) -> bool:
    """Whether the PostgreSQL server finds a part of a text without reading all. Raises SchemaError."""
    has: bool = _postgres("schema").has_text_index(_target(config))
    return has


def is_postgres(config: Config) -> bool:
    return config.database_url.startswith(("postgresql://", "postgres://"))


def sqlite_path(config: Config) -> Path:
    url = config.database_url
    if not url.startswith("sqlite:///"):
        raise ConfigError(
            f"database has to be sqlite:///PATH or postgresql://HOST/NAME, and not {config.database_shown!r}"
        )
    return Path(url.removeprefix("sqlite:///"))


def _postgres(module: str) -> ModuleType:
    """A module of the engine; what it needs is an extra."""
    try:
        return import_module(f"readdress.store.postgres.{module}")
    except ImportError as error:
        raise ConfigError(
            f"PostgreSQL wants packages that are not installed ({error.name}): pip install 'readdress[postgres]'"
        ) from None


def _target(config: Config) -> Any:
    return _postgres("session").read_url(config.database_url, lock_wait_ms=config.lock_wait_ms)
