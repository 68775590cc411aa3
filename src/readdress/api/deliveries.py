"""Our own operations on what waits to go on from an instance, or has failed there: seen, tried again, given up."""

from typing import Annotated

from msgspec import Meta

from readdress.api import paging, recent, spooled
from readdress.api.access import Caller
from readdress.api.operation import Kind, Operations
from readdress.api.shapes import NO_CONTROLS, Answer, Empty, InstanceId, MessageId, Request, Shape
from readdress.clock import iso_8601
from readdress.directory import instances
from readdress.errors import ResourceNotFoundException
from readdress.inbox import messages
from readdress.spool import queue
from readdress.store.database import Transaction

operations = Operations()

_SPOOL = "/_readdress/instances/{InstanceId}/spool"
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
    has_failed = entry.due_ms == queue.NEVER_MS
    return SpooledDelivery(
        delivery_id=entry.delivery_id,
        message_id=entry.message_id,
        email_address_id=entry.address_id,
        email_address=entry.address,
        transport=entry.transport,
        state=entry.state(tx.now_ms),
        attempts=entry.attempts,
        queued_timestamp=iso_8601(entry.queued_ms),
        due_timestamp=None if has_failed else iso_8601(entry.due_ms),
        last_reply=attempts[-1].reply if attempts else None,
    )
