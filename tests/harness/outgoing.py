"""Mail to hand to the client, in the words of its tests."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from readdress.smtp.grammar import Path, parse_mailbox
from readdress.smtp.outgoing import ClientTimeouts, OutgoingMail, SendResult, Target
from readdress.smtp.session import Recipient

CONTENT = b"Subject: t\r\n\r\nhello\r\n"
HOSTNAME = "client.example"
# A wait that ends is a failure in most tests: it ends soon enough to be seen, and late enough for a busy machine.
TIMEOUTS = ClientTimeouts(
    connect_s=10, greeting_s=10, command_s=10, data_init_s=10, block_s=10, final_s=10, total_s=30, quit_s=2
)


def recipient(text: str, *, notify: str = "", original: str = "") -> Recipient:
    return Recipient(Path(text, parse_mailbox(text)), notify, original)


def outgoing(
    *recipients: str | Recipient,
    content: bytes | Sequence[bytes] = CONTENT,
    sender: str = "a@sender.example",
    **members: Any,
) -> OutgoingMail:
    """A mail to `b@host.example` unless told otherwise; content in one piece, or in those given."""
    pieces = [content] if isinstance(content, bytes) else list(content)
    return OutgoingMail(
        sender=sender,
        recipients=[recipient(to) if isinstance(to, str) else to for to in recipients or ("b@host.example",)],
        content=giving(pieces),
        size_bytes=members.pop("size_bytes", sum(map(len, pieces))),
        **members,
    )


def giving(pieces: Sequence[bytes]) -> Callable[[], AsyncIterator[bytes]]:
    async def give() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return give


def local(port: int, **members: Any) -> Target:
    """A target on loopback, in clear unless told otherwise."""
    settings: dict[str, Any] = {"host": "127.0.0.1", "port": port, "tls": "none"}
    return Target(**settings | members)


def summary(result: SendResult) -> list[tuple[str, str, str]]:
    """Outcome, status and stage of each recipient."""
    return [(one.outcome.value, one.enhanced, one.stage) for one in result.recipients]
