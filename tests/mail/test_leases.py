"""Leases on a real database: what a dead node held, what a stopped one gives back, what a stale one may still say."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from conftest import ManualClock
from harness.spooled_mail import (
    DELIVERED,
    LEASE_MS,
    PERMANENT,
    SIGN,
    TEMPORARY,
    Hanging,
    Scripted,
    TroubledDatabase,
    attempts,
    content,
    deliveries,
    die,
    entries,
    leased_until_ms,
    look,
    make_runner,
    publish_with_transport,
    running,
    spool_mail,
    state,
    until,
)
from readdress.inbox.messages import State
from readdress.mail import queue_runner
from readdress.mail.transports import Job, Result
from readdress.store.database import Database


@pytest.fixture(autouse=True)
def _published(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_runner, "POLL_S", 0.02)
    database.run(publish_with_transport())
    database.run(publish_with_transport("sign", SIGN, "hook"))


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_a_dead_nodes_delivery_is_tried_by_another_when_its_lease_ends(database: Database, clock: ManualClock) -> None:
    hanging, desk = Hanging(), Scripted(DELIVERED)

    async def test() -> None:
        dead = make_runner(database, clock, {"desk": Scripted(hanging)})
        task = asyncio.create_task(dead.run())
        message_id = await spool_mail(database)
        await until(lambda: hanging.is_waiting)
        await die(task, dead)
        alive = make_runner(database, clock, {"desk": desk, "hook": Scripted()})
        async with running(alive):
            clock.advance(LEASE_MS - 1)
            await look(database, alive)
            assert desk.jobs == []
            clock.advance(1)
            alive.wake()
            await until(lambda: not entries(database))
        assert [job.attempt for job in desk.jobs] == [2]
        assert state(database, message_id) is State.DELIVERED

    run(test)


def test_a_lease_is_renewed_while_its_try_goes_on(database: Database, clock: ManualClock) -> None:
    hanging, other = Hanging(), Scripted()
    lease_ms = 60  # of the test's clock; renewed every 20 ms of the machine's

    async def test() -> None:
        busy = make_runner(database, clock, {"desk": Scripted(hanging)}, lease_ms=lease_ms)
        idle = make_runner(database, clock, {"desk": other, "hook": Scripted()}, lease_ms=lease_ms)
        async with running(busy):
            await spool_mail(database)
            await until(lambda: hanging.is_waiting)
            async with running(idle):
                for _ in range(5):
                    clock.advance(lease_ms - 1)
                    await until(lambda: leased_until_ms(database)[0] == clock.now_ms() + lease_ms)
                await look(database, idle)
            assert other.jobs == []
            hanging.tell(DELIVERED)
            await until(lambda: not entries(database))

    run(test)


def test_what_an_error_left_comes_free_though_the_node_is_busy(database: Database, clock: ManualClock) -> None:
    hanging = Hanging()
    troubled = TroubledDatabase(database)
    desk = Scripted(hanging, DELIVERED)
    lease_ms = 60

    async def test() -> None:
        runner = make_runner(troubled, clock, {"desk": desk, "hook": Scripted()}, lease_ms=lease_ms)
        async with running(runner):
            await spool_mail(database)
            runner.wake()
            await until(lambda: hanging.is_waiting)
            second = await spool_mail(database)
            troubled.load_fails = True
            runner.wake()
            await until(lambda: not troubled.load_fails)
            assert len(desk.jobs) == 1
            for _ in range(3):
                clock.advance(lease_ms - 1)
                await until(lambda: leased_until_ms(database)[0] == clock.now_ms() + lease_ms)
                runner.wake()
            await until(lambda: state(database, second) is State.DELIVERED)
            assert [job.attempt for job in desk.jobs] == [1, 2]
            hanging.tell(DELIVERED)

    run(test)


def test_stopping_gives_back_what_is_not_finished(database: Database, clock: ManualClock) -> None:
    desk = Scripted()

    async def test() -> None:
        hanging = Hanging()
        async with running(make_runner(database, clock, {"desk": Scripted(hanging)}), drain_s=0.01):
            await spool_mail(database)
            await until(lambda: hanging.is_waiting)
        assert leased_until_ms(database) == [0]
        async with running(make_runner(database, clock, {"desk": desk})):  # at the same instant
            await until(lambda: not entries(database))
        assert [job.attempt for job in desk.jobs] == [2]

    run(test)


def test_stopping_lets_a_try_in_hand_end(database: Database, clock: ManualClock) -> None:
    async def slowly(job: Job) -> Result:
        started.set()
        await asyncio.sleep(0.05)
        return DELIVERED

    async def test() -> None:
        async with running(make_runner(database, clock, {"desk": Scripted(slowly)}), drain_s=10):
            await spool_mail(database)
            await started.wait()
        assert entries(database) == []

    started = asyncio.Event()
    run(test)


def test_stopping_waits_for_a_try_that_is_just_being_leased(database: Database, clock: ManualClock) -> None:
    async def test() -> None:
        for _ in range(20):
            await spool_mail(database)
            hanging = Hanging()
            runner = make_runner(database, clock, {"desk": Scripted(hanging)})
            task = asyncio.create_task(runner.run())
            await asyncio.sleep(0)
            runner.stop(0.0)
            await asyncio.wait_for(task, 10)
            assert not runner._tries
            assert set(leased_until_ms(database)) == {0}

    run(test)


@pytest.mark.parametrize("stale", [TEMPORARY, PERMANENT, DELIVERED])
def test_a_stale_leases_outcome_changes_nothing_that_is_settled(
    database: Database, clock: ManualClock, stale: Result
) -> None:
    slow = Hanging()

    async def test() -> None:
        stalled = make_runner(database, clock, {"desk": Scripted(slow)})
        async with running(stalled, drain_s=10):
            message_id = await spool_mail(database)
            await until(lambda: slow.is_waiting)
            clock.advance(LEASE_MS)
            async with running(make_runner(database, clock, {"desk": Scripted(DELIVERED)})):
                await until(lambda: not entries(database))
            slow.tell(stale)
        (delivery,) = deliveries(database, message_id)
        assert delivery.state is State.DELIVERED
        assert entries(database) == []
        told = [(attempt.number, attempt.outcome) for attempt in attempts(database, delivery.id)]
        assert told == [(1, stale.outcome), (2, "DELIVERED")]

    run(test)


@pytest.mark.parametrize("stale", [TEMPORARY, PERMANENT])
def test_a_stale_leases_failure_leaves_the_delivery_to_who_holds_it(
    database: Database, clock: ManualClock, stale: Result
) -> None:
    slow, current = Hanging(), Hanging()

    async def test() -> None:
        stalled = make_runner(database, clock, {"desk": Scripted(slow)})
        holder = make_runner(database, clock, {"desk": Scripted(current)})
        message_id = await spool_mail(database)
        async with running(stalled, drain_s=10):
            await until(lambda: slow.is_waiting)
            clock.advance(LEASE_MS)
            async with running(holder, drain_s=10):
                await until(lambda: current.is_waiting)
                (entry,) = entries(database)
                slow.tell(stale)
                await until(lambda: attempts(database, entry.delivery_id))
                assert entries(database) == [entry]
                assert state(database, message_id) is State.QUEUED
                current.tell(DELIVERED)
        assert state(database, message_id) is State.DELIVERED

    run(test)


def test_a_stale_try_never_takes_content_that_is_gone_for_the_whole(database: Database, clock: ManualClock) -> None:
    release = asyncio.Event()
    read: list[bytes] = []

    async def read_late(job: Job) -> Result:
        started.set()
        await release.wait()
        read.extend([piece async for piece in job.content()])
        return DELIVERED

    async def test() -> None:
        async with running(make_runner(database, clock, {"desk": Scripted(read_late)}), drain_s=10):
            message_id = await spool_mail(database)
            await started.wait()
            clock.advance(LEASE_MS)
            async with running(make_runner(database, clock, {"desk": Scripted(DELIVERED)})):
                await until(lambda: not entries(database))
            assert content(database, message_id) is None
            release.set()
        (delivery,) = deliveries(database, message_id)
        assert [attempt.outcome for attempt in attempts(database, delivery.id)] == ["TEMPORARY", "DELIVERED"]
        assert read == []

    started = asyncio.Event()
    run(test)
