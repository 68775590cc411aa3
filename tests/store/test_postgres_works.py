"""PostgreSQL as a Database: what shares a transaction, who sees what, how long one waits, and what runs again."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from conftest import ManualClock
from harness.engine import open_beside
from harness.postgres import PostgresServer, system_binaries
from harness.works import (
    COUNT,
    KEYS,
    LOCK,
    Trouble,
    change,
    check_nothing_is_left_open,
    fail_after_writing,
    fail_before_writing,
    keys,
    locked_by_another,
    other_client,
    put,
    put_and_tell,
    touching,
    wait_for_backends,
)
from readdress.store.database import (
    StoreBusy,
    StoreChanged,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Transaction,
)
from readdress.store.postgres import together
from readdress.store.postgres.database import ATTEMPTS_MAX, PostgresDatabase, read_once
from readdress.store.postgres.failures import ConnectionLost
from readdress.store.queries import Query

OpenStore = Callable[..., PostgresDatabase]
Work = Callable[[Transaction], Any]

WRITERS = ("run", "write", "together")
READERS = ("read", "scan")


def do(store: PostgresDatabase, door: str, work: Work) -> Any:
    """The work through one of the doors, waited for."""
    if door == "run":
        return store.run(work)
    if door == "together":
        return asyncio.run(store.write(work, together=touching()))
    return asyncio.run(getattr(store, door)(work))


async def gather(store: PostgresDatabase, *works: tuple[Work, str]) -> list[Any]:
    """The outcomes of works that are asked for at once, each with what it touches."""
    asked = (store.write(work, together=touching(*touches.split())) for work, touches in works)
    return await asyncio.gather(*asked, return_exceptions=True)


# Who sees what.


@pytest.mark.parametrize("door", WRITERS)
def test_what_a_work_writes_is_there_and_its_answer_comes_back(store: PostgresDatabase, door: str) -> None:
    assert do(store, door, put("one")) == 1
    assert do(store, door, keys) == ["one"]
    with open_beside(store) as rows:
        assert rows.execute("SELECT key, value FROM tag").fetchall() == [("one", "v")]


@pytest.mark.parametrize("door", WRITERS)
def test_a_work_sees_what_it_has_sent_and_locked_before_it_asks(store: PostgresDatabase, door: str) -> None:
    def work(tx: Transaction) -> list[str]:
        tx.lock(LOCK, key="two")
        for key in ("two", "one"):
            tx.send(Query("INSERT INTO tag VALUES ('r', :key, 'v')"), key=key)
        return keys(tx)

    assert do(store, door, work) == ["one", "two"]


@pytest.mark.parametrize("door", WRITERS)
def test_what_a_work_sends_last_is_written_too(store: PostgresDatabase, door: str) -> None:
    do(store, door, lambda tx: tx.send(Query("INSERT INTO tag VALUES ('r', 'last', 'v')")))
    assert store.run(keys) == ["last"]


@pytest.mark.parametrize("door", WRITERS)
def test_a_work_that_fails_has_written_nothing(store: PostgresDatabase, door: str) -> None:
    with pytest.raises(Trouble):
        do(store, door, fail_after_writing)
    assert do(store, door, keys) == []
    check_nothing_is_left_open(store)


@pytest.mark.parametrize("door", READERS)
def test_a_reader_sees_a_write_as_soon_as_it_is_answered(store: PostgresDatabase, door: str) -> None:
    async def write_and_read() -> None:
        for number in range(20):
            await store.write(put(f"{number:05d}"), together=touching() if number % 2 else None)
            assert len(await getattr(store, door)(keys)) == number + 1
            assert await store.find(COUNT) == (number + 1,)
        assert await store.find(KEYS) == ("00000",)  # one of many rows
        assert await store.find(LOCK, key="none") is None

    asyncio.run(write_and_read())


@pytest.mark.parametrize("door", READERS)
def test_a_reader_sees_one_instant_and_waits_for_nobody(store: PostgresDatabase, door: str) -> None:
    def look_twice(tx: Transaction) -> tuple[list[str], list[str]]:
        before = keys(tx)
        store.run(put("meanwhile"))
        return before, keys(tx)

    with other_client(store) as other:
        other.execute("INSERT INTO tag VALUES ('r', 'uncommitted', 'v')")
        assert do(store, door, look_twice) == ([], [])
    assert store.run(keys) == ["meanwhile"]


@pytest.mark.parametrize("door", READERS)
def test_a_reader_can_not_write_and_the_next_one_is_served(store: PostgresDatabase, door: str) -> None:
    async def try_both() -> Any:
        with pytest.raises(StoreError):
            await getattr(store, door)(put("sly"))
        with pytest.raises(Trouble):
            await getattr(store, door)(fail_before_writing)
        return await getattr(store, door)(keys)

    assert asyncio.run(try_both()) == []


def test_readers_share_a_transaction_and_one_that_fails_spoils_nothing(store: PostgresDatabase) -> None:
    async def read_all() -> list[Any]:
        bad = store.read(lambda tx: tx.all(Query("SELECT * FROM nothing_of_that_name")))
        good = [store.read(lambda tx: tx.all(Query("SELECT now()::text"))) for _ in range(5)]
        return await asyncio.gather(bad, store.read(fail_before_writing), *good, return_exceptions=True)

    unavailable, trouble, *rest = asyncio.run(read_all())
    assert isinstance(unavailable, StoreUnavailable)
    assert isinstance(trouble, Trouble)
    assert all(isinstance(rows, list) for rows in rest), rest


def test_a_transaction_has_one_time(store: PostgresDatabase, clock: ManualClock) -> None:
    def times(tx: Transaction) -> tuple[int, int]:
        first = tx.now_ms
        clock.advance(1_000)
        return first, tx.now_ms

    for door in (*WRITERS, *READERS):
        first, second = do(store, door, times)
        assert first == second == clock.now_ms() - 1_000


def test_another_program_reads_beside_the_service(store: PostgresDatabase, clock: ManualClock) -> None:
    store.run(put("one"))
    assert read_once(store._target.conninfo, keys, clock=clock, lock_wait_ms=1_000) == ["one"]
    with pytest.raises(StoreError):
        read_once(store._target.conninfo, put("sly"), clock=clock, lock_wait_ms=1_000)


# Works that take turns in one transaction.


def test_works_that_touch_nothing_in_common_share_a_transaction(store: PostgresDatabase) -> None:
    numbers = asyncio.run(gather(store, *((put_and_tell(f"k{number}"), f"t{number}") for number in range(20))))
    assert len(set(numbers)) == 1, numbers
    assert len(store.run(keys)) == 20


def test_works_that_touch_the_same_never_share_and_go_in_their_order(store: PostgresDatabase) -> None:
    order: list[int] = []

    def work(number: int) -> Work:
        def ordered(tx: Transaction) -> str:
            order.append(number)
            return put_and_tell(f"k{number}")(tx)

        return ordered

    touches = ["a", "a b", "b", "c", "a", "b c"]
    numbers = asyncio.run(gather(store, *((work(number), touched) for number, touched in enumerate(touches))))
    for one, touched in enumerate(touches):
        for other in range(one):
            if set(touched.split()) & set(touches[other].split()):
                assert numbers[one] != numbers[other]
                assert order.index(other) < order.index(one)
    assert numbers[0] == numbers[3], "c has nothing to do with a"


def test_one_that_fails_after_writing_undoes_nobody_elses(store: PostgresDatabase) -> None:
    outcomes = asyncio.run(gather(store, (put("one"), "1"), (fail_after_writing, "2"), (put("two"), "3")))
    assert outcomes[0] == outcomes[2] == 1
    assert isinstance(outcomes[1], Trouble)
    assert store.run(keys) == ["one", "two"]


def test_one_that_fails_before_writing_disturbs_nobody(store: PostgresDatabase) -> None:
    one, trouble, two = asyncio.run(
        gather(store, (put_and_tell("one"), "1"), (fail_before_writing, "2"), (put_and_tell("two"), "3"))
    )
    assert isinstance(trouble, Trouble)
    assert one == two, "it was no reason to undo the transaction"


def test_one_whose_statement_fails_undoes_nobody_elses(store: PostgresDatabase) -> None:
    bad: Work = lambda tx: tx.send(Query("INSERT INTO nothing_of_that_name VALUES (1)"))  # noqa: E731
    outcomes = asyncio.run(gather(store, (put("one"), "1"), (bad, "2"), (put("two"), "3")))
    assert outcomes[0] == outcomes[2] == 1
    assert isinstance(outcomes[1], StoreUnavailable)
    assert store.run(keys) == ["one", "two"]


@pytest.mark.parametrize("works", [together.WORKS_MAX - 1, together.WORKS_MAX + 1, 3 * together.WORKS_MAX])
def test_as_many_works_as_come_are_all_done_once(store: PostgresDatabase, works: int) -> None:
    outcomes = asyncio.run(gather(store, *((put(f"{number:05d}"), str(number)) for number in range(works))))
    assert outcomes == [1] * works
    assert store.run(lambda tx: tx.one(COUNT)) == (works,)


def test_one_that_asks_to_be_run_again_is_run_again(store: PostgresDatabase) -> None:
    times = []

    def change_its_mind(tx: Transaction) -> int:
        tx.one(COUNT)
        times.append(1)
        if len(times) < 3:
            raise StoreChanged
        return put("decided")(tx)

    outcomes = asyncio.run(gather(store, (put("one"), "1"), (change_its_mind, "2"), (put("two"), "3")))
    assert outcomes == [1, 1, 1]
    assert store.run(keys) == ["decided", "one", "two"]


def test_a_lock_that_another_holds_keeps_nobody_else_waiting(store: PostgresDatabase) -> None:
    """Neither those who came with the one that waits, nor those who come later."""
    store.run(put("held"))

    async def work_around() -> tuple[int, list[Any]]:
        with locked_by_another(store, "held") as other:
            waiting = asyncio.ensure_future(store.write(change("held", "new"), together=touching("held")))
            done: list[Any] = []
            for turn in range(10):
                works = ((put_and_tell(f"k{turn}-{number}"), f"{turn}-{number}") for number in range(5))
                done += await asyncio.wait_for(gather(store, *works), 5)
                assert not waiting.done()
            other.rollback()
        return await asyncio.wait_for(waiting, 10), done

    changed, done = asyncio.run(work_around())
    assert changed == 1
    assert not any(isinstance(outcome, Exception) for outcome in done), done
    assert len(set(done)) < len(done), "they still share transactions"


def test_many_that_wait_for_one_lock_leave_connections_to_the_others(open_store: OpenStore) -> None:
    store = open_store(connections_max=4)
    store.run(put("held"))

    async def work_around() -> list[Any]:
        with locked_by_another(store, "held") as other:
            waiting = [
                asyncio.ensure_future(store.write(change("held", str(number)), together=touching()))
                for number in range(20)
            ]
            for turn in range(5):
                assert await asyncio.wait_for(gather(store, (put(f"k{turn}"), f"{turn}")), 8) == [1]
                assert await asyncio.wait_for(store.read(keys), 8)
            assert not any(task.done() for task in waiting)
            other.rollback()
        return await asyncio.wait_for(asyncio.gather(*waiting), 10)

    assert asyncio.run(work_around()) == [1] * 20


# Locks.


@pytest.mark.parametrize("door", WRITERS)
def test_waiting_for_the_lock_past_lock_wait_ms_is_busy_and_nothing_is_written(
    open_store: OpenStore, door: str
) -> None:
    # contract 2.5
    store = open_store(lock_wait_ms=100)
    store.run(put("held"))

    def write_and_wait(tx: Transaction) -> int:
        put("late")(tx)
        return change("held", "new")(tx)

    with locked_by_another(store, "held"), pytest.raises(StoreBusy):
        do(store, door, write_and_wait)
    assert store.run(keys) == ["held"]


@pytest.mark.parametrize("door", WRITERS)
def test_who_gets_the_lock_in_time_is_served(store: PostgresDatabase, door: str) -> None:
    store.run(put("held"))
    outcome: list[int] = []
    waiting = threading.Thread(target=lambda: outcome.append(do(store, door, change("held", "new"))))
    with locked_by_another(store, "held"):
        waiting.start()
        wait_for_backends(store, "wait_event_type = 'Lock'")
        assert outcome == []
    waiting.join()
    assert outcome == [1]


def cross(stores: list[PostgresDatabase], door: str) -> int:
    """Two nodes lock the same rows in opposite order, and meet in the middle; gives how often they had to try."""
    for key in "ab":
        stores[0].run(put(key))
    meet = threading.Barrier(2)
    attempts: list[str] = []
    outcomes: list[Any] = []

    def lock_both(store: PostgresDatabase, first: str, second: str) -> None:
        def work(tx: Transaction) -> int:
            attempts.append(first)
            change(first, first)(tx)
            if attempts.count(first) == 1:
                meet.wait(20)
            return change(second, first)(tx)

        outcomes.append(do(store, door, work))

    threads = [
        threading.Thread(target=lock_both, args=(store, *pair))
        for store, pair in zip(stores, ["ab", "ba"], strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [1, 1]
    return len(attempts)


@pytest.mark.parametrize("door", WRITERS)
def test_of_two_that_are_deadlocked_one_runs_again(open_store: OpenStore, door: str) -> None:
    stores = [open_store(), open_store()]
    assert cross(stores, door) > 2, "they never met"
    (values,) = stores[0].run(lambda tx: tx.all(Query("SELECT min(value), max(value) FROM tag")))
    assert values[0] == values[1], "both rows are of the one that came last"


RAISE = """
CREATE FUNCTION raise_it() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.key = 'fails' THEN RAISE EXCEPTION 'no' USING ERRCODE = NEW.value; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER raise_it {when} ON tag {deferred} FOR EACH ROW EXECUTE FUNCTION raise_it()
"""
AT_ONCE = RAISE.format(when="BEFORE INSERT", deferred="")
AT_COMMIT = RAISE.format(when="AFTER INSERT", deferred="DEFERRABLE INITIALLY DEFERRED").replace(
    "CREATE TRIGGER", "CREATE CONSTRAINT TRIGGER"
)


# https://www.postgresql.org/docs/current/errcodes-appendix.html
@pytest.mark.parametrize("when", [AT_ONCE, AT_COMMIT], ids=["at once", "at the commit"])
@pytest.mark.parametrize(
    ("sqlstate", "error"),
    [
        ("53100", StoreFull),  # disk_full
        ("55P03", StoreBusy),  # lock_not_available
        ("40001", StoreChanged),  # serialization_failure
        ("40P01", StoreChanged),  # deadlock_detected
        ("23505", StoreChanged),  # unique_violation
        ("23503", StoreChanged),  # foreign_key_violation
        ("25006", ConnectionLost),  # read_only_sql_transaction
        ("57P03", ConnectionLost),  # cannot_connect_now
        ("08006", ConnectionLost),  # connection_failure
        ("53200", StoreUnavailable),  # out_of_memory
        ("57014", StoreUnavailable),  # query_canceled
        ("XX000", StoreUnavailable),  # internal_error
    ],
)
def test_what_the_server_says_becomes_one_of_our_errors(
    store: PostgresDatabase, when: str, sqlstate: str, error: type[StoreError]
) -> None:
    with other_client(store) as owner:
        owner.execute(when.encode())
        owner.commit()
    attempts: list[int] = []

    def work(tx: Transaction) -> None:
        attempts.append(1)
        put("undone")(tx)
        put("fails", sqlstate)(tx)

    for door in WRITERS:
        attempts.clear()
        with pytest.raises(error) as raised:
            do(store, door, work)
        assert type(raised.value) is error
        once_for_all = door == "together" and error is not StoreFull and error is not ConnectionLost
        assert len(attempts) == (ATTEMPTS_MAX if error is StoreChanged else 1) + once_for_all
        assert do(store, door, put(f"after {door}")) == 1
    assert store.run(keys) == [f"after {door}" for door in sorted(WRITERS)]
    check_nothing_is_left_open(store)


@pytest.mark.parametrize("door", WRITERS)
def test_a_work_that_goes_on_after_a_failed_statement_is_not_told_that_it_was_kept(
    store: PostgresDatabase, door: str
) -> None:
    def shrug(tx: Transaction) -> str:
        put("before")(tx)
        try:
            tx.all(Query("SELECT * FROM nothing_of_that_name"))
        except StoreError:
            return "as if nothing had happened"
        return "nothing has happened"

    with pytest.raises(StoreUnavailable):
        do(store, door, shrug)
    assert store.run(keys) == []


@pytest.mark.parametrize("door", WRITERS)
def test_what_another_made_meanwhile_runs_the_work_again(store: PostgresDatabase, door: str) -> None:
    seen: list[list[str]] = []

    def put_unless_there(tx: Transaction) -> int:
        seen.append(keys(tx))
        if "contested" in seen[-1]:
            return 0
        if len(seen) == 1:
            with other_client(store) as other:
                other.execute("INSERT INTO tag VALUES ('r', 'contested', 'theirs')")
                other.commit()
        return put("contested")(tx)

    assert do(store, door, put_unless_there) == 0
    assert seen == [[], ["contested"]]


# Servers.


@pytest.mark.skipif(not system_binaries(), reason="the system has no PostgreSQL of its own")
def test_the_systems_own_server_serves_too(clock: ManualClock) -> None:
    with PostgresServer(binaries=system_binaries()[-1]) as server:
        store = PostgresDatabase(server.url(server.create_database()), clock=clock, lock_wait_ms=10_000)
        numbers = asyncio.run(gather(store, *((put_and_tell(f"k{number}"), f"t{number}") for number in range(5))))
        assert len(set(numbers)) == 1
        for door in (*WRITERS, *READERS):
            assert len(do(store, door, keys)) == 5
        assert cross([store, store], "run") > 2
        store.close()


@pytest.mark.parametrize(
    ("habit", "ours"), [("off", "on"), ("local", "on"), ("remote_write", "on"), ("remote_apply", "remote_apply")]
)
def test_every_connection_is_durable_and_bounded_in_time(
    open_store: OpenStore, postgres_server: PostgresServer, name: str, habit: str, ours: str
) -> None:
    # contract 6: a commit is on every disk that the server waits for before the reply, whatever is its habit.
    postgres_server.execute(f"ALTER DATABASE {name} SET synchronous_commit = {habit}")
    store = open_store(lock_wait_ms=1_234)
    wanted = {
        "synchronous_commit": ours,
        "lock_timeout": "1234ms",
        "idle_in_transaction_session_timeout": "3234ms",
        "statement_timeout": "31234ms",
        "client_encoding": "UTF8",
    }

    def settings(tx: Transaction) -> dict[str, str]:
        return {name: (tx.one(Query(f"SELECT current_setting('{name}')")) or ("",))[0] for name in wanted}

    for door in ("run", "write", "scan"):
        assert do(store, door, settings) == wanted
