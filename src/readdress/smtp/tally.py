"""What a session did, and the one line in the log that says so when it is over."""

from dataclasses import dataclass
from typing import Final

from readdress.logs import Line
from readdress.smtp import reply
from readdress.smtp.reply import Reply

SESSION_LINE = Line(
    "readdress.smtp",
    "session peer=%(peer)s proxy=%(proxy)s door=%(door)s ehlo=%(ehlo)s tls=%(tls)s "
    "messages_accepted=%(messages_accepted)d messages_refused=%(messages_refused)d "
    "recipients_accepted=%(recipients_accepted)d recipients_refused=%(recipients_refused)d "
    "received_bytes=%(received_bytes)d duration_ms=%(duration_ms)d end=%(end)s",
)

# What the log calls the end of a session after our last word; any other last word is a refusal.
_ENDS: Final[dict[Reply | None, str]] = {
    None: "lost",
    reply.CLOSING: "quit",
    reply.TIMED_OUT: "timed-out",
    reply.SHUTTING_DOWN: "shut-down",
    reply.TOO_MANY_ERRORS: "too-many-errors",
    reply.SESSION_USED_UP: "too-many-messages",
    reply.EARLY_TALKER: "early-talker",
    reply.STORE_TROUBLE: "failed",
}


def end_of(last_word: Reply | None) -> str:
    """How a session ended, by what we said last."""
    return _ENDS.get(last_word, "refused")


@dataclass(slots=True)
class Tally:
    """What the log says of a session."""

    messages_accepted: int = 0
    messages_refused: int = 0
    recipients_accepted: int = 0
    recipients_refused: int = 0
    received_bytes: int = 0

    def write(
        self, *, peer: str, proxy: str | None, door: str, ehlo: str, tls: str | None, duration_s: float, end: str
    ) -> None:
        """One line without a word of the peer's but a name whose characters were checked (RFC 5321 §4.1.2)."""
        SESSION_LINE.write(
            peer,
            proxy or "-",
            door,
            ehlo or "-",
            tls or "-",
            self.messages_accepted,
            self.messages_refused,
            self.recipients_accepted,
            self.recipients_refused,
            self.received_bytes,
            round(duration_s * 1000),
            end,
        )
