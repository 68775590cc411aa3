"""Our own operations on what goes on from an instance: what waits is seen, tried again, dropped; a mail is released."""

from typing import Annotated

from msgspec import Meta

from readdress.api import paging, recent, spooled
from readdress.api.access import Caller
from readdress.api.messages import MessageRequest, list_own_deliveries
from readdress.api.operation import Kind, Operations
from readdress.api.shapes import (
    NO_CONTROLS,
    Answer,
    ClientToken,
    Empty,
    InstanceId,
    MessageId,
    Request,
    Shape,
)
from readdress.clock import iso_8601
from readdress.directory import instances, settings
from readdress.errors import IdempotencyException, InvalidParameterException, ResourceNotFoundException
from readdress.inbox import messages
from readdress.smtp.grammar import parse_mailbox
from readdress.spool import queue
from readdress.store.database import Transaction

operations = Operations()

_INSTANCE = "/_readdress/instances/{InstanceId}"
_SPOOL = f"{_INSTANCE}/spool"
PAGE_DEFAULT = 50
# Entries of all instances that one answer looks at.
EXAMINED_MAX = 2_000


class ListSpoolRequest(Request):
    """A page may be short, or empty, and yet have a NextToken: what other instances have lies between."""

    instance_id: InstanceId
    max_results: Annotated[int, Meta(ge=1, le=100)] | None = None
    next_token: Annotated[str, Meta(min_length=1, max_length=2500)] | None = None


class SpooledDelivery(Shape):
    """DUE, WAITING for DueTimestamp, being TRYING, or FAILED, which has none."""

    delivery_id: str
    message_id: str
    email_address_id: str
    transport: str
    state: str
    attempts: int
    queued_timestamp: str
    due_timestamp: str | None = None
    email_address: str | None = None
    last_reply: str | None = None


class ListSpoolAnswer(Answer):
    deliveries: list[SpooledDelivery]
    next_token: str | None = None


class DeliveryRequest(Request):
    instance_id: InstanceId
    delivery_id: MessageId


class DropDeliveryRequest(DeliveryRequest):
    """Reason is for people, and stays with what is told of the message."""

    reason: Annotated[str, Meta(min_length=1, max_length=256), NO_CONTROLS] | None = None


class ReleaseMessageRequest(MessageRequest):
    """Transport may be left out where there is only one; a repeated ClientToken releases once."""

    recipient: Annotated[str, Meta(min_length=1, max_length=320), NO_CONTROLS]
    transport: Annotated[str, Meta(min_length=1, max_length=100), NO_CONTROLS] | None = None
    client_token: ClientToken | None = None


class ReleaseMessageAnswer(Answer):
    """The delivery is in the spool, and stays in the inbox."""

    delivery_id: str
    transport: str


@operations.declare(
    f"GET {_SPOOL}?maxResults={{MaxResults}}&nextToken={{NextToken}}",
    kind=Kind.SCAN,
    resources=["instance/{instance_id}"],
)
def list_spool(tx: Transaction, caller: Caller, request: ListSpoolRequest) -> ListSpoolAnswer:
    """What waits or has failed, in the order in which it came."""
    instances.get(tx, account=caller.scope.account, instance_id=request.instance_id)
    page = request.max_results or PAGE_DEFAULT
    after_id = paging.decode_token(request.next_token, "spool", request.instance_id) or ""
    seen = recent.list_waiting(tx, after_id=after_id, examined=EXAMINED_MAX)
    own = [entry for entry in seen if entry.instance_id == request.instance_id]
    shown = own[:page]
    goes_on_after = shown[-1].delivery_id if len(own) > page else seen[-1].delivery_id if seen else ""
    is_last = len(own) <= page and len(seen) < EXAMINED_MAX
    return ListSpoolAnswer(
        deliveries=[_describe(tx, entry) for entry in shown],
        next_token=None if is_last else paging.encode_token(goes_on_after, "spool", request.instance_id),
    )


@operations.declare(f"POST {_SPOOL}/{{DeliveryId}}/retry", kind=Kind.WRITE, resources=["instance/{instance_id}"])
def retry_delivery(tx: Transaction, caller: Caller, request: DeliveryRequest) -> Empty:
    """Due now, with all its time before it again."""
    spooled.retry(tx, _find(tx, caller, request))
    return Empty()


@operations.declare(
    f"DELETE {_SPOOL}/{{DeliveryId}}?reason={{Reason}}", kind=Kind.WRITE, resources=["instance/{instance_id}"]
)
def drop_delivery(tx: Transaction, caller: Caller, request: DropDeliveryRequest) -> Empty:
    """Given up, without a notice to the sender."""
    spooled.drop(tx, _find(tx, caller, request), request.reason or "")
    return Empty()


@operations.declare(
    f"POST {_INSTANCE}/messages/{{MessageId}}/release"
    "?recipient={Recipient}&transport={Transport}&clientToken={ClientToken}",
    IdempotencyException,
    kind=Kind.WRITE,
    resources=["instance/{instance_id}"],
)
def release_message(tx: Transaction, caller: Caller, request: ReleaseMessageRequest) -> ReleaseMessageAnswer:
    """Send a message that is in an inbox on to a real address, as it came; its sender hears nothing of that."""
    instances.get(tx, account=caller.scope.account, instance_id=request.instance_id)
    transport = _choose_transport(request.transport, caller)
    if parse_mailbox(request.recipient) is None:
        raise InvalidParameterException(f"Recipient: {request.recipient} is no mailbox that mail can be sent to.")
    kept = list_own_deliveries(tx, request)
    delivery_id = spooled.release(tx, kept[0], recipient=request.recipient, transport=transport)
    if delivery_id is None:
        raise ResourceNotFoundException(
            f"The content of the message {request.message_id} is not kept: it was passed on or discarded."
        )
    return ReleaseMessageAnswer(delivery_id=delivery_id, transport=transport)


def _choose_transport(name: str | None, caller: Caller) -> str:
    ways = sorted(caller.transports - {settings.INBOX, settings.DISCARD})
    if name in ways:
        return name
    if name is None and len(ways) == 1:
        return ways[0]
    known = f"It has to be one of {', '.join(ways)}." if ways else "The configuration has none: add one first."
    raise InvalidParameterException(f"Transport: {name or 'nothing'} does not name a transport. {known}")


def _find(tx: Transaction, caller: Caller, request: DeliveryRequest) -> str:
    """The delivery's id, once it is sure that the instance has it in the spool."""
    instances.get(tx, account=caller.scope.account, instance_id=request.instance_id)
    entry = queue.find(tx, request.delivery_id)
    delivery = entry and messages.get_delivery(tx, address_id=entry.address_id, delivery_id=entry.delivery_id)
    if not delivery or delivery.instance_id != request.instance_id:
        raise ResourceNotFoundException(
            f"The spool of instance {request.instance_id} has no delivery {request.delivery_id}. ListSpool shows them."
        )
    return delivery.id


def _describe(tx: Transaction, entry: recent.Waiting) -> SpooledDelivery:
    attempts = queue.list_attempts(tx, entry.delivery_id)
    state = entry.state(tx.now_ms)
    return SpooledDelivery(
        delivery_id=entry.delivery_id,
        message_id=entry.message_id,
        email_address_id=entry.address_id,
        email_address=entry.address,
        transport=entry.transport,
        state=state,
        attempts=entry.attempts,
        queued_timestamp=iso_8601(entry.queued_ms),
        due_timestamp=None if state == "FAILED" else iso_8601(entry.due_ms),
        last_reply=attempts[-1].reply if attempts else None,
    )
