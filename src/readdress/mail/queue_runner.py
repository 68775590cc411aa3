"""Tries what is in the spool: lease, try by a transport without a transaction open, record the outcome.

A node may die between any two of these. What it had leased is tried again when the lease ends, so outward a message may
come twice, with the same delivery id, and never not at all.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

from readdress.clock import Clock, new_id
from readdress.inbox import messages
from readdress.inbox.messages import State
from readdress.mail.notices import Action, Notifier
from readdress.mail.transports import Job, Outcome, Result, Transport
from readdress.metrics import UNKNOWN, counted
from readdress.spool import queue
from readdress.store.database import Database, StoreError, Transaction
from readdress.telemetry import Part, traces

log = logging.getLogger("readdress.mail")

POLL_S = 1.0
# How often deliveries for transports that this node doesn't know are looked at.
UNKNOWN_INTERVAL_S = 60.0
# A try that takes longer is given up; sending 40 MiB over a slow line stays below.
ATTEMPT_S_MAX = 3_600.0
RECORD_RETRY_S = 1.0

TIME_EXPIRED = "4.4.7"


class ContentGone(Exception):
    """The message's content is not kept any more: while our lease had ended, another node has settled its delivery."""


class Schedule(NamedTuple):
    """When to try again: after `first_ms`, then twice as long each time up to `last_ms`, until `give_up_ms`.

    Who sent is told after `delay_notice_ms` that it takes longer.
    """

    first_ms: int = 60_000
    last_ms: int = 3_600_000
    give_up_ms: int = 5 * 86_400_000
    delay_notice_ms: int = 4 * 3_600_000

    def wait_ms(self, attempt: int) -> int:
        """Until the next try after this one, spread so that what failed together does not come back together."""
        wait_ms = min(self.last_ms, self.first_ms << min(attempt - 1, 30))
        return max(self.first_ms, min(self.last_ms, round(wait_ms * random.uniform(0.75, 1.25))))  # noqa: S311


