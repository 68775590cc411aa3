"""What has happened lately, read from the rows that are there anyway: nothing is counted or written for it.

Rows of all instances are in the same order of time, so a quiet instance is found among the others: every reader says
how many rows it looks at, at the most, and where it got to.
"""

from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import msgspec

from readdress.clock import first_id, ms_of_id
from readdress.inbox.messages import Reason
from readdress.spool.queue import NEVER_MS
from readdress.store.database import Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "recent.sql")

_Strings = msgspec.json.Decoder(list[str])
_Reasons = msgspec.json.Decoder(list[Reason])


class Arrival(NamedTuple):
    """A delivery of a message, as it was accepted."""

    message_id: str
    delivery_id: str
    address_id: str
    recipients: list[str]
    reasons: list[Reason]
    transport: str
    state: str
    received_ms: int
    sender: str
    subject: str
    address: str | None


class Try(NamedTuple):
    at_ms: int
    delivery_id: str
    number: int
    duration_ms: int
    outcome: str
    remote: str
    reply: str
    message_id: str | None
    address_id: str | None
    transport: str | None
    instance_id: str | None


class Waiting(NamedTuple):
    """What is in the spool; `address` is None where it is retired."""

    delivery_id: str
    address_id: str
    message_id: str
    transport: str
    queued_ms: int
    due_ms: int
    attempts: int
    leased_until_ms: int
    instance_id: str | None
    address: str | None

    def state(self, now_ms: int) -> str:
        if self.due_ms == NEVER_MS:
            return "FAILED"
        if self.leased_until_ms > now_ms:
            return "TRYING"
        return "DUE" if self.due_ms <= now_ms else "WAITING"


class Flow(NamedTuple):
    """Mails by minute."""

    direct: list[int]
    forwarded: list[int]
    is_complete: bool


def count_flow(tx: Transaction, address_id: str, *, since_ms: int, minutes: int, limit: int) -> Flow:
    """How many mails came directly and how many by an alias in each minute, of the newest `limit`."""
    direct, forwarded = [0] * minutes, [0] * minutes
    rows = tx.all(sql.list_flow, address_id=address_id, since_id=first_id(since_ms), limit=limit)
    for delivery_id, reasons in rows:
        minute = min(max(ms_of_id(delivery_id) - since_ms, 0) // 60_000, minutes - 1)
        is_direct = any(not reason.alias_id for reason in _Reasons.decode(reasons))
        (direct if is_direct else forwarded)[minute] += 1
    return Flow(direct, forwarded, len(rows) < limit)


def list_arrivals(
    tx: Transaction, instance_id: str, *, before_id: str, examined: int
) -> tuple[list[list[Arrival]], str | None]:
    """The deliveries of each message, the newest first, and the message to go on before, None at the end."""
    last_id, count = tx.one(sql.find_last_examined, before_id=before_id, examined=examined) or (None, 0)
    rows = tx.all(sql.list_arrivals, instance_id=instance_id, before_id=before_id, examined=examined)
    found = (
        Arrival(*row)._replace(recipients=_Strings.decode(row[3]), reasons=_Reasons.decode(row[4])) for row in rows
    )
    messages = [list(deliveries) for _, deliveries in groupby(found, key=attrgetter("message_id"))]
    if count < examined:
        return messages, None
    if messages and len(messages) > 1 and messages[-1][0].message_id == last_id:
        return messages[:-1], messages[-2][0].message_id  # the last may have more than was looked at
    return messages, str(last_id)


def list_tries(tx: Transaction, *, before: tuple[int, str], examined: int, since_ms: int = 0) -> list[Try]:
    """Of all instances, the newest first; `instance_id` is None where the delivery is gone."""
    before_ms, before_id = before
    rows = tx.all(sql.list_tries, since_ms=since_ms, before_ms=before_ms, before_id=before_id, examined=examined)
    return [Try(*row) for row in rows]


def count_arrivals(
    tx: Transaction, instance_id: str, *, since_ms: int, examined: int
) -> tuple[list[tuple[int, str, int]], bool]:
    """Deliveries by minute since 1970 and state, and whether all of them were looked at."""
    since_id = first_id(since_ms)
    rows = tx.all(sql.count_arrivals, instance_id=instance_id, since_id=since_id, examined=examined)
    (seen,) = tx.one(sql.count_examined, since_id=since_id, examined=examined) or (0,)
    return [(minute, state, count) for minute, state, count in rows], seen < examined


def list_waiting(tx: Transaction, *, after_id: str, examined: int) -> list[Waiting]:
    """What is in the spool, of all instances."""
    return [Waiting(*row) for row in tx.all(sql.list_waiting, after_id=after_id, examined=examined)]


def count_waiting(tx: Transaction, instance_id: str, *, examined: int) -> list[tuple[str, str, int, int]]:
    """Transport, state, how many, and since when the oldest waits."""
    rows = tx.all(sql.count_waiting, instance_id=instance_id, now_ms=tx.now_ms, never_ms=NEVER_MS, examined=examined)
    return [(transport, state, count, oldest_ms) for transport, state, count, oldest_ms in rows]
