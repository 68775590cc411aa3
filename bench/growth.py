"""How work fares as the directory grows: look-ups, alias changes and searches among more and more addresses, on SQLite.

The directories are filled by SQL, with the schema's own indexes and triggers at work. Refuses when the disk is too
small.
"""

import asyncio
import contextlib
import random
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from measure import SQLITE, Figure, Measure, Say, Scale, percentile
from readdress.address import Address
from readdress.clock import Clock
from readdress.directory import addresses, aliases, instances, routing, search, texts
from readdress.directory.conditions import CONTAINS, EXACT, STARTS_WITH, All, Condition, Tag, Text
from readdress.store.database import Transaction
from readdress.store.sqlite.database import SqliteDatabase

ROUTE, DESCRIBE, CHANGE = "route look-up", "describe", "alias change"
SCAN = "a scan of the table"
ACCOUNT, INSTANCE = "123456789012", "bench"
ROW_BYTES_MAX = 1_500  # of an address with all its index entries
PRIME = 2_654_435_761  # spreads numbers over the alphabet, as the addresses of real life are
FILL = f"""
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :count - 1),
    named (i, address) AS (SELECT i, printf('%08x.desk%d@example.com', i * {PRIME} % 4294967296, i) FROM n)
INSERT INTO email_address (id, instance_id, address, address_key, domain, display_name, description, address_folded,
    display_name_folded, description_folded, created_ms, modified_ms)
SELECT printf('%012d', i), '{INSTANCE}', address, address, 'example.com', 'Desk ' || i, NULL, address, 'desk ' || i,
    NULL, 0, 0 FROM named
"""
NUMBER = "INSERT INTO address_number (address_id) SELECT id FROM email_address ORDER BY id"
TAGS = """
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1000 FROM n WHERE i + 1000 < :count)
INSERT INTO tag (resource_id, key, value) SELECT printf('%012d', i), 'team', 'team' || i / 1000 % 100 FROM n
"""


SIZED = re.compile(r"(?P<latency>.+, p\d+), (?P<size>[\d,]+ addresses)")


def work_name(work: str, part: str, size: int) -> str:
    """In the form of SIZED."""
    return f"{work}, {part}, {size:,} addresses"


@contextmanager
def measures(scale: Scale, folder: Path, say: Say) -> Iterator[list[Measure]]:
    """Latencies in this process, one after the other: the work itself, without HTTP."""
    needed = sum(scale.sizes) * ROW_BYTES_MAX
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(
            f"growth needs {needed / 2**30:.0f} GiB of disk, and {free / 2**30:.0f} GiB are free in {folder}"
        )
    with contextlib.ExitStack() as stack:
        found: list[Measure] = []
        for size in scale.sizes:
            path = folder / f"{size}.db"
            database = SqliteDatabase(path, clock=Clock(), lock_wait_ms=5_000)
            stack.callback(database.close)
            started = time.perf_counter()
            fill(database, path, size)
            _warm(path)
            say(f"{size:,} addresses filled in {time.perf_counter() - started:.0f} s")
            found += Directory(database, path, size, scale).measures()
        yield found


def fill(database: SqliteDatabase, path: Path, count: int) -> None:
    """On a connection that need not survive a power cut."""
    database.run(lambda tx: instances.create(tx, instances.Instance(INSTANCE, ACCOUNT, None, "SAML", None, 1, 1, 0)))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -1000000")
        for statement in (FILL, NUMBER, TAGS):
            connection.execute(statement, {"count": count})
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for batch in (10_000, texts.BATCH):  # what the service does in the background
        while database.run(partial(texts.index_some, batch=batch)):
            pass


def _warm(path: Path) -> None:
    """Have the file in the system's memory, as far as it has room, as it is when the service has run a while."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


class Directory:
    """One of so many addresses; numbers are drawn from a seed, the same in every run."""

    def __init__(self, database: SqliteDatabase, path: Path, size: int, scale: Scale) -> None:
        self.database = database
        self.path = path
        self.size = size
        self.scale = scale
        self.random = random.Random(size)

    def measures(self) -> list[Measure]:
        few = max(3, self.scale.samples // 100)
        plans: list[tuple[str, Callable[[int], Any], int]] = [
            (ROUTE, self.route, self.scale.samples),
            (DESCRIBE, self.describe, self.scale.samples),
            (CHANGE, self.change, self.scale.samples // 2 * 2),
            ("search EXACT", lambda n: self.find(EXACT, self.address(n)), few),
            ("search STARTS_WITH", lambda n: self.find(STARTS_WITH, self.address(n)[:7]), few),
            ("search CONTAINS", lambda n: self.find(CONTAINS, self.address(n)[2:14]), few),
            ("search by tag", lambda n: self._search(Tag("team", f"team{n % 100}"), None), few),
            ("page far down", lambda n: self._search(All([]), f"{self.size // 2 + n % 100:012d}"), few),
        ]
        return [*(partial(self.timed, *plan) for plan in plans), partial(self.scanned, max(3, few // 2))]

    def address(self, number: int) -> str:
        return f"{number * PRIME % 2**32:08x}.desk{number}@example.com"

    async def route(self, number: int) -> None:
        parsed = Address(*self.address(number).split("@"))
        found = await self.database.read(lambda tx: routing.route(tx, parsed))
        assert found.destinations

    async def describe(self, number: int) -> None:
        def work(tx: Transaction) -> object:
            return addresses.get(tx, account=ACCOUNT, instance_id=INSTANCE, address_id=f"{number:012d}")

        await self.database.read(work)

    async def change(self, number: int) -> None:
        """Associate a pair and part it again: two commits."""
        alias = (number + 1) % self.size
        for change in (aliases.associate, aliases.disassociate):
            work = partial(
                change,
                account=ACCOUNT,
                instance_id=INSTANCE,
                primary_id=f"{number:012d}",
                alias_id=f"{alias:012d}",
            )
            await self.database.write(work)

    async def find(self, comparison: str, value: str) -> None:
        hits = await self._search(Text("emailaddress", comparison, value), None)
        assert hits

    async def _search(self, condition: Condition, after: str | None) -> list[Any]:
        def work(tx: Transaction) -> list[Any]:
            return search.search(tx, instance_id=INSTANCE, condition=condition, after=after, limit=100).hits

        return await self.database.scan(work)

    def timed(self, work: str, call: Callable[[int], Any], samples: int) -> list[Figure]:
        """p50, p95 and p99 of so many calls, after a tenth as many that are not counted."""

        async def calls() -> list[float]:
            spent = []
            for _ in range(samples + samples // 10):
                number = self.random.randrange(self.size)
                started = time.perf_counter()
                await call(number)
                spent.append((time.perf_counter() - started) * 1e6)
            return spent[samples // 10 :]

        return self._figures(work, SQLITE, asyncio.run(calls()))

    def scanned(self, samples: int) -> list[Figure]:
        """What CONTAINS would cost without an index: every row is looked at, once."""
        statement = "SELECT count(*) FROM email_address WHERE address_folded LIKE ?"
        spent = []
        with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            for _ in range(samples):
                value = self.address(self.random.randrange(self.size))[2:14]
                started = time.perf_counter()
                connection.execute(statement, (f"%{value}%",)).fetchone()
                spent.append((time.perf_counter() - started) * 1e6)
        return self._figures("search CONTAINS", SCAN, spent)

    def _figures(self, work: str, who: str, spent: list[float]) -> list[Figure]:
        parts = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        return [Figure(work_name(work, name, self.size), who, percentile(spent, part), "µs") for name, part in parts]
