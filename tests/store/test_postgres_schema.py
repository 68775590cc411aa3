"""The start on PostgreSQL: what is refused and in which words, who makes the schema, and old code on a newer one."""

import threading
from collections.abc import Callable, Iterator

import pytest

from conftest import ManualClock
from harness.engine import open_beside
from harness.postgres import PostgresServer
from harness.process import free_port
from harness.works import keys, put
from readdress.store.database import SchemaError
from readdress.store.migrations import Step, load_migrations
from readdress.store.postgres import schema
from readdress.store.postgres.database import PostgresDatabase, read_once
from readdress.store.postgres.session import read_url

OpenStore = Callable[..., PostgresDatabase]
PASSWORD = "kept-to-ourselves"
NEWEST = load_migrations(clustered="")[-1].version
NEW_TABLE = Step(9_001, "9001_more.sql", "before", ["CREATE TABLE more (name TEXT)"])
NEW_COLUMN = Step(9_002, "9002_notes.sql", "before", ["ALTER TABLE tag ADD COLUMN note TEXT NOT NULL DEFAULT ''"])
LESS = Step(9_003, "9003_less.after.sql", "after", ["ALTER TABLE tag DROP COLUMN value"])


def with_steps(monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
    """As a newer program that brings these."""
    present = load_migrations(clustered="", text='TEXT COLLATE "C"')
    monkeypatch.setattr(schema, "load_migrations", lambda **_: [*present, *steps])


@pytest.fixture
def empty(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a database without a schema."""
    name = f"empty_{free_port()}"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    yield name
    postgres_server.drop_database(name)


def refusal(url: str, clock: ManualClock) -> str:
    with pytest.raises(SchemaError) as refused:
        PostgresDatabase(url, clock=clock, lock_wait_ms=1_000)
    text = str(refused.value)
    assert PASSWORD not in text
    return text


# Refusing.


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_another_encoding_is_refused_by_name(
    postgres_server: PostgresServer, clock: ManualClock, encoding: str
) -> None:
    name = f"encoded_{encoding.lower()}"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    text = refusal(postgres_server.url(name), clock)
    assert encoding in text
    assert "createdb --encoding UTF8" in text
    assert postgres_server.execute("SELECT to_regclass('schema_version')", name) == [(None,)]
    postgres_server.drop_database(name)


def test_a_step_that_an_unknown_program_took_away_with_is_refused(
    open_store: OpenStore, postgres_server: PostgresServer, name: str, clock: ManualClock
) -> None:
    open_store().run(put("kept"))
    postgres_server.execute(f"INSERT INTO schema_version VALUES ({NEWEST + 1}, 'after', 0)", name)
    text = refusal(postgres_server.url(name), clock)
    assert f"version {NEWEST + 1}" in text
    assert f"up to {NEWEST}" in text
    assert "newer program" in text


def test_a_step_that_is_missing_is_refused_by_name_with_what_to_do(
    postgres_server: PostgresServer, name: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_steps(monkeypatch, NEW_TABLE)
    text = refusal(postgres_server.url(name), clock)
    assert NEW_TABLE.name in text
    assert "readdress migrate" in text
    assert postgres_server.execute("SELECT to_regclass('more')", name) == [(None,)]


def test_a_step_for_the_end_of_an_upgrade_is_not_missed(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with_steps(monkeypatch, LESS)
    assert open_store().run(put("one")) == 1


def test_a_server_that_is_too_old_is_refused(
    postgres_server: PostgresServer, name: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("readdress.store.postgres.session.SERVER_VERSION_MIN", 990_000)
    assert "needs 99 or newer" in refusal(postgres_server.url(name), clock)


def test_a_user_who_may_make_nothing_is_told_so(
    postgres_server: PostgresServer, empty: str, clock: ManualClock
) -> None:
    postgres_server.execute(f"DROP ROLE IF EXISTS guest_{empty}")
    postgres_server.execute(f"CREATE ROLE guest_{empty} LOGIN")
    url = postgres_server.url(empty).replace("postgres@", f"guest_{empty}:{PASSWORD}@")
    assert "permission denied" in refusal(url, clock)
    postgres_server.execute(f"DROP ROLE guest_{empty}")


def test_a_server_that_nobody_reaches_is_named(clock: ManualClock) -> None:
    url = f"postgresql://readdress:{PASSWORD}@127.0.0.1:{free_port()}/mail"
    text = refusal(url, clock)
    assert "cannot reach the database postgresql://127.0.0.1/mail" in text


def test_a_database_that_does_not_exist_is_named(postgres_server: PostgresServer, clock: ManualClock) -> None:
    url = postgres_server.url("none_of_that_name").replace("postgres@", f"postgres:{PASSWORD}@")
    assert 'database "none_of_that_name" does not exist' in refusal(url, clock)


def test_a_wrong_password_is_refused_and_not_repeated(postgres_server: PostgresServer, clock: ManualClock) -> None:
    url = f"postgresql://nobody_known:{PASSWORD}@127.0.0.1:{postgres_server.port}/postgres"
    assert "nobody_known" in refusal(url, clock)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://readdress:{}@[::1/mail",
        "postgresql://readdress:{}%zz@127.0.0.1/mail",
        "postgresql://readdress:%zz{}@127.0.0.1/mail",
        "postgresql://readdress:{}@127.0.0.1/mail?no_such_setting=1",
        "postgresql://127.0.0.1/mail?password={}&no_such_setting",
        "postgresql://127.0.0.1/mail?password={}=",
    ],
)
def test_a_url_that_can_not_be_read_is_refused_without_showing_what_is_in_it(url: str, clock: ManualClock) -> None:
    assert refusal(url.format(PASSWORD), clock).startswith("the database's URL can't be read: ")


def test_what_is_shown_of_a_url_has_no_password() -> None:
    target = read_url(f"postgresql://readdress:{PASSWORD}@a.example,b.example/mail", lock_wait_ms=1)
    assert target.shown == "postgresql://a.example,b.example/mail"


def test_what_the_url_says_goes_before_our_settings() -> None:
    target = read_url("postgresql://a.example/mail?connect_timeout=9&target_session_attrs=any", lock_wait_ms=1)
    assert "connect_timeout=9" in target.conninfo
    assert "target_session_attrs=any" in target.conninfo
    assert "tcp_user_timeout=4000" in target.conninfo


# Making and changing.


def test_looking_at_an_empty_database_says_what_to_do_and_makes_nothing(
    postgres_server: PostgresServer, empty: str, clock: ManualClock
) -> None:
    with pytest.raises(SchemaError, match="readdress serve"):
        read_once(postgres_server.url(empty), lambda _: None, clock=clock, lock_wait_ms=1_000)
    assert postgres_server.execute("SELECT to_regclass('schema_version')", empty) == [(None,)]


def test_programs_that_start_at_once_on_an_empty_database_all_succeed(
    postgres_server: PostgresServer, empty: str, clock: ManualClock
) -> None:
    start = threading.Barrier(4)
    opened: list[PostgresDatabase] = []
    failures: list[BaseException] = []

    def open_it() -> None:
        start.wait(10)
        try:
            opened.append(PostgresDatabase(postgres_server.url(empty), clock=clock, lock_wait_ms=20_000))
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for number, store in enumerate(opened):
        assert store.run(put(f"k{number}")) == 1
        store.close()
    applied = postgres_server.execute("SELECT version, phase FROM schema_version ORDER BY version", empty)
    assert applied == [(step.version, step.phase) for step in load_migrations(clustered="")]


def test_old_code_runs_on_a_schema_with_a_newer_step_before_and_after_it_comes(
    open_store: OpenStore, postgres_server: PostgresServer, name: str, clock: ManualClock
) -> None:
    running = open_store()
    running.run(put("before"))
    target = read_url(postgres_server.url(name), lock_wait_ms=1_000)
    with pytest.MonkeyPatch.context() as newer:
        with_steps(newer, NEW_TABLE, NEW_COLUMN)
        assert schema.migrate(target, clock, after=False) == [NEW_TABLE.name, NEW_COLUMN.name]
        assert schema.migrate(target, clock, after=False) == []
    assert running.run(put("meanwhile")) == 1
    started_later = open_store()
    assert started_later.run(put("after")) == 1
    assert running.run(keys) == started_later.run(keys) == ["after", "before", "meanwhile"]


def test_what_old_code_can_not_live_with_waits_for_the_end(
    open_store: OpenStore, postgres_server: PostgresServer, name: str, clock: ManualClock
) -> None:
    target = read_url(postgres_server.url(name), lock_wait_ms=1_000)
    with pytest.MonkeyPatch.context() as newer:
        with_steps(newer, NEW_TABLE, LESS)
        assert schema.migrate(target, clock, after=False) == [NEW_TABLE.name]
        assert open_store().run(put("one")) == 1
        assert schema.migrate(target, clock, after=True) == [LESS.name]
    assert "start the newer program" in refusal(postgres_server.url(name), clock)


def test_a_step_that_fails_leaves_the_database_as_it_was(
    open_store: OpenStore, postgres_server: PostgresServer, name: str, clock: ManualClock
) -> None:
    store = open_store()
    store.run(put("kept"))
    target = read_url(postgres_server.url(name), lock_wait_ms=1_000)
    bad = Step(9_009, "9009_bad.sql", "before", ["CREATE TABLE half (x TEXT)", "no statement at all"])
    with pytest.MonkeyPatch.context() as newer:
        with_steps(newer, NEW_TABLE, bad)
        with pytest.raises(SchemaError, match="syntax error"):
            schema.migrate(target, clock, after=True)
    with open_beside(store) as rows:
        assert rows.execute("SELECT to_regclass('more'), to_regclass('half')").fetchone() == (None, None)
    assert store.run(keys) == ["kept"]
