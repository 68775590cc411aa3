"""A message as a test sees it, and what a test is told when one is missing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from email.message import EmailMessage


class MailMissing(AssertionError):
    """The mail that a test waits for did not come; the text says what did, and where one would go now."""


@dataclass(frozen=True)
class Message:
    """A message in an inbox.

    `sender` and `recipients` are the envelope's, the recipients being those that led to this inbox; `reasons` say why
    for each way: DIRECT, ALIAS or CATCH_ALL. `raw` is what the sender sent, octet by octet.
    """

    id: str
    sender: str
    recipients: tuple[str, ...]
    reasons: tuple[str, ...]
    subject: str
    received: datetime
    raw: bytes

    @property
    def reason(self) -> str:
        """The first of the reasons, which is the only one unless the mail was for alias and primary both."""
        return self.reasons[0]

    @cached_property
    def email(self) -> EmailMessage:
        """The message, parsed."""
        import email.policy

        return email.message_from_bytes(self.raw, policy=email.policy.default)

    @property
    def text(self) -> str:
        """The body for readers: plain text where there is some, else HTML; empty where there is neither."""
        body = self.email.get_body(("plain", "html"))
        return str(body.get_content()) if body else ""

    def __str__(self) -> str:
        reasons = ", ".join(self.reasons)
        return (
            f"{self.received:%H:%M:%S} {reasons} from <{self.sender}> to {', '.join(self.recipients)}: {self.subject!r}"
        )
