"""From routes to deliveries: every address once, into its inbox at once or into the spool, in the caller's transaction.

Also how mail of our own comes to be: a notice to a sender is a message like any other, and goes the same ways.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from readdress.address import split_address
from readdress.clock import new_id
from readdress.directory import routing, settings
from readdress.inbox import messages
from readdress.inbox.messages import Delivery, Message, Notices, Reason, State
from readdress.smtp.session import Recipient
from readdress.spool import queue
from readdress.store.database import Transaction

# The transport of what goes back to senders elsewhere; the configuration says which of its transports that is.
RETURN: Final = routing.RETURN


@dataclass
class Arrival:
    """What leads to one destination: the recipients as given, and why."""

    destination: routing.Destination
    recipients: list[str] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    notices: list[Notices] = field(default_factory=list)


def arrivals(routes: Iterable[tuple[Recipient, routing.Route]]) -> list[Arrival]:
    """Every destination once, whatever leads to it (contract 6)."""
    found: dict[tuple[str, str], Arrival] = {}
    for recipient, route in routes:
        for destination in route.destinations:
            key = (destination.address_id, destination.address)
            arrival = found.setdefault(key, Arrival(destination))
            reason = Reason(destination.reason, destination.alias_id)
            if recipient.path.text not in arrival.recipients:
                arrival.recipients.append(recipient.path.text)
                if recipient.notify or recipient.original:
                    notices = Notices(recipient.path.text, recipient.notify, recipient.original)
                    arrival.notices.append(notices)
            if reason not in arrival.reasons:
                arrival.reasons.append(reason)
    return list(found.values())


class Dispatcher:
    """Makes deliveries; `default_transport` is for addresses that have not chosen one."""

    def __init__(self, *, default_transport: str = settings.INBOX, can_return: bool = False) -> None:
        self.can_return = can_return
        self._default_transport = default_transport

    def transport_of(self, destination: routing.Destination) -> str:
        return destination.transport or self._default_transport

    def deliver(self, tx: Transaction, message_id: str, arrived: Sequence[Arrival]) -> list[Delivery]:
        """One delivery for each, and a place in the spool for those that go on from here."""
        return [self._deliver(tx, message_id, arrival) for arrival in arrived]

    def _deliver(self, tx: Transaction, message_id: str, arrival: Arrival) -> Delivery:
        destination = arrival.destination
        transport = self.transport_of(destination)
        state = _FIRST_STATES.get(transport, State.QUEUED)
        delivery = Delivery(
            id=new_id(),
            address_id=destination.address_id,
            message_id=message_id,
            instance_id=destination.instance_id,
            address=destination.address,
            recipients=arrival.recipients,
            reasons=arrival.reasons,
            transport=transport,
            state=state,
            next_hop=destination.next_hop if state is State.QUEUED else "",
            notices=arrival.notices,
        )
        messages.insert_delivery(tx, delivery)
        if state is State.QUEUED:
            queue.enqueue(
                tx,
                delivery_id=delivery.id,
                address_id=delivery.address_id,
                message_id=message_id,
                transport=transport,
            )
        return delivery

    def post(self, tx: Transaction, message: Message, content: bytes, recipient: Recipient) -> bool:
        """Store a message of our own and deliver it; False where no way leads to the recipient."""
        address = recipient.path.address
        if address is None:
            return False
        route = routing.route(tx, address)
        destinations = route.destinations
        if not routing.is_local(tx, address.domain) and self.can_return:
            destinations = (routing.return_to(recipient.path.text),)
        if not destinations:
            return False
        messages.insert(tx, message)
        messages.insert_content(tx, message_id=message.id, part=0, content=content)
        self.deliver(tx, message.id, arrivals([(recipient, routing.Route(destinations, route.reply))]))
        return True


_FIRST_STATES: Final[Mapping[str, State]] = {
    settings.INBOX: State.DELIVERED,
    settings.DISCARD: State.DISCARDED,
}


def passed_on_before(tx: Transaction, received_ids: Iterable[str]) -> set[str]:
    """The ids of the addresses from which mail went on that has come back, by the ids in its Received fields."""
    return {address_id for received_id in received_ids for address_id in messages.list_passed_on(tx, received_id)}


def is_looping(destination: routing.Destination, *, delivered_to: Collection[str], passed_on: Collection[str]) -> bool:
    """Whether the message was at the very address before: by the keys of its Delivered-To fields, or by ourselves."""
    return destination.address_id in passed_on or split_address(destination.address).key in delivered_to
