"""Fixtures: a PostgreSQL database of a test's own, opened as often and with what options the test likes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import ManualClock
from harness.postgres import PostgresServer
from readdress.store.postgres.database import PostgresDatabase

OpenStore = Callable[..., PostgresDatabase]


@pytest.fixture
def name(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a fresh database with the schema."""
    made = postgres_server.create_database()
    yield made
    postgres_server.drop_database(made)


@pytest.fixture
def open_store(postgres_server: PostgresServer, name: str, clock: ManualClock) -> Iterator[OpenStore]:
    """Open it once more; everything is closed after the test."""
    opened: list[PostgresDatabase] = []

    def open_one(*, url: str | None = None, lock_wait_ms: int = 10_000, **options: Any) -> PostgresDatabase:
        store = PostgresDatabase(url or postgres_server.url(name), clock=clock, lock_wait_ms=lock_wait_ms, **options)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: OpenStore) -> PostgresDatabase:
    return open_store()
