"""Stored messages and their deliveries: written when mail is accepted, read by the API.

The content is kept in parts as it was received, so that a message of any size passes through little memory. Parts that
arrive before the message is accepted are staged: no reader sees them, and what is never accepted is swept.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from readdress.store.database import Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "inbox.sql")

# Ids are hexadecimal, so this comes after every one of them.
_AFTER_EVERY_ID = "g"


class StagedContentSwept(Exception):
    """The sender took longer than staged content is kept; the message has to be sent again."""


class Reason(NamedTuple):
    """Why a message is in an inbox: DIRECT, or ALIAS with the alias that forwarded it."""

    reason: str
    alias_id: str | None


class Message(NamedTuple):
    """A message as accepted; `trace` is our Received field, `tls` the protocol's name or None."""

    id: str
    received_ms: int
    sender: str
    subject: str
    size_bytes: int
    trace: str
    peer: str
    ehlo: str
    tls: str | None


class Delivery(NamedTuple):
    """A message in an inbox; `address` is None once the email address is deleted."""

    id: str
    address_id: str
    address: str | None
    recipients: list[str]
    reasons: list[Reason]


class InboxEntry(NamedTuple):
    message_id: str
    delivery_id: str
    sender: str
    recipients: list[str]
    reasons: list[Reason]
    subject: str
    size_bytes: int
    received_ms: int


_Strings = msgspec.json.Decoder(list[str])
_Reasons = msgspec.json.Decoder(list[Reason])


def insert(tx: Transaction, message: Message) -> None:
    tx.execute(sql.insert_message, **message._asdict())


def insert_delivery(
    tx: Transaction,
    *,
    delivery_id: str,
    message_id: str,
    address_id: str,
    instance_id: str,
    recipients: Sequence[str],
    reasons: Sequence[Reason],
) -> None:
    tx.execute(
        sql.insert_delivery,
        address_id=address_id,
        id=delivery_id,
        message_id=message_id,
        instance_id=instance_id,
        recipients=msgspec.json.encode(recipients).decode(),
        reasons=msgspec.json.encode(reasons).decode(),
    )


def insert_content(tx: Transaction, *, message_id: str, part: int, content: bytes) -> None:
    tx.execute(sql.insert_content, message_id=message_id, part=part, bytes=content)


def stage_content(tx: Transaction, *, message_id: str, part: int, content: bytes, expires_ms: int) -> None:
    """Keep a part of a message that is still on its way; it is swept after `expires_ms`.

    Raises StagedContentSwept when that time was over for the parts before.
    """
    query = sql.prolong_staging if part else sql.begin_staging
    if not tx.execute(query, message_id=message_id, expires_ms=expires_ms):
        raise StagedContentSwept
    insert_content(tx, message_id=message_id, part=part, content=content)


def unstage_content(tx: Transaction, message_id: str) -> None:
    """The staged parts are the message's now. Raises StagedContentSwept when their time was over."""
    if not tx.execute(sql.end_staging, message_id=message_id):
        raise StagedContentSwept


def drop_staged(tx: Transaction, message_id: str) -> None:
    """The message will not be accepted."""
    if tx.execute(sql.end_staging, message_id=message_id):
        tx.execute(sql.delete_content, message_id=message_id)


def sweep_staged(tx: Transaction, *, limit: int = 10) -> int:
    """Drop what broken connections left behind, `limit` messages at most; how many there were."""
    expired = tx.all(sql.list_expired_staging, now_ms=tx.now_ms, limit=limit)
    for (message_id,) in expired:
        drop_staged(tx, message_id)
    return len(expired)


def list_inbox(tx: Transaction, *, address_id: str, before_id: str | None, limit: int) -> list[InboxEntry]:
    """The newest deliveries first, those before `before_id`."""
    rows = tx.all(sql.list_inbox, address_id=address_id, before_id=before_id or _AFTER_EVERY_ID, limit=limit)
    return [
        InboxEntry(message, delivery, sender, _Strings.decode(recipients), _Reasons.decode(reasons), *rest)
        for message, delivery, sender, recipients, reasons, *rest in rows
    ]


def find(tx: Transaction, message_id: str) -> Message | None:
    row = tx.one(sql.find_message, id=message_id)
    return Message(*row) if row else None


def list_deliveries(tx: Transaction, *, message_id: str, instance_id: str) -> list[Delivery]:
    """The message's deliveries in one instance; those in others are nobody's business here."""
    rows = tx.all(sql.list_deliveries, message_id=message_id, instance_id=instance_id)
    return [
        Delivery(delivery_id, address_id, address, _Strings.decode(recipients), _Reasons.decode(reasons))
        for delivery_id, address_id, address, recipients, reasons in rows
    ]


def content_of(tx: Transaction, message_id: str) -> bytes:
    """The bytes as received, without trace fields."""
    return b"".join(row[0] for row in tx.all(sql.list_content, message_id=message_id))


def find_in_inbox(tx: Transaction, *, address_id: str, message_id: str) -> bytes | None:
    """The message below our Received field, if it is in that inbox."""
    if tx.one(sql.find_delivery, message_id=message_id, address_id=address_id) is None:
        return None
    message = find(tx, message_id)
    return message.trace.encode() + content_of(tx, message_id) if message else None
