"""Writers of one SQLite file in several processes: one after the other, and nobody waits for longer than is said."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from conftest import ManualClock
from harness.sqlite_writers import other_process, other_writer
from readdress.store.database import StoreBusy, Transaction
from readdress.store.queries import Query
from readdress.store.sqlite.database import SqliteDatabase

pytestmark = pytest.mark.sqlite_only

INSERT = Query("INSERT INTO tag (resource_id, key, value) VALUES ('r', :key, 'v')")
COUNT = Query("SELECT count(*) FROM tag")
KEYS = Query("SELECT key FROM tag ORDER BY key")

Other: TypeAlias = Callable[[Path], AbstractContextManager[object]]
behind_others = pytest.mark.parametrize("other", [other_writer, other_process])
by_each_door = pytest.mark.parametrize("door", ["run", "write"])

# Writes to the file that it is given, without a pause, until it is killed.
BUSY_PROGRAM = """
import asyncio
import sys
from pathlib import Path

from readdress.clock import Clock
from readdress.store.queries import Query
from readdress.store.sqlite.database import SqliteDatabase

INSERT = Query("INSERT INTO tag VALUES ('other', :key, 'v')")
database = SqliteDatabase(Path(sys.argv[1]), clock=Clock(), lock_wait_ms=10_000)

async def write():
    for number in range(1_000_000):
        await database.write(lambda tx: tx.execute(INSERT, key=str(number)))
        if number == 0:
            print("began", flush=True)

asyncio.run(write())
"""


def put(key: str) -> Callable[[Transaction], int]:
    return lambda tx: tx.execute(INSERT, key=key)


def keys(tx: Transaction) -> list[str]:
    return [key for (key,) in tx.all(KEYS)]


def through(door: str, database: SqliteDatabase, work: Callable[[Transaction], int]) -> int:
    return database.run(work) if door == "run" else asyncio.run(database.write(work))


@contextmanager
def open_impatient(tmp_path: Path, clock: ManualClock, lock_wait_ms: int) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "busy.db", clock=clock, lock_wait_ms=lock_wait_ms)
    try:
        yield database
    finally:
        database.close()


@behind_others
@by_each_door
def test_waiting_for_the_lock_past_lock_wait_ms_is_busy_and_nothing_is_written(
    tmp_path: Path, clock: ManualClock, door: str, other: Other
) -> None:
    # contract 2.5
    with open_impatient(tmp_path, clock, 100) as database:
        with other(tmp_path / "busy.db"), pytest.raises(StoreBusy):
            through(door, database, put("late"))
        assert database.run(keys) == []


@behind_others
@by_each_door
def test_who_gets_the_lock_in_time_is_served(tmp_path: Path, clock: ManualClock, door: str, other: Other) -> None:
    with open_impatient(tmp_path, clock, 10_000) as database:
        outcome: list[int] = []
        waiting = threading.Thread(target=lambda: outcome.append(through(door, database, put("patient"))))
        with other(tmp_path / "busy.db"):
            waiting.start()
            waiting.join(0.2)
            assert outcome == []
        waiting.join()
        assert outcome == [1]


def test_who_is_refused_in_line_does_not_stop_who_comes_later(tmp_path: Path, clock: ManualClock) -> None:
    async def come_early_and_late() -> int:
        with other_process(tmp_path / "busy.db"):
            with pytest.raises(StoreBusy):
                await database.write(put("early"))
            late = asyncio.ensure_future(database.write(put("late")))
            await asyncio.sleep(0.01)
        return await late

    with open_impatient(tmp_path, clock, 200) as database:
        assert asyncio.run(come_early_and_late()) == 1
        assert database.run(keys) == ["late"]


def test_closing_does_not_wait_for_ever_for_another_process(tmp_path: Path, clock: ManualClock) -> None:
    with open_impatient(tmp_path, clock, 100) as database, other_process(tmp_path / "busy.db"):
        with pytest.raises(StoreBusy):
            asyncio.run(database.write(put("late")))
        database.close()
        assert database._committer.is_alive()  # it waits in line, which harms nobody
    database._committer.join(10)
    assert not database._committer.is_alive()


def test_two_busy_processes_both_come_to_write(tmp_path: Path, clock: ManualClock) -> None:
    """However busy each is: 100 works of one while the other does no less than ten."""

    async def do_some() -> None:
        for number in range(100):
            await database.write(put(str(number)))

    with open_impatient(tmp_path, clock, 10_000) as database:
        command = [sys.executable, "-c", BUSY_PROGRAM, str(tmp_path / "busy.db")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
            assert other.stdout
            assert other.stdout.readline() == b"began\n"
            asyncio.run(do_some())
            other.kill()  # in the middle of a transaction, as a rule
        database.run(put("after"))
        found = database.run(lambda tx: tx.one(COUNT))
    assert found
    assert found[0] > 100 + 10


def test_who_waits_behind_another_waits_no_longer_than_lock_wait_ms(tmp_path: Path, clock: ManualClock) -> None:
    # contract 2.5: at most lock_wait_ms, and not once for each commit in the line before one's own.
    lock_wait_ms = 1_500

    def refused_at(database: SqliteDatabase, refusals: list[float]) -> None:
        with pytest.raises(StoreBusy):
            database.run(put("late"))
        refusals.append(time.monotonic())

    with open_impatient(tmp_path, clock, lock_wait_ms) as database, other_writer(tmp_path / "busy.db"):
        refusals: list[float] = []
        waiting = [threading.Thread(target=refused_at, args=(database, refusals)) for _ in range(2)]
        for thread in waiting:
            thread.start()
            time.sleep(0.05)  # so that the second is not in the first one's commit
        for thread in waiting:
            thread.join()
    assert refusals[1] - refusals[0] < lock_wait_ms / 1000 / 2


def test_a_reader_in_another_process_keeps_the_log_no_longer_than_it_reads(tmp_path: Path, clock: ManualClock) -> None:
    def log_pages(database: SqliteDatabase) -> int:
        """After one more commit, which is at the log's beginning if that was emptied."""
        database.run(put(f"at {time.monotonic_ns()}"))
        logged: int = database._writing.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
        return logged

    with open_impatient(tmp_path, clock, 1_000) as database:
        for number in range(100):
            database.run(put(str(number)))
        with closing(sqlite3.connect(tmp_path / "busy.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute(COUNT).fetchone()
            database._wal_is_long = True
            database.run(put("meanwhile"))  # waits a moment for the reader, and no longer
            assert not database._wal_is_long
            assert log_pages(database) > 100
            reader.execute("ROLLBACK")
        database._wal_is_long = True
        database.run(put("then"))
        assert log_pages(database) < 10


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_command_of_root_does_not_lock_the_service_out(tmp_path: Path, clock: ManualClock) -> None:
    with open_impatient(tmp_path, clock, 1_000) as database:
        path = database._path
    lock = Path(f"{path}-lock")
    lock.unlink()
    os.chown(path, 12_345, 12_346)
    with open_impatient(tmp_path, clock, 1_000):
        owner = lock.stat()
    assert (owner.st_uid, owner.st_gid) == (12_345, 12_346)
