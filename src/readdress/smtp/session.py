"""One session of SMTP or LMTP as a state table: bytes in, events and replies out; no socket, no clock, no database.

The server feeds `receive`, asks `next_event` until it says NEED_DATA, and answers the events that ask for a decision:
a recipient, or a whole message. Everything else the session replies to by itself, into `outgoing`.

LMTP (RFC 2033) is the same conversation with another hello and, after the content, a reply for each recipient.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias

from readdress.smtp import grammar, reply
from readdress.smtp.content import ContentReader
from readdress.smtp.grammar import Path
from readdress.smtp.reply import Reply


@dataclass(frozen=True)
class Limits:
    """What a session allows; sizes follow RFC 5321 §4.5.3.1 or exceed it."""

    command_line_bytes_max: int = 2_048
    content_line_bytes_max: int = 65_536
    message_bytes_max: int = 40 * 1024 * 1024
    recipients_max: int = 100
    errors_max: int = 20


Body: TypeAlias = Literal["7BIT", "8BITMIME", "BINARYMIME"]

# How the conversation was begun; a Received field names it (RFC 3848).
Protocol: TypeAlias = Literal["SMTP", "ESMTP", "LMTP"]


class Recipient(NamedTuple):
    """What RCPT said: the path, and what it asked about delivery notices (RFC 3461), as given; "" where it did not."""

    path: Path
    notify: str = ""
    original: str = ""


@dataclass
class Envelope:
    """What MAIL and RCPT said; `ret` and `envelope_id` are RFC 3461's, as given."""

    sender: Path
    smtputf8: bool
    body: Body = "7BIT"
    ret: str = ""
    envelope_id: str = ""
    recipients: list[Recipient] = field(default_factory=list)


class State(Enum):
    START = "before EHLO"
    READY = "no mail transaction"
    SENDER = "MAIL was accepted"
    RECIPIENTS = "a RCPT was accepted"
    CONTENT = "after DATA"
    DECISION = "the server decides"
    CLOSED = "closed"


# What each state refuses; a verb that is not named is served (RFC 5321 §4.1.4).
REFUSALS: Final[dict[State, dict[str, Reply]]] = {
    State.START: {"MAIL": reply.HELLO_FIRST, "RCPT": reply.HELLO_FIRST, "DATA": reply.HELLO_FIRST},
    State.READY: {"RCPT": reply.MAIL_FIRST, "DATA": reply.MAIL_FIRST},
    State.SENDER: {"MAIL": reply.MAIL_TWICE, "DATA": reply.RECIPIENT_FIRST},
    State.RECIPIENTS: {"MAIL": reply.MAIL_TWICE},
}

# Verbs after which a client has to wait for the reply (RFC 2920 §3.1): what follows at once was spoken out of turn.
_WAIT_FOR_REPLY = frozenset({"EHLO", "HELO", "LHLO", "DATA"})
_WITHOUT_PARAMETERS = frozenset({"DATA", "RSET", "QUIT", "STARTTLS"})


@dataclass(frozen=True)
class NeedData:
    """Nothing to do before more bytes come."""


@dataclass(frozen=True)
class RecipientGiven:
    """Answer with `answer_recipient`."""

    recipient: Path


@dataclass(frozen=True)
class MessageStarted:
    """Content follows."""

    envelope: Envelope


@dataclass(frozen=True)
class ContentReceived:
    """A piece of the content, unstuffed."""

    content: bytes


@dataclass(frozen=True)
class MessageEnded:
    """Answer with `answer_message`; a message with a `refusal` is already answered, and must be dropped."""

    refusal: Reply | None


@dataclass(frozen=True)
class TlsAgreed:
    """Send what is outgoing, shake hands, and say so with `tls_started`; no byte may have come in between."""


@dataclass(frozen=True)
class Closed:
    """Send what is outgoing and close."""