class QueueRunner:
    """One node's tries, up to each transport's concurrency."""

    def __init__(
        self,
        database: Database,
        transports: Mapping[str, Transport],
        *,
        notifier: Notifier,
        schedule: Schedule,
        lease_ms: int,
        clock: Clock,
    ) -> None:
        self._database = database
        self._transports = transports
        self._notifier = notifier
        self._schedule = schedule
        self._lease_ms = lease_ms
        self._clock = clock
        self._owner = new_id()
        self._woken = asyncio.Event()
        self._running: Counter[Transport] = Counter()
        self._tries: dict[asyncio.Task[None], str] = {}  # each with its delivery's id
        self._is_stopping = False
        self._drain_s = 0.0

    def wake(self) -> None:
        """Something new is in the spool."""
        self._woken.set()

    async def run(self) -> None:
        """Until `stop`, and what that leaves time for; trouble with the database is waited out."""
        renewing = asyncio.create_task(self._renew())
        unknown_at = 0.0
        try:
            while not self._is_stopping:
                self._woken.clear()
                with _trouble_is_logged():
                    for name, transport in self._transports.items():
                        await self._start_tries(name, transport)
                    now = asyncio.get_running_loop().time()
                    if now >= unknown_at:
                        unknown_at = now + UNKNOWN_INTERVAL_S
                        await self._try_unknown()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), POLL_S)
            await self._drain()
        finally:
            renewing.cancel()

    def stop(self, drain_s: float) -> None:
        """No new tries; those in hand have `drain_s` to end, and then `run` does, too."""
        self._is_stopping = True
        self._drain_s = drain_s
        self.wake()

    async def _drain(self) -> None:
        """What does not end in time is anybody's at once, and need not wait for its lease to end."""
        if self._tries:
            await asyncio.wait(self._tries, timeout=self._drain_s)
        tries = list(self._tries)
        for task in tries:
            task.cancel()
        await asyncio.gather(*tries, return_exceptions=True)
        with _trouble_is_logged():
            await self._database.write(lambda tx: queue.release(tx, self._owner))

    async def _start_tries(self, name: str, transport: Transport) -> None:
        free = transport.concurrency - self._running[transport]
        if free <= 0 or not await self._database.read(lambda tx: queue.is_any_due(tx, name)):
            return
        entries = await self._database.write(
            lambda tx: queue.lease(tx, transport=name, owner=self._owner, lease_ms=self._lease_ms, limit=free)
        )
        for entry in entries:
            self._running[transport] += 1
            task = asyncio.create_task(self._try(entry, transport))
            self._tries[task] = entry.delivery_id
            task.add_done_callback(self._tries.pop)

    async def _try_unknown(self) -> None:
        for name in await self._database.read(queue.list_transports):
            if name not in self._transports:
                log.warning("deliveries wait for the transport %s, which is not configured here", name)
                await self._start_tries(name, _Unknown(name))

    async def _renew(self) -> None:
        """Only what is being tried: what an error has left behind has to come free."""
        while True:
            await asyncio.sleep(self._lease_ms / 3_000)
            held = list(self._tries.values())
            if held:
                with _trouble_is_logged():
                    await self._database.write(
                        lambda tx, held=held: queue.renew(tx, held, owner=self._owner, lease_ms=self._lease_ms)  # type: ignore[misc]
                    )

    async def _try(self, entry: queue.Entry, transport: Transport) -> None:
        try:
            job = await self._load(entry)
            if job is None:
                await self._database.write(lambda tx: queue.settle(tx, entry.delivery_id))
                return
            started_ms, started = self._clock.now_ms(), monotonic()
            result = await _attempt(job, transport)
            attempt = queue.Attempt(
                delivery_id=entry.delivery_id,
                number=entry.attempts,
                at_ms=started_ms,
                duration_ms=round((monotonic() - started) * 1000),
                outcome=result.outcome.value,
                remote=result.remote,
                tls=result.tls,
                reply=result.reply if result.is_remote else f"{result.enhanced} {result.reply}".strip(),
                address_id=entry.address_id,
            )
            name = UNKNOWN if isinstance(transport, _Unknown) else entry.transport
            counted.deliveries[name, result.outcome.lower()] += 1
            if traces.is_on:
                _trace(entry, name, result.outcome, monotonic() - started)
            log.info(
                "delivery %(delivery_id)s by %(transport)s: %(outcome)s %(reply)s",
                {
                    "delivery_id": entry.delivery_id,
                    "message_id": entry.message_id,
                    "transport": entry.transport,
                    "outcome": result.outcome,
                    "reply": attempt.reply,
                },
            )
            await self._record(job, result, attempt, keep_content=transport.keep_content)
        except Exception:
            log.exception(
                "delivery %(delivery_id)s is put off until its lease ends",
                {"delivery_id": entry.delivery_id, "message_id": entry.message_id},
            )
        finally:
            self._running[transport] -= 1
            self.wake()

    async def _load(self, entry: queue.Entry) -> Job | None:
        def load(tx: Transaction) -> tuple[messages.Delivery | None, messages.Message | None]:
            delivery = messages.get_delivery(tx, address_id=entry.address_id, delivery_id=entry.delivery_id)
            return delivery, messages.find(tx, entry.message_id)

        delivery, message = await self._database.read(load)
        if delivery is None or message is None:
            log.error("delivery %s is in the spool and has no message", entry.delivery_id)
            return None
        return Job(delivery, message, entry.attempts, lambda: self._content(message))

    async def _content(self, message: messages.Message) -> AsyncIterator[bytes]:
        """Raises ContentGone rather than to end early."""
        part, missing_bytes = 0, message.size_bytes
        while missing_bytes > 0:
            content = await self._database.read(lambda tx, part=part: messages.part_of(tx, message.id, part))  # type: ignore[misc]
            if content is None:
                raise ContentGone
            yield content
            missing_bytes -= len(content)
            part += 1

    async def _record(self, job: Job, result: Result, attempt: queue.Attempt, *, keep_content: bool) -> None:
        """What happened outside can't be undone, so recording it is tried until it succeeds.

        A mistake of ours in a notice must not undo it either: the mail would go out again and again.
        """
        tells = True

        def record(tx: Transaction) -> None:
            action = self._settle(tx, job, result, attempt, keep_content)
            if action and tells:
                self._notifier.tell(tx, action, job.message, job.delivery, _as_told(action, result))

        while True:
            try:
                await self._database.write(record)
            except StoreError:
                log.warning("cannot record the outcome of delivery %s yet", job.delivery.id, exc_info=True)
                await asyncio.sleep(RECORD_RETRY_S)
            except Exception:
                if not tells:
                    raise
                log.exception("the outcome of delivery %s is recorded without a notice", job.delivery.id)
                tells = False
            else:
                return

    def _settle(
        self, tx: Transaction, job: Job, result: Result, attempt: queue.Attempt, keep_content: bool
    ) -> Action | None:
        """What there is to tell the sender."""
        queue.record_attempt(tx, attempt)
        entry = queue.find(tx, job.delivery.id)
        if entry is None:
            return None  # our lease had ended, and somebody else has settled it
        if result.outcome is Outcome.DELIVERED:
            queue.settle(tx, entry.delivery_id)
            messages.set_state(tx, job.delivery, State.DELIVERED, keeps_content=keep_content)
            if result.has_passed_on_notices:
                return None
            return Action.DELIVERED if result.is_final else Action.RELAYED
        return self._put_off_or_fail(tx, entry, job, result) if entry.lease_owner == self._owner else None

    def _put_off_or_fail(self, tx: Transaction, entry: queue.Entry, job: Job, result: Result) -> Action | None:
        waited_ms = tx.now_ms - entry.queued_ms
        if result.outcome is Outcome.PERMANENT or waited_ms >= self._schedule.give_up_ms:
            queue.fail(tx, entry.delivery_id)
            messages.set_state(tx, job.delivery, State.FAILED)
            log.error(
                "delivery %(delivery_id)s of message %(message_id)s has failed: %(reply)s",
                {"delivery_id": entry.delivery_id, "message_id": job.message.id, "reply": result.reply},
            )
            return Action.FAILED
        queue.postpone(tx, entry.delivery_id, tx.now_ms + self._schedule.wait_ms(entry.attempts))
        if waited_ms < self._schedule.delay_notice_ms or entry.delay_told:
            return None
        queue.note_delay_told(tx, entry.delivery_id)
        return Action.DELAYED


