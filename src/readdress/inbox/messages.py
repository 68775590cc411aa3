"""Stored messages and their deliveries: written when mail is accepted, read by the API.

The content is kept in parts as it was received, so that a message of any size passes through little memory. Parts that
arrive before the message is accepted are staged: no reader sees them, and what is never accepted is swept.
"""

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from readdress.clock import first_id
from readdress.store.database import Row, Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "inbox.sql")

# Ids are hexadecimal, so this comes after every one of them.
_AFTER_EVERY_ID = "g"


class StagedContentSwept(Exception):
    """The sender took longer than staged content is kept; the message has to be sent again."""


# The reason of a delivery that somebody asked for, of a message that is in an inbox already.
RELEASED: Final = "RELEASED"


class Reason(NamedTuple):
    """Why a message is in an inbox: DIRECT, or ALIAS with the alias that forwarded it."""

    reason: str
    alias_id: str | None


class State(StrEnum):
    """How a delivery stands. Content stays while a delivery is in an inbox, waits or has failed."""

    DELIVERED = "DELIVERED"
    QUEUED = "QUEUED"
    FAILED = "FAILED"
    DISCARDED = "DISCARDED"
    DROPPED = "DROPPED"


class Message(NamedTuple):
    """A message as accepted; `trace` is what we put on top of it, `tls` the protocol's name or None.

    `body`, `smtputf8`, `ret` and `envelope_id` are what MAIL said; `verdicts` is JSON, "" where nothing was checked.
    """

    id: str
    received_ms: int
    sender: str
    subject: str
    size_bytes: int
    trace: str
    peer: str
    ehlo: str
    tls: str | None
    body: str = "8BITMIME"
    smtputf8: bool = False
    ret: str = ""
    envelope_id: str = ""
    verdicts: str = ""


class Notices(NamedTuple):
    """What a sender asked about a recipient (RFC 3461), as given; "" where nothing was asked."""

    recipient: str
    notify: str
    original: str


class Delivery(NamedTuple):
    """A message for an address, in its inbox or by a transport; `address` is None once the address is deleted.

    `next_hop` is the recipient to name where it goes on to.
    """

    id: str
    address_id: str
    message_id: str
    instance_id: str
    address: str | None
    recipients: list[str]
    reasons: list[Reason]
    transport: str
    state: State
    next_hop: str
    notices: list[Notices]

    @property
    def is_released(self) -> bool:
        return any(reason.reason == RELEASED for reason in self.reasons)


class InboxEntry(NamedTuple):
    message_id: str
    delivery_id: str
    sender: str
    recipients: list[str]
    reasons: list[Reason]
    subject: str
    size_bytes: int
    received_ms: int
    transport: str
    state: str


_Strings = msgspec.json.Decoder(list[str])
_Reasons = msgspec.json.Decoder(list[Reason])
_Notices = msgspec.json.Decoder(list[Notices])


def insert(tx: Transaction, message: Message) -> None:
    tx.send(sql.insert_message, **message._asdict())


def insert_delivery(tx: Transaction, delivery: Delivery) -> None:
    tx.send(
        sql.insert_delivery,
        address_id=delivery.address_id,
        id=delivery.id,
        message_id=delivery.message_id,
        instance_id=delivery.instance_id,
        recipients=msgspec.json.encode(delivery.recipients).decode(),
        reasons=msgspec.json.encode(delivery.reasons).decode(),
        transport=delivery.transport,
        state=delivery.state.value,
        next_hop=delivery.next_hop,
        notices=msgspec.json.encode(delivery.notices).decode() if delivery.notices else "",
    )


def set_state(tx: Transaction, delivery: Delivery, state: State, *, keeps_content: bool = False) -> None:
    """Content that no delivery needs any more goes with the last of them."""
    tx.lock(sql.lock_message, message_id=delivery.message_id)
    tx.send(
        sql.update_state,
        address_id=delivery.address_id,
        id=delivery.id,
        state=state.value,
        keeps_content=int(keeps_content),
    )
    if tx.one(sql.find_need_of_content, message_id=delivery.message_id) is None:
        tx.send(sql.delete_content, message_id=delivery.message_id)


def insert_content(tx: Transaction, *, message_id: str, part: int, content: bytes) -> None:
    tx.send(sql.insert_content, message_id=message_id, part=part, bytes=content)


def delete_content(tx: Transaction, message_id: str) -> None:
    tx.send(sql.delete_content, message_id=message_id)


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
        tx.send(sql.delete_content, message_id=message_id)


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


def list_settled(tx: Transaction, *, address_id: str, limit: int) -> list[tuple[str, str]]:
    """The ids of an address's deliveries that the spool does not hold, and of their messages, the oldest first."""
    return [(delivery, message) for delivery, message in tx.all(sql.list_settled, address_id=address_id, limit=limit)]