Event: TypeAlias = NeedData | RecipientGiven | MessageStarted | ContentReceived | MessageEnded | TlsAgreed | Closed

NEED_DATA: Final = NeedData()
CLOSED: Final = Closed()


class Session:
    """One connection's conversation."""

    def __init__(self, *, hostname: str, limits: Limits, lmtp: bool = False, offers_tls: bool = False) -> None:
        self._hostname = hostname
        self._lmtp = lmtp
        self._offers_tls = offers_tls
        self._limits = limits
        self._input = b""
        self._at = 0
        self._is_skipping = False
        self._replies: list[bytes] = []
        self._errors = 0
        self._reader: ContentReader | None = None
        self._recipient: Recipient | None = None
        self._envelope: Envelope | None = None
        self._ended: MessageEnded | None = None
        self.state = State.START
        self.ehlo = ""
        self.protocol: Protocol = "LMTP" if lmtp else "ESMTP"
        self.has_tls = False

    def greet(self) -> None:
        self._replies.append(f"220 {self._hostname} {self.protocol} Readdress\r\n".encode())

    def receive(self, data: bytes) -> None:
        self._input = self._input[self._at :] + data
        self._at = 0

    @property
    def has_partial_line(self) -> bool:
        """Whether a command has begun and not ended."""
        return self._is_skipping or self._at < len(self._input)

    def outgoing(self) -> bytes:
        """The replies since the last call."""
        replies = b"".join(self._replies)
        self._replies.clear()
        return replies

    def next_event(self) -> Event:
        """What to do next; never the same event twice."""
        while True:
            if self._ended is not None:
                ended, self._ended = self._ended, None
                return ended
            event = self._next_content() if self.state is State.CONTENT else self._next_command()
            if event is not None:
                return event

    def answer_recipient(self, answer: Reply) -> None:
        """The server's decision on the RecipientGiven."""
        assert self._envelope is not None
        assert self._recipient is not None
        if answer.is_positive:
            self._envelope.recipients.append(self._recipient)
        self.state = State.RECIPIENTS if self._envelope.recipients else State.SENDER
        self._recipient = None
        self._say(answer)

    def tls_started(self) -> None:
        """The channel is another one now: whatever was said before counts no more (RFC 3207 §4.2)."""
        self.has_tls = True
        self._input, self._at = b"", 0
        self.ehlo = ""
        self._reset()

    def answer_message(self, answers: list[Reply]) -> None:
        """The server's decision on the message, one reply per recipient; SMTP has room for one of them."""
        self._reset()
        for answer in answers if self._lmtp else [collapse(answers)]:
            self._say(answer)

    def close(self, last: Reply) -> None:
        """Say a last word, whatever the state."""
        if self.state is not State.CLOSED:
            self._replies.append(last.encode())
            self.state = State.CLOSED

    # Commands.

    def _next_command(self) -> Event | None:
        if self.state is State.CLOSED:
            return CLOSED
        line = self._next_line()
        if line is None:
            return NEED_DATA
        if len(line) > self._limits.command_line_bytes_max:
            self._say(reply.LINE_TOO_LONG)
            return None
        body = line[:-2]
        if not line.endswith(b"\r\n") or b"\r" in body or b"\0" in body:
            self._say(reply.BARE_LINE_END)
            return None
        try:
            text = body.decode()
        except UnicodeDecodeError:
            self._say(reply.SYNTAX_ERROR)
            return None
        return self._obey(grammar.parse_command(text))

    def _next_line(self) -> bytes | None:
        """The next line with its end. Of a line that is too long only enough is kept to tell."""
        end = self._input.find(b"\n", self._at)
        if end >= 0:
            start = self._at
            self._at = end + 1
            if self._is_skipping:
                self._is_skipping = False
                return b"\n" * (self._limits.command_line_bytes_max + 1)
            return self._input[start : self._at]
        if self._is_skipping or len(self._input) - self._at > self._limits.command_line_bytes_max:
            self._is_skipping = True
            self._at = len(self._input)
        return None

    def _obey(self, command: grammar.Command) -> Event | None:
        verb, rest = command
        refusal = REFUSALS[self.state].get(verb)
        if verb in _WAIT_FOR_REPLY and self._at < len(self._input):
            self.close(reply.EARLY_TALKER)
        elif refusal:
            self._say(refusal)
        elif verb in _WITHOUT_PARAMETERS and rest:
            self._say(reply.NO_PARAMETERS)
        elif verb == "RCPT":
            return self._rcpt(rest)
        elif verb == "DATA":
            return self._data()
        elif verb == "STARTTLS" and self._offers_tls and not self.has_tls:
            return self._starttls()
        else:
            self._obey_alone(verb, rest)
        return None

    def _obey_alone(self, verb: str, rest: str) -> None:
        """The verbs that need no decision of the server."""
        match verb:
            case "MAIL":
                self._mail(rest)
            case "EHLO" | "HELO" | "LHLO":
                self._hello(verb, rest)
            case "RSET":
                self._reset()
                self._say(reply.OK)
            case "NOOP":
                self._say(reply.OK)
            case "VRFY":
                self._say(reply.CANNOT_VERIFY if rest else reply.SYNTAX_ERROR)
            case "HELP":
                self._say(reply.HELP)
            case "QUIT":
                self.close(reply.CLOSING)
            case "BDAT":  # Never offered; what follows would be content, not commands.
                self.close(reply.NOT_IMPLEMENTED)
            case "STARTTLS" if self.has_tls:
                self._say(reply.TLS_ALREADY)
            case "STARTTLS" | "AUTH" | "EXPN" | "TURN" | "ETRN":
                self._say(reply.NOT_IMPLEMENTED)
            case _:
                self._say(reply.UNKNOWN_COMMAND)

    def _hello(self, verb: str, rest: str) -> None:
        if (verb == "LHLO") != self._lmtp:
            self._say(reply.WRONG_HELLO)
            return
        if not grammar.is_ehlo_name(rest):
            self._say(reply.BAD_EHLO)
            return
        self.ehlo = rest
        self._reset()
        if not self._lmtp:
            self.protocol = "ESMTP" if verb == "EHLO" else "SMTP"
        if self.protocol == "SMTP":
            self._replies.append(f"250 {self._hostname}\r\n".encode())
            return
        keywords = [
            self._hostname,
            "PIPELINING",
            f"SIZE {self._limits.message_bytes_max}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            *(["STARTTLS"] if self._offers_tls and not self.has_tls else []),
            "HELP",
        ]
        self._replies += [f"250-{keyword}\r\n".encode() for keyword in keywords[:-1]]
        self._replies.append(f"250 {keywords[-1]}\r\n".encode())

    def _mail(self, rest: str) -> None:
        parsed = grammar.parse_sender(rest[5:].lstrip(" ")) if rest[:5].upper() == "FROM:" else None
        if parsed is None:
            self._say(reply.BAD_SENDER if rest[:5].upper() == "FROM:" else reply.SYNTAX_ERROR)
            return
        sender, tail = parsed
        parameters = grammar.parse_parameters(tail)
        refusal = self._refuse_sender(sender, parameters)
        if refusal or parameters is None:
            self._say(refusal or reply.SYNTAX_ERROR)
            return
        self._envelope = Envelope(
            sender, smtputf8="SMTPUTF8" in parameters, body="8BITMIME" if _is_8bit(parameters) else "7BIT"
        )
        self.state = State.SENDER
        self._say(reply.SENDER_OK)

    def _refuse_sender(self, sender: Path, parameters: dict[str, str] | None) -> Reply | None:
        if parameters is None:
            return reply.SYNTAX_ERROR
        known = set() if self.protocol == "SMTP" else {"SIZE", "BODY", "SMTPUTF8"}
        if parameters.keys() - known:
            return reply.UNKNOWN_PARAMETER
        size, body = parameters.get("SIZE", "0"), parameters.get("BODY", "7BIT").upper()
        if not (size.isascii() and size.isdigit() and len(size) <= 20) or body not in {"7BIT", "8BITMIME"}:
            return reply.SYNTAX_ERROR
        if parameters.get("SMTPUTF8"):
            return reply.SYNTAX_ERROR
        if int(size) > self._limits.message_bytes_max:  # RFC 1870 §6.1
            return reply.TOO_BIG
        if sender.needs_smtputf8 and "SMTPUTF8" not in parameters:
            return reply.SENDER_NEEDS_SMTPUTF8
        return None

    def _rcpt(self, rest: str) -> Event | None:
        assert self._envelope is not None
        parsed = grammar.parse_recipient(rest[3:].lstrip(" ")) if rest[:3].upper() == "TO:" else None
        if parsed is None:
            self._say(reply.BAD_RECIPIENT if rest[:3].upper() == "TO:" else reply.SYNTAX_ERROR)
            return None
        recipient, tail = parsed
        parameters = grammar.parse_parameters(tail)
        if parameters is None or parameters:
            self._say(reply.SYNTAX_ERROR if parameters is None else reply.UNKNOWN_PARAMETER)
        elif len(self._envelope.recipients) >= self._limits.recipients_max:
            self._say(reply.TOO_MANY_RECIPIENTS)
        elif recipient.needs_smtputf8 and not self._envelope.smtputf8:
            self._say(reply.RECIPIENT_NEEDS_SMTPUTF8)
        else:
            self._recipient = Recipient(recipient)
            self.state = State.DECISION
            return RecipientGiven(recipient)
        return None

    def _data(self) -> Event:
        assert self._envelope is not None
        self._reader = ContentReader(
            bytes_max=self._limits.message_bytes_max, line_bytes_max=self._limits.content_line_bytes_max
        )
        self.state = State.CONTENT
        self._replies.append(reply.START_CONTENT.encode())
        return MessageStarted(self._envelope)

    def _starttls(self) -> Event | None:
        if self._at < len(self._input):
            self.close(reply.EARLY_TALKER)
            return None
        if self.state is State.START:
            self._say(reply.HELLO_FIRST)
            return None
        self._replies.append(reply.START_TLS.encode())
        return TlsAgreed()

    # Content.

    def _next_content(self) -> Event | None:
        assert self._reader is not None
        if self._at >= len(self._input):
            return NEED_DATA
        content, rest = self._reader.feed(self._input[self._at :] if self._at else self._input)
        self._input, self._at = rest or b"", 0
        if rest is not None:
            self.state = State.DECISION
            self._ended = MessageEnded(self._reader.refusal)
            if self._reader.refusal:
                assert self._envelope is not None
                self.answer_message([self._reader.refusal] * len(self._envelope.recipients))
        return ContentReceived(content) if content else None

    # Replies.

    def _reset(self) -> None:
        self._envelope = None
        self._reader = None
        self.state = State.READY if self.ehlo else State.START

    def _say(self, answer: Reply) -> None:
        self._replies.append(answer.encode())
        if answer.code >= 500:  # a 4xx is our trouble, or the limit that a client may meet (RFC 5321 §4.5.3.1.10)
            self._errors += 1
            if self._errors > self._limits.errors_max:
                self.close(reply.TOO_MANY_ERRORS)


def _is_8bit(parameters: dict[str, str]) -> bool:
    return parameters.get("BODY", "").upper() == "8BITMIME"


def collapse(answers: list[Reply]) -> Reply:
    """The one reply that is true for all: success for all, else a temporary refusal if there is one, else the first."""
    refusals = [answer for answer in answers if not answer.is_positive]
    if not refusals:
        return answers[0]
    return next((answer for answer in refusals if answer.code < 500), refusals[0])