def _trace(entry: queue.Entry, transport: str, outcome: Outcome, seconds: float) -> None:
    traces.add(
        "delivery",
        Part.CLIENT,
        seconds,
        {
            "delivery_id": entry.delivery_id,
            "message_id": entry.message_id,
            "transport": transport,
            "attempt": entry.attempts,
            "outcome": outcome.value,
        },
        failure="" if outcome is Outcome.DELIVERED else outcome.value,
    )


def _as_told(action: Action, result: Result) -> Result:
    """Who tried for too long has not been refused: the status says that the time is over (RFC 3463 §3.5)."""
    is_given_up = action is Action.FAILED and result.outcome is Outcome.TEMPORARY
    return result._replace(enhanced=TIME_EXPIRED) if is_given_up else result


@dataclass(frozen=True)
class _Unknown:
    """Stands for a transport that the configuration does not have, or not on this node."""

    name: str
    concurrency: int = 10
    keep_content: bool = False

    async def deliver(self, job: Job) -> Result:  # noqa: ARG002
        return Result(Outcome.TEMPORARY, f"no transport named {self.name} is configured", "4.3.5")


async def _attempt(job: Job, transport: Transport) -> Result:
    try:
        async with asyncio.timeout(ATTEMPT_S_MAX):
            return await transport.deliver(job)
    except TimeoutError:
        return Result(Outcome.TEMPORARY, "the try took too long", "4.4.1")
    except StoreError:
        log.exception("cannot read what is to be delivered")
        return Result(Outcome.TEMPORARY, "cannot read the message now", "4.3.0")
    except ContentGone:
        return Result(Outcome.TEMPORARY, "the content is gone: somebody else has settled the delivery", "4.3.0")
    except Exception:
        log.exception("delivery %s: an error of our own", job.delivery.id)
        return Result(Outcome.TEMPORARY, "an error of our own, see the log", "4.3.0")


@contextlib.contextmanager
def _trouble_is_logged() -> Iterator[None]:
    """So that no trouble ends the loop which it happens in."""
    try:
        yield
    except StoreError:
        log.warning("the spool has to wait for the database", exc_info=True)
    except Exception:
        log.exception("an error of our own in the spool")
