"""The runner of the queue on a real database: when it tries, and what it records."""

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ManualClock
from harness.directory import delete, publish
from harness.jobs import asking
from harness.spooled_mail import (
    DELIVERED,
    HELP,
    PERMANENT,
    SIGN,
    TEMPORARY,
    Hanging,
    Scripted,
    TroubledDatabase,
    attempts,
    content,
    deliveries,
    entries,
    inbox,
    make_runner,
    publish_with_transport,
    running,
    spool_mail,
    state,
    until,
)
from readdress.api import spooled
from readdress.inbox.messages import State
from readdress.mail import queue_runner
from readdress.mail.notices import Notifier
from readdress.mail.queue_runner import Schedule
from readdress.mail.transports import Job, Result
from readdress.spool.queue import NEVER_MS
from readdress.store.database import Database, StoreUnavailable

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def _published(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_runner, "POLL_S", 0.02)
    database.run(publish_with_transport())
    database.run(publish_with_transport("sign", SIGN, "hook"))


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


@given(
    first_ms=st.integers(1, HOUR_MS), ratio=st.integers(1, 1_000), attempt=st.integers(1, 10_000)
)  # RFC 5321 §4.5.4.1
def test_a_wait_is_between_the_first_and_the_last_and_near_twice_the_one_before(
    first_ms: int, ratio: int, attempt: int
) -> None:
    schedule = Schedule(first_ms=first_ms, last_ms=first_ms * ratio)
    planned_ms = min(schedule.last_ms, first_ms * 2 ** min(attempt - 1, 60))
    wait_ms = schedule.wait_ms(attempt)
    assert schedule.first_ms <= wait_ms <= schedule.last_ms
    assert 0.75 * planned_ms - 1 <= wait_ms <= max(1.25 * planned_ms + 1, first_ms)


def test_waits_are_spread() -> None:
    assert len({Schedule().wait_ms(3) for _ in range(50)}) > 10


def test_mail_is_tried_at_once_and_its_entry_goes_with_it(database: Database, clock: ManualClock) -> None:
    desk = Scripted(DELIVERED)

    async def test() -> None:
        async with running(make_runner(database, clock, {"desk": desk})):
            message_id = await spool_mail(database)
            await until(lambda: not entries(database))
        (job,) = desk.jobs
        assert (job.message.id, job.attempt, job.delivery.next_hop) == (message_id, 1, HELP)
        assert state(database, message_id) is State.DELIVERED
        (attempt,) = attempts(database, job.delivery.id)
        assert (attempt.number, attempt.outcome, attempt.reply) == (1, "DELIVERED", "250 2.0.0 taken")

    run(test)


def test_what_fails_for_now_is_tried_later_and_given_up_after_five_days(database: Database, clock: ManualClock) -> None:
    # RFC 5321 §4.5.4.1: at least four to five days; the sender hears after 4 h that it takes longer, once.
    database.run(publish("ann", "ann@example.com"))
    desk = Scripted(TEMPORARY)
    began_ms = clock.now_ms()
    notices: dict[bytes, float] = {}

    def has_ended(tries: int) -> bool:
        return len(desk.jobs) > tries and not entries(database)[0].lease_owner

    async def test() -> None:
        runner = make_runner(database, clock, {"desk": desk})
        async with running(runner):
            message_id = await spool_mail(database, sender="ann@example.com")
            while not notices or len(notices) < 2:
                tries = len(desk.jobs)
                runner.wake()
                await until(partial(has_ended, tries))
                for notice in inbox(database, "ann"):
                    notices.setdefault(notice, clock.now_ms() - began_ms)
                (entry,) = entries(database)
                if entry.due_ms != NEVER_MS:
                    assert MINUTE_MS <= entry.due_ms - clock.now_ms() <= HOUR_MS
                    assert state(database, message_id) is State.QUEUED
                    clock.advance(entry.due_ms - clock.now_ms())
            assert state(database, message_id) is State.FAILED
            assert entries(database)[0].has_failed
            assert content(database, message_id)
            clock.advance(30 * DAY_MS)
            runner.wake()
            await spool_mail(database)  # the next one is tried, so the runner has looked
            await until(lambda: desk.jobs[-1].message.id != message_id)
        assert [job.attempt for job in desk.jobs if job.message.id == message_id] == list(range(1, len(desk.jobs)))

    run(test)
    (delayed, delayed_ms), (failed, failed_ms) = notices.items()
    assert b"\r\nAction: delayed\r\n" in delayed
    assert b"\r\nStatus: 4.2.1\r\n" in delayed
    assert 4 * HOUR_MS <= delayed_ms <= 5 * HOUR_MS
    assert b"\r\nAction: failed\r\n" in failed
    assert b"\r\nStatus: 5.4.7\r\n" in failed  # RFC 3463 §3.5: delivery time expired
    assert 5 * DAY_MS <= failed_ms <= 5 * DAY_MS + HOUR_MS
    assert 115 <= len(desk.jobs) <= 180


