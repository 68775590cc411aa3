"""Transactions on PostgreSQL: each on a connection of its own, driven by the event loop without a thread.

A work is ordinary code that calls `tx.one(…)` and gets a row. In the event loop it runs in a greenlet: where it asks,
it stops, the question goes out, and the loop does something else until the answer is there. Works that may take turns
in one transaction (`together`, as mail does) do so, and share round trips and a commit. READ COMMITTED: a work locks
with one statement and reads with the next.

Where it fails: a deadlock, or what others changed meanwhile, runs the whole work again, `ATTEMPTS_MAX` times. When the
connection breaks, nothing is written, or, in the middle of a commit, nobody knows: the caller hears StoreUnavailable
and may try again.
"""

import asyncio
import random
import threading
from time import sleep
from typing import Any, NamedTuple, TypeVar

from readdress.clock import Clock
from readdress.metrics import counted
from readdress.store.counted import counting_commit
from readdress.store.database import Row, StoreChanged, StoreError, StoreUnavailable, Together, Work
from readdress.store.postgres import session
from readdress.store.postgres.connection import Connection, Result, check_committed
from readdress.store.postgres.dialect import Ask, ask, plain
from readdress.store.postgres.pool import Pool
from readdress.store.postgres.schema import check_schema, prepare_schema
from readdress.store.postgres.together import Lane
from readdress.store.postgres.transaction import PostgresTransaction
from readdress.store.postgres.work import RunningWork
from readdress.store.queries import Query

T = TypeVar("T")

ATTEMPTS_MAX = 10
SCANS_MAX = 2
# How long a statement may be under way, besides the wait for a lock, before its connection is given up.
ANSWER_S_MAX = 5.0
SCAN_S_MAX = 60.0

