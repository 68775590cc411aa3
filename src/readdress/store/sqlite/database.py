"""Transactions on SQLite: everything that waits shares the next commit, and only the commit leaves the event loop.

Works that wait run one after the other in the event loop, between one `BEGIN IMMEDIATE` and its `COMMIT`; a thread
does the commit with its fsync (WAL, `synchronous=FULL`), while the loop goes on and gathers the next batch. So the cost
of the disk is divided by the load, and no two threads fight for the interpreter. Look-ups run in the loop on a
connection of their own, for a thread's hop costs more than the look-up; scans run on threads.

Where it fails: a work's own exception undoes that work alone. When the disk or the commit fails, every work of the
batch fails with a StoreError, and none of them is written.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any, TypeVar

from readdress.clock import Clock
from readdress.metrics import counted
from readdress.store.database import (
    Row,
    SchemaError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Together,
    Work,
)
from readdress.store.queries import Query
from readdress.store.sqlite.file_lock import FileLock
from readdress.store.sqlite.files import migrate_connection
from readdress.store.sqlite.transaction import SqliteTransaction, read_at_one_instant, store_error

T = TypeVar("T")

BATCH_WORKS_MAX = 256
PAGE_BYTES = 4_096  # of a new file; one that is there keeps its own
CHECKPOINT_INTERVAL_S = 0.5
# Past this the writer itself empties the log, between two batches: under steady load a checkpoint beside it never ends.
LOG_BYTES_MAX = 256 << 20
READERS_WAIT_MS = 20
SCAN_THREADS = 2
BUSY_POLL_S = 0.001

_CONNECTION_PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA cache_size = -16384",
    "PRAGMA temp_store = MEMORY",
)


class _Job:
    """A work on its way, and whom to tell."""

    __slots__ = ("deadline", "error", "future", "value", "work")

    def __init__(self, work: Work[Any], future: "asyncio.Future[Any] | None", deadline: float) -> None:
        self.work = work
        self.future = future
        self.deadline = deadline
        self.value: Any = None
        self.error: BaseException | None = None

    def tell(self, failure: BaseException | None) -> None:
        future = self.future
        if future is None or future.done():  # who asked has gone
            return
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(self.value)


class SqliteDatabase:
    """A Database in one file; other processes may open the same file and take their turns."""

    def __init__(self, path: Path, *, clock: Clock, lock_wait_ms: int, is_durable: bool = True) -> None:
        """Open and migrate. Raises SchemaError for a file that this program can't serve.

        What is not durable is gone after a power cut, and faster: for data that a test run makes up and throws away.
        """
        self._path = path
        self._synchronous = "FULL" if is_durable else "OFF"
        self._clock = clock
        self._lock_wait_s = lock_wait_ms / 1000
        self._waiting: deque[_Job] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None  # where a batch is under way
        self._snapshot_of: asyncio.AbstractEventLoop | None = None
        self._found: dict[tuple[Any, ...], Row | None] = {}  # in this snapshot: the key of all who call, as a rule
        self._is_closed = False
        # Whoever holds the baton has the writing connection to itself, from BEGIN to COMMIT; with it, its process has
        # the file's lock.
        self._baton = threading.Lock()
        self._watch: asyncio.TimerHandle | None = None  # while a batch waits for both
        self._wal_is_long = False
        self._wrote = threading.Event()
        self._stopping = threading.Event()
        self._connections: list[sqlite3.Connection] = []
        try:
            self._writing = self._connect()
            migrate_connection(self._writing, clock)
            self._writing.execute("PRAGMA busy_timeout = 0")
            self._reading = self._connect(read_only=True)
            self._lock = FileLock(path)
        except SchemaError:
            self._disconnect()
            raise
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise SchemaError(f"cannot open the database {path}: {error}") from error
        self._scans = ThreadPoolExecutor(SCAN_THREADS, thread_name_prefix="scan")
        self._of_thread = threading.local()
        self._errands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._committer = threading.Thread(target=self._run_errands, name="commit", daemon=True)
        self._checkpointer = threading.Thread(target=self._checkpoint, name="checkpoint", daemon=True)
        self._committer.start()
        self._checkpointer.start()

    # The Database protocol.

    def run(self, work: Work[T]) -> T:
        self._require_open()
        job = _Job(work, None, monotonic() + self._lock_wait_s)
        error = self._begin()
        if error is None:
            self._attempt_all([job])
            error = self._commit(works=1)
        failure = job.error or error
        if failure is not None:
            raise failure
        value: T = job.value
        return value

    async def write(self, work: Work[T], *, together: Together | None = None) -> T:  # noqa: ARG002 - all works take turns
        self._require_open()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._loop is not None and self._loop.is_closed():  # in the middle, and nobody waits any more
            self._waiting.clear()
            self._loop = None
        self._waiting.append(_Job(work, future, monotonic() + self._lock_wait_s))
        if self._loop is None:
            self._loop = loop
            loop.call_soon(self._start_batch, loop)  # after whatever else is ready, which may join
        return await future

    async def read(self, work: Work[T]) -> T:
        if not self._shares_snapshot():
            return read_at_one_instant(self._reading, work, self._clock.now_ms())
        try:
            return work(SqliteTransaction(self._reading, self._clock.now_ms()))
        except sqlite3.Error as error:
            raise store_error(error) from error

    async def find(self, query: Query, **parameters: Any) -> Row | None:
        is_shared = self._shares_snapshot()
        asked = (query, *parameters.items())
        if asked in self._found:
            return self._found[asked]
        try:
            row: Row | None = self._reading.execute(query, parameters).fetchone()
        except sqlite3.Error as error:
            raise store_error(error) from error
        if is_shared:
            self._found[asked] = row
        return row

    async def scan(self, work: Work[T]) -> T:
        self._require_open()

        def scan() -> T:
            connection = getattr(self._of_thread, "connection", None)
            if connection is None:
                connection = self._of_thread.connection = self._connect(read_only=True)
            return read_at_one_instant(connection, work, self._clock.now_ms())

        return await asyncio.get_running_loop().run_in_executor(self._scans, scan)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._stopping.set()
        self._wrote.set()
        self._errands.put(None)
        self._committer.join(self._lock_wait_s)  # unless it waits for another process
        has_baton = self._baton.acquire(timeout=self._lock_wait_s)
        self._checkpointer.join()
        self._scans.shutdown()
        with contextlib.suppress(sqlite3.Error):
            self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._disconnect()
        if not self._committer.is_alive():
            self._lock.close()
        if has_baton:
            self._baton.release()

    def _require_open(self) -> None:
        if self._is_closed:
            raise StoreUnavailable("the database is closed")

    def _shares_snapshot(self) -> bool:
        """Look-ups of one turn of the event loop see one instant, and lock the log once: an eighth less CPU for each.

        Whoever asks in a turn asked before it began, so what is committed meanwhile need not be seen. Not while the log
        waits to be emptied, for which all readers have to be out of it.
        """
        loop = asyncio.get_running_loop()
        if self._snapshot_of is not loop:
            if self._snapshot_of:  # of a loop that has ended
                self._drop_snapshot()
            if self._wal_is_long:
                return False
            try:
                self._reading.execute("BEGIN")
            except sqlite3.Error as error:
                raise store_error(error) from error
            self._snapshot_of = loop
            loop.call_soon(self._drop_snapshot)
        return True

    def _drop_snapshot(self) -> None:
        self._snapshot_of = None
        self._found.clear()
        with contextlib.suppress(sqlite3.Error):  # closed meanwhile
            self._reading.execute("ROLLBACK")

    # A batch, in the event loop: begin, attempt, hand the commit to its thread, tell who waits.

    def _start_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        error = self._try_to_begin()
        if isinstance(error, StoreBusy):  # somebody else writes: wait for them away from the loop
            counted.lock_waits += 1
            self._watch_line(loop)
            self._errands.put(lambda: self._begin_for(loop))
        else:
            self._attempt_batch(loop, error)

    def _watch_line(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that nobody waits for ever behind a process that has stopped in the middle."""
        self._refuse_late()
        self._watch = loop.call_later(self._lock_wait_s / 4, self._watch_line, loop)

    def _refuse_late(self) -> None:
        now = monotonic()
        while self._waiting and self._waiting[0].deadline <= now:
            self._waiting.popleft().tell(StoreBusy("waited too long for another writer"))

    def _attempt_batch(self, loop: asyncio.AbstractEventLoop, error: StoreError | None) -> None:
        if self._watch:
            self._watch.cancel()
            self._watch = None
        if isinstance(error, StoreBusy):
            self._refuse_late()
            self._end_batch(loop, [], None)  # who came later has time left
            return
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_WORKS_MAX))]
        if error is not None:
            self._end_batch(loop, batch, error)
            return
        self._attempt_all(batch)
        self._errands.put(lambda: self._commit_for(loop, batch))

    def _end_batch(self, loop: asyncio.AbstractEventLoop, batch: list[_Job], error: StoreError | None) -> None:
        for job in batch:
            job.tell(job.error or error)
        if self._waiting:
            loop.call_soon(self._start_batch, loop)
        else:
            self._loop = None

    # The errands of the commit thread.

    def _run_errands(self) -> None:
        while (errand := self._errands.get()) is not None:
            errand()

    def _begin_for(self, loop: asyncio.AbstractEventLoop) -> None:
        error = self._begin(stands_in_line=True)
        if not _tell(loop, self._attempt_batch, loop, error) and error is None:
            self._commit(works=0)

    def _commit_for(self, loop: asyncio.AbstractEventLoop, batch: list[_Job]) -> None:
        _tell(loop, self._end_batch, loop, batch, self._commit(works=len(batch)))

    # One transaction, by whoever holds the baton.

    def _try_to_begin(self) -> StoreError | None:
        """Take the baton and begin, or say at once why not."""
        if not self._baton.acquire(blocking=False):
            return StoreBusy("another transaction is open")
        return self._begin_with_baton()

    def _begin(self, *, stands_in_line: bool = False) -> StoreError | None:
        """Take the baton and begin, waiting for other writers of this or another process.

        Who stands in line is woken when the file's lock is free, and waits as long as another process has it; others
        ask again and again until they have waited too long.
        """
        deadline = monotonic() + self._lock_wait_s
        if not self._baton.acquire(timeout=self._lock_wait_s):
            return StoreBusy("another transaction did not end in time")
        while isinstance(error := self._begin_with_baton(stands_in_line=stands_in_line), StoreBusy):
            if monotonic() > deadline:
                break
            sleep(BUSY_POLL_S)
            self._baton.acquire()
        return error

    def _begin_with_baton(self, *, stands_in_line: bool = False) -> StoreError | None:
        try:
            has_lock = self._lock.acquire(blocking=stands_in_line)
        except StoreError as error:
            self._baton.release()
            return error
        if not has_lock:
            self._baton.release()
            return StoreBusy("another process writes")
        try:
            self._writing.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:  # such as a lock of a program that knows nothing of the file's lock
            self._give_back()
            return store_error(error)
        return None

    def _give_back(self) -> None:
        self._lock.release()
        self._baton.release()

    def _attempt_all(self, batch: list[_Job]) -> None:
        """Run every work; what fails leaves nothing behind, and usually it has written nothing yet.

        When one has, all others run again without it, for they may have seen what it wrote: each in a savepoint now,
        for which SQLite copies every page that is changed.
        """
        transaction = SqliteTransaction(self._writing, self._clock.now_ms())
        now = monotonic()
        for job in batch:
            if now > job.deadline:
                job.error = StoreBusy("waited too long for the writer")
        jobs = [job for job in batch if job.error is None]
        try:
            failed = next((job for job in jobs if not self._attempt(job, transaction)), None)
            if failed and self._writing.in_transaction:
                self._writing.execute("ROLLBACK")
                self._writing.execute("BEGIN IMMEDIATE")
                jobs.remove(failed)
                for job in jobs:
                    self._attempt_apart(job, transaction)
        except sqlite3.Error as error:
            for job in jobs:
                job.error = store_error(error)

    def _attempt(self, job: _Job, transaction: SqliteTransaction) -> bool:
        """False when the work has failed in the middle, and something of it is there."""
        written = self._writing.total_changes
        try:
            job.value = job.work(transaction)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for it
            job.error = store_error(error) if isinstance(error, sqlite3.Error) else error
            return self._writing.in_transaction and self._writing.total_changes == written
        return True

    def _attempt_apart(self, job: _Job, transaction: SqliteTransaction) -> None:
        if not self._writing.in_transaction:
            return
        job.error = None
        self._writing.execute("SAVEPOINT work")
        if not self._attempt(job, transaction) and self._writing.in_transaction:
            self._writing.execute("ROLLBACK TO work")
        if self._writing.in_transaction:
            self._writing.execute("RELEASE work")

    def _commit(self, *, works: int) -> StoreError | None:
        """End the transaction and give the baton back; what went wrong went wrong for the whole batch."""
        connection = self._writing
        began = monotonic()
        try:
            if not connection.in_transaction:  # the engine gave up on all of it, as it does on a full disk
                counted.commit_failures += 1
                return StoreFull("the engine undid the whole transaction")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            counted.commit_failures += 1
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            return store_error(error)
        else:
            counted.add_commit(works=works, seconds=monotonic() - began)
            self._wrote.set()
            if self._wal_is_long:
                self._empty_log()
            return None
        finally:
            self._give_back()

    # The log.

    def _checkpoint(self) -> None:
        """Copy committed pages from the log into the database, beside the writer and off the commit's path."""
        connection = self._connect()
        log_pages_max = LOG_BYTES_MAX // connection.execute("PRAGMA page_size").fetchone()[0]
        while not self._stopping.is_set():
            self._wrote.wait()
            self._stopping.wait(CHECKPOINT_INTERVAL_S)
            self._wrote.clear()
            with contextlib.suppress(sqlite3.Error):
                _, logged_pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if logged_pages >= 0:  # not while another process does it
                    self._wal_is_long = logged_pages > log_pages_max

    def _empty_log(self) -> None:
        """Wait a moment for all who read from it; a scan that takes longer has it stay until the next checkpoint."""
        with contextlib.suppress(sqlite3.Error):
            self._writing.execute(f"PRAGMA busy_timeout = {READERS_WAIT_MS}")
            _, logged_pages, _ = self._writing.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            self._wal_is_long = logged_pages < 0  # a checkpoint is under way: once more after the next commit
            self._writing.execute("PRAGMA busy_timeout = 0")

    def _disconnect(self) -> None:
        for connection in reversed(self._connections):
            connection.close()

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=self._lock_wait_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        self._connections.append(connection)
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        for pragma in _CONNECTION_PRAGMAS:
            connection.execute(pragma)
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        return connection


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *arguments: object) -> bool:
    """Call in the loop; False when it has ended."""
    try:
        loop.call_soon_threadsafe(what, *arguments)
    except RuntimeError:
        return False
    return True
