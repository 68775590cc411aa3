"""The index of texts on a PostgreSQL that has pg_trgm, and what a server without it gets."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from harness.postgres import PostgresServer, system_binaries
from harness.programs import require
from readdress.clock import Clock
from readdress.directory import addresses, instances, search
from readdress.directory.conditions import All, AnyOf, Text
from readdress.store.database import Transaction
from readdress.store.postgres.database import PostgresDatabase
from readdress.store.postgres.schema import has_text_index, migrate
from readdress.store.postgres.session import read_url

pytestmark = pytest.mark.postgres_only


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """The system's, whose packages have the extension."""
    found = system_binaries()
    if not found:
        require("no PostgreSQL of the system is there: `make test-deps` installs it")
    server = PostgresServer({}, binaries=found[-1])
    yield server
    server.remove()


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


def publish(tx: Transaction) -> None:
    instances.create(tx, instances.Instance("i", "1", None, "SAML", None, 1, 1, 0))
    for name in ("help", "sales", "Straße", "100%"):
        addresses.create(
            tx,
            address_id=name,
            instance_id="i",
            address=f"{name}@example.com",
            display_name=f"{name} desk",
            description=None,
            addresses_max=None,
        )


def test_a_new_database_has_the_index_and_searches_find_by_it(url: str) -> None:
    target = read_url(url, lock_wait_ms=1_000)
    assert has_text_index(target)
    with closing(PostgresDatabase(url, clock=Clock(), lock_wait_ms=1_000)) as database:
        database.run(publish)
        for condition, expected in (
            (Text("emailaddress", "CONTAINS", "ALE"), ["sales"]),
            (Text("displayname", "CONTAINS", "strasse d"), ["Straße"]),
            (Text("emailaddress", "STARTS_WITH", "100%"), ["100%"]),
            (Text("emailaddress", "EXACT", "HELP@example.com"), ["help"]),
            (
                AnyOf([Text("emailaddress", "CONTAINS", "elp"), Text("displayname", "CONTAINS", "00%")]),
                ["100%", "help"],
            ),
            (All([Text("emailaddress", "CONTAINS", "%"), Text("displayname", "CONTAINS", "desk")]), ["100%"]),
        ):
            page = database.run(
                lambda tx, condition=condition: search.search(  # type: ignore[misc]
                    tx, instance_id="i", condition=condition, after=None, limit=10
                )
            )
            assert [hit.id for hit in page.hits] == expected
    with psycopg.connect(url) as connection:
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET enable_indexscan = off")
        plan = connection.execute("EXPLAIN SELECT id FROM email_address WHERE address_folded LIKE '%ales%'").fetchall()
    assert "email_address_by_text" in str(plan)


def test_a_server_that_gets_the_extension_later_gets_the_index_by_migrate(url: str) -> None:
    target = read_url(url, lock_wait_ms=1_000)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP EXTENSION pg_trgm CASCADE")
        assert not has_text_index(target)
        assert migrate(target, Clock(), after=False) == ["the index of texts"]
        assert has_text_index(target)
        assert migrate(target, Clock(), after=False) == []
        # What a program leaves that was broken off in the middle.
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'email_address_by_text'::regclass"
        )
        assert not has_text_index(target)
        assert migrate(target, Clock(), after=False) == ["the index of texts"]
        assert has_text_index(target)
