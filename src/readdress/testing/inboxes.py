"""Inboxes as tests look into them: read beside the API, so that neither faults nor policies are in the way."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from readdress.address import split_address
from readdress.directory import routing
from readdress.inbox import messages
from readdress.store.queries import load_queries
from readdress.testing.mail import MailMissing, Message
from readdress.testing.running import CALL_S_MAX, RunningService

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from readdress.store.database import Transaction

__tracebackhide__ = True  # what fails here is the test's affair: pytest shows the line in the test

sql = load_queries(__package__, "testing.sql")

MESSAGES_MAX = 10_000


def find_address(tx: Transaction, address: str) -> str | None:
    """The id of a published address, whether or not it takes mail now."""
    row = tx.one(sql.find_address, address_key=split_address(address).key)
    return row[0] if row else None


def list_messages(tx: Transaction, address_id: str) -> list[Message]:
    """What is in the inbox, the oldest first."""
    entries = messages.list_inbox(tx, address_id=address_id, before_id=None, limit=MESSAGES_MAX)
    return [
        Message(
            id=entry.message_id,
            sender=entry.sender,
            recipients=tuple(entry.recipients),
            reasons=tuple(reason.reason for reason in entry.reasons),
            subject=entry.subject,
            received=datetime.fromtimestamp(entry.received_ms / 1000, UTC),
            raw=messages.content_of(tx, entry.message_id) or b"",
        )
        for entry in reversed(entries)
    ]


def read(running: RunningService, instance_id: str, address: str) -> list[Message]:
    """Raises MailMissing for an address that nobody has published."""
    address_id = _get_address(running, instance_id, address)
    return running.look(lambda tx: list_messages(tx, address_id))


def wait_for(
    running: RunningService,
    instance_id: str,
    address: str,
    *,
    count: int,
    timeout_s: float,
    matching: Callable[[Message], bool],
) -> list[Message]:
    """The messages that match, once there are so many; woken by the commit that brings one. Raises MailMissing."""
    address_id = _get_address(running, instance_id, address)
    deadline = time.monotonic() + timeout_s
    known = -1
    while True:
        found = _look_past(running, address_id, known, timeout_s=max(0.0, deadline - time.monotonic()))
        matched = [message for message in found if matching(message)]
        if len(matched) >= count:
            return matched
        if time.monotonic() >= deadline:
            wanted = f"{count} message{'s' * (count != 1)}"
            raise MailMissing(
                f"waited {timeout_s:g} s for {wanted} to {address}; "
                f"{len(matched)} of {len(found)} in its inbox match.\n"
                f"{_shown(found)}\n{running.look(lambda tx: where(tx, address))}"
            )
        known = len(found)


def _look_past(running: RunningService, address_id: str, known: int, *, timeout_s: float) -> list[Message]:
    """What is in the inbox, as soon as it is more than is known, or when the time is over."""
    service = running.service

    def look() -> Coroutine[Any, Any, list[Message]]:
        return service.database.scan(lambda tx: list_messages(tx, address_id))

    waiting = service.arrivals.look_until(address_id, look, lambda found: len(found) > known, timeout_s=timeout_s)
    return running.wait(waiting, timeout_s=timeout_s + CALL_S_MAX)


def where(tx: Transaction, address: str) -> str:
    """Where a mail for the address would go now, for people."""
    route = routing.route_text(tx, address)
    if not route.destinations:
        return f"A mail for {address} would now be refused: {route.reply}"
    lines = [f"  {found.address} ({found.reason})" for found in route.destinations]
    return "\n".join([f"A mail for {address} would now go to:", *lines])


def _get_address(running: RunningService, instance_id: str, address: str) -> str:
    address_id = running.look(lambda tx: find_address(tx, address))
    if address_id is None:
        published = running.look(lambda tx: [row[0] for row in tx.all(sql.list_addresses, instance_id=instance_id)])
        raise MailMissing(
            f"{address} has no inbox, for nobody has published it: create it with the API, or with "
            f"readdress.publish. The test's instance has: {', '.join(published) or 'no address'}.\n"
            f"{running.look(lambda tx: where(tx, address))}"
        )
    return address_id


def _shown(found: list[Message]) -> str:
    if not found:
        return "The inbox is empty."
    return "\n".join(["The inbox has:", *(f"  {message}" for message in found)])
