"""Ways by which mail goes on from here. Each tries one delivery, without a transaction open, and says how it went."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from readdress.inbox.messages import Delivery, Message


class Outcome(StrEnum):
    """TEMPORARY is tried again, PERMANENT is not: RFC 5321 §4.2.1, by the class digit alone."""

    DELIVERED = "DELIVERED"
    TEMPORARY = "TEMPORARY"
    PERMANENT = "PERMANENT"


class Result(NamedTuple):
    """How a try went.

    `reply` is what the other side said, where `is_remote`, or why we did not get so far; `enhanced` is its status code
    (RFC 3463). `recipient` is whom a mail host knew the mail to be for. `is_final` says that no other mail host has it
    now, and `has_passed_on_notices` that the next host took over what the sender asked (RFC 3461).
    """

    outcome: Outcome
    reply: str
    enhanced: str = ""
    remote: str = ""
    tls: str = ""
    is_remote: bool = False
    recipient: str = ""
    is_final: bool = True
    has_passed_on_notices: bool = False


@dataclass(frozen=True)
class Job:
    """A delivery to try; `content` gives the message as received in pieces of about 256 KiB, each time it is called."""

    delivery: Delivery
    message: Message
    attempt: int
    content: Callable[[], AsyncIterator[bytes]]


class Transport(Protocol):
    """One named transport of the configuration."""

    @property
    def concurrency(self) -> int:
        """How many deliveries may be tried at a time."""

    @property
    def keep_content(self) -> bool:
        """Whether the content stays readable here once it is delivered."""

    async def deliver(self, job: Job) -> Result:
        """Try once. What raises instead is our own fault, and counts as TEMPORARY."""
