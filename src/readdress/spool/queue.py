"""What waits to go out: rows that a node leases, tries, and settles, postpones or fails.

A lease ends by itself, so what a dead node held is tried again by another; therefore a delivery may be tried twice, and
its id is what a receiver can tell the copies by. Failed deliveries stay until somebody retries or drops them.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from readdress.store.database import Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "spool.sql")

# When a failed delivery is due: never, unless somebody asks for another try.
NEVER_MS: Final = 1 << 62


class Entry(NamedTuple):
    """A delivery that is not settled; `due_ms` is NEVER_MS once it has failed."""

    delivery_id: str
    address_id: str
    message_id: str
    transport: str
    queued_ms: int
    due_ms: int
    attempts: int
    delay_told: int
    lease_owner: str

    @property
    def has_failed(self) -> bool:
        return self.due_ms == NEVER_MS


class Attempt(NamedTuple):
    """One try: `outcome` is DELIVERED, TEMPORARY or PERMANENT, `reply` what the other side said, or we instead."""

    delivery_id: str
    number: int
    at_ms: int
    duration_ms: int
    outcome: str
    remote: str
    tls: str
    reply: str
    address_id: str = ""


class Group(NamedTuple):
    """Entries of one transport in one state: `failed`, `trying`, `due` or `waiting` for the time of their next try."""

    transport: str
    state: str
    entries: int
    oldest_ms: int


def enqueue(tx: Transaction, *, delivery_id: str, address_id: str, message_id: str, transport: str) -> None:
    tx.send(
        sql.insert_entry,
        delivery_id=delivery_id,
        address_id=address_id,
        message_id=message_id,
        transport=transport,
        now_ms=tx.now_ms,
    )


def is_any_due(tx: Transaction, transport: str) -> bool:
    return tx.one(sql.find_due, transport=transport, now_ms=tx.now_ms) is not None


def lease(tx: Transaction, *, transport: str, owner: str, lease_ms: int, limit: int) -> list[Entry]:
    """Take up to `limit` due deliveries, the longest due first; each counts as a try from here on."""
    taken = []
    for row in tx.all(sql.list_due, transport=transport, now_ms=tx.now_ms, limit=limit):
        entry = Entry(*row)
        until_ms = tx.now_ms + lease_ms
        if tx.execute(sql.lease, delivery_id=entry.delivery_id, owner=owner, until_ms=until_ms, now_ms=tx.now_ms):
            taken.append(entry._replace(attempts=entry.attempts + 1, lease_owner=owner))
    return taken


def renew(tx: Transaction, delivery_ids: Iterable[str], *, owner: str, lease_ms: int) -> None:
    """Those of the deliveries that the owner still holds, for `lease_ms` from now."""
    for delivery_id in delivery_ids:
        tx.send(sql.renew, delivery_id=delivery_id, owner=owner, until_ms=tx.now_ms + lease_ms, now_ms=tx.now_ms)


def release(tx: Transaction, owner: str) -> None:
    """What the owner did not finish may be tried by anybody now."""
    tx.send(sql.release, owner=owner)


def delete_attempts(tx: Transaction, delivery_id: str) -> None:
    """Of a delivery that is deleted itself."""
    tx.send(sql.delete_attempts, delivery_id=delivery_id)


def find(tx: Transaction, delivery_id: str) -> Entry | None:
    """The entry, held still until this transaction commits."""
    tx.lock(sql.lock_entry, delivery_id=delivery_id)
    row = tx.one(sql.find_entry, delivery_id=delivery_id)
    return Entry(*row) if row else None


def postpone(tx: Transaction, delivery_id: str, due_ms: int) -> None:
    tx.send(sql.postpone, delivery_id=delivery_id, due_ms=due_ms)


def fail(tx: Transaction, delivery_id: str) -> None:
    """No more tries; it stays to be seen."""
    tx.send(sql.postpone, delivery_id=delivery_id, due_ms=NEVER_MS)


def restart(tx: Transaction, entry: Entry) -> None:
    """Due now, with all its time before it again."""
    tx.send(sql.restart, delivery_id=entry.delivery_id, now_ms=tx.now_ms)


def note_delay_told(tx: Transaction, delivery_id: str) -> None:
    tx.send(sql.note_delay_told, delivery_id=delivery_id)


def is_delay_told(tx: Transaction, delivery_id: str) -> bool:
    row = tx.one(sql.find_entry, delivery_id=delivery_id)
    return row is not None and bool(Entry(*row).delay_told)


def settle(tx: Transaction, delivery_id: str) -> None:
    tx.send(sql.delete_entry, delivery_id=delivery_id)


def record_attempt(tx: Transaction, attempt: Attempt) -> None:
    tx.send(sql.insert_attempt, **attempt._asdict())


def list_attempts(tx: Transaction, delivery_id: str) -> list[Attempt]:
    return [Attempt(*row) for row in tx.all(sql.list_attempts, delivery_id=delivery_id)]


def list_entries(tx: Transaction, *, after: str, limit: int) -> list[Entry]:
    """By delivery id, which is the order in which they came."""
    return [Entry(*row) for row in tx.all(sql.list_entries, after=after, limit=limit)]


def count_entries(tx: Transaction, *, limit: int) -> list[Group]:
    """Of a spool with more than `limit` entries, so many of them, whichever are found first."""
    rows = tx.all(sql.count_entries, now_ms=tx.now_ms, never_ms=NEVER_MS, limit=limit)
    return [Group(*row) for row in rows]


def list_transports(tx: Transaction) -> list[str]:
    """The names of transports for which something is due."""
    return [name for (name,) in tx.all(sql.list_transports, now_ms=tx.now_ms)]
