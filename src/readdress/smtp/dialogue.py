"""The client's part of the conversation without sockets: replies out of bytes, what a host offers, and command lines.

Bytes that are no reply raise BadReply: from there on nobody can tell which reply answers what.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from readdress.smtp.outgoing import Failure, Outcome, OutgoingMail
from readdress.smtp.session import Recipient

# RFC 5321 §4.5.3.1.5 has 512 octets; EHLO may say more, and what some hosts say in a 550 is longer, too.
REPLY_LINE_BYTES_MAX = 2_048
REPLY_LINES_MAX = 100
REPLY_CHARACTERS_MAX = 500
# What a server has to take (RFC 5321 §4.5.3.1.8); more recipients than these have another transaction.
RECIPIENTS_MAX = 100

_LINE = re.compile(rb"(?P<code>[2-5][0-9]{2})(?:(?P<mark>[ \-])(?P<text>[^\0\r]*))?")
_ENHANCED = re.compile(r"(?P<status>[245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|$)")
_INVISIBLE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028-\u202e\u2066-\u2069\ufffe\uffff]+")
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-]*")


class BadReply(Exception):
    """What was heard is no reply (RFC 5321 §4.2); the text says why."""


class RemoteReply(NamedTuple):
    """A reply: its code, its enhanced status code if it is of the code's class, and the text of each line."""

    code: int
    enhanced: str
    lines: tuple[str, ...]

    @property
    def is_positive(self) -> bool:
        return self.code < 300

    @property
    def is_refusal(self) -> bool:
        return self.code >= 400

    @property
    def outcome(self) -> Outcome:
        """By the class digit alone."""
        if self.is_positive:
            return Outcome.DELIVERED
        return Outcome.PERMANENT if self.code >= 500 else Outcome.TEMPORARY

    @property
    def status(self) -> str:
        """The enhanced status code, or the most general one of the class (RFC 3463 §2)."""
        return self.enhanced or f"{self.code // 100}.0.0"

    @property
    def temporary_status(self) -> str:
        return f"4{self.status[1:]}"

    def __str__(self) -> str:
        words = " ".join((str(self.code), self.enhanced, *self.lines))
        return _INVISIBLE.sub(" ", words).strip()[:REPLY_CHARACTERS_MAX].rstrip()


class ReplyReader:
    """Takes bytes as they come, gives replies."""

    def __init__(self) -> None:
        self._input = bytearray()
        self._code = 0
        self._lines: list[str] = []

    def feed(self, data: bytes) -> None:
        self._input += data

    @property
    def has_input(self) -> bool:
        """Whether anything has come that was not given as a reply, be it half a line."""
        return bool(self._input or self._lines)

    @property
    def input_bytes(self) -> int:
        return len(self._input)

    def next_reply(self) -> RemoteReply | None:
        """The next reply, None if it is incomplete. Raises BadReply."""
        while (line := self._next_line()) is not None:
            match = _LINE.fullmatch(line)
            if match is None:
                raise BadReply("a line is no reply")
            code = int(match["code"])
            if self._lines and code != self._code:
                raise BadReply("the lines of a reply have different codes")
            self._code = code
            self._lines.append((match["text"] or b"").decode("utf-8", "replace"))
            if match["mark"] != b"-":
                lines, self._lines = self._lines, []
                return _reply(code, lines)
            if len(self._lines) >= REPLY_LINES_MAX:
                raise BadReply(f"a reply has more than {REPLY_LINES_MAX} lines")
        return None

    def _next_line(self) -> bytes | None:
        """Up to LF, as some hosts end their lines; a CR anywhere but before it is refused with the line."""
        end = self._input.find(b"\n", 0, REPLY_LINE_BYTES_MAX)
        if end < 0:
            if len(self._input) >= REPLY_LINE_BYTES_MAX:
                raise BadReply(f"a line of a reply has more than {REPLY_LINE_BYTES_MAX} octets")
            return None
        line = bytes(self._input[:end])
        del self._input[: end + 1]
        return line.removesuffix(b"\r")