def delete_delivery(tx: Transaction, *, address_id: str, delivery_id: str, message_id: str) -> None:
    """The message and its content go with the last delivery that needs them."""
    tx.lock(sql.lock_message, message_id=message_id)
    tx.send(sql.delete_delivery, address_id=address_id, id=delivery_id)
    if tx.one(sql.find_need_of_content, message_id=message_id) is None:
        tx.send(sql.delete_content, message_id=message_id)
        tx.send(sql.delete_message, message_id=message_id)


def find(tx: Transaction, message_id: str) -> Message | None:
    row = tx.one(sql.find_message, id=message_id)
    return _message(row) if row else None


def list_since(tx: Transaction, since_ms: int, *, limit: int) -> list[Message]:
    """What came since then, the newest first."""
    return [_message(row) for row in tx.all(sql.list_messages, since_id=first_id(since_ms), limit=limit)]


def _message(row: Row) -> Message:
    return Message(*row)._replace(smtputf8=bool(row[10]))


def list_deliveries(tx: Transaction, message_id: str) -> list[Delivery]:
    """The message's deliveries, in all instances."""
    return [_delivery(row) for row in tx.all(sql.list_deliveries, message_id=message_id)]


def get_delivery(tx: Transaction, *, address_id: str, delivery_id: str) -> Delivery | None:
    row = tx.one(sql.get_delivery, address_id=address_id, id=delivery_id)
    return _delivery(row) if row else None


def _delivery(row: Row) -> Delivery:
    delivery_id, address_id, message_id, instance_id, address, recipients, reasons, transport, state, *rest = row
    next_hop, notices = rest
    return Delivery(
        delivery_id,
        address_id,
        message_id,
        instance_id,
        address,
        _Strings.decode(recipients),
        _Reasons.decode(reasons),
        transport,
        State(state),
        next_hop,
        _Notices.decode(notices) if notices else [],
    )


def content_of(tx: Transaction, message_id: str) -> bytes | None:
    """The bytes as received, without trace fields; None when they are not kept any more."""
    parts = tx.all(sql.list_content, message_id=message_id)
    return b"".join(part[0] for part in parts) if parts else None


def final_trace(message: Message, delivery: Delivery) -> str:
    """What a final delivery puts on top of the content (RFC 5321 §4.4, RFC 9228), our Received field included."""
    delivered_to = f"Delivered-To: {delivery.address or delivery.next_hop or delivery.address_id}\r\n"
    return f"Return-Path: <{message.sender}>\r\n{delivered_to}{_originally_to(delivery)}{message.trace}"


def onward_trace(message: Message, delivery: Delivery, recipient: str) -> str:
    """The same for a next host, which does the final delivery to `recipient` and says so by itself.

    Delivered-To is said only where another recipient stands for ours from here on: to a host that knows the same
    address it would be the mark of a loop (RFC 9228 §2). The delivery's id tells a second copy, which a lost reply may
    cause, from another mail.
    """
    is_forwarded = recipient != delivery.next_hop
    delivered_to = f"Delivered-To: {delivery.address or delivery.next_hop}\r\n" if is_forwarded else ""
    return f"{delivered_to}{_originally_to(delivery)}X-Readdress-Delivery-Id: {delivery.id}\r\n{message.trace}"


def _originally_to(delivery: Delivery) -> str:
    return "".join(f"X-Original-To: {recipient}\r\n" for recipient in delivery.recipients)


def list_passed_on(tx: Transaction, message_id: str) -> list[str]:
    """The ids of the addresses from which the message, if it is one of ours, went on to elsewhere."""
    return [address_id for (address_id,) in tx.all(sql.list_passed_on, message_id=message_id)]


def hold_content(tx: Transaction, message_id: str) -> bool:
    """Whether there is any, and then it stays until this transaction commits."""
    tx.lock(sql.lock_message, message_id=message_id)
    return tx.one(sql.find_part, message_id=message_id, part=0) is not None


def part_of(tx: Transaction, message_id: str, part: int) -> bytes | None:
    """A piece of the content, at most about 256 KiB; None past the last."""
    row = tx.one(sql.find_part, message_id=message_id, part=part)
    return row[0] if row else None


def find_in_inbox(tx: Transaction, *, address_id: str, message_id: str) -> bytes | None:
    """The message below our Received field, if it is in that inbox."""
    if tx.one(sql.find_delivery, message_id=message_id, address_id=address_id) is None:
        return None
    message, content = find(tx, message_id), content_of(tx, message_id)
    return message.trace.encode() + content if message and content is not None else None
