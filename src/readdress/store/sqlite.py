"""Transactions on SQLite: one thread writes, and everything that waits shares its next commit.

The writer takes what has gathered, runs each work in a savepoint of one `BEGIN IMMEDIATE … COMMIT`, and answers all
of them after the commit's fsync (WAL, `synchronous=FULL`): the cost of the disk is divided by the load. Look-ups run
on a connection of the event loop itself, for a thread's hop costs more than the look-up; scans run on threads.

Where it fails: a work's own exception undoes that work alone. When the disk or the commit fails, every work of the
batch fails with a StoreError, and none of them is written.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, TypeVar

from readdress.clock import Clock
from readdress.store.database import (
    Row,
    SchemaError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Work,
)
from readdress.store.migrations import load_migrations
from readdress.store.queries import Query

T = TypeVar("T")

BATCH_WORKS_MAX = 256
PAGE_BYTES = 16_384
CHECKPOINT_INTERVAL_S = 0.5
# Past this the writer itself empties the log, between two batches: under steady load a checkpoint beside it never ends.
WAL_PAGES_MAX = 16_384
SCAN_THREADS = 2

_CONNECTION_PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA cache_size = -16384",
    "PRAGMA temp_store = MEMORY",
)


class SqliteTransaction:
    """The Transaction of one connection between its BEGIN and COMMIT."""

    __slots__ = ("_connection", "_now_ms")

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

    def lock(self, query: Query, **parameters: Any) -> None:
        """Nothing: a writing transaction is alone from its first statement."""


class _Job:
    """A work on its way through the writer, and whom to tell."""

    __slots__ = ("deadline", "error", "future", "loop", "value", "work")

    def __init__(
        self,
        work: Work[Any],
        future: "asyncio.Future[Any] | Future[Any]",
        loop: asyncio.AbstractEventLoop | None,
        deadline: float,
    ) -> None:
        self.work = work
        self.future = future
        self.loop = loop
        self.deadline = deadline
        self.value: Any = None
        self.error: BaseException | None = None


class SqliteDatabase:
    """A Database in one file; other processes may open the same file and take their turns."""

    def __init__(self, path: Path, *, clock: Clock, lock_wait_ms: int) -> None:
        """Open and migrate. Raises SchemaError for a file that this program can't serve."""
        self._path = path
        self._clock = clock
        self._lock_wait_ms = lock_wait_ms
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        self._wal_is_long = False
        self._wrote = threading.Event()
        self._stopping = threading.Event()
        try:
            self._writing = self._connect()
            _migrate(self._writing, clock)
            self._reading = self._connect(read_only=True)
        except sqlite3.Error as error:
            raise SchemaError(f"cannot open the database {path}: {error}") from error
        self._scans = ThreadPoolExecutor(SCAN_THREADS, thread_name_prefix="scan")
        self._scan_connections = threading.local()
        self._writer = threading.Thread(target=self._write_batches, name="writer", daemon=True)
        self._checkpointer = threading.Thread(target=self._checkpoint, name="checkpoint", daemon=True)
        self._writer.start()
        self._checkpointer.start()

    # The Database protocol.

    def run(self, work: Work[T]) -> T:
        future: Future[T] = Future()
        self._submit(work, future, None)
        return future.result()

    async def write(self, work: Work[T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._submit(work, future, loop)
        return await future

    async def read(self, work: Work[T]) -> T:
        return self._snapshot(self._reading, work)

    async def find(self, query: Query, **parameters: Any) -> Row | None:
        try:
            row: Row | None = self._reading.execute(query, parameters).fetchone()
        except sqlite3.Error as error:
            raise _store_error(error) from error
        return row

    async def scan(self, work: Work[T]) -> T:
        def scan() -> T:
            connection = getattr(self._scan_connections, "connection", None)
            if connection is None:
                connection = self._scan_connections.connection = self._connect(read_only=True)
            return self._snapshot(connection, work)

        return await asyncio.get_running_loop().run_in_executor(self._scans, scan)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._stopping.set()
        self._wrote.set()
        self._jobs.put(None)
        self._writer.join()
        self._checkpointer.join()
        self._scans.shutdown()
        self._reading.close()
        with contextlib.suppress(sqlite3.Error):
            self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._writing.close()

    # Reading.

    def _snapshot(self, connection: sqlite3.Connection, work: Work[T]) -> T:
        return _read_at_one_instant(connection, work, self._clock.now_ms())

    # Writing.

    def _submit(
        self,
        work: Work[T],
        future: "asyncio.Future[T] | Future[T]",
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        if self._closed:
            raise StoreUnavailable("the database is closed")
        self._jobs.put(_Job(work, future, loop, monotonic() + self._lock_wait_ms / 1000))

    def _write_batches(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch, last = self._gather(first)
            try:
                self._commit(batch)
            except BaseException as error:  # noqa: BLE001 - whoever waits is told, whatever happened
                _fail(batch, _store_error(error))
                _rollback(self._writing)
            _answer(batch)
            self._wrote.set()
            if last:
                return
            if self._wal_is_long:
                self._empty_log()

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        batch = [first]
        while len(batch) < BATCH_WORKS_MAX:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _commit(self, batch: list[_Job]) -> None:
        connection = self._writing
        connection.execute("BEGIN IMMEDIATE")
        transaction = SqliteTransaction(connection, self._clock.now_ms())
        now = monotonic()
        for job in batch:
            if now > job.deadline:
                job.error = StoreBusy("waited too long for the writer")
                continue
            self._attempt(job, transaction)
        connection.execute("COMMIT")

    def _attempt(self, job: _Job, transaction: SqliteTransaction) -> None:
        connection = self._writing
        connection.execute("SAVEPOINT work")
        try:
            job.value = job.work(transaction)
        except Exception as error:
            if not connection.in_transaction:  # the engine gave up on the whole batch, as on a full disk
                raise
            job.error = _store_error(error) if isinstance(error, sqlite3.Error) else error
            connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")

    # The log.

    def _checkpoint(self) -> None:
        """Copy committed pages from the log into the database, beside the writer and off the commit's path."""
        connection = self._connect()
        while not self._stopping.is_set():
            self._wrote.wait()
            self._stopping.wait(CHECKPOINT_INTERVAL_S)
            self._wrote.clear()
            with contextlib.suppress(sqlite3.Error):
                _, logged_pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                self._wal_is_long = logged_pages > WAL_PAGES_MAX
        connection.close()

    def _empty_log(self) -> None:
        self._wal_is_long = False
        with contextlib.suppress(sqlite3.Error):
            self._writing.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=self._lock_wait_ms / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        for pragma in _CONNECTION_PRAGMAS:
            connection.execute(pragma)
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        return connection


def _migrate(connection: sqlite3.Connection, clock: Clock) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY, applied_ms BIGINT NOT NULL)"
        )
        (version,) = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
        steps = load_migrations(clustered="WITHOUT ROWID")
        newest = steps[-1][0]
        if version > newest:
            raise SchemaError(
                f"the database has schema version {version}, and this program knows versions up to {newest}: "
                "start the newer program that made it, or restore a backup"
            )
        for number, _, statements in steps:
            if number > version:
                for statement in statements:
                    connection.execute(statement)
                connection.execute("INSERT INTO schema_version VALUES (?, ?)", (number, clock.now_ms()))
        connection.execute("COMMIT")
    except BaseException:
        _rollback(connection)
        raise


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _fail(batch: list[_Job], error: BaseException) -> None:
    for job in batch:
        job.error = job.error or error


def _answer(batch: list[_Job]) -> None:
    """Tell everyone who waits; an event loop is woken once for all of its own."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = defaultdict(list)
    for job in batch:
        if job.loop is not None:
            by_loop[job.loop].append(job)
        elif job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.value)
    for loop, jobs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(_settle, jobs)


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():  # who asked has gone
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.value)


def _read_at_one_instant(connection: sqlite3.Connection, work: Work[T], now_ms: int) -> T:
    try:
        connection.execute("BEGIN")
        try:
            return work(SqliteTransaction(connection, now_ms))
        finally:
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise _store_error(error) from error


def _store_error(error: BaseException) -> BaseException:
    """The one table that says what an engine's failure means."""
    if not isinstance(error, sqlite3.Error):
        return error
    primary_code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kinds: dict[int, Callable[[str], StoreError]] = {
        sqlite3.SQLITE_BUSY: StoreBusy,
        sqlite3.SQLITE_LOCKED: StoreBusy,
        sqlite3.SQLITE_FULL: StoreFull,
    }
    return kinds.get(primary_code, StoreUnavailable)(str(error))


def open_read_only(path: Path, *, clock: Clock) -> Callable[[Work[T]], T]:
    """A blocking reader of an existing file, for commands that only look; raises SchemaError without one."""
    if not path.exists():
        raise SchemaError(f"there is no database at {path}: start `readdress serve` first, or name its --data")
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)

    def look(work: Work[T]) -> T:
        return _read_at_one_instant(connection, work, clock.now_ms())

    return look