def test_a_refusal_for_good_is_not_tried_again(database: Database, clock: ManualClock) -> None:
    database.run(publish("ann", "ann@example.com"))
    desk = Scripted(PERMANENT)

    async def test() -> None:
        async with running(make_runner(database, clock, {"desk": desk})):
            message_id = await spool_mail(database, sender="ann@example.com")
            await until(lambda: state(database, message_id) is State.FAILED)
        assert entries(database)[0].due_ms == NEVER_MS
        (notice,) = inbox(database, "ann")
        assert b"\r\nStatus: 5.1.1\r\n" in notice

    run(test)


@pytest.mark.parametrize("names", [["desk"], ["desk", "hook"]], ids=["one name", "two names of one transport"])
def test_a_transports_concurrency_is_used_and_never_exceeded(
    database: Database, clock: ManualClock, names: list[str]
) -> None:
    now = peak = 0

    async def step(job: Job) -> Result:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await asyncio.sleep(0.002)
        now -= 1
        return DELIVERED

    async def test() -> None:
        desk = Scripted(step, concurrency=3)
        for _ in range(20):
            await spool_mail(database, HELP, SIGN)
        async with running(make_runner(database, clock, dict.fromkeys(names, desk))):
            await until(lambda: all(entry.transport not in names for entry in entries(database)))
        assert len(desk.jobs) == 20 * len(names)
        assert peak == 3

    run(test)


def test_a_slow_transport_holds_no_other_up(database: Database, clock: ManualClock) -> None:
    hanging = Hanging()

    async def test() -> None:
        async with running(
            make_runner(database, clock, {"desk": Scripted(hanging, concurrency=1), "hook": Scripted()})
        ):
            await spool_mail(database)
            message_id = await spool_mail(database, SIGN)
            await until(lambda: state(database, message_id) is State.DELIVERED and hanging.is_waiting)

    run(test)


@pytest.mark.parametrize("error", [RuntimeError("a secret"), StoreUnavailable("a secret"), OSError("a secret")])
def test_an_error_of_a_transport_is_temporary_and_its_text_stays_here(
    database: Database, clock: ManualClock, error: Exception
) -> None:
    desk = Scripted(error, DELIVERED)

    async def test() -> None:
        runner = make_runner(database, clock, {"desk": desk})
        async with running(runner):
            message_id = await spool_mail(database)
            await until(lambda: attempts(database, entries(database)[0].delivery_id))
            (entry,) = entries(database)
            (attempt,) = attempts(database, entry.delivery_id)
            assert (attempt.outcome, attempt.reply[:5]) == ("TEMPORARY", "4.3.0")
            assert "secret" not in attempt.reply
            clock.advance(2 * MINUTE_MS)
            runner.wake()
            await until(lambda: state(database, message_id) is State.DELIVERED)

    run(test)


def test_a_try_without_end_is_given_up(database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_runner, "ATTEMPT_S_MAX", 0.05)

    async def test() -> None:
        async with running(make_runner(database, clock, {"desk": Scripted(Hanging())})):
            await spool_mail(database)
            await until(lambda: attempts(database, entries(database)[0].delivery_id))
        (attempt,) = attempts(database, entries(database)[0].delivery_id)
        assert (attempt.outcome, attempt.reply) == ("TEMPORARY", "4.4.1 the try took too long")

    run(test)


