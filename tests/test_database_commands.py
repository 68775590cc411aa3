"""`migrate`, `backup`, `restore` and `copy`: the program's own command line on real databases, and what came of it."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import ManualClock
from harness.api_calls import ApiCaller, alias_members
from harness.engine import POSTGRES, SQLITE, Engine
from harness.http_client import HttpClient
from harness.postgres import PostgresServer
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.stored import content_of, inbox, publish
from harness.tables import check_promises, dump
from readdress.clock import Clock
from readdress.inbox import messages
from readdress.store import copying
from readdress.store.database import Database, Transaction
from readdress.store.queries import Query


def readdress(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "readdress", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def fill(database: Database, addresses: int = 30) -> None:
    """Something in every table that a busy service fills."""
    with ApiCaller(database) as api:
        instance_id = api.create_instance()
        ids = [
            api.create_address(
                instance_id,
                f"Zoë.{number}@exämple.com",
                DisplayName=f"Nº {number}",
                Tags={"team": "ä"},
                ClientToken=str(number),
            )
            for number in range(addresses)
        ]
        for at in range(0, addresses, 2):
            api("AssociateEmailAddressAlias", **alias_members(instance_id, primary_id=ids[at], alias_id=ids[at + 1]))

    def mail(tx: Transaction) -> None:
        for number in range(80):
            name = f"message-{number:04}"
            messages.insert(tx, messages.Message(name, 1, "a@b.example", f"Übung {number}", 12, "", "::1", "b", None))
            for part in range(3):
                messages.insert_content(tx, message_id=name, part=part, content=bytes([0, number, part, 255]))
            messages.insert_delivery(
                tx,
                messages.Delivery(
                    f"delivery-{number:04}", ids[number % addresses], name, instance_id, None, ["r"],
                    [messages.Reason("DIRECT", None)], "inbox", messages.State.DELIVERED, "", [],
                ),
            )  # fmt: skip

    database.run(mail)


# Backup and restore.


def test_a_backup_of_a_running_service_restores_to_what_it_was(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "data")
    address_id, text = publish(service)
    with closing_smtp(service, text):
        pass
    (message_id,) = inbox(service, address_id)
    file = tmp_path / "backup.db"
    done = readdress("backup", file, "--data", service.data)
    assert done.returncode == 0, done.stderr
    assert str(service.data / "secret.key") in done.stdout
    publish(service)  # which is not in the backup
    service.stop()

    data = tmp_path / "restored"
    done = readdress("restore", file, "--data", data)
    assert done.returncode == 0, done.stderr
    assert "put back the key file" in done.stderr
    (data / "secret.key").write_bytes((service.data / "secret.key").read_bytes())
    (data / "secret.key").chmod(0o600)
    again = ServiceProcess(data)
    try:
        check_promises(data)
        assert inbox(again, address_id) == [message_id]
        assert content_of(again, message_id).endswith(b"kept\r\n")
        with HttpClient(again.http_address) as http:
            found = http.call("POST", "/search-email-addresses", {"InstanceId": DEV_INSTANCE}).json
        assert [address["EmailAddressId"] for address in found["EmailAddresses"]] == [address_id]
    finally:
        again.stop()


def closing_smtp(service: ServiceProcess, recipient: str) -> Any:
    import smtplib

    client = smtplib.SMTP(*service.smtp_address)
    client.sendmail("a@b.example", [recipient], b"Subject: x\r\n\r\nkept\r\n")
    return client


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_nothing_is_overwritten(tmp_path: Path, command: str) -> None:
    ServiceProcess(tmp_path / "data").stop()
    file = tmp_path / "backup.db"
    assert readdress("backup", file, "--data", tmp_path / "data").returncode == 0
    before = file.read_bytes()
    done = readdress(command, file, "--data", tmp_path / "data")
    assert done.returncode == 1
    assert "exists" in done.stderr
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.db", "data"]


def test_what_is_no_backup_is_not_restored(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to be taken for one" * 100)
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE other (name TEXT)")
    for name in ("text.db", "other.db", "missing.db"):
        done = readdress("restore", tmp_path / name, "--data", tmp_path / "data")
        assert done.returncode == 1, name
        assert name in done.stderr
        assert not (tmp_path / "data" / "readdress.db").exists()


def test_a_damaged_backup_is_not_restored(tmp_path: Path) -> None:
    ServiceProcess(tmp_path / "data").stop()
    file = tmp_path / "backup.db"
    assert readdress("backup", file, "--data", tmp_path / "data").returncode == 0
    raw = bytearray(file.read_bytes())
    raw[20_000:40_000] = b"\xff" * 20_000
    file.write_bytes(raw)
    done = readdress("restore", file, "--data", tmp_path / "restored")
    assert done.returncode == 1
    assert not (tmp_path / "restored" / "readdress.db").exists()


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_postgresql_has_tools_of_its_own(tmp_path: Path, command: str) -> None:
    done = readdress(command, tmp_path / "file", "--database", "postgresql://127.0.0.1/x")
    assert done.returncode == 2
    assert "pg_dump" in done.stderr


# Copy.


@pytest.fixture(params=[(SQLITE, POSTGRES), (POSTGRES, SQLITE)], ids=["to PostgreSQL", "back to SQLite"])
def way(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, tmp_path: Path
) -> tuple[Engine, Path, Engine, Path]:
    """A source with data in it, and where the target is to be."""
    engines = {SQLITE: Engine(), POSTGRES: Engine(postgres_server)}
    source, target = (engines[name] for name in request.param)
    folders = tmp_path / "source", tmp_path / "target"
    for folder in folders:
        folder.mkdir()
    database = source.open(folders[0], Clock())
    fill(database)
    database.close()
    return source, folders[0], target, folders[1]


def tables_of(engine: Engine, folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row with its columns by name, for the engines keep columns in orders of their own."""
    database = engine.open(folder, Clock())
    dumped = dump(database)
    database.close()
    del dumped["schema_version"]
    return dumped


