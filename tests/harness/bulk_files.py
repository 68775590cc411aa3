"""Imports in the tests' hands: a directory with an instance, entries taken into it, and what it then says."""

import io
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from harness.engine import engine_in_use, open_beside, where
from readdress.bulk import formats
from readdress.bulk.entry import Numbered
from readdress.bulk.importing import Counts, Importer, Source, select
from readdress.bulk.planning import Rules
from readdress.clock import Clock
from readdress.directory import instances
from readdress.store.database import Database

INSTANCE = "11111111-1111-4111-8111-111111111111"
ACCOUNT = "123456789012"


class Taken(NamedTuple):
    counts: Counts
    refused: list[tuple[int, str]]


def read(text: str | bytes, format_name: str, *, addresses_only: bool = False) -> list[Numbered]:
    """The entries of a file's text."""
    stream = io.BytesIO(text if isinstance(text, bytes) else text.encode())
    return list(formats.read(stream, name="-", format_name=format_name, addresses_only=addresses_only))


def make_instance(database: Database, instance_id: str = INSTANCE, alias: str = "main") -> None:
    made = instances.Instance(instance_id, ACCOUNT, alias, "CONNECT_MANAGED", None, 1, 1, 1)
    database.run(lambda tx: instances.create(tx, made))


def take(database: Database, entries: Iterable[Numbered], **rules: Any) -> Taken:
    """An import by the library's own call."""
    refused: list[tuple[int, str]] = []
    importer = Importer(
        lambda work, _: database.run(work),
        Rules(**{"instance_id": INSTANCE, "transports": {"inbox"}, **rules}),
        Source(ACCOUNT, "a file"),
        on_refused=lambda line, reason: refused.append((line, reason)),
        on_batch=lambda _: None,
    )
    return Taken(importer.take(select(entries, from_line=1, tags={})), refused)


def take_lines(database: Database, *lines: Mapping[str, Any], **rules: Any) -> Taken:
    """An import of JSON lines."""
    return take(database, read(json_lines(lines), "jsonl"), **rules)


def json_lines(lines: Iterable[Mapping[str, Any]]) -> str:
    return "".join(msgspec.json.encode(line).decode() + "\n" for line in lines)


def directory(what: Path | Database) -> dict[str, tuple[Any, ...]]:
    """By address: display name, description, the primary, and tags; without ids and times."""
    with open_beside(what) as rows:
        tags: dict[str, dict[str, str]] = {}
        for holder, key, value in rows.execute("SELECT resource_id, key, value FROM tag").fetchall():
            tags.setdefault(holder, {})[key] = value
        found = rows.execute(
            "SELECT e.id, e.address, e.display_name, e.description, p.address FROM email_address e"
            " LEFT JOIN alias r ON r.alias_id = e.id LEFT JOIN email_address p ON p.id = r.primary_id"
        ).fetchall()
    return {row[1]: (*row[2:], tags.get(row[0], {})) for row in found}


def prepare_data(data: Path) -> None:
    """A data folder whose database has one instance and nothing else."""
    data.mkdir(exist_ok=True)
    database = engine_in_use().open(data, Clock())
    make_instance(database)
    database.close()


def command(data: Path, *arguments: object) -> list[str]:
    name, *rest = map(str, arguments)
    return [sys.executable, "-m", "readdress", name, *where(data), *rest]


def readdress(data: Path, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The program's own command line on a data folder."""
    return subprocess.run(
        command(data, *arguments), input=stdin, capture_output=True, text=True, check=False, timeout=100
    )