def test_an_outcome_is_recorded_though_the_database_fails_for_a_while(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What happened outside can't be undone: without the record the mail would go out again.
    monkeypatch.setattr(queue_runner, "RECORD_RETRY_S", 0.001)
    troubled = TroubledDatabase(database)

    async def step(job: Job) -> Result:
        troubled.failing_writes += [StoreUnavailable("no disk")] * 5
        return DELIVERED

    desk = Scripted(step)

    async def test() -> None:
        async with running(make_runner(troubled, clock, {"desk": desk})):
            message_id = await spool_mail(database)
            await until(lambda: state(database, message_id) is State.DELIVERED)
        assert len(desk.jobs) == 1

    run(test)


@pytest.mark.parametrize("error", [StoreUnavailable("no disk"), RuntimeError("a mistake")])
def test_trouble_with_the_database_ends_no_runner(database: Database, clock: ManualClock, error: Exception) -> None:
    troubled = TroubledDatabase(database)

    async def test() -> None:
        runner = make_runner(troubled, clock, {"desk": Scripted()})
        async with running(runner):
            troubled.failing_reads.append(error)
            runner.wake()
            await until(lambda: not troubled.failing_reads)
            message_id = await spool_mail(database)
            runner.wake()
            await until(lambda: state(database, message_id) is State.DELIVERED)

    run(test)


def test_a_transport_that_is_not_configured_keeps_its_mail(
    database: Database, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        message_id = await spool_mail(database)
        async with running(make_runner(database, clock, {"hook": Scripted()})):
            await until(lambda: attempts(database, entries(database)[0].delivery_id))
        (attempt,) = attempts(database, entries(database)[0].delivery_id)
        assert (attempt.outcome, attempt.reply) == ("TEMPORARY", "4.3.5 no transport named desk is configured")
        assert "the transport desk, which is not configured" in caplog.text
        clock.advance(HOUR_MS)
        async with running(make_runner(database, clock, {"desk": Scripted()})):
            await until(lambda: state(database, message_id) is State.DELIVERED)

    run(test)


def test_content_goes_with_the_last_delivery_that_needs_it(database: Database, clock: ManualClock) -> None:
    async def test() -> None:
        desk, hook = Scripted(TEMPORARY, DELIVERED), Scripted(PERMANENT)
        runner = make_runner(database, clock, {"desk": desk, "hook": hook})
        async with running(runner):
            message_id = await spool_mail(database, HELP, SIGN)
            await until(lambda: {each.state for each in deliveries(database, message_id)} > {State.FAILED})
            await until(lambda: len(desk.jobs) == 1 and not any(entry.lease_owner for entry in entries(database)))
            assert content(database, message_id)
            clock.advance(2 * MINUTE_MS)
            runner.wake()
            await until(lambda: len(entries(database)) == 1)
            assert content(database, message_id)  # what has failed may be retried
            (failed,) = entries(database)
            assert database.run(lambda tx: spooled.drop(tx, failed.delivery_id))
            assert content(database, message_id) is None

    run(test)


def test_a_transport_may_keep_content(database: Database, clock: ManualClock) -> None:
    async def test() -> None:
        async with running(make_runner(database, clock, {"desk": Scripted(keep_content=True)})):
            message_id = await spool_mail(database)
            await until(lambda: not entries(database))
        assert content(database, message_id)

    run(test)


def test_what_is_in_an_inbox_stays_there(database: Database, clock: ManualClock) -> None:
    database.run(publish("ann", "ann@example.com"))

    async def test() -> None:
        async with running(make_runner(database, clock, {"desk": Scripted()})):
            await spool_mail(database, HELP, "ann@example.com")
            await until(lambda: not entries(database))
        assert len(inbox(database, "ann")) == 1

    run(test)


def test_a_failed_delivery_is_tried_again_when_somebody_asks(database: Database, clock: ManualClock) -> None:
    desk = Scripted(PERMANENT, TEMPORARY, DELIVERED)

    async def test() -> None:
        runner = make_runner(database, clock, {"desk": desk})
        async with running(runner):
            message_id = await spool_mail(database)
            await until(lambda: state(database, message_id) is State.FAILED)
            (failed,) = entries(database)
            clock.advance(30 * DAY_MS)
            assert database.run(lambda tx: spooled.retry(tx, failed.delivery_id))
            assert state(database, message_id) is State.QUEUED
            runner.wake()
            await until(lambda: len(attempts(database, failed.delivery_id)) == 2)
            assert state(database, message_id) is State.QUEUED  # it has its five days again
            clock.advance(HOUR_MS)
            runner.wake()
            await until(lambda: state(database, message_id) is State.DELIVERED)
        assert [job.attempt for job in desk.jobs] == [1, 2, 3]
        assert not database.run(lambda tx: spooled.retry(tx, failed.delivery_id))
        assert not database.run(lambda tx: spooled.drop(tx, failed.delivery_id))

    run(test)


def test_what_an_operator_dropped_is_not_tried_again_whatever_a_try_in_hand_says(
    database: Database, clock: ManualClock
) -> None:
    hanging = Hanging()

    async def test() -> None:
        async with running(make_runner(database, clock, {"desk": Scripted(hanging)}), drain_s=10):
            message_id = await spool_mail(database)
            await until(lambda: hanging.is_waiting)
            (entry,) = entries(database)
            assert database.run(lambda tx: spooled.drop(tx, entry.delivery_id))
            hanging.tell(TEMPORARY)
            await until(lambda: len(attempts(database, entry.delivery_id)) == 2)
        assert entries(database) == []
        assert state(database, message_id) is State.DROPPED

    run(test)


def test_mail_for_an_address_that_was_deleted_meanwhile_still_goes_out(database: Database, clock: ManualClock) -> None:
    # It was acknowledged while the address was there.
    desk = Scripted()

    async def test() -> None:
        message_id = await spool_mail(database)
        database.run(delete("help"))
        async with running(make_runner(database, clock, {"desk": desk})):
            await until(lambda: not entries(database))
        (job,) = desk.jobs
        assert (job.message.id, job.delivery.address, job.delivery.next_hop) == (message_id, None, HELP)

    run(test)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (DELIVERED, [b"delivered"]),
        (DELIVERED._replace(is_final=False), [b"relayed"]),
        (DELIVERED._replace(is_final=False, has_passed_on_notices=True), []),
    ],
    ids=["final", "passed on", "passed on with what was asked"],
)
def test_who_asked_hears_whether_it_was_delivered_or_passed_on(
    database: Database, clock: ManualClock, result: Result, told: list[bytes]
) -> None:
    # RFC 3461 §5.2.2: "relayed" where the next host does not take over what was asked
    database.run(publish("ann", "ann@example.com"))

    async def test() -> None:
        async with running(make_runner(database, clock, {"desk": Scripted(result)})):
            await spool_mail(database, asking(HELP, "SUCCESS"), sender="ann@example.com")
            await spool_mail(database, HELP, sender="ann@example.com")
            await until(lambda: not entries(database))

    run(test)
    assert [re.findall(rb"^Action: (\w+)", notice, re.MULTILINE)[0] for notice in inbox(database, "ann")] == told


@pytest.mark.parametrize(("result", "expected"), [(DELIVERED, State.DELIVERED), (PERMANENT, State.FAILED)])
def test_a_mistake_in_a_notice_does_not_undo_the_outcome(
    database: Database,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    result: Result,
    expected: State,
) -> None:
    # Else the mail would go out again with every lease.
    def tell(*_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Notifier, "tell", tell)
    desk = Scripted(result)

    async def test() -> None:
        async with running(make_runner(database, clock, {"desk": desk})):
            message_id = await spool_mail(database)
            await until(lambda: state(database, message_id) is expected)

    run(test)
    assert len(desk.jobs) == 1
    assert "is recorded without a notice" in caplog.text


def test_every_try_is_a_line_of_the_log(
    database: Database, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with running(make_runner(database, clock, {"desk": Scripted()})):
            await spool_mail(database)
            await until(lambda: not entries(database))

    with caplog.at_level(logging.INFO, "readdress.mail"):
        run(test)
    assert " by desk: DELIVERED 250 2.0.0 taken" in caplog.text
