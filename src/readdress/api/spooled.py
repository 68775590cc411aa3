"""What an operator may do: a delivery that waits or has failed gets another try, or none; a message goes on as well."""

from readdress.clock import new_id
from readdress.inbox import messages
from readdress.inbox.messages import RELEASED, Delivery, Notices, Reason, State
from readdress.spool import queue
from readdress.store.database import Transaction

DROPPED = "DROPPED"


def retry(tx: Transaction, delivery_id: str) -> bool:
    """Due now, with all its time before it again; False where the spool has no such delivery."""
    entry = queue.find(tx, delivery_id)
    if entry is None:
        return False
    queue.restart(tx, entry)
    _set_state(tx, entry, State.QUEUED)
    return True


def drop(tx: Transaction, delivery_id: str, reason: str = "") -> bool:
    """Given up, without a notice to the sender, the last try saying why; False where the spool has no such delivery."""
    entry = queue.find(tx, delivery_id)
    if entry is None:
        return False
    queue.settle(tx, delivery_id)
    queue.record_attempt(
        tx,
        queue.Attempt(
            delivery_id=delivery_id,
            number=entry.attempts + 1,
            at_ms=tx.now_ms,
            duration_ms=0,
            outcome=DROPPED,
            remote="",
            tls="",
            reply=f"by an operator: {reason}" if reason else "by an operator",
            address_id=entry.address_id,
        ),
    )
    _set_state(tx, entry, State.DROPPED)
    return True


def release(tx: Transaction, kept: Delivery, *, recipient: str, transport: str) -> str | None:
    """Another delivery of the message, to the recipient; its id, or None where the content is gone."""
    if not messages.hold_content(tx, kept.message_id):
        return None
    delivery = kept._replace(
        id=new_id(),
        recipients=[recipient],
        reasons=[Reason(RELEASED, None)],
        transport=transport,
        state=State.QUEUED,
        next_hop=recipient,
        notices=[Notices(recipient, "NEVER", "")],
    )
    messages.insert_delivery(tx, delivery)
    queue.enqueue(
        tx,
        delivery_id=delivery.id,
        address_id=delivery.address_id,
        message_id=delivery.message_id,
        transport=transport,
    )
    return delivery.id


def _set_state(tx: Transaction, entry: queue.Entry, state: State) -> None:
    delivery = messages.get_delivery(tx, address_id=entry.address_id, delivery_id=entry.delivery_id)
    if delivery:
        messages.set_state(tx, delivery, state)
