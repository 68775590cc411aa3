"""Connections to PostgreSQL that break, are too few or are left in the middle, and who is told what."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
import pytest

from conftest import ManualClock
from harness.engine import open_beside
from harness.works import (
    COUNT,
    backends,
    change,
    check_nothing_is_left_open,
    keys,
    locked_by_another,
    put,
    touching,
    wait_for_backends,
)
from readdress.store.database import StoreBusy, StoreUnavailable, Transaction, Work
from readdress.store.postgres.connection import Connection
from readdress.store.postgres.database import PostgresDatabase
from readdress.store.postgres.failures import ConnectionLost
from readdress.store.postgres.pool import Pool
from readdress.store.postgres.together import WORKS_MAX, Lane
from readdress.store.queries import Query

OpenStore = Callable[..., PostgresDatabase]
Ask = Callable[[PostgresDatabase], Coroutine[Any, Any, Any]]

SLEEP = Query("SELECT pg_sleep(20)::text")
# Every way to ask in the event loop.
DOORS: dict[str, Ask] = {
    "write": lambda store: store.write(keys),
    "together": lambda store: store.write(keys, together=touching()),
    "read": lambda store: store.read(keys),
    "scan": lambda store: store.scan(keys),
    "find": lambda store: store.find(COUNT),
}
QUICKLY_S = 10  # on the slowest of machines


async def warm_up(store: PostgresDatabase) -> None:
    for ask in DOORS.values():
        await ask(store)


def terminate(store: PostgresDatabase, condition: str = "true") -> None:
    """Every connection of the program for which the condition on pg_stat_activity holds; waits until they are gone."""
    pids = wait_for_backends(store, condition)
    with open_beside(store) as rows:
        for pid in pids:
            rows.execute(f"SELECT pg_terminate_backend({pid}, 10000)")


def slowly(key: str) -> Callable[[Transaction], Any]:
    def work(tx: Transaction) -> Any:
        put(key)(tx)
        return tx.one(SLEEP)

    return work


# Broken connections.


@pytest.mark.parametrize("door", DOORS)
def test_a_connection_that_broke_at_rest_is_replaced_and_nobody_notices(store: PostgresDatabase, door: str) -> None:
    async def ask_twice() -> None:
        await warm_up(store)
        terminate(store)
        await asyncio.sleep(0.1)  # so that the loop can hear of it
        await DOORS[door](store)

    asyncio.run(ask_twice())


def test_a_thread_notices_a_connection_that_broke_at_rest(store: PostgresDatabase) -> None:
    store.run(put("one"))
    terminate(store)
    assert store.run(keys) == ["one"]


@pytest.mark.parametrize("together", [None, touching()], ids=["alone", "together"])
def test_a_connection_that_breaks_between_statements_is_told_and_nothing_is_written(
    store: PostgresDatabase, together: Any
) -> None:
    def break_in_the_middle(tx: Transaction) -> Any:
        put("lost")(tx)
        terminate(store, "state = 'idle in transaction'")
        return put("lost too")(tx)

    async def ask() -> None:
        with pytest.raises(StoreUnavailable):
            await store.write(break_in_the_middle, together=together)
        assert await store.write(keys, together=together) == []

    asyncio.run(ask())
    check_nothing_is_left_open(store)


def test_a_thread_whose_connection_breaks_between_statements_is_told(store: PostgresDatabase) -> None:
    def break_in_the_middle(tx: Transaction) -> Any:
        put("lost")(tx)
        terminate(store, "state = 'idle in transaction'")
        return put("lost too")(tx)

    with pytest.raises(StoreUnavailable):
        store.run(break_in_the_middle)
    assert store.run(keys) == []


@pytest.mark.parametrize("together", [None, touching()], ids=["alone", "together"])
def test_a_connection_that_breaks_while_a_statement_runs_is_told(store: PostgresDatabase, together: Any) -> None:
    async def ask() -> None:
        asked = asyncio.ensure_future(store.write(slowly("lost"), together=together))
        await asyncio.to_thread(terminate, store, "wait_event = 'PgSleep'")
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(asked, QUICKLY_S)
        assert await store.read(keys) == []

    asyncio.run(ask())


def test_every_look_up_under_way_on_a_connection_that_breaks_is_told(store: PostgresDatabase) -> None:
    async def ask() -> None:
        asked = [asyncio.ensure_future(store.find(SLEEP)) for _ in range(5)]
        await asyncio.to_thread(terminate, store, "wait_event = 'PgSleep'")
        outcomes = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), QUICKLY_S)
        assert all(isinstance(outcome, ConnectionLost) for outcome in outcomes), outcomes
        assert await store.find(COUNT) == (0,)

    asyncio.run(ask())


def test_a_look_up_that_fails_leaves_its_neighbours_alone(store: PostgresDatabase) -> None:
    bad, good = Query("SELECT * FROM nothing_of_that_name", "bad"), Query("SELECT 7::bigint", "good")

    async def ask() -> list[Any]:
        asked = (store.find(query) for query in (good, bad, good, bad, good))
        return await asyncio.gather(*asked, return_exceptions=True)

    for _ in range(2):  # the second time they are prepared, or known to be bad
        outcomes = asyncio.run(ask())
        assert outcomes[::2] == [(7,)] * 3
        assert all(type(outcome) is StoreUnavailable for outcome in outcomes[1::2]), outcomes


def test_a_server_that_is_told_to_take_no_writes_is_looked_for_anew(store: PostgresDatabase, name: str) -> None:
    """As a primary that has become a standby."""

    async def ask() -> None:
        assert await store.write(put("before")) == 1
        before = backends(store)
        with open_beside(store) as rows:
            rows.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        with pytest.raises(ConnectionLost):
            await store.write(
                lambda tx: (
                    tx.one(Query("SELECT set_config('transaction_read_only', 'on', true)")) and put("refused")(tx)
                )
            )
        with pytest.raises(ConnectionLost):  # whoever connects now finds nobody who takes writes
            await store.write(put("refused"))
        with psycopg.connect(store._target.conninfo.replace("read-write", "any"), autocommit=True) as other:
            other.execute("SET default_transaction_read_only = off")
            other.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert await store.write(put("after")) == 1
        assert not set(before) & set(backends(store, "state = 'idle' AND query LIKE '%COMMIT%'"))

    asyncio.run(ask())
    assert store.run(keys) == ["after", "before"]


# Callers that have gone.


@pytest.mark.parametrize("together", [None, touching()], ids=["alone", "together"])
def test_a_caller_that_has_gone_leaves_no_transaction_open_and_no_connection_taken(
    open_store: OpenStore, together: Any
) -> None:
    store = open_store(connections_max=4)
    store.run(put("held"))

    async def leave() -> None:
        with locked_by_another(store, "held"):
            for _ in range(8):  # more than there are connections
                gone = asyncio.ensure_future(store.write(change("held", "gone"), together=together))
                await asyncio.to_thread(wait_for_backends, store, "wait_event_type = 'Lock'")
                gone.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await gone
        outcomes = await asyncio.wait_for(
            asyncio.gather(*(store.write(put(f"k{number}")) for number in range(8))), 2 * QUICKLY_S
        )
        assert outcomes == [1] * 8
        await asyncio.to_thread(check_nothing_is_left_open, store)
        assert len(backends(store)) <= 4 + 1  # the thread's

    asyncio.run(leave())


def test_a_caller_that_has_gone_while_it_waits_for_a_connection_keeps_none(open_store: OpenStore) -> None:
    store = open_store(connections_max=1)

    async def leave() -> None:
        asked = [asyncio.ensure_future(store.write(put(f"k{number}"))) for number in range(5)]
        await asyncio.sleep(0)
        for task in asked[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert outcomes[1::2] == [1, 1]
        assert await asyncio.wait_for(store.write(put("after")), QUICKLY_S) == 1

    asyncio.run(leave())


def test_more_callers_than_connections_take_their_turns(open_store: OpenStore) -> None:
    store = open_store(connections_max=4)

    async def ask() -> None:
        asked = [store.write(put(f"{number:03d}")) for number in range(100)]
        asked += [ask(store) for ask in DOORS.values() for _ in range(20)]
        await asyncio.gather(*asked)
        assert len(backends(store)) <= 4

    asyncio.run(ask())
    assert len(store.run(keys)) == 100


def test_who_finds_every_connection_taken_for_too_long_hears_busy(open_store: OpenStore) -> None:
    store = open_store(connections_max=1, lock_wait_ms=200)

    async def ask() -> None:
        taken = asyncio.ensure_future(store.write(lambda tx: tx.one(Query("SELECT pg_sleep(2)::text"))))
        await asyncio.to_thread(wait_for_backends, store, "wait_event = 'PgSleep'")
        with pytest.raises(StoreBusy):
            await store.write(keys)
        with pytest.raises(StoreBusy):
            await store.write(keys, together=touching())
        await taken
        assert await store.write(keys) == []

    asyncio.run(ask())


def test_whoever_waits_to_connect_shares_one_attempt() -> None:
    attempts: list[int] = []

    async def connect() -> Connection:
        attempts.append(1)
        await asyncio.sleep(0.05)
        raise ConnectionLost("nobody is there")

    async def ask() -> None:
        pool = Pool(connect, size=4, wait_s=5, answer_s=5)
        outcomes = await asyncio.gather(*(pool.share() for _ in range(50)), return_exceptions=True)
        assert all(isinstance(outcome, ConnectionLost) for outcome in outcomes)
        assert len(attempts) == 1
        outcomes = await asyncio.gather(*(pool.lend() for _ in range(50)), return_exceptions=True)
        assert all(isinstance(outcome, ConnectionLost) for outcome in outcomes)
        assert len(attempts) == 1 + 3
        pool.close()

    asyncio.run(ask())


def lane_of(pool: Pool, clock: ManualClock) -> Lane:
    async def alone(_: Work[Any]) -> None:
        raise AssertionError("nobody comes so far")

    return Lane(pool, clock, alone)


def test_however_many_wait_in_a_lane_they_share_one_attempt(clock: ManualClock) -> None:
    attempts: list[int] = []

    async def connect() -> Connection:
        attempts.append(1)
        await asyncio.sleep(0.05)
        raise ConnectionLost("nobody is there")

    async def ask() -> None:
        pool = Pool(connect, size=4, wait_s=5, answer_s=5)
        lane = lane_of(pool, clock)
        asked = (lane.join(keys, frozenset()) for _ in range(5 * WORKS_MAX))
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(outcome, ConnectionLost) for outcome in outcomes)
        assert len(attempts) == 1
        pool.close()

    asyncio.run(ask())


def test_a_failure_that_nobody_foresaw_reaches_who_waits(clock: ManualClock) -> None:
    async def connect() -> Connection:
        raise UnicodeError("label empty or too long")  # as a host's name may be

    async def ask() -> None:
        pool = Pool(connect, size=4, wait_s=5, answer_s=5)
        for _ in range(2):
            with pytest.raises(UnicodeError):
                await asyncio.wait_for(lane_of(pool, clock).join(keys, frozenset()), QUICKLY_S)
            with pytest.raises(UnicodeError):
                await asyncio.wait_for(pool.share(), QUICKLY_S)
        pool.close()

    asyncio.run(ask())


@pytest.mark.parametrize("together", [None, touching()], ids=["alone", "together"])
def test_a_connection_that_breaks_on_its_way_to_the_next_is_not_lent(open_store: OpenStore, together: Any) -> None:
    store = open_store(connections_max=1)

    async def ask() -> None:
        await store.write(keys)
        here = store._here
        assert here
        connection = await here.pool.lend()
        waiting = asyncio.ensure_future(store.write(put("kept"), together=together))
        for _ in range(3):
            await asyncio.sleep(0)  # it waits for the only connection
        here.pool.give_back(connection)
        connection.abort("it breaks at this very moment")
        assert await asyncio.wait_for(waiting, QUICKLY_S) == 1

    asyncio.run(ask())


def test_when_who_connects_has_gone_the_next_one_connects() -> None:
    hang = asyncio.Event()

    async def connect() -> Connection:
        if not hang.is_set():
            hang.set()
            await asyncio.sleep(60)
        raise ConnectionLost("as a sign that it was asked")

    async def ask() -> None:
        pool = Pool(connect, size=1, wait_s=60, answer_s=60)
        first, second = (asyncio.ensure_future(pool.lend()) for _ in range(2))
        await hang.wait()
        first.cancel()
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(second, QUICKLY_S)
        pool.close()

    asyncio.run(ask())


# Loops and closing.


def test_an_event_loop_that_ended_does_not_stop_the_next(store: PostgresDatabase) -> None:
    async def leave_before_the_answer() -> None:
        for ask in DOORS.values():
            asyncio.get_running_loop().create_task(ask(store))
        await asyncio.sleep(0.001)

    for _ in range(10):
        asyncio.run(leave_before_the_answer())
        asyncio.run(warm_up(store))
    check_nothing_is_left_open(store)


def test_closing_in_the_middle_tells_everyone_and_leaves_nothing_open(store: PostgresDatabase) -> None:
    async def close_in_the_middle() -> list[Any]:
        asked = [asyncio.ensure_future(store.write(slowly(f"k{number}"))) for number in range(12)]
        asked += [asyncio.ensure_future(store.write(slowly("together"), together=touching())) for _ in range(3)]
        asked.append(asyncio.ensure_future(store.read(lambda tx: tx.one(SLEEP))))
        await asyncio.to_thread(wait_for_backends, store, "wait_event = 'PgSleep'")
        store.close()
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), QUICKLY_S)

    outcomes = asyncio.run(close_in_the_middle())
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes), outcomes


@pytest.mark.parametrize("turns", range(6))
def test_who_waits_while_the_database_closes_is_told_the_truth(
    open_store: OpenStore, store: PostgresDatabase, turns: int
) -> None:
    async def close_behind_a_write() -> Any:
        closing = open_store()
        asked = asyncio.ensure_future(closing.write(put("waited"), together=touching()))
        for _ in range(turns):
            await asyncio.sleep(0.002)
        closing.close()
        (outcome,) = await asyncio.wait_for(asyncio.gather(asked, return_exceptions=True), QUICKLY_S)
        return outcome

    outcome = asyncio.run(close_behind_a_write())
    assert outcome == 1 or isinstance(outcome, StoreUnavailable)
    if outcome == 1:
        assert store.run(keys) == ["waited"]


def test_a_closed_database_refuses_new_work_and_closing_twice_is_closing_once(store: PostgresDatabase) -> None:
    asyncio.run(warm_up(store))
    store.close()
    store.close()
    for ask in DOORS.values():
        with pytest.raises(StoreUnavailable):
            asyncio.run(ask(store))
    with pytest.raises(StoreUnavailable):
        store.run(keys)
