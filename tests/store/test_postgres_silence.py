"""A PostgreSQL that falls silent or hangs up at the worst moment: everyone is told within a bound."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import uvloop

from conftest import ManualClock
from harness.postgres import PostgresServer
from harness.silent_proxy import SilentProxy
from harness.works import COUNT, keys, put, touching
from readdress.store.postgres.database import ANSWER_S_MAX, PostgresDatabase
from readdress.store.postgres.failures import ConnectionLost
from readdress.store.postgres.pool import WATCH_INTERVAL_S
from readdress.store.postgres.session import CONNECT_TIMEOUT_S
from readdress.store.queries import Query

OpenStore = Callable[..., PostgresDatabase]

SLOWLY_S = 10  # what the slowest of machines may add to a bound
# What a client says first: who it is, and how the session is to be.
GREETING, SETTINGS = b"\0user\0", b"lock_timeout"

# A NoticeResponse, as every session gets it when another one was killed.
# https://www.postgresql.org/docs/current/protocol-message-formats.html
NOTICE = b"N\0\0\0\x22SWARNING\0C57P02\0Mterminating\0\0"


async def ask_everything(store: PostgresDatabase) -> list[Any]:
    asked: tuple[Awaitable[Any], ...] = (
        store.write(keys),
        store.write(keys, together=touching()),
        store.read(keys),
        store.scan(keys),
        store.find(COUNT),
        asyncio.to_thread(store.run, keys),
    )
    return await asyncio.gather(*asked, return_exceptions=True)


@pytest.mark.parametrize("word", [GREETING, SETTINGS], ids=["as one says who one is", "right after the greeting"])
def test_a_server_that_falls_silent_while_one_connects_is_given_up(
    open_store: OpenStore, postgres_server: PostgresServer, name: str, word: bytes
) -> None:
    with SilentProxy(("127.0.0.1", postgres_server.port)) as line:
        store = open_store(url=f"postgresql://postgres@127.0.0.1:{line.port}/{name}")

        async def meet_silence() -> None:
            line.word = word
            outcomes = await asyncio.wait_for(ask_everything(store), 2 * CONNECT_TIMEOUT_S + SLOWLY_S)
            assert all(isinstance(outcome, ConnectionLost) for outcome in outcomes), outcomes
            assert line.silenced
            line.word = None
            assert await ask_everything(store) == [[]] * 4 + [(0,), []]

        asyncio.run(meet_silence())
        store.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("door", ["write", "together", "find"])
def test_a_connection_that_is_reset_behind_a_notice_is_known_to_be_lost(
    open_store: OpenStore,
    postgres_server: PostgresServer,
    name: str,
    door: str,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """So a server ends that was killed: uvloop reports an error of the socket once, with the data before it."""
    doors: dict[str, Callable[[PostgresDatabase], Awaitable[Any]]] = {
        "write": lambda store: store.write(put("last words")),
        "together": lambda store: store.write(put("last words"), together=touching()),
        "find": lambda store: store.find(Query("SELECT key FROM tag WHERE key = :key"), key="last words"),
    }
    with SilentProxy(("127.0.0.1", postgres_server.port), last_words=NOTICE) as line:
        url = f"postgresql://postgres@127.0.0.1:{line.port}/{name}"
        store = open_store(url=url, lock_wait_ms=60_000)

        async def ask() -> None:
            await ask_everything(store)
            line.word = b"last words"
            asked = asyncio.ensure_future(doors[door](store))
            for _ in range(3):
                await asyncio.sleep(0)  # it goes out
            time.sleep(0.2)  # noqa: ASYNC251 - so that the loop finds both at once: the notice and the reset
            with pytest.raises(ConnectionLost):
                await asyncio.wait_for(asked, SLOWLY_S)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(ask())
        store.close()
    assert line.silenced == 1


@contextmanager
def no_standby(server: PostgresServer, name: str) -> Iterator[None]:
    """Commits wait for a standby that is away, from the first moment to the last."""
    is_over = threading.Event()

    def commit() -> None:
        with psycopg.connect(server.url(name), autocommit=True) as other:
            other.execute("CREATE TABLE probe ()")
            while not is_over.is_set():
                other.execute("INSERT INTO probe DEFAULT VALUES")

    committing = threading.Thread(target=commit)
    committing.start()
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.execute("SELECT pg_reload_conf()")
    while not server.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"):
        time.sleep(0.01)
    yield
    is_over.set()
    server.execute("ALTER SYSTEM RESET synchronous_standby_names")
    server.execute("SELECT pg_reload_conf()")
    committing.join()


def test_a_commit_that_no_standby_confirms_is_not_told_as_done(clock: ManualClock) -> None:
    """What the server keeps to itself meanwhile counts as soon as there is one."""
    with PostgresServer() as server:
        name = server.create_database()
        store = PostgresDatabase(server.url(name), clock=clock, lock_wait_ms=500)

        async def ask() -> None:
            asked = asyncio.gather(
                store.write(put("alone")),
                store.write(put("together"), together=touching()),
                asyncio.to_thread(store.run, put("in a thread")),
                return_exceptions=True,
            )
            outcomes = await asyncio.wait_for(asked, 0.5 + ANSWER_S_MAX + WATCH_INTERVAL_S + SLOWLY_S)
            assert all(isinstance(outcome, ConnectionLost) for outcome in outcomes), outcomes
            assert await asyncio.wait_for(store.read(keys), SLOWLY_S) == []  # readers wait for nobody

        with no_standby(server, name):
            asyncio.run(ask())
        assert store.run(put("afterwards")) == 1
        deadline = time.monotonic() + SLOWLY_S
        while (found := store.run(keys)) != ["afterwards", "alone", "in a thread", "together"]:
            assert time.monotonic() < deadline, found
            time.sleep(0.01)
        store.close()
