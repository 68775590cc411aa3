"""A PostgreSQL server that stops, starts, freezes or is killed, and a node that freezes with a lock in its hand."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import ManualClock
from harness.postgres import PostgresServer, children_of
from harness.works import COUNT, change, keys, put, touching
from readdress.store.database import StoreUnavailable, Transaction
from readdress.store.postgres.database import ANSWER_S_MAX, PostgresDatabase
from readdress.store.postgres.pool import WATCH_INTERVAL_S
from readdress.store.postgres.session import IDLE_MS_MAX

OpenStore = Callable[..., PostgresDatabase]

DOORS: dict[str, Callable[[PostgresDatabase], Coroutine[Any, Any, Any]]] = {
    "write": lambda store: store.write(keys),
    "together": lambda store: store.write(keys, together=touching()),
    "read": lambda store: store.read(keys),
    "scan": lambda store: store.scan(keys),
    "find": lambda store: store.find(COUNT),
}
QUICKLY_S = 10  # on the slowest of machines


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One that may be ill-treated."""
    with PostgresServer() as own:
        yield own


@pytest.fixture
def store(server: PostgresServer, clock: ManualClock) -> Iterator[PostgresDatabase]:
    opened = PostgresDatabase(server.url(server.create_database()), clock=clock, lock_wait_ms=500)
    yield opened
    opened.close()


async def ask_everything(store: PostgresDatabase) -> list[Any]:
    return await asyncio.gather(*(ask(store) for ask in DOORS.values()), return_exceptions=True)


async def check_unavailable(store: PostgresDatabase, *, within_s: float = QUICKLY_S) -> None:
    outcomes = await asyncio.wait_for(ask_everything(store), within_s)
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes), outcomes
    with pytest.raises(StoreUnavailable):
        await asyncio.to_thread(store.run, keys)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_while_the_server_is_away_everyone_hears_so_quickly_and_its_return_at_once(
    server: PostgresServer, store: PostgresDatabase, end: str
) -> None:
    async def go_and_come() -> None:
        await store.write(put("kept"))
        store.run(keys)
        await ask_everything(store)
        for _ in range(2):
            getattr(server, end)()
            for _ in range(3):
                await check_unavailable(store)
            server.start()
            assert await ask_everything(store) == [["kept"]] * 4 + [(1,)]
            assert store.run(keys) == ["kept"]

    asyncio.run(go_and_come())


@contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """Every process of it stands still, and the kernel goes on to take connections in its name."""
    pids = [server.process.pid, *children_of(server.process.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_frozen_server_is_given_up_and_its_return_is_noticed(server: PostgresServer, store: PostgresDatabase) -> None:
    async def freeze() -> None:
        await store.write(put("kept"))
        await ask_everything(store)
        with frozen(server):
            bound_s = 0.5 + ANSWER_S_MAX + WATCH_INTERVAL_S
            await check_unavailable(store, within_s=bound_s + QUICKLY_S)
            await check_unavailable(store)  # by now without a connection: one attempt to connect
        assert await ask_everything(store) == [["kept"]] * 4 + [(1,)]

    asyncio.run(freeze())


def test_the_server_takes_back_the_locks_of_a_node_that_freezes(
    server: PostgresServer, store: PostgresDatabase, clock: ManualClock
) -> None:
    held, thaw = threading.Event(), threading.Event()
    store.run(put("held"))

    def freeze(tx: Transaction) -> Any:
        change("held", "frozen")(tx)
        held.set()
        thaw.wait(60)
        return change("held", "thawed")(tx)

    outcomes: list[Any] = []

    def run_frozen() -> None:
        try:
            outcomes.append(store.run(freeze))
        except StoreUnavailable as error:
            outcomes.append(error)

    node = threading.Thread(target=run_frozen)
    node.start()
    assert held.wait(10)
    patient = PostgresDatabase(store._target.conninfo, clock=clock, lock_wait_ms=30_000)
    began = time.monotonic()
    assert asyncio.run(patient.write(change("held", "taken over"))) == 1
    assert time.monotonic() - began < (500 + IDLE_MS_MAX) / 1000 + QUICKLY_S
    thaw.set()
    node.join()
    assert isinstance(outcomes[0], StoreUnavailable)
    assert patient.run(lambda tx: tx.one(COUNT)) == (1,)
    patient.close()
    assert server.execute("SELECT value FROM tag", _database_of(store)) == [("taken over",)]


def _database_of(store: PostgresDatabase) -> str:
    return store._target.shown.rpartition("/")[2]
