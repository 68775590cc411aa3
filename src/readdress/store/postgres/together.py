"""Works that take turns in one transaction, question by question: what waits while one is under way is the next one's.

They share round trips and a commit, which is what a transaction costs. They may do so because none reads what another
writes (`Together`). One that fails after it wrote something, a lock that others hold, or trouble with a statement
undoes the transaction, and each work runs by itself: so nobody pays for another's failure but with time. One that
still can't go on becomes patient: it waits for its locks beside the lane, which goes on without it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from readdress.clock import Clock
from readdress.metrics import counted
from readdress.store.counted import counting_commit
from readdress.store.database import StoreBusy, StoreChanged, StoreError, StoreFull, Work
from readdress.store.postgres.connection import Connection, Result, check_committed
from readdress.store.postgres.dialect import Ask, plain
from readdress.store.postgres.failures import ConnectionLost
from readdress.store.postgres.pool import Pool
from readdress.store.postgres.work import RunningWork

# One at a time: what waits meanwhile makes the next one worth more than a second beside it would be.
TRANSACTIONS_MAX = 1
WORKS_MAX = 64

# Who has to wait longer for others' locks is patient, and keeps nobody else waiting.
BEGIN_TOGETHER = (plain("BEGIN"), plain("SET LOCAL lock_timeout = 20"))
_COMMIT = plain("COMMIT")
_ROLLBACK = plain("ROLLBACK")


class _WroteAndFailed(Exception):
    """What a work has written before it failed can't be undone alone."""


class _Job:
    """A work, who waits for it, and what came of it."""

    __slots__ = ("error", "future", "running", "touches", "work")

    def __init__(self, work: Work[Any], future: "asyncio.Future[Any]", touches: frozenset[str]) -> None:
        self.work = work
        self.future = future
        self.touches = touches
        self.running: RunningWork
        self.error: Exception | None = None

    def tell(self, *, value: Any = None, error: BaseException | None = None) -> None:
        if self.future.done():  # who asked has gone
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)


class Lane:
    """Works of one kind; `alone` runs one in a transaction of its own. A lane that `reads` answers before its end."""

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        alone: Callable[[Work[Any]], Awaitable[Any]],
        *,
        begin: tuple[Ask, ...] = BEGIN_TOGETHER,
        reads: bool = False,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._alone = alone
        self._begin = begin
        self._reads = reads
        self._waiting: deque[_Job] = deque()
        self._running = 0
        self._patient = asyncio.Semaphore(max(1, pool.size // 3))  # so that they leave connections to the others
        self._tasks: set[asyncio.Task[None]] = set()  # so that they are kept

    async def join(self, work: Work[Any], touches: frozenset[str]) -> Any:
        """What the work gives, once it is durable."""
        job = _Job(work, self._pool.loop.create_future(), touches)
        self._waiting.append(job)
        if self._running < TRANSACTIONS_MAX:
            self._running += 1
            self._keep(self._run())
        return await job.future

    def _keep(self, running: Coroutine[Any, Any, None]) -> None:
        task = self._pool.loop.create_task(running)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        try:
            await self._run_batches()
        finally:  # at once: who joins before the task's callbacks must not count on it any more
            self._running -= 1

    async def _run_batches(self) -> None:
        while self._waiting:
            batch = self._take_batch()
            if await self._try(batch):
                continue
            if len(batch) == 1:
                self._keep(self._run_patiently(batch[0]))
            else:
                await asyncio.gather(*(self._run_one(job) for job in batch))

    async def _run_one(self, job: _Job) -> None:
        if not job.future.done() and not await self._try([job]):
            self._keep(self._run_patiently(job))

    async def _run_patiently(self, job: _Job) -> None:
        """In a transaction of its own, which waits for locks, and is repeated, as long as any."""
        counted.lock_waits += 1
        try:
            async with asyncio.timeout(self._pool.wait_s):
                await self._patient.acquire()
        except TimeoutError:
            job.tell(error=StoreBusy("too many waited for the locks of others"))
            return
        try:
            if not job.future.done():
                job.tell(value=await self._alone(job.work))
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for it
            job.tell(error=error)
        finally:
            self._patient.release()

    def _take_batch(self) -> list[_Job]:
        """Those that wait the longest and touch nothing in common."""
        batch: list[_Job] = []
        left: deque[_Job] = deque()
        touched: set[str] = set()
        while self._waiting and len(batch) < WORKS_MAX:
            job = self._waiting.popleft()
            (left if job.touches & touched else batch).append(job)
            touched |= job.touches  # what is left must not be overtaken by who touches the same
        self._waiting.extendleft(reversed(left))
        return batch

    async def _try(self, batch: list[_Job]) -> bool:
        """Whether everyone has been told what came of it."""
        try:
            connection = await self._pool.lend()
        except StoreBusy as error:
            _tell_all(batch, error)
            return True
        except Exception as error:  # noqa: BLE001 - none comes for those who wait behind them, either
            _tell_all([*batch, *self._waiting], error)
            self._waiting.clear()
            return True
        try:
            await self._run_batch(connection, batch)
        except _WroteAndFailed as failed:
            cause = failed.__cause__
            if len(batch) > 1 or isinstance(cause, StoreChanged):
                return False
            _tell_all(batch, cause)
        except (ConnectionLost, StoreFull) as error:
            _tell_all(batch, error)
        except StoreError:
            return False
        except Exception as error:  # noqa: BLE001 - handed to those who wait for it
            _tell_all(batch, error)
        except BaseException as error:
            _tell_all(batch, error)
            raise
        return True

    async def _run_batch(self, connection: Connection, batch: list[_Job]) -> None:
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
        for job in batch:
            job.running = RunningWork(job.work, now_ms)
        first: list[Ask] = [*self._begin]
        under_way = self._step(batch, [None] * len(batch), first)
        while under_way:
            answers = await _ask_all(connection, first, [job.running for job in under_way])
            first = []
            under_way = self._step(under_way, answers, first)
        if self._reads:
            connection.post([*first, _COMMIT])
            return
        with counting_commit(works=len(batch)):
            check_committed(await connection.exchange([*first, _COMMIT]))
        for job in batch:
            self._tell(job)

    def _tell(self, job: _Job) -> None:
        if isinstance(job.error, StoreChanged):  # it asks to be run again
            self._keep(self._run_patiently(job))
        else:
            job.tell(value=job.running.value, error=job.error)

    def _step(self, jobs: list[_Job], answers: "list[Result] | list[None]", changes: list[Ask]) -> list[_Job]:
        """Those that go on; what has ended leaves the changes that it has still to make."""
        under_way = []
        for job, answer in zip(jobs, answers, strict=True):
            running = job.running
            try:
                running.start() if answer is None else running.answer(answer)
            except Exception as error:
                if running.transaction.has_written:
                    raise _WroteAndFailed from error
                job.error = error
            else:
                if running.question is not None:
                    under_way.append(job)
                    continue
                changes += running.transaction.take_waiting()
            if self._reads:
                self._tell(job)
        return under_way


def _tell_all(batch: list[_Job], error: BaseException | None) -> None:
    for job in batch:
        job.tell(error=error)


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
