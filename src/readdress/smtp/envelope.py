"""What MAIL and RCPT say of a message: from whom, to whom, in which form, and what to tell the sender of its fate."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from readdress.smtp.grammar import Path

Body: TypeAlias = Literal["7BIT", "8BITMIME", "BINARYMIME"]


class Recipient(NamedTuple):
    """What RCPT said: the path, and what it asked about delivery notices (RFC 3461); "" where it did not.

    `notify` is in capitals, `NEVER` or keywords between commas; `original` is as given, `type;xtext`.
    """

    path: Path
    notify: str = ""
    original: str = ""


@dataclass
class Envelope:
    """What MAIL and RCPT said; `ret` (FULL or HDRS) and `envelope_id` (xtext, as given) are RFC 3461's."""

    sender: Path
    smtputf8: bool
    body: Body = "7BIT"
    ret: str = ""
    envelope_id: str = ""
    recipients: list[Recipient] = field(default_factory=list)
