"""A PostgreSQL that falls silent or hangs up at the worst moment: everyone is told within a bound."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from harness.postgres import PostgresServer
from harness.silent_proxy import SilentProxy
from harness.works import COUNT, keys, touching
from readdress.store.postgres.database import PostgresDatabase
from readdress.store.postgres.failures import ConnectionLost
from readdress.store.postgres.session import CONNECT_TIMEOUT_S

OpenStore = Callable[..., PostgresDatabase]

SLOWLY_S = 10  # what the slowest of machines may add to a bound
# What a client says first: who it is, and how the session is to be.
GREETING, SETTINGS = b"\0user\0", b"lock_timeout"


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
