"""Works that take turns in one transaction, question by question: what waits while one is under way is the next one's.

They may do so because none reads what another writes. One that fails after it wrote something, a lock that others hold,
or any trouble with a statement undoes the transaction, and each work runs by itself: so nobody pays for another's
failure but with time.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from readdress.clock import Clock
from readdress.store.database import StoreError, StoreFull, Work
from readdress.store.postgres.connection import Connection, Result
from readdress.store.postgres.dialect import Ask, plain
from readdress.store.postgres.failures import ConnectionLost
from readdress.store.postgres.pool import Pool
from readdress.store.postgres.work import RunningWork

TRANSACTIONS_MAX = 2
WORKS_MAX = 64

# Who has to wait for others' locks does so by itself, and keeps nobody else waiting.
_BEGIN = [plain("BEGIN"), plain("SET LOCAL lock_timeout = 100")]
_COMMIT = plain("COMMIT")
_ROLLBACK = plain("ROLLBACK")


class _Job(NamedTuple):
    work: Work[Any]
    future: "asyncio.Future[Any]"


class _WroteAndFailed(Exception):
    """What a work has written before it failed can't be undone alone."""


class Lane:
    """`alone` runs a work in a transaction of its own."""

    def __init__(self, pool: Pool, clock: Clock, alone: Callable[[Work[Any]], Awaitable[Any]]) -> None:
        self._pool = pool
        self._clock = clock
        self._alone = alone
        self._waiting: deque[_Job] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self, work: Work[Any]) -> Any:
        """What the work gives, once it is durable."""
        job = _Job(work, self._pool.loop.create_future())
        self._waiting.append(job)
        if len(self._tasks) < TRANSACTIONS_MAX:
            task = self._pool.loop.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await job.future

    async def _run(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), WORKS_MAX))]
            try:
                await self._run_batch(batch)
            except (ConnectionLost, StoreFull) as error:
                for job in batch:
                    _tell(job, error=error)
            except (StoreError, _WroteAndFailed):
                await asyncio.gather(*(self._run_alone(job) for job in batch))
            except BaseException as error:
                for job in batch:
                    _tell(job, error=error)
                raise

    async def _run_alone(self, job: _Job) -> None:
        try:
            _tell(job, value=await self._alone(job.work))
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for it
            _tell(job, error=error)

    async def _run_batch(self, batch: list[_Job]) -> None:
        connection = await self._pool.lend()
        try:
            await self._transact(connection, batch)
        except BaseException as error:
            if isinstance(error, StoreError | _WroteAndFailed) and not connection.is_lost:
                connection.post([_ROLLBACK])
            else:
                connection.abort("a transaction was left in the middle")
            raise
        finally:
            self._pool.give_back(connection)

    async def _transact(self, connection: Connection, batch: list[_Job]) -> None:
        now_ms = self._clock.now_ms()
        ended: list[tuple[_Job, Any, Exception | None]] = []
        changes: list[Ask] = []  # of works that have ended

        def step(job: _Job, running: RunningWork, take: Callable[[], None]) -> bool:
            """Whether the work goes on."""
            try:
                take()
            except Exception as error:
                if running.transaction.has_written:
                    raise _WroteAndFailed from error
                ended.append((job, None, error))
                return False
            if running.question is None:
                changes.extend(running.transaction.take_waiting())
                ended.append((job, running.value, None))
                return False
            return True

        under_way = [(job, RunningWork(job.work, now_ms)) for job in batch]
        under_way = [(job, running) for job, running in under_way if step(job, running, running.start)]
        begin = _BEGIN
        while under_way:
            answers = await _ask_all(connection, [*begin, *changes], [running for _, running in under_way])
            begin = []
            changes.clear()
            under_way = [
                (job, running)
                for (job, running), answer in zip(under_way, answers, strict=True)
                if step(job, running, lambda running=running, answer=answer: running.answer(answer))  # type: ignore[misc]
            ]
        await connection.exchange([*begin, *changes, _COMMIT])
        for job, value, error in ended:
            _tell(job, value=value, error=error)


async def _ask_all(connection: Connection, first: list[Ask], works: list[RunningWork]) -> list[Result]:
    """Every work's question, behind all their locks in one order, so that two nodes can't wait for each other."""
    locks = {(lock.statement.text, *lock.values): lock for running in works for lock in running.transaction.locks}
    asks = [*first, *(locks[key] for key in sorted(locks))]
    places = []
    for running in works:
        running.transaction.locks.clear()
        asks += running.transaction.take_waiting()
        assert running.question
        places.append(len(asks))
        asks.append(running.question)
    results = await connection.exchange(asks)
    return [results[place] for place in places]


def _tell(job: _Job, *, value: Any = None, error: BaseException | None = None) -> None:
    if job.future.done():  # who asked has gone
        return
    if error is not None:
        job.future.set_exception(error)
    else:
        job.future.set_result(value)
