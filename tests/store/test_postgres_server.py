"""Servers that stop, freeze, or are not what we need; schemas of other versions; and the server of the system."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from conftest import ManualClock
from harness.postgres import PostgresServer, children_of, system_binaries
from harness.process import free_port
from harness.programs import require
from readdress.store.database import SchemaError, StoreUnavailable, Together, Transaction
from readdress.store.migrations import POSTGRES, load_migrations
from readdress.store.postgres import session
from readdress.store.postgres.database import ANSWER_S_MAX, PostgresDatabase
from readdress.store.queries import Query

ONE = Query("SELECT 1", "one")
LOCK_WAIT_MS = 300


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """One to stop, freeze and start again."""
    with PostgresServer() as server:
        server.execute("CREATE DATABASE app")
        yield server


def open_store(server: PostgresServer, name: str) -> PostgresDatabase:
    return PostgresDatabase(server.url(name), clock=ManualClock(), lock_wait_ms=LOCK_WAIT_MS)


def look(tx: Transaction) -> bool:
    return tx.one(ONE) == (1,)


def test_while_the_server_is_away_calls_fail_at_once_and_the_first_one_after_it_is_back_is_fine(
    own_server: PostgresServer,
) -> None:
    store = open_store(own_server, "app")

    async def main() -> None:
        assert await store.write(look)
        for end in (own_server.stop, own_server.kill):
            end()
            for call in (store.write(look), store.write(look, together=Together("x")), store.read(look)):
                started = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await call
                assert time.monotonic() - started < 10
            own_server.start()
            assert await store.write(look)
            assert await store.read(look)
            assert await store.find(ONE) == (1,)

    with closing(store):
        asyncio.run(main())


def test_a_server_that_freezes_is_given_up(own_server: PostgresServer) -> None:
    store = open_store(own_server, "app")
    frozen: list[int] = []

    async def main() -> None:
        assert await store.write(look)
        frozen.extend(children_of(own_server.process.pid))
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await store.write(look)
        assert time.monotonic() - started < LOCK_WAIT_MS / 1000 + ANSWER_S_MAX + 20

    with closing(store):
        try:
            asyncio.run(main())
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        assert asyncio.run(store.write(look))


def test_the_locks_of_a_silent_node_are_taken_back(postgres_server: PostgresServer) -> None:
    name = postgres_server.create_database()
    with closing(open_store(postgres_server, name)) as store:

        def hang(tx: Transaction) -> None:
            tx.one(ONE)
            time.sleep(LOCK_WAIT_MS / 1000 + 4)  # longer than idle_in_transaction_session_timeout
            tx.one(ONE)

        with pytest.raises(StoreUnavailable):
            store.run(hang)
        assert store.run(look)
    postgres_server.drop_database(name)


# The start.


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_another_encoding_is_refused(postgres_server: PostgresServer, encoding: str) -> None:
    name = f"other_{encoding.lower()}"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    with pytest.raises(SchemaError, match=rf"{encoding}.*UTF8.*createdb"):
        open_store(postgres_server, name)
    postgres_server.drop_database(name)


def test_a_server_that_is_too_old_is_refused(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SERVER_VERSION_MIN", 990_000)
    with pytest.raises(SchemaError, match=r"PostgreSQL \d+.*needs 99 or newer"):
        open_store(postgres_server, "postgres")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ("INSERT INTO schema_version VALUES (9001, 'after', 0)", r"version 9001.*newer program"),
        ("INSERT INTO schema_version VALUES (9001, 'before', 0)", ""),
        ("DELETE FROM schema_version WHERE version = 3", r"lacks 0003.*readdress migrate"),
    ],
    ids=["older program behind an after-step", "older program on a newer before-step", "newer program"],
)
def test_which_schemas_a_program_serves(postgres_server: PostgresServer, change: str, refusal: str) -> None:
    # Nodes are upgraded one by one: the older program goes on where the newer one has only added.
    name = postgres_server.create_database()
    postgres_server.execute(change, name)
    if refusal:
        with pytest.raises(SchemaError, match=refusal):
            open_store(postgres_server, name)
    else:
        with closing(open_store(postgres_server, name)) as store:
            assert store.run(look)
    postgres_server.drop_database(name)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@127.0.0.1:1/x",
        "postgresql://u:secret@127.0.0.1/x?port=nonsense",
        "postgresql://u@/x?host=127.0.0.1,127.0.0.1&port=1,2&password=secret",
        # A password has to have these as %2F and %40: libpq takes its parts for a port, a host or a name.
        "postgresql://u:secret/word@127.0.0.1:1/x",
        "postgresql://u:1/secret@127.0.0.1/x",
        "postgresql://u:pass@secret@127.0.0.1:1/x",
    ],
)
def test_a_server_that_is_not_there_is_said_without_the_password(url: str) -> None:
    with pytest.raises(SchemaError) as refused:
        PostgresDatabase(url, clock=ManualClock(), lock_wait_ms=LOCK_WAIT_MS)
    assert "secret" not in str(refused.value)


def test_of_several_hosts_the_one_that_answers_is_found(postgres_server: PostgresServer) -> None:
    name = postgres_server.create_database()
    ports = f"{free_port()},{postgres_server.port}"
    url = f"postgresql://postgres@/{name}?host=127.0.0.1,127.0.0.1&port={ports}&target_session_attrs=read-write"
    with closing(PostgresDatabase(url, clock=ManualClock(), lock_wait_ms=LOCK_WAIT_MS)) as store:
        assert store.run(look)
        assert asyncio.run(store.write(look))
    postgres_server.drop_database(name)


def test_programs_that_start_at_once_on_an_empty_database_all_start(postgres_server: PostgresServer) -> None:
    postgres_server.execute("CREATE DATABASE empty TEMPLATE template0 ENCODING 'UTF8'")
    with ThreadPoolExecutor(6) as threads:
        for store in threads.map(lambda _: open_store(postgres_server, "empty"), range(6)):
            store.close()
    steps = [step.version for step in load_migrations(POSTGRES, clustered="")]
    rows = postgres_server.execute("SELECT version FROM schema_version ORDER BY 1", "empty")
    assert [version for (version,) in rows] == steps
    postgres_server.drop_database("empty")


def test_the_server_of_the_system_will_do() -> None:
    found = system_binaries()
    if not found:
        require("no PostgreSQL of the system is there: `make test-deps` installs it")
    with PostgresServer(binaries=found[0]) as server:
        server.execute("CREATE DATABASE app")
        with closing(open_store(server, "app")) as store:

            async def main() -> None:
                assert await store.write(look, together=Together("x"))
                assert await store.read(look)

            asyncio.run(main())