def test_a_copy_has_every_row_of_every_table(way: tuple[Engine, Path, Engine, Path]) -> None:
    source, here, target, there = way
    done = readdress("copy", "--from", source.url(here), "--to", target.url(there))
    assert done.returncode == 0, done.stderr
    before, after = tables_of(source, here), tables_of(target, there)
    assert after == before
    assert f"{sum(map(len, before.values()))} rows are copied and compared" in done.stdout
    assert all(before[name] for name in ("instance", "email_address", "alias", "tag", "audit", "message", "content"))
    database = target.open(there, Clock())
    check_promises(database)
    database.close()


def test_every_table_is_copied(engine: Engine, tmp_path: Path) -> None:
    with engine.database(tmp_path, ManualClock()) as database:
        assert dump(database).keys() | {"node"} == {table.name for table in copying.TABLES} | copying.LEFT_OUT


@pytest.mark.parametrize("table", ["email_address", "content", "srs"])
def test_a_copy_that_was_broken_off_goes_on(way: tuple[Engine, Path, Engine, Path], table: str) -> None:
    source, here, target, there = way
    first = target.open(there, Clock())
    opened = source.open(here, Clock())
    is_postgres = source.name == POSTGRES

    def columns_of(name: str) -> list[str]:
        if name == table:
            raise InterruptedError
        return columns[name]

    columns = opened.run(
        lambda tx: {each.name: copying.list_columns(tx, each.name, is_postgres=is_postgres) for each in copying.TABLES}
    )
    with pytest.raises(InterruptedError):
        opened.run(lambda tx: copying.copy(tx, first, columns_of=columns_of, on_progress=lambda _: None))
    first.close()
    opened.close()

    done = readdress("copy", "--from", source.url(here), "--to", target.url(there))
    assert done.returncode == 1
    assert "--resume" in done.stderr
    done = readdress("copy", "--resume", "--from", source.url(here), "--to", target.url(there))
    assert done.returncode == 0, done.stderr
    assert tables_of(target, there) == tables_of(source, here)


@pytest.mark.parametrize(
    "change", ["UPDATE tag SET value = 'x'", "DELETE FROM delivery WHERE id = 'delivery-0003'"], ids=["other", "gone"]
)
def test_a_difference_is_found(way: tuple[Engine, Path, Engine, Path], change: str) -> None:
    source, here, target, there = way
    assert readdress("copy", "--from", source.url(here), "--to", target.url(there)).returncode == 0
    database = target.open(there, Clock())
    database.run(lambda tx: tx.execute(Query(change)))
    database.close()
    done = readdress("copy", "--resume", "--from", source.url(here), "--to", target.url(there))
    assert done.returncode == 1
    assert ("tag" if "tag" in change else "delivery") in done.stderr


# Migrate.


def test_migrate_makes_and_leaves_a_schema(engine: Engine, tmp_path: Path) -> None:
    url = engine.url(tmp_path)
    first = readdress("migrate", "--database", url)
    assert first.returncode == 0, first.stderr
    again = readdress("migrate", "--after", "--database", url)
    assert (again.returncode, again.stdout) == (0, "nothing to do\n")
    assert readdress("key", "list", "--database", url, "--data", tmp_path).returncode == 0


def test_no_password_is_shown(tmp_path: Path) -> None:
    url = "postgresql://someone:hush-hush@127.0.0.1:1/x"
    for command in (["migrate"], ["key", "list"], ["serve", "--dev"], ["resolve", "a@example.com"]):
        done = readdress(*command, "--database", url, "--data", tmp_path)
        assert done.returncode == 1
        assert "cannot reach the database" in done.stderr
        assert "hush" not in done.stdout + done.stderr
