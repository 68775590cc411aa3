"""Our own operations: what is in an inbox and why, the message as received, and where a mail would go now."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from readdress.api import paging, timeline
from readdress.api.access import Caller
from readdress.api.operation import Kind, Operations
from readdress.api.shapes import (
    NO_CONTROLS,
    Answer,
    EmailAddressId,
    InstanceId,
    MessageId,
    Request,
    Shape,
    WaitingRequest,
)
from readdress.clock import iso_8601
from readdress.directory import addresses, instances, routing
from readdress.errors import ResourceNotFoundException
from readdress.inbox import messages
from readdress.spool import queue
from readdress.store.database import Transaction

operations = Operations()

_INSTANCE = "/_readdress/instances/{InstanceId}"
_INBOX = f"{_INSTANCE}/email-addresses/{{EmailAddressId}}/messages"
_ADDRESS = "instance/{instance_id}/email-address/{email_address_id}"
LIST_PAGE_DEFAULT = 50
DELETED_MAX = 1_000  # in one transaction


class ListMessagesRequest(WaitingRequest):
    """With WaitMs the answer waits so long for MinResults messages, or one, unless the page is full before."""

    max_results: Annotated[int, Meta(ge=1, le=100)] | None = None
    min_results: Annotated[int, Meta(ge=1, le=100)] | None = None
    next_token: Annotated[str, Meta(min_length=1, max_length=2500)] | None = None

    def is_met(self, answer: "ListMessagesAnswer") -> bool:
        return len(answer.messages) >= (self.min_results or 1) or answer.next_token is not None


class Reason(Shape):
    """DIRECT, or ALIAS with the id of the alias that the mail was for."""

    reason: str
    alias_id: str | None = None


class MessageSummary(Shape):
    message_id: str
    delivery_id: str
    sender: str
    recipients: list[str]
    reasons: list[Reason]
    subject: str
    size_bytes: int
    received_timestamp: str
    transport: str
    state: str


class ListMessagesAnswer(Answer):
    messages: list[MessageSummary]
    next_token: str | None = None


class InboxRequest(Request):
    instance_id: InstanceId
    email_address_id: EmailAddressId


class DeleteMessagesAnswer(Answer):
    """How many are gone; `More` says that some are left for another call."""

    deleted: int
    more: bool


class MessageRequest(Request):
    instance_id: InstanceId
    message_id: MessageId


class Envelope(Shape):
    sender: str
    recipients: list[str]


class DeliveryDetail(Shape):
    delivery_id: str
    email_address_id: str
    recipients: list[str]
    reasons: list[Reason]
    transport: str
    state: str
    email_address: str | None = None


class TimelineEvent(Shape):
    """RECEIVED, ROUTED, ATTEMPTED or ALIAS_CHANGED, in a sentence."""

    timestamp: str
    event: str
    detail: str
    delivery_id: str | None = None


class Connection(Shape):
    """Where the mail came from: the peer's address, the name it gave, the TLS protocol if there was one."""

    peer: str
    ehlo: str
    tls: str | None = None


class GetMessageAnswer(Answer):
    """`Authentication` has what the checks of the sender found, where they were made: Spf, Dkim, Arc and Dmarc."""

    message_id: str
    received_timestamp: str
    subject: str
    size_bytes: int
    envelope: Envelope
    deliveries: list[DeliveryDetail]
    connection: Connection
    timeline: list[TimelineEvent]
    authentication: dict[str, Any] | None = None


class MessageContentRequest(MessageRequest):
    delivery_id: MessageId | None = None


class MessageContent(Answer):
    """The mail itself: in REST the body of the answer, as message/rfc822."""

    content: bytes


class ResolveRecipientRequest(Request):
    instance_id: InstanceId
    recipient: Annotated[str, Meta(min_length=1, max_length=320), NO_CONTROLS]


class Reply(Shape):
    code: int
    enhanced_code: str
    text: str


class Destination(Shape):
    email_address_id: str
    email_address: str
    reason: str
    alias_id: str | None = None
    transport: str | None = None


class ResolveRecipientAnswer(Answer):
    recipient: str
    accepted: bool
    reply: Reply
    destinations: list[Destination]


@operations.declare(
    f"GET {_INBOX}?maxResults={{MaxResults}}&nextToken={{NextToken}}&waitMs={{WaitMs}}&minResults={{MinResults}}",
    kind=Kind.SCAN,
    resources=[_ADDRESS],
)
def list_messages(tx: Transaction, caller: Caller, request: ListMessagesRequest) -> ListMessagesAnswer:
    """What is in the address's inbox, newest first."""
    address = addresses.get(
        tx,
        account=caller.scope.account,
        instance_id=request.instance_id,
        address_id=request.email_address_id,
    )
    before_id = paging.decode_token(request.next_token, "messages", address.id)
    page = request.max_results or LIST_PAGE_DEFAULT
    found = messages.list_inbox(tx, address_id=address.id, before_id=before_id, limit=page + 1)
    next_token = paging.encode_token(found[page - 1].delivery_id, "messages", address.id) if len(found) > page else None
    return ListMessagesAnswer(
        messages=[
            MessageSummary(
                message_id=entry.message_id,
                delivery_id=entry.delivery_id,
                sender=entry.sender,
                recipients=entry.recipients,
                reasons=_reasons(entry.reasons),
                subject=entry.subject,
                size_bytes=entry.size_bytes,
                received_timestamp=iso_8601(entry.received_ms),
                transport=entry.transport,
                state=entry.state,
            )
            for entry in found[:page]
        ],
        next_token=next_token,
    )


