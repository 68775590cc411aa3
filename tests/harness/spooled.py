"""A delivery that waits, put there without a connection."""

from readdress.inbox import messages
from readdress.spool import queue
from readdress.store.database import Transaction

CONTENT = b"Subject: waits\r\n\r\n"


def put_in_spool(tx: Transaction, *, instance_id: str, address_id: str, delivery_id: str) -> None:
    """By the transport `relay`; the message is called like its delivery."""
    size = len(CONTENT)
    messages.insert(tx, messages.Message(delivery_id, tx.now_ms, "a@example.org", "waits", size, "", "", "", None))
    messages.insert_content(tx, message_id=delivery_id, part=0, content=CONTENT)
    state = messages.State.QUEUED
    delivery = messages.Delivery(
        delivery_id, address_id, delivery_id, instance_id, None, [], [], "relay", state, "", []
    )  # fmt: skip
    messages.insert_delivery(tx, delivery)
    queue.enqueue(tx, delivery_id=delivery_id, address_id=address_id, message_id=delivery_id, transport="relay")
