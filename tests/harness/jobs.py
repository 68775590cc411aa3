"""Deliveries to try, as the runner of the queue hands them to a transport, and mail that is accepted without a wire."""

from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

from readdress.clock import new_id
from readdress.inbox.messages import Delivery, Message, Reason, State
from readdress.mail.intake import Intake
from readdress.mail.transports import Job
from readdress.smtp import grammar
from readdress.smtp.grammar import Path
from readdress.smtp.server import Peer
from readdress.smtp.session import Body, Envelope, Recipient

RECEIVED_MS = 1_767_225_600_000
CONTENT = b"Subject: hello\r\nFrom: Ann <ann@sender.example>\r\n\r\nbody\r\n.\r\n"
PEER = Peer("192.0.2.7", "sender.example", "ESMTP")
PIECE_BYTES = 65_536


def make_job(content: bytes = CONTENT, *, attempt: int = 1, delivery: Delivery | None = None, **changes: Any) -> Job:
    """A mail for help@example.com; `changes` are to its message."""
    message = Message(
        id=new_id(),
        received_ms=RECEIVED_MS,
        sender="ann@sender.example",
        subject="hello",
        size_bytes=len(content),
        trace="Received: from sender.example ([192.0.2.7])\r\n\tby mx.example with ESMTP id 1\r\n",
        peer=PEER.address,
        ehlo=PEER.ehlo,
        tls=None,
    )._replace(**changes)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), PIECE_BYTES):
            yield content[at : at + PIECE_BYTES]

    return Job(delivery or make_delivery(message.id), message, attempt, pieces)


def make_delivery(message_id: str, **changes: Any) -> Delivery:
    return Delivery(
        id=new_id(),
        address_id="11111111-1111-7111-8111-111111111111",
        message_id=message_id,
        instance_id="22222222-2222-7222-8222-222222222222",
        address="help@example.com",
        recipients=["Help@example.com"],
        reasons=[Reason("DIRECT", None)],
        transport="desk",
        state=State.QUEUED,
        next_hop="help@example.com",
        notices=[],
    )._replace(**changes)


async def accept(
    intake: Intake,
    *recipients: str | Recipient,
    sender: str = "ann@sender.example",
    pieces: Iterable[bytes] = (CONTENT,),
    body: str = "8BITMIME",
    smtputf8: bool = False,
    ret: str = "",
    envelope_id: str = "",
) -> str:
    """The id of the message, which every recipient has got or will get."""
    envelope = Envelope(_path(sender), smtputf8, cast("Body", body), ret, envelope_id)
    envelope.recipients += [each if isinstance(each, Recipient) else Recipient(_path(each)) for each in recipients]
    incoming = intake.begin_message(envelope, PEER)
    for piece in pieces:
        await incoming.add(piece)
    answers = await incoming.accept()
    assert all(answer.is_positive for answer in answers), answers
    return incoming.id


def asking(recipient: str, notify: str = "", original: str = "") -> Recipient:
    """A recipient with what its sender asks (RFC 3461 §4)."""
    return Recipient(_path(recipient), notify, original)


def _path(text: str) -> Path:
    return Path(text, grammar.parse_mailbox(text) if text else None)
