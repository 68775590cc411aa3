"""What happened to a message, in order: how it came, why it went where, every try, the alias changes around it."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from readdress.clock import MS_PER_DAY
from readdress.directory import aliases
from readdress.inbox.messages import Delivery, Message
from readdress.spool import queue
from readdress.store.database import Transaction

# Alias changes are told from this long before the message came.
BEFORE_MS: Final = MS_PER_DAY

RECEIVED = "RECEIVED"
ROUTED = "ROUTED"
ATTEMPTED = "ATTEMPTED"
ALIAS_CHANGED = "ALIAS_CHANGED"


class Event(NamedTuple):
    """One line; `delivery_id` is "" where the event is about all of the message."""

    at_ms: int
    event: str
    delivery_id: str
    detail: str


def build(tx: Transaction, message: Message, deliveries: Sequence[Delivery]) -> list[Event]:
    """The events of the message and of these of its deliveries, the earliest first."""
    secured = f" over {message.tls}" if message.tls else ""
    came = f"from <{message.sender}> by {message.peer} ({message.ehlo}){secured}, {message.size_bytes} bytes"
    events = [Event(message.received_ms, RECEIVED, "", came)]
    changes: set[aliases.Change] = set()
    for delivery in deliveries:
        events.append(Event(message.received_ms, ROUTED, delivery.id, _explain(delivery)))
        events += [_tell(attempt) for attempt in queue.list_attempts(tx, delivery.id)]
        changes.update(
            aliases.list_changes(tx, delivery.address_id, since_ms=message.received_ms - BEFORE_MS, until_ms=tx.now_ms)
        )
    events += [
        Event(change.at_ms, ALIAS_CHANGED, "", f"{change.alias_id} as alias of {change.primary_id}: {change.change}")
        for change in changes
    ]
    return sorted(events, key=lambda event: event.at_ms)


def _explain(delivery: Delivery) -> str:
    reasons = " and ".join(
        f"{reason.reason} of {reason.alias_id}" if reason.alias_id else reason.reason for reason in delivery.reasons
    )
    goal = delivery.address or delivery.address_id
    recipients = ", ".join(delivery.recipients)
    return f"{recipients} to {goal} ({reasons}) by {delivery.transport}: {delivery.state}"


def _tell(attempt: queue.Attempt) -> Event:
    at = f" at {attempt.remote}" if attempt.remote else ""
    secured = f" over {attempt.tls}" if attempt.tls else ""
    detail = f"try {attempt.number}{at}{secured}, {attempt.duration_ms} ms: {attempt.outcome}: {attempt.reply}"
    return Event(attempt.at_ms, ATTEMPTED, attempt.delivery_id, detail)
