"""What a mail server asks of the program behind it, and what it tells of the other end of a connection."""

from typing import NamedTuple, Protocol

from readdress.smtp.envelope import Envelope
from readdress.smtp.grammar import Path
from readdress.smtp.reply import Reply
from readdress.smtp.session import Protocol as SmtpProtocol

# What stands for an address when the connection came over a socket in the file system.
UNIX_PEER = "unix"


class Peer(NamedTuple):
    """The other end of a connection, as a Received field wants it."""

    address: str
    ehlo: str
    protocol: SmtpProtocol
    tls: str | None = None


class IncomingMessage(Protocol):
    """A message on its way in; ends with `accept` or `abort`."""

    async def add(self, content: bytes) -> None:
        """Take the next piece. Keeps failures for `accept`."""

    async def accept(self) -> list[Reply]:
        """Make the message durable, or refuse it: one reply per recipient."""

    async def abort(self) -> None:
        """Forget what was taken."""


class Backend(Protocol):
    """What a server asks of the program behind it."""

    async def check_recipient(self, recipient: Path) -> Reply:
        """Whether mail for the recipient would be accepted at this instant."""

    def begin_message(self, envelope: Envelope, peer: Peer) -> IncomingMessage:
        """Content follows."""
