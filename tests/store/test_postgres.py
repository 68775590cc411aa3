"""PostgreSQL's store on a real server: transactions, locks, what is run again, and every way in which it may fail."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from conftest import ManualClock
from harness.postgres import PostgresServer
from readdress.store.database import (
    Database,
    StoreBusy,
    StoreChanged,
    StoreFull,
    StoreUnavailable,
    Together,
    Transaction,
)
from readdress.store.postgres.database import ATTEMPTS_MAX, PostgresDatabase
from readdress.store.queries import Query

LOCK_WAIT_MS = 400
PUT = Query("INSERT INTO tag (resource_id, key, value) VALUES ('r', :key, 'v') ON CONFLICT DO NOTHING", "put")
KEYS = Query("SELECT key FROM tag WHERE resource_id = 'r' ORDER BY key", "keys")
LOCK = Query("SELECT key FROM tag WHERE resource_id = 'r' AND key = :key {lock}", "lock")
BUMP = Query("UPDATE tag SET value = value || '+' WHERE resource_id = 'r' AND key = :key", "bump")
VALUE = Query("SELECT value FROM tag WHERE resource_id = 'r' AND key = :key", "value")
TRANSACTION = Query("SELECT pg_current_xact_id()::text", "transaction")
SESSION = Query("SELECT pg_backend_pid()", "session")
SLEEP = Query("SELECT 1 FROM pg_sleep(CAST(:seconds_text AS double precision))", "sleep")


def put(*keys: str) -> Callable[[Transaction], None]:
    def work(tx: Transaction) -> None:
        for key in keys:
            tx.execute(PUT, key=key)

    return work


def keys(database: Database) -> list[str]:
    return [key for (key,) in database.run(lambda tx: tx.all(KEYS))]


@pytest.fixture
def name(postgres_server: PostgresServer) -> Iterator[str]:
    made = postgres_server.create_database()
    yield made
    postgres_server.drop_database(made)


@pytest.fixture
def store(postgres_server: PostgresServer, name: str, clock: ManualClock) -> Iterator[PostgresDatabase]:
    with closing(open_store(postgres_server, name, clock)) as opened:
        yield opened


def open_store(server: PostgresServer, name: str, clock: ManualClock, connections_max: int = 4) -> PostgresDatabase:
    return PostgresDatabase(server.url(name), clock=clock, lock_wait_ms=LOCK_WAIT_MS, connections_max=connections_max)


def idle_in_transaction(server: PostgresServer, name: str) -> int:
    query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND state LIKE 'idle in transaction%'"
    return int(server.execute(query)[0][0])


def sessions(server: PostgresServer, name: str) -> int:
    return int(server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")[0][0])


def end_sessions(server: PostgresServer, name: str) -> None:
    server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


# Transactions.


def test_what_a_work_raises_undoes_it_alone(store: PostgresDatabase) -> None:
    def fails(tx: Transaction) -> None:
        tx.send(PUT, key="sent")
        tx.execute(PUT, key="executed")
        raise InterruptedError

    async def main() -> list[Any]:
        works = [put("one"), fails, put("two")]
        return await asyncio.gather(*(store.write(work) for work in works), return_exceptions=True)

    answers = asyncio.run(main())
    assert [type(answer) for answer in answers] == [type(None), InterruptedError, type(None)]
    with pytest.raises(InterruptedError):
        store.run(fails)
    assert keys(store) == ["one", "two"]


def test_what_was_sent_is_seen_by_the_next_question_and_written_at_the_end(store: PostgresDatabase) -> None:
    def work(tx: Transaction) -> list[Any]:
        tx.send(PUT, key="one")
        seen = tx.all(KEYS)
        tx.send(PUT, key="two")
        return seen

    assert asyncio.run(store.write(work)) == [("one",)]
    assert keys(store) == ["one", "two"]


def test_a_read_sees_one_instant_and_writes_nothing(store: PostgresDatabase) -> None:
    store.run(put("before"))
    with ThreadPoolExecutor(1) as other:

        def look(tx: Transaction) -> tuple[list[Any], list[Any]]:
            first = tx.all(KEYS)
            other.submit(store.run, put("after")).result()
            return first, tx.all(KEYS)

        async def main() -> list[tuple[list[Any], list[Any]]]:
            return [await store.read(look), await store.scan(look)]

        for first, second in asyncio.run(main()):
            assert first == second

    async def write_in_a_read() -> None:
        await store.read(put("never"))

    with pytest.raises(StoreUnavailable, match="read-only"):
        asyncio.run(write_in_a_read())
    assert keys(store) == ["after", "before"]


def test_text_of_any_kind_numbers_bytes_and_null_come_back_as_they_went(store: PostgresDatabase) -> None:
    query = Query("SELECT CAST(:a AS TEXT), CAST(:b AS BIGINT), CAST(:c AS BYTEA), CAST(:d AS TEXT)", "all_types")
    values = {"a": "é\U0001f4ee'\";--", "b": -(1 << 62), "c": bytes(range(256)), "d": None}
    assert store.run(lambda tx: tx.one(query, **values)) == tuple(values.values())


# Works that take turns.


def test_works_that_wait_share_a_transaction(store: PostgresDatabase) -> None:
    async def main() -> set[str]:
        together = [store.write(lambda tx: tx.one(TRANSACTION), together=Together("x")) for _ in range(20)]
        return {row[0] for row in await asyncio.gather(*together) if row}

    assert len(asyncio.run(main())) <= 2  # the first may have gone ahead by itself


def test_works_that_touch_the_same_never_share_one(store: PostgresDatabase) -> None:
    def work(tx: Transaction) -> Any:
        return tx.one(TRANSACTION)

    async def main() -> list[Any]:
        touches = [frozenset({name}) for name in "abcabcabca"]
        return await asyncio.gather(*(store.write(work, together=Together("x", each)) for each in touches))

    found = [row[0] for row in asyncio.run(main())]
    for first in range(3):
        own = found[first::3]
        assert len(set(own)) == len(own)
    assert len(set(found)) < len(found)


@pytest.mark.parametrize("writes", [False, True], ids=["before it wrote", "after it wrote"])
def test_one_that_fails_undoes_nobody_elses(store: PostgresDatabase, writes: bool) -> None:
    def fails(tx: Transaction) -> None:
        tx.one(KEYS)
        if writes:
            tx.execute(PUT, key="never")
        raise InterruptedError

    async def main() -> list[Any]:
        works = [put("one"), fails, put("two"), fails, put("three")]
        together = [store.write(work, together=Together("x")) for work in works]
        return await asyncio.gather(*together, return_exceptions=True)

    assert [type(answer) for answer in asyncio.run(main())] == [
        type(None), InterruptedError, type(None), InterruptedError, type(None),
    ]  # fmt: skip
    assert keys(store) == ["one", "three", "two"]


def test_a_statement_that_fails_fails_for_its_work_alone(store: PostgresDatabase) -> None:
    async def main() -> list[Any]:
        works: list[Any] = [put("one"), lambda tx: tx.send(Query("SELECT 1 / 0", "bad")), put("two")]
        return await asyncio.gather(
            *(store.write(work, together=Together("x")) for work in works), return_exceptions=True
        )

    answers = asyncio.run(main())
    assert [type(answer) for answer in answers] == [type(None), StoreUnavailable, type(None)]
    assert keys(store) == ["one", "two"]


def test_who_joins_when_the_last_one_has_just_ended_is_not_forgotten(store: PostgresDatabase) -> None:
    async def main() -> None:
        for _ in range(50):
            await store.write(put("one"), together=Together("x"))
            await store.read(lambda tx: tx.all(KEYS))

    asyncio.run(asyncio.wait_for(main(), 30))


# Locks.


def hold(store: PostgresDatabase, key: str, held: threading.Event, let_go: threading.Event) -> None:
    def work(tx: Transaction) -> None:
        tx.lock(LOCK, key=key)
        tx.one(VALUE, key=key)
        held.set()
        let_go.wait(10)

    store.run(work)


@pytest.fixture
def locked(store: PostgresDatabase) -> Iterator[str]:
    """A row that somebody else holds."""
    store.run(put("held", "free"))
    held, let_go = threading.Event(), threading.Event()
    holder = threading.Thread(target=hold, args=(store, "held", held, let_go))
    holder.start()
    held.wait(10)
    yield "held"
    let_go.set()
    holder.join()


def bump(key: str) -> Callable[[Transaction], Any]:
    def work(tx: Transaction) -> Any:
        tx.lock(LOCK, key=key)
        tx.execute(BUMP, key=key)
        return tx.one(VALUE, key=key)

    return work


def test_a_lock_is_waited_for_no_longer_than_told(store: PostgresDatabase, locked: str) -> None:
    # contract 2.5
    started = time.monotonic()
    with pytest.raises(StoreBusy):
        asyncio.run(store.write(bump(locked)))
    with pytest.raises(StoreBusy):
        store.run(bump(locked))
    assert time.monotonic() - started >= 2 * LOCK_WAIT_MS / 1000


def test_who_waits_for_a_lock_keeps_no_other_waiting(store: PostgresDatabase, locked: str) -> None:
    async def main() -> tuple[list[Any], list[Any]]:
        works = [store.write(bump(key), together=Together("x", frozenset({key}))) for key in (locked, "free")]
        works.append(store.write(put("other"), together=Together("x")))
        done, waiting = await asyncio.wait(map(asyncio.ensure_future, works), timeout=LOCK_WAIT_MS / 2000)
        late = await asyncio.gather(*waiting, return_exceptions=True)
        return [task.result() for task in done], late

    done, late = asyncio.run(main())
    assert len(done) == 2
    assert [type(answer) for answer in late] == [StoreBusy]


def test_a_deadlock_runs_one_of_the_two_again(store: PostgresDatabase, postgres_server: PostgresServer) -> None:
    slow = PostgresDatabase(store._target.conninfo, clock=ManualClock(), lock_wait_ms=10_000)
    slow.run(put("a", "b"))
    meet = threading.Barrier(2)
    tries = []

    def cross(first: str, second: str) -> Callable[[Transaction], None]:
        def work(tx: Transaction) -> None:
            tries.append(first)
            tx.execute(BUMP, key=first)
            if len(tries) <= 2:
                meet.wait(10)
            tx.execute(BUMP, key=second)

        return work

    with closing(slow), ThreadPoolExecutor(2) as threads:
        for future in [threads.submit(slow.run, cross("a", "b")), threads.submit(slow.run, cross("b", "a"))]:
            future.result(30)
        assert len(tries) == 3
        assert slow.run(lambda tx: tx.one(VALUE, key="a")) == ("v++",)


def test_what_has_changed_meanwhile_is_run_again_but_not_for_ever(store: PostgresDatabase) -> None:
    tries: list[int] = []

    def stale(tx: Transaction) -> None:
        tries.append(1)
        tx.execute(PUT, key=f"{len(tries)}")
        if len(tries) < 3:
            raise StoreChanged

    asyncio.run(store.write(stale))
    assert keys(store) == ["3"]

    def always(_: Transaction) -> None:
        tries.append(1)
        raise StoreChanged

    for call in (store.run, lambda work: asyncio.run(store.write(work))):
        tries.clear()
        with pytest.raises(StoreBusy):
            call(always)
        assert len(tries) == ATTEMPTS_MAX


def test_a_row_that_two_insert_is_found_by_the_second(store: PostgresDatabase) -> None:
    insert = Query("INSERT INTO tag (resource_id, key, value) VALUES ('r', :key, 'v')", "insert")

    def once(tx: Transaction) -> str:
        if tx.one(VALUE, key="one"):
            return "found"
        tx.send(insert, key="one")
        return "made"

    async def main() -> list[str]:
        return await asyncio.gather(*(store.write(once) for _ in range(4)))

    assert sorted(asyncio.run(main())) == ["found"] * 3 + ["made"]


# Trouble.


def test_a_full_disk_is_told_apart(store: PostgresDatabase) -> None:
    full = Query("DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END $$", "full")
    for together in (None, Together("x")):
        with pytest.raises(StoreFull):
            asyncio.run(store.write(lambda tx: tx.send(full), together=together))


@pytest.mark.parametrize("call", ["write", "together", "read", "scan", "run"])
def test_a_session_that_ends_in_the_middle_is_unavailable_and_the_next_call_is_fine(
    store: PostgresDatabase, postgres_server: PostgresServer, name: str, call: str
) -> None:
    def work(tx: Transaction) -> list[Any]:
        tx.all(KEYS)
        end_sessions(postgres_server, name)
        return tx.all(KEYS)

    async def main() -> None:
        calls: dict[str, Callable[..., Any]] = {
            "write": store.write,
            "together": lambda work: store.write(work, together=Together("x")),
            "read": store.read,
            "scan": store.scan,
        }
        with pytest.raises(StoreUnavailable):
            await calls[call](work)
        assert await calls[call](lambda tx: tx.all(KEYS)) == []

    if call == "run":
        with pytest.raises(StoreUnavailable):
            store.run(work)
        assert store.run(lambda tx: tx.all(KEYS)) == []
    else:
        asyncio.run(main())


def test_sessions_that_ended_at_rest_are_replaced(
    store: PostgresDatabase, postgres_server: PostgresServer, name: str
) -> None:
    async def main() -> None:
        for _ in range(3):
            await store.write(put("one"))
            assert await store.find(VALUE, key="one") == ("v",)
            end_sessions(postgres_server, name)
            await asyncio.sleep(0.2)

    asyncio.run(main())


def test_who_goes_away_leaves_no_transaction_and_no_session_behind(
    store: PostgresDatabase, postgres_server: PostgresServer, name: str
) -> None:
    async def main() -> None:
        for _ in range(12):
            calls: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(store.write(lambda tx: tx.one(SLEEP, seconds_text="5"))),
                asyncio.ensure_future(store.read(lambda tx: tx.one(SLEEP, seconds_text="0.01"))),
                asyncio.ensure_future(store.find(VALUE, key="one")),
            ]
            await asyncio.sleep(0.02)
            for each in calls:
                each.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        await store.write(put("one"))

    asyncio.run(main())
    assert keys(store) == ["one"]
    store.close()
    deadline = time.monotonic() + 20
    while sessions(postgres_server, name) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sessions(postgres_server, name) == 0


def test_more_callers_than_connections_take_their_turns(store: PostgresDatabase) -> None:
    async def main() -> int:
        rows = await asyncio.gather(*(store.write(lambda tx: tx.one(SESSION)) for _ in range(60)))
        return len({row for row in rows if row})

    assert asyncio.run(main()) <= 4


def test_when_every_connection_stays_taken_who_waits_hears_busy(store: PostgresDatabase) -> None:
    async def main() -> list[Any]:
        sleepers = [store.write(lambda tx: tx.one(SLEEP, seconds_text="1.5")) for _ in range(4)]
        return await asyncio.gather(*sleepers, store.write(put("late")), return_exceptions=True)

    assert [type(answer) for answer in asyncio.run(main())][-1] is StoreBusy


def test_a_loop_that_ended_leaves_the_store_to_the_next(store: PostgresDatabase) -> None:
    async def leave() -> None:
        asyncio.get_running_loop().create_task(store.write(put("half")))
        await asyncio.sleep(0)

    for number in range(10):
        asyncio.run(leave())
        asyncio.run(store.write(put(f"{number}"), together=Together("x")))
    assert set(keys(store)) - {"half"} == set("0123456789")


def test_a_closed_store_says_so(store: PostgresDatabase) -> None:
    async def main() -> None:
        sleeping = asyncio.ensure_future(store.write(lambda tx: tx.one(SLEEP, seconds_text="5")))
        await asyncio.sleep(0.1)
        store.close()
        with pytest.raises(StoreUnavailable):
            await sleeping
        with pytest.raises(StoreUnavailable):
            await store.write(put("late"))

    asyncio.run(main())
    with pytest.raises(StoreUnavailable):
        store.run(put("late"))