BEGIN = plain("BEGIN")
BEGIN_READING = plain("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
COMMIT = plain("COMMIT")
ROLLBACK = plain("ROLLBACK")


class _Here(NamedTuple):
    """What belongs to one event loop."""

    pool: Pool
    lanes: dict[str, Lane]  # by kind
    reads: Lane
    scans: asyncio.Semaphore


class PostgresDatabase:
    """A Database on one server or several, of which one takes writes at a time."""

    def __init__(self, url: str, *, clock: Clock, lock_wait_ms: int, connections_max: int = 10) -> None:
        """Connect and look at the schema, which is made in an empty database.

        Raises SchemaError for a server or a schema that this program can't serve, or one that can't be reached.
        """
        self._clock = clock
        self._target = session.read_url(url, lock_wait_ms=lock_wait_ms)
        self._connections_max = connections_max
        self._lock_wait_s = lock_wait_ms / 1000
        self._here: _Here | None = None
        self._spare: list[Connection] = []  # for threads
        self._spare_lock = threading.Lock()
        self._is_closed = False
        prepare_schema(self._target, clock)

    # The Database protocol.

    def run(self, work: Work[T]) -> T:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return self._run_once(work, BEGIN)
            except StoreChanged:
                if attempt == ATTEMPTS_MAX:
                    raise
                counted.repeats += 1
                sleep(_pause_s(attempt))
        raise AssertionError

    async def write(self, work: Work[T], *, together: Together | None = None) -> T:
        if together is None:
            return await self._write_alone(work)
        here = self._in_loop()
        lane = here.lanes.get(together.kind)
        if lane is None:
            lane = here.lanes[together.kind] = Lane(here.pool, self._clock, self._write_alone)
        value: T = await lane.join(work, together.touches)
        return value

    async def read(self, work: Work[T]) -> T:
        value: T = await self._in_loop().reads.join(work, frozenset())
        return value

    async def find(self, query: Query, **parameters: Any) -> Row | None:
        connection = await self._in_loop().pool.share()
        (result,) = await connection.exchange([ask(query, parameters)])
        rows = result.rows()
        return rows[0] if rows else None

    async def scan(self, work: Work[T]) -> T:
        async with self._in_loop().scans:
            return await self._read_alone(work)

    def close(self) -> None:
        self._is_closed = True
        if self._here:
            self._here.pool.close()
        with self._spare_lock:
            for connection in self._spare:
                connection.abort("the database is closed")
            self._spare.clear()

    # In the event loop.

    def _in_loop(self) -> _Here:
        if self._is_closed:
            raise StoreUnavailable("the database is closed")
        loop = asyncio.get_running_loop()
        here = self._here
        if here is None or here.pool.loop is not loop:
            if here is not None:
                here.pool.close()
            pool = Pool(
                lambda: session.connect(self._target),
                size=self._connections_max,
                wait_s=self._lock_wait_s,
                answer_s=self._lock_wait_s + ANSWER_S_MAX,
            )
            reads = Lane(pool, self._clock, self._read_alone, begin=(BEGIN_READING,), reads=True)
            here = self._here = _Here(pool, {}, reads, asyncio.Semaphore(SCANS_MAX))
        return here

    async def _write_alone(self, work: Work[T]) -> T:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return await self._once(work, BEGIN)
            except StoreChanged:
                if attempt == ATTEMPTS_MAX:
                    raise
                counted.repeats += 1
                await asyncio.sleep(_pause_s(attempt))
        raise AssertionError

    async def _read_alone(self, work: Work[T]) -> T:
        return await self._once(work, BEGIN_READING)

    async def _once(self, work: Work[T], begin: Ask) -> T:
        pool = self._in_loop().pool
        connection = await pool.lend()
        running = RunningWork(work, self._clock.now_ms(), begin=begin)
        transaction = running.transaction
        try:
            await _drive(connection, running)
            if begin is BEGIN:
                with counting_commit(works=1):
                    check_committed(await connection.exchange([*transaction.take_waiting(), COMMIT]))
            elif transaction.has_begun:
                connection.post([COMMIT])
        except Exception:
            if transaction.has_begun and not connection.is_lost:
                connection.post([ROLLBACK])
            raise
        except BaseException:  # who asked has gone, in the middle of something
            connection.abort("a transaction was left in the middle")
            raise
        finally:
            pool.give_back(connection)
        value: T = running.value
        return value

    # In a thread that may wait.

    def _run_once(self, work: Work[T], begin: Ask) -> T:
        connection = self._take_spare()
        wait_s = self._lock_wait_s + ANSWER_S_MAX

        def exchange(tx: PostgresTransaction, question: Ask) -> Result:
            return connection.exchange_now([*tx.take_waiting(), question], wait_s=wait_s)[-1]

        transaction = PostgresTransaction(self._clock.now_ms(), exchange, begin=begin)
        try:
            value = work(transaction)
            with counting_commit(works=1):
                check_committed(connection.exchange_now([*transaction.take_waiting(), COMMIT], wait_s=wait_s))
        except BaseException:
            if transaction.has_begun and not connection.is_lost:
                connection.exchange_now([ROLLBACK], wait_s=wait_s)
            raise
        finally:
            with self._spare_lock:
                if self._is_closed:
                    connection.abort("the database is closed")
                elif not connection.is_lost:
                    self._spare.append(connection)
        return value

    def _take_spare(self) -> Connection:
        with self._spare_lock:
            if self._is_closed:
                raise StoreUnavailable("the database is closed")
            while self._spare:
                connection = self._spare.pop()
                if connection.is_at_rest():  # nobody has listened meanwhile
                    return connection
                connection.abort("the server said goodbye")
        return session.connect_now(self._target)


def read_once(url: str, work: Work[T], *, clock: Clock, lock_wait_ms: int) -> T:
    """Read beside running nodes and let go, for commands that only look. Raises SchemaError, StoreError."""
    target = session.read_url(url, lock_wait_ms=lock_wait_ms)
    check_schema(target)
    connection = session.connect_now(target)
    wait_s = SCAN_S_MAX

    def exchange(tx: PostgresTransaction, question: Ask) -> Result:
        return connection.exchange_now([*tx.take_waiting(), question], wait_s=wait_s)[-1]

    try:
        return work(PostgresTransaction(clock.now_ms(), exchange, begin=BEGIN_READING))
    finally:
        connection.abort("it was looked at")


async def _drive(connection: Connection, running: RunningWork) -> None:
    """Run the work to its end. Raises what the work raises, with what failed on the server among it."""
    running.start()
    while running.question is not None:
        asks = [*running.transaction.take_waiting(), running.question]
        try:
            results = await connection.exchange(asks)
        except StoreError as error:
            running.fail(error)
        else:
            running.answer(results[-1])


def _pause_s(attempt: int) -> float:
    """So that two which met do not meet again."""
    return random.uniform(0, 0.005 * 2 ** min(attempt, 6))  # noqa: S311