def _reply(code: int, lines: list[str]) -> RemoteReply:
    """Status codes go from the texts; one that contradicts the code's class counts for nothing (RFC 2034 §4)."""
    enhanced, texts = "", []
    for line in lines:
        match = _ENHANCED.match(line)
        if match and int(match["status"][0]) == code // 100:
            enhanced = enhanced or match["status"]
            line = line[match.end() :]  # noqa: PLW2901
        texts.append(line)
    return RemoteReply(code, enhanced, tuple(texts))


@dataclass(frozen=True)
class Features:
    """What EHLO or LHLO offered: parameters by keyword in capitals; nothing after HELO."""

    keywords: Mapping[str, str] = field(default_factory=dict)

    def offers(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def size_bytes_max(self) -> int | None:
        """RFC 1870 §4: 0 or no figure is no limit that is known."""
        return _number(self.keywords.get("SIZE", "")) or None

    @property
    def auth_mechanisms(self) -> frozenset[str]:
        return frozenset(self.keywords.get("AUTH", "").upper().split())

    @property
    def recipients_max(self) -> int:
        """In one transaction."""
        return min(self._limit("RCPTMAX") or RECIPIENTS_MAX, RECIPIENTS_MAX)

    @property
    def transactions_max(self) -> int | None:
        return self._limit("MAILMAX")

    def _limit(self, name: str) -> int | None:
        """A limit of RFC 9422 §3; None where there is none, or none that makes sense."""
        for limit in self.keywords.get("LIMITS", "").upper().split():
            if limit.startswith(f"{name}="):
                return _number(limit.removeprefix(f"{name}=")) or None
        return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


def parse_features(reply: RemoteReply) -> Features:
    """The lines after the first; one that is no keyword is passed over."""
    keywords = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        if _KEYWORD.fullmatch(keyword):
            keywords[keyword.upper()] = parameters.strip()
    return Features(keywords)


def check_sendable(mail: OutgoingMail, features: Features) -> None:
    """Raises Failure where the host can't take the mail as it is: it is never converted."""
    limit = features.size_bytes_max
    if limit is not None and mail.size_bytes > limit:
        raise Failure("5.3.4", f"the message is too big for the next host ({limit} octets)", outcome=Outcome.PERMANENT)
    if mail.smtputf8 and not features.offers("SMTPUTF8"):  # RFC 6531 §3.5
        raise Failure("5.6.7", "the next host does not offer SMTPUTF8, which is needed", outcome=Outcome.PERMANENT)
    # RFC 3030 §3: BINARYMIME can only go by BDAT.
    if mail.body == "BINARYMIME" and not (features.offers("BINARYMIME") and features.offers("CHUNKING")):
        raise Failure("5.6.3", "the next host does not take binary content", outcome=Outcome.PERMANENT)


def mail_command(mail: OutgoingMail, features: Features) -> bytes:
    words = [f"MAIL FROM:<{mail.sender}>"]
    if features.offers("SIZE"):
        words.append(f"SIZE={mail.size_bytes}")
    if mail.body == "BINARYMIME" or (mail.body == "8BITMIME" and features.offers("8BITMIME")):
        words.append(f"BODY={mail.body}")
    if mail.smtputf8:
        words.append("SMTPUTF8")
    if features.offers("DSN"):
        words += [f"RET={mail.ret}"] if mail.ret else []
        words += [f"ENVID={mail.envelope_id}"] if mail.envelope_id else []
    return " ".join(words).encode() + b"\r\n"


def rcpt_command(recipient: Recipient, features: Features, *, smtputf8: bool) -> bytes:
    words = [f"RCPT TO:<{recipient.path.text}>"]
    if features.offers("DSN"):
        original = recipient.original if smtputf8 else _in_ascii(recipient.original)
        words += [f"NOTIFY={recipient.notify}"] if recipient.notify else []
        words += [f"ORCPT={original}"] if original else []
    return " ".join(words).encode() + b"\r\n"


def _in_ascii(original: str) -> str:
    """RFC 6533 §3: the form of a utf-8 address for where SMTPUTF8 is not used."""
    return re.sub(r"[^\x00-\x7f]", lambda match: f"\\x{{{ord(match[0]):X}}}", original)
