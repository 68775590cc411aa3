"""What a session tells its server: a decision to take, content to keep, or that it waits for more bytes."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from readdress.smtp.envelope import Envelope
from readdress.smtp.grammar import Path
from readdress.smtp.reply import Reply


@dataclass(slots=True)
class NeedData:
    """Nothing to do before more bytes come."""


@dataclass(slots=True)
class RecipientGiven:
    """Answer with `answer_recipient`."""

    recipient: Path


@dataclass(slots=True)
class MessageStarted:
    """Content follows."""

    envelope: Envelope


@dataclass(slots=True)
class ContentReceived:
    """A piece of the content, unstuffed."""

    content: bytes


@dataclass(slots=True)
class MessageEnded:
    """Answer with `answer_message`; a message with a `refusal` is already answered, and must be dropped."""

    refusal: Reply | None


@dataclass(slots=True)
class MessageAbandoned:
    """The sender thought better of it between two chunks: drop the message, nobody waits for an answer."""


@dataclass(slots=True)
class TlsAgreed:
    """Send what is outgoing, shake hands, and say so with `tls_started`; no byte may have come in between."""


@dataclass(slots=True)
class Closed:
    """Send what is outgoing and close."""


Event: TypeAlias = (
    NeedData | RecipientGiven | MessageStarted | ContentReceived | MessageEnded | MessageAbandoned | TlsAgreed | Closed
)

NEED_DATA: Final = NeedData()
CLOSED: Final = Closed()
