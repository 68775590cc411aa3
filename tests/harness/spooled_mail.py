"""A spool in the tests' words: mail for an address with a transport, a runner, and transports that follow a script."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

from harness.directory import publish, tag
from harness.engine import open_beside
from harness.jobs import CONTENT, accept
from readdress.clock import Clock
from readdress.directory import settings
from readdress.inbox import messages
from readdress.inbox.messages import State
from readdress.mail.dispatch import Dispatcher
from readdress.mail.intake import Intake
from readdress.mail.notices import Notifier
from readdress.mail.queue_runner import QueueRunner, Schedule
from readdress.mail.transports import Job, Outcome, Result, Transport
from readdress.smtp.session import Recipient
from readdress.spool import queue
from readdress.store.database import Database, Row, StoreUnavailable, Together, Transaction, Work
from readdress.store.queries import Query

WAIT_S_MAX = 20.0
HOSTNAME = "mx.example.com"
HELP = "help@example.com"
SIGN = "sign@example.com"
LEASE_MS = 60_000
DELIVERED = Result(Outcome.DELIVERED, "250 2.0.0 taken", "2.0.0", is_remote=True)
TEMPORARY = Result(Outcome.TEMPORARY, "450 4.2.1 later", "4.2.1", is_remote=True)
PERMANENT = Result(Outcome.PERMANENT, "550 5.1.1 never", "5.1.1", is_remote=True)

Step: TypeAlias = Result | Exception | Callable[[Job], Awaitable[Result]]


class Scripted:
    """A transport whose tries go as the steps say, the last of them for all that follow."""

    def __init__(self, *steps: Step, concurrency: int = 10, keep_content: bool = False) -> None:
        self.concurrency = concurrency
        self.keep_content = keep_content
        self.jobs: list[Job] = []
        self._steps = list(steps) or [DELIVERED]

    async def deliver(self, job: Job) -> Result:
        self.jobs.append(job)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, Result):
            return step
        if isinstance(step, Exception):
            raise step
        return await step(job)


class Hanging:
    """A step that waits until it is told how it went."""

    def __init__(self) -> None:
        self._told: asyncio.Future[Result] | None = None

    @property
    def is_waiting(self) -> bool:
        return self._told is not None

    async def __call__(self, job: Job) -> Result:
        self._told = asyncio.get_running_loop().create_future()
        return await self._told

    def tell(self, result: Result) -> None:
        assert self._told
        self._told.set_result(result)


class TroubledDatabase:
    """The real database, whose next calls fail: as many as `failing` has errors."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.failing_reads: list[Exception] = []
        self.failing_writes: list[Exception] = []
        self.load_fails = False

    def run(self, work: Work[Any]) -> Any:
        return self._database.run(work)

    async def write(self, work: Work[Any], *, together: Together | None = None) -> Any:
        if self.failing_writes:
            raise self.failing_writes.pop()
        return await self._database.write(work, together=together)

    async def read(self, work: Work[Any]) -> Any:
        if self.failing_reads:
            raise self.failing_reads.pop()
        if self.load_fails and work.__name__ == "load":
            self.load_fails = False
            raise StoreUnavailable("no disk")
        return await self._database.read(work)

    async def find(self, query: Query, **parameters: Any) -> Row | None:
        return await self._database.find(query, **parameters)

    async def scan(self, work: Work[Any]) -> Any:
        return await self._database.scan(work)

    def close(self) -> None:
        self._database.close()


def publish_with_transport(address_id: str = "help", text: str = HELP, transport: str = "desk") -> Work[None]:
    def work(tx: Transaction) -> None:
        publish(address_id, text)(tx)
        tag(address_id, {settings.TRANSPORT: transport}, text.rpartition("@")[2])(tx)

    return work


def make_intake(database: Database, *, can_return: bool = False) -> Intake:
    return Intake(database, hostname=HOSTNAME, dispatcher=Dispatcher(can_return=can_return))


def make_runner(
    database: Database,
    clock: Clock,
    transports: Mapping[str, Transport],
    *,
    schedule: Schedule | None = None,
    lease_ms: int = LEASE_MS,
    can_return: bool = False,
) -> QueueRunner:
    return QueueRunner(
        database,
        transports,
        notifier=Notifier(hostname=HOSTNAME, dispatcher=Dispatcher(can_return=can_return)),
        schedule=schedule or Schedule(),
        lease_ms=lease_ms,
        clock=clock,
    )


async def spool_mail(
    database: Database, *recipients: str | Recipient, sender: str = "ann@sender.example", content: bytes = CONTENT
) -> str:
    """The message's id."""
    return await accept(make_intake(database), *(recipients or (HELP,)), sender=sender, pieces=[content])


@asynccontextmanager
async def running(*runners: QueueRunner, drain_s: float = 0.0) -> AsyncIterator[None]:
    """They run until the block ends, and are stopped then."""
    tasks = [asyncio.create_task(runner.run()) for runner in runners]
    try:
        yield
    finally:
        for runner in runners:
            runner.stop(drain_s)
        await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S_MAX)


async def until(is_so: Callable[[], Any]) -> None:
    """Wait for it, for a bounded time."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not is_so():
            await asyncio.sleep(0.002)


def entries(database: Database) -> list[queue.Entry]:
    return database.run(lambda tx: queue.list_entries(tx, after="", limit=100))


def attempts(database: Database, delivery_id: str) -> list[queue.Attempt]:
    return database.run(lambda tx: queue.list_attempts(tx, delivery_id))


def deliveries(database: Database, message_id: str) -> list[messages.Delivery]:
    return database.run(lambda tx: messages.list_deliveries(tx, message_id))


def content(database: Database, message_id: str) -> bytes | None:
    return database.run(lambda tx: messages.content_of(tx, message_id))


def inbox(database: Database, address_id: str) -> list[bytes]:
    """The messages of an inbox as they are read, the oldest first."""

    def work(tx: Transaction) -> list[bytes]:
        found = messages.list_inbox(tx, address_id=address_id, before_id=None, limit=100)
        read = [messages.find_in_inbox(tx, address_id=address_id, message_id=each.message_id) for each in found]
        return [each for each in reversed(read) if each is not None]

    return database.run(work)


def state(database: Database, message_id: str) -> State:
    (delivery,) = deliveries(database, message_id)
    return delivery.state


def is_delivered(database: Database, message_id: str) -> bool:
    return state(database, message_id) is State.DELIVERED


async def look(database: Database, runner: QueueRunner) -> None:
    """Until the runner has been through its transports: `hook` is the last, and of two mails one came after this."""
    for _ in range(2):
        message_id = await spool_mail(database, SIGN)
        runner.wake()
        await until(partial(is_delivered, database, message_id))


async def die(task: "asyncio.Task[None]", runner: QueueRunner) -> None:
    """As with `kill -9`, as far as the database can tell."""
    tries = list(runner._tries)
    for each in (task, *tries):
        each.cancel()
    await asyncio.gather(task, *tries, return_exceptions=True)


def leased_until_ms(database: Database) -> list[int]:
    with open_beside(database) as rows:
        return [until_ms for (until_ms,) in rows.execute("SELECT leased_until_ms FROM spool ORDER BY delivery_id")]