@operations.declare(f"DELETE {_INBOX}", kind=Kind.WRITE, resources=[_ADDRESS])
def delete_messages(tx: Transaction, caller: Caller, request: InboxRequest) -> DeleteMessagesAnswer:
    """Empty the address's inbox, other inboxes keeping what they have; what is in the spool stays."""
    address = addresses.get(
        tx,
        account=caller.scope.account,
        instance_id=request.instance_id,
        address_id=request.email_address_id,
    )
    settled = messages.list_settled(tx, address_id=address.id, limit=DELETED_MAX + 1)
    for delivery_id, message_id in settled[:DELETED_MAX]:
        queue.delete_attempts(tx, delivery_id)
        messages.delete_delivery(tx, address_id=address.id, delivery_id=delivery_id, message_id=message_id)
    return DeleteMessagesAnswer(deleted=min(len(settled), DELETED_MAX), more=len(settled) > DELETED_MAX)


@operations.declare(f"GET {_INSTANCE}/messages/{{MessageId}}", kind=Kind.SCAN, resources=["instance/{instance_id}"])
def get_message(tx: Transaction, caller: Caller, request: MessageRequest) -> GetMessageAnswer:
    """The message's envelope, every delivery in the instance and why, where it came from, and what happened to it."""
    message, deliveries = _get(tx, caller, request)
    came = [delivery for delivery in deliveries if not delivery.is_released]
    recipients = dict.fromkeys(recipient for delivery in came for recipient in delivery.recipients)
    return GetMessageAnswer(
        message_id=message.id,
        received_timestamp=iso_8601(message.received_ms),
        subject=message.subject,
        size_bytes=message.size_bytes,
        envelope=Envelope(sender=message.sender, recipients=list(recipients)),
        deliveries=[
            DeliveryDetail(
                delivery_id=delivery.id,
                email_address_id=delivery.address_id,
                email_address=delivery.address,
                recipients=delivery.recipients,
                reasons=_reasons(delivery.reasons),
                transport=delivery.transport,
                state=delivery.state,
            )
            for delivery in deliveries
        ],
        connection=Connection(peer=message.peer, ehlo=message.ehlo, tls=message.tls),
        timeline=[
            TimelineEvent(
                timestamp=iso_8601(event.at_ms),
                event=event.event,
                detail=event.detail,
                delivery_id=event.delivery_id or None,
            )
            for event in timeline.build(tx, message, deliveries)
        ],
        authentication=msgspec.json.decode(message.verdicts) if message.verdicts else None,
    )


@operations.declare(
    f"GET {_INSTANCE}/messages/{{MessageId}}/content?deliveryId={{DeliveryId}}",
    kind=Kind.SCAN,
    resources=["instance/{instance_id}"],
)
def get_message_content(tx: Transaction, caller: Caller, request: MessageContentRequest) -> MessageContent:
    """The bytes as received below our Received field; with a delivery, below that delivery's trace fields too."""
    message, deliveries = _get(tx, caller, request)
    trace = message.trace
    if request.delivery_id:
        chosen = next((delivery for delivery in deliveries if delivery.id == request.delivery_id), None)
        if chosen is None:
            raise ResourceNotFoundException(
                f"The message {message.id} has no delivery {request.delivery_id} in this instance."
            )
        trace = messages.final_trace(message, chosen)
    content = messages.content_of(tx, message.id)
    if content is None:
        raise ResourceNotFoundException(
            f"The content of the message {message.id} is not kept: it was passed on or discarded. "
            "A transport with keep_content keeps it."
        )
    return MessageContent(content=trace.encode() + content)


@operations.declare(
    f"GET {_INSTANCE}/resolve?recipient={{Recipient}}",
    kind=Kind.READ,
    resources=["instance/{instance_id}"],
)
def resolve_recipient(tx: Transaction, caller: Caller, request: ResolveRecipientRequest) -> ResolveRecipientAnswer:
    """Where a mail for the recipient would go now and why, with the reply that SMTP would give."""
    instances.get(tx, account=caller.scope.account, instance_id=request.instance_id)
    route = routing.route_text(tx, request.recipient)
    return ResolveRecipientAnswer(
        recipient=request.recipient,
        accepted=route.reply.is_positive,
        reply=Reply(code=route.reply.code, enhanced_code=route.reply.enhanced, text=route.reply.text),
        destinations=[
            Destination(
                email_address_id=destination.address_id,
                email_address=destination.address,
                reason=destination.reason,
                alias_id=destination.alias_id,
                transport=destination.transport or None,
            )
            for destination in route.destinations
            if destination.instance_id == request.instance_id
        ],
    )


def _get(tx: Transaction, caller: Caller, request: MessageRequest) -> tuple[messages.Message, list[messages.Delivery]]:
    instances.get(tx, account=caller.scope.account, instance_id=request.instance_id)
    deliveries = list_own_deliveries(tx, request)
    message = messages.find(tx, request.message_id)
    if message is None:
        raise _missing(request)
    return message, deliveries


def list_own_deliveries(tx: Transaction, request: MessageRequest) -> list[messages.Delivery]:
    """The message's in the instance; those of others are nobody's business here. Raises ResourceNotFoundException."""
    deliveries = [
        delivery
        for delivery in messages.list_deliveries(tx, request.message_id)
        if delivery.instance_id == request.instance_id
    ]
    if not deliveries:
        raise _missing(request)
    return deliveries


def _missing(request: MessageRequest) -> ResourceNotFoundException:
    return ResourceNotFoundException(
        f"The message {request.message_id} does not exist in instance {request.instance_id}."
    )


def _reasons(reasons: list[messages.Reason]) -> list[Reason]:
    return [Reason(reason=reason, alias_id=alias_id) for reason, alias_id in reasons]
