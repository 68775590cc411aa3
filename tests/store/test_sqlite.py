"""SQLite as a Database: what shares a commit, who sees what, how it refuses, and what the file on the disk is."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import ManualClock
from harness.engine import open_beside
from harness.sqlite_writers import other_writer
from harness.tables import dump
from readdress.store.database import SchemaError, StoreError, StoreFull, StoreUnavailable, Transaction
from readdress.store.queries import Query
from readdress.store.sqlite.database import BATCH_WORKS_MAX, SqliteDatabase
from readdress.store.sqlite.transaction import read_once

pytestmark = pytest.mark.sqlite_only

INSERT = Query("INSERT INTO tag (resource_id, key, value) VALUES (:resource, :key, :value)")
COUNT = Query("SELECT count(*) FROM tag")
KEYS = Query("SELECT key FROM tag ORDER BY key")
# A relation between addresses that don't exist, noticed by COMMIT and by nothing before it.
DEFER_FOREIGN_KEYS = Query("PRAGMA defer_foreign_keys = ON")
DANGLING = Query("INSERT INTO alias (alias_id, primary_id, created_ms) VALUES ('a', 'p', 0)")


def put(key: str, value: str = "v") -> Callable[[Transaction], int]:
    return lambda tx: tx.execute(INSERT, resource="r", key=key, value=value)


def keys(tx: Transaction) -> list[str]:
    return [key for (key,) in tx.all(KEYS)]


def spoil_commit(tx: Transaction) -> None:
    tx.execute(DEFER_FOREIGN_KEYS)
    tx.execute(DANGLING)


class Trouble(Exception):
    pass


def fail_after_writing(tx: Transaction) -> None:
    put("lost")(tx)
    raise Trouble


@contextmanager
def busy_writer(database: SqliteDatabase) -> Iterator[None]:
    """What is asked for inside gathers behind a work in progress, and shares the next commit."""
    started, release = threading.Event(), threading.Event()

    def wait(tx: Transaction) -> None:
        started.set()
        release.wait(10)

    thread = threading.Thread(target=database.run, args=(wait,))
    thread.start()
    started.wait(10)
    try:
        yield
    finally:
        release.set()
        thread.join()


async def gather_behind(database: SqliteDatabase, *works: Callable[[Transaction], Any]) -> list[Any]:
    """The outcomes of works that share one commit."""
    with busy_writer(database):
        tasks = [asyncio.ensure_future(database.write(work)) for work in works]
        await asyncio.sleep(0)
    return await asyncio.gather(*tasks, return_exceptions=True)


# Group commit.


def test_a_failing_work_undoes_itself_alone(database: SqliteDatabase) -> None:
    outcomes = asyncio.run(gather_behind(database, put("one"), fail_after_writing, put("two")))
    assert outcomes[0] == outcomes[2] == 1
    assert isinstance(outcomes[1], Trouble)
    assert database.run(keys) == ["one", "two"]


def test_a_work_sees_what_its_neighbours_in_the_commit_wrote(database: SqliteDatabase) -> None:
    outcomes = asyncio.run(gather_behind(database, put("one"), keys, put("two"), keys))
    assert outcomes == [1, ["one"], 1, ["one", "two"]]


def test_works_that_share_a_commit_fail_together_when_it_fails(database: SqliteDatabase) -> None:
    database.run(put("before"))
    outcomes = asyncio.run(gather_behind(database, put("one"), spoil_commit, put("two")))
    assert all(isinstance(outcome, StoreError) for outcome in outcomes), outcomes
    assert database.run(keys) == ["before"]


def test_a_work_that_failed_by_itself_keeps_its_own_error_when_the_commit_fails(database: SqliteDatabase) -> None:
    outcomes = asyncio.run(gather_behind(database, fail_after_writing, spoil_commit))
    assert isinstance(outcomes[0], Trouble)
    assert isinstance(outcomes[1], StoreError)


def test_the_writer_goes_on_after_a_failed_commit(database: SqliteDatabase) -> None:
    with pytest.raises(StoreError):
        database.run(spoil_commit)
    database.run(put("after"))
    assert database.run(keys) == ["after"]


@pytest.mark.parametrize("works", [1, BATCH_WORKS_MAX - 1, BATCH_WORKS_MAX + 1, 3 * BATCH_WORKS_MAX])
def test_as_many_works_as_come_are_all_done_once(database: SqliteDatabase, works: int) -> None:
    outcomes = asyncio.run(gather_behind(database, *(put(f"{number:05d}") for number in range(works))))
    assert outcomes == [1] * works
    assert database.run(lambda tx: tx.one(COUNT)) == (works,)


def test_a_caller_that_has_gone_does_not_disturb_its_neighbours(database: SqliteDatabase) -> None:
    async def leave() -> int:
        with busy_writer(database):
            gone = asyncio.ensure_future(database.write(put("gone")))
            stays = asyncio.ensure_future(database.write(put("stays")))
            await asyncio.sleep(0)
            gone.cancel()
        return await stays

    assert asyncio.run(leave()) == 1
    assert "stays" in database.run(keys)


def test_a_transaction_has_one_time(database: SqliteDatabase, clock: ManualClock) -> None:
    def times(tx: Transaction) -> tuple[int, int]:
        first = tx.now_ms
        clock.advance(1_000)
        return first, tx.now_ms

    first, second = database.run(times)
    assert first == second == clock.now_ms() - 1_000


# Who sees what.


@pytest.mark.parametrize("reader", ["read", "scan"])
def test_a_reader_sees_a_write_as_soon_as_it_is_answered(database: SqliteDatabase, reader: str) -> None:
    async def write_and_read() -> None:
        for number in range(50):
            await database.write(put(f"{number:05d}"))
            assert len(await getattr(database, reader)(keys)) == number + 1

    asyncio.run(write_and_read())


def test_a_look_up_of_one_row_sees_a_write_as_soon_as_it_is_answered(database: SqliteDatabase) -> None:
    async def write_and_find() -> None:
        for number in range(50):
            assert await database.find(COUNT) == (number,)
            await database.write(put(f"{number:05d}"))
            assert await database.find(KEYS) == ("00000",)  # one of many rows

    asyncio.run(write_and_find())


def test_a_look_up_of_one_row_does_not_wait_for_a_writer(database: SqliteDatabase) -> None:
    with other_writer(database._path) as other:
        other.execute("INSERT INTO tag VALUES ('r', 'uncommitted', 'v')")
        assert asyncio.run(database.find(KEYS)) is None


@pytest.mark.parametrize("reader", ["read", "scan"])
def test_a_reader_does_not_wait_for_a_writer_and_sees_nothing_of_it(database: SqliteDatabase, reader: str) -> None:
    with other_writer(database._path) as other:
        other.execute("INSERT INTO tag VALUES ('r', 'uncommitted', 'v')")
        assert asyncio.run(getattr(database, reader)(keys)) == []


def test_a_scan_sees_one_instant_however_long_it_takes(database: SqliteDatabase) -> None:
    def scan(tx: Transaction) -> tuple[list[str], list[str]]:
        before = keys(tx)
        database.run(put("meanwhile"))
        return before, keys(tx)

    assert asyncio.run(database.scan(scan)) == ([], [])
    assert database.run(keys) == ["meanwhile"]


@pytest.mark.parametrize("reader", ["read", "scan"])
def test_a_reader_can_not_write(database: SqliteDatabase, reader: str) -> None:
    with pytest.raises(StoreError):
        asyncio.run(getattr(database, reader)(put("sly")))
    assert database.run(keys) == []


@pytest.mark.parametrize("reader", ["read", "scan"])
def test_a_readers_own_error_reaches_it_and_the_next_reader_is_served(database: SqliteDatabase, reader: str) -> None:
    def fail(tx: Transaction) -> None:
        raise Trouble

    with pytest.raises(Trouble):
        asyncio.run(getattr(database, reader)(fail))
    assert asyncio.run(getattr(database, reader)(keys)) == []


def test_another_program_reads_beside_the_service(database: SqliteDatabase, clock: ManualClock) -> None:
    database.run(put("one"))
    assert read_once(database._path, keys, clock=clock) == ["one"]


# Refusing.


def test_a_full_disk_is_store_full_and_room_makes_it_work_again(database: SqliteDatabase) -> None:
    (pages,) = database.run(lambda tx: tx.one(Query("PRAGMA page_count"))) or (0,)
    database.run(lambda tx: tx.one(Query(f"PRAGMA max_page_count = {pages + 4}")))
    with pytest.raises(StoreFull):
        database.run(put("big", "v" * 1_000_000))
    assert database.run(keys) == []
    database.run(lambda tx: tx.one(Query("PRAGMA max_page_count = 1000000")))
    database.run(put("big", "v" * 1_000_000))
    assert database.run(keys) == ["big"]
    with open_beside(database._path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_full_disk_does_not_spoil_what_shares_the_commit(database: SqliteDatabase) -> None:
    (pages,) = database.run(lambda tx: tx.one(Query("PRAGMA page_count"))) or (0,)
    database.run(lambda tx: tx.one(Query(f"PRAGMA max_page_count = {pages + 4}")))
    outcomes = asyncio.run(gather_behind(database, put("one"), put("big", "v" * 1_000_000), put("two")))
    assert isinstance(outcomes[1], StoreFull)
    written = [key for key, outcome in zip(["one", "two"], [outcomes[0], outcomes[2]], strict=True) if outcome == 1]
    assert database.run(keys) == written


def test_a_statement_that_the_engine_refuses_is_a_store_error(database: SqliteDatabase) -> None:
    with pytest.raises(StoreUnavailable):
        database.run(lambda tx: tx.all(Query("SELECT * FROM nothing_of_that_name")))


# Closing.


@pytest.mark.parametrize("turns", range(4))
def test_who_waits_while_the_database_closes_is_told_the_truth(tmp_path: Path, clock: ManualClock, turns: int) -> None:
    database = SqliteDatabase(tmp_path / "closing.db", clock=clock, lock_wait_ms=5_000)

    async def close_behind_a_write() -> int | BaseException:
        waiting = asyncio.ensure_future(database.write(put("waited")))
        for _ in range(turns):
            await asyncio.sleep(0)
        database.close()
        (outcome,) = await asyncio.wait_for(asyncio.gather(waiting, return_exceptions=True), 10)
        return outcome

    outcome = asyncio.run(close_behind_a_write())
    assert outcome == 1 or isinstance(outcome, StoreUnavailable)
    assert dump(tmp_path / "closing.db")["tag"] == ([("r", "waited", "v")] if outcome == 1 else [])


@pytest.mark.parametrize("door", ["write", "read", "scan"])
def test_a_closed_database_refuses_new_work(database: SqliteDatabase, door: str) -> None:
    database.close()
    with pytest.raises(StoreUnavailable):
        asyncio.run(getattr(database, door)(keys))


def test_a_closed_database_refuses_to_look_up(database: SqliteDatabase) -> None:
    database.close()
    with pytest.raises(StoreUnavailable):
        asyncio.run(database.find(COUNT))


def test_a_closed_database_refuses_to_run(database: SqliteDatabase) -> None:
    database.close()
    with pytest.raises(StoreUnavailable):
        database.run(keys)


def test_closing_twice_is_closing_once(database: SqliteDatabase) -> None:
    database.close()
    database.close()


def test_closing_leaves_everything_in_the_one_file(database: SqliteDatabase) -> None:
    database.run(put("one"))
    database.close()
    log = database._path.with_name(database._path.name + "-wal")
    assert not log.exists() or log.stat().st_size == 0


# The file.


def test_every_connection_writes_ahead_syncs_fully_and_holds_foreign_keys(database: SqliteDatabase) -> None:
    # contract 6: a commit is on the disk before the reply.
    wanted = {"journal_mode": "wal", "synchronous": 2, "page_size": 4_096, "foreign_keys": 1}

    def pragmas(tx: Transaction) -> dict[str, Any]:
        return {name: (tx.one(Query(f"PRAGMA {name}")) or (None,))[0] for name in wanted}

    assert database.run(pragmas) == wanted
    assert asyncio.run(database.read(pragmas)) == wanted
    assert asyncio.run(database.scan(pragmas)) == wanted


def test_the_file_itself_is_in_wal_mode(database: SqliteDatabase) -> None:
    database.run(put("one"))
    database.close()
    header = database._path.read_bytes()[:100]
    # https://sqlite.org/fileformat2.html: the page size at 16, the write and read versions (2 is WAL) at 18 and 19.
    assert int.from_bytes(header[16:18]) == 4_096
    assert header[18:20] == b"\x02\x02"


def test_a_file_of_other_pages_keeps_them(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "older.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("VACUUM")
    with closing(SqliteDatabase(path, clock=clock, lock_wait_ms=100)) as database:
        database.run(put("one"))
        assert database.run(lambda tx: tx.one(Query("PRAGMA page_size"))) == (16_384,)


@pytest.mark.parametrize("content", [b"this is no database at all, " * 100, b"\0" * 5_000], ids=["text", "zeros"])
def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path, clock: ManualClock, content: bytes) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(content)
    with pytest.raises(SchemaError, match=r"other\.db"):
        SqliteDatabase(path, clock=clock, lock_wait_ms=100)
    assert path.read_bytes() == content


def test_a_folder_that_does_not_exist_is_refused_by_name(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(SchemaError, match="missing"):
        SqliteDatabase(tmp_path / "missing" / "x.db", clock=clock, lock_wait_ms=100)


def test_looking_at_no_database_says_what_to_do(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(SchemaError, match="readdress serve"):
        read_once(tmp_path / "none.db", lambda _: None, clock=clock)


def test_look_ups_of_one_turn_see_one_instant_and_the_next_turn_sees_what_was_committed(
    database: SqliteDatabase,
) -> None:
    async def look() -> list[int]:
        async def count() -> int:
            return await database.read(lambda tx: len(keys(tx)))

        seen = [await count()]
        with closing(sqlite3.connect(database._path)) as other, other:
            other.execute("INSERT INTO tag VALUES ('r', 'another process', 'v')")
        seen.append(await count())
        await asyncio.sleep(0)
        seen.append(await count())
        await database.write(put("own"))
        return [*seen, await count()]

    assert asyncio.run(look()) == [0, 0, 1, 2]


def test_a_look_up_in_another_event_loop_sees_what_was_committed_since(database: SqliteDatabase) -> None:
    async def leave_at_once() -> int:
        found = await database.find(COUNT)
        asyncio.get_running_loop().stop()
        return found[0] if found else -1

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(leave_at_once()) == 0
    loop.close()
    database.run(put("later"))
    assert asyncio.run(database.find(COUNT)) == (1,)


def test_no_look_up_keeps_the_log_from_being_emptied(database: SqliteDatabase) -> None:
    async def look() -> bool:
        database._wal_is_long = True
        assert await database.read(keys) == []
        assert await database.find(COUNT) == (0,)
        return database._reading.in_transaction

    assert not asyncio.run(look())


def test_a_loop_that_ended_in_the_middle_does_not_stop_the_next(database: SqliteDatabase) -> None:
    async def leave_before_the_answer() -> None:
        asyncio.get_running_loop().create_task(database.write(lambda _: None))
        await asyncio.sleep(0)

    async def write() -> int:
        return await database.write(lambda tx: tx.now_ms)

    for _ in range(20):
        asyncio.run(leave_before_the_answer())
        assert asyncio.run(write())
