"""The two databases that Readdress runs on, in the tests' hands: which one is in use, and where a program's data is."""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from harness.postgres import PostgresServer
from readdress.clock import Clock
from readdress.store.database import Database
from readdress.store.postgres.database import PostgresDatabase
from readdress.store.sqlite.database import SqliteDatabase

SQLITE, POSTGRES = "sqlite", "postgres"
ENGINES: Final = (SQLITE, POSTGRES)


class Rows(Protocol):
    """A reader's connection."""

    def execute(self, query: Any, parameters: Any = ..., /) -> Any: ...


class Engine:
    """SQLite, with a file for each data folder, or a server of PostgreSQL, with a database for each."""

    def __init__(self, server: PostgresServer | None = None) -> None:
        self.server = server
        self._names: dict[Path, str] = {}  # the databases of data folders

    @property
    def name(self) -> str:
        return POSTGRES if self.server else SQLITE

    def url(self, data: Path) -> str:
        """The same one each time for the same folder."""
        if self.server is None:
            return f"sqlite:///{data / 'readdress.db'}"
        if data not in self._names:
            self._names[data] = self.server.create_database()
        return self.server.url(self._names[data])

    def open(self, data: Path, clock: Clock) -> Database:
        """The database of a data folder, as a program would open it."""
        if self.server is None:
            return SqliteDatabase(data / "readdress.db", clock=clock, lock_wait_ms=5_000)
        return PostgresDatabase(self.url(data), clock=clock, lock_wait_ms=5_000)

    @contextmanager
    def database(self, folder: Path, clock: Clock, *, lock_wait_ms: int = 5_000) -> Iterator[Database]:
        """One of its own, open in this process."""
        opened: Database
        if self.server is None:
            opened = SqliteDatabase(folder / "readdress.db", clock=clock, lock_wait_ms=lock_wait_ms)
            with contextlib.closing(opened):
                yield opened
            return
        name = self.server.create_database()
        opened = PostgresDatabase(self.server.url(name), clock=clock, lock_wait_ms=lock_wait_ms)
        with contextlib.closing(opened):
            yield opened
        self.server.drop_database(name)


_engines = {SQLITE: Engine()}
_in_use = SQLITE


def use(name: str) -> None:
    """Programs that are started from now on have their data there."""
    global _in_use  # noqa: PLW0603 - what a folder's database is called is known to its engine alone
    _in_use = name


@contextmanager
def using(engine: Engine) -> Iterator[None]:
    """For what outlives the tests of its engine, and is looked at when those of the next have begun."""
    before = _in_use
    use(engine.name)
    yield
    use(before)


def provide_postgres(server: PostgresServer) -> None:
    _engines.setdefault(POSTGRES, Engine(server))


def engine_in_use() -> Engine:
    return _engines[_in_use]


def where(data: Path) -> list[str]:
    """The options by which a command finds a program's data."""
    database = [] if _in_use == SQLITE else ["--database", engine_in_use().url(data)]
    return ["--data", str(data), *database]


@contextmanager
def open_beside(what: Path | Database) -> Iterator[Rows]:
    """A reader beside whoever has the database open: of a data folder, of a SQLite file, or of an open database."""
    if isinstance(what, PostgresDatabase):
        url = what._target.conninfo
    elif isinstance(what, Path) and what.suffix != ".db" and _in_use == POSTGRES:
        url = engine_in_use().url(what)
    else:
        url = ""
    if url:
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            yield connection
        return
    path = what if isinstance(what, Path) else getattr(what, "_path")  # noqa: B009 - of SqliteDatabase
    file = path / "readdress.db" if path.is_dir() else path
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None)) as rows:
        yield rows
