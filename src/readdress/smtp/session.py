"""One session of SMTP or LMTP as a state table: bytes in, events and replies out; no socket, no clock, no database.

The server feeds `receive`, asks `next_event` until it says NEED_DATA, and answers the events that ask for a decision:
a recipient, or a whole message. Everything else the session replies to by itself, into `outgoing`.

LMTP (RFC 2033) is the same conversation with another hello and, after the content, a reply for each recipient.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

from readdress.smtp import extensions, grammar, parameters, reply
from readdress.smtp.content import ChunkReader, ContentReader
from readdress.smtp.envelope import Body, Envelope, Recipient
from readdress.smtp.events import (
    CLOSED,
    NEED_DATA,
    ContentReceived,
    Event,
    MessageAbandoned,
    MessageEnded,
    MessageStarted,
    RecipientGiven,
    TlsAgreed,
)
from readdress.smtp.reply import Reply

__all__ = ["Body", "Envelope", "Limits", "Protocol", "Recipient", "Session", "State"]


@dataclass(frozen=True)
class Limits:
    """What a session allows; sizes follow RFC 5321 §4.5.3.1 or exceed it. `messages_max` 0 is no limit."""

    command_line_bytes_max: int = 2_048
    content_line_bytes_max: int = 65_536
    message_bytes_max: int = 40 * 1024 * 1024
    recipients_max: int = 100
    messages_max: int = 0
    errors_max: int = 20


# How the conversation was begun; a Received field names it (RFC 3848).
Protocol: TypeAlias = Literal["SMTP", "ESMTP", "LMTP"]


class State(Enum):
    __hash__ = object.__hash__  # an Enum's own is written in Python, and a state is looked up for every command

    START = "before EHLO"
    READY = "no mail transaction"
    SENDER = "MAIL was accepted"
    RECIPIENTS = "a RCPT was accepted"
    CONTENT = "after DATA"
    CHUNK = "within a chunk of BDAT"
    BETWEEN_CHUNKS = "a chunk came, and the last is still to come"
    DECISION = "the server decides"
    CLOSED = "closed"


# What each state refuses; a verb that is not named is served (RFC 5321 §4.1.4).
REFUSALS: Final[dict[State, dict[str, Reply]]] = {
    State.START: {"MAIL": reply.HELLO_FIRST, "RCPT": reply.HELLO_FIRST, "DATA": reply.HELLO_FIRST},
    State.READY: {"RCPT": reply.MAIL_FIRST, "DATA": reply.MAIL_FIRST},
    State.SENDER: {"MAIL": reply.MAIL_TWICE, "DATA": reply.RECIPIENT_FIRST},
    State.RECIPIENTS: {"MAIL": reply.MAIL_TWICE},
    State.BETWEEN_CHUNKS: {"MAIL": reply.MAIL_TWICE, "RCPT": reply.MIXED_CONTENT, "DATA": reply.MIXED_CONTENT},
}
# What BDAT hears in each, once its octets are swallowed; where it is not named, it is served.
CHUNK_REFUSALS: Final[dict[State, Reply]] = {
    State.START: reply.HELLO_FIRST,
    State.READY: reply.MAIL_FIRST,
    State.SENDER: reply.RECIPIENT_FIRST,
}
# A message is on its way in, or about to be decided on.
IN_MESSAGE: Final = frozenset({State.CONTENT, State.CHUNK, State.BETWEEN_CHUNKS, State.DECISION})

# Verbs after which a client has to wait for the reply (RFC 2920 §3.1): what follows at once was spoken out of turn.
_WAIT_FOR_REPLY = frozenset({"EHLO", "HELO", "LHLO", "DATA"})
_WITHOUT_PARAMETERS = frozenset({"DATA", "RSET", "QUIT", "STARTTLS"})


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
        self._reader: ContentReader | None = None
        self._chunks: ChunkReader | None = None
        self._chunk_bytes_left = 0
        self._chunk_is_last = False
        self._chunk_refusal: Reply | None = None  # of octets that belong to no message
        self._after_chunk = State.START
        self._chunks_bytes = 0
        self._recipient: Recipient | None = None
        self._envelope: Envelope | None = None
        self._ended: MessageEnded | MessageAbandoned | None = None
        self._has_begun_message = False
        self._messages = 0
        self.messages_max = limits.messages_max
        self.errors = 0
        self.refusals = 0
        self.last_word: Reply | None = None
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
            if self.state is State.CONTENT:
                event = self._next_content()
            else:
                event = self._next_octets() if self.state is State.CHUNK else self._next_command()
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
            self.last_word = last
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
        elif verb == "BDAT":
            return self._bdat(rest)
        elif refusal:
            self._say(refusal)
        elif verb in _WITHOUT_PARAMETERS and rest:
            self._say(reply.NO_PARAMETERS)
        elif verb == "RCPT":
            return self._rcpt(rest)
        elif verb == "DATA":
            return self._data()
        elif verb == "STARTTLS" and self._may_start_tls:
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
        offer = extensions.offer(
            self._hostname,
            message_bytes_max=self._limits.message_bytes_max,
            recipients_max=self._limits.recipients_max,
            messages_max=self.messages_max,
            starttls=self._may_start_tls,
        )
        self._replies.append(offer)

    @property
    def _may_start_tls(self) -> bool:
        return self._offers_tls and not self.has_tls

    def _mail(self, rest: str) -> None:
        self._messages += 1  # whether or not it is accepted (RFC 9422 §4)
        if self.messages_max and self._messages > self.messages_max:
            self.close(reply.SESSION_USED_UP)
            return
        read = parameters.read_mail(
            rest, is_extended=self.protocol != "SMTP", message_bytes_max=self._limits.message_bytes_max
        )
        if isinstance(read, Reply):
            self._say(read)
            return
        self._envelope = read
        self.state = State.SENDER
        self._say(reply.SENDER_OK)

    def _rcpt(self, rest: str) -> Event | None:
        assert self._envelope is not None
        read = parameters.read_rcpt(rest, is_extended=self.protocol != "SMTP", smtputf8=self._envelope.smtputf8)
        if not isinstance(read, Recipient):
            self._say(read)
        elif len(self._envelope.recipients) >= self._limits.recipients_max:
            self._say(reply.TOO_MANY_RECIPIENTS)
        else:
            self._recipient = read
            self.state = State.DECISION
            return RecipientGiven(read.path)
        return None

    def _data(self) -> Event | None:
        assert self._envelope is not None
        if self._envelope.body == "BINARYMIME":
            self._say(reply.BINARY_WANTS_BDAT)
            return None
        self._reader = ContentReader(
            bytes_max=self._limits.message_bytes_max, line_bytes_max=self._limits.content_line_bytes_max
        )
        self.state = State.CONTENT
        self._has_begun_message = True
        self._replies.append(reply.START_CONTENT.encode())
        return MessageStarted(self._envelope)

    def _bdat(self, rest: str) -> Event | None:
        """RFC 3030 §2. The octets follow at once, whatever we think of the command, and are never read as commands."""
        chunk = grammar.parse_chunk(rest)
        if chunk is None:
            self.close(reply.BAD_CHUNK)  # nobody knows what follows
            return None
        self._chunk_bytes_left, self._chunk_is_last = chunk
        self._after_chunk = self.state
        self._chunk_refusal = CHUNK_REFUSALS.get(self.state)
        if self.protocol == "SMTP" and self._chunk_refusal is None:
            self._chunk_refusal = reply.HELLO_FIRST  # HELO offered nothing
        self._chunks_bytes += self._chunk_bytes_left
        if self._chunks_bytes > 2 * self._limits.message_bytes_max:
            self.close(reply.TOO_BIG)  # more than anybody would swallow for nothing
            return None
        self.state = State.CHUNK
        return None if self._chunk_refusal else self._begin_chunk()

    def _begin_chunk(self) -> Event | None:
        assert self._envelope is not None
        is_first = self._chunks is None
        if self._chunks is None:
            self._chunks = ChunkReader(
                bytes_max=self._limits.message_bytes_max,
                line_bytes_max=self._limits.content_line_bytes_max,
                is_binary=self._envelope.body == "BINARYMIME",
            )
            self._has_begun_message = True
        if self._chunks_bytes > self._limits.message_bytes_max:
            self._chunks.refusal = self._chunks.refusal or reply.TOO_BIG
        return MessageStarted(self._envelope) if is_first else None

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
            self._end_message(self._reader.refusal)
        return ContentReceived(content) if content else None

    def _next_octets(self) -> Event | None:
        """Octets of a chunk; of one that was refused, they are swallowed, so that we stay in step."""
        octets = self._input[self._at : self._at + self._chunk_bytes_left]
        if self._chunk_bytes_left and not octets:
            return NEED_DATA
        self._at += len(octets)
        self._chunk_bytes_left -= len(octets)
        content = self._chunks.feed(octets) if self._chunks and not self._chunk_refusal else b""
        if not self._chunk_bytes_left:
            self._end_chunk()
        return ContentReceived(content) if content else None

    def _end_chunk(self) -> None:
        """Every chunk has a reply (RFC 3030 §2); a refusal is told as soon as it is known, and again at the end."""
        if self._chunk_refusal:
            self.state = self._after_chunk
            self._chunks_bytes = 0
            self._say(self._chunk_refusal)
            return
        chunks = self._chunks
        assert chunks is not None
        if self._chunk_is_last:
            chunks.end()
            self._end_message(chunks.refusal)
            return
        self.state = State.BETWEEN_CHUNKS
        if chunks.refusal is None:
            self._say(reply.CHUNK_OK)
        elif self._has_begun_message:
            self._has_begun_message = False
            self._ended = MessageEnded(chunks.refusal)
            self._say(chunks.refusal)
        else:  # one mistake, however many chunks were on their way
            self._replies.append(chunks.refusal.encode())

    def _end_message(self, refusal: Reply | None) -> None:
        """The server decides, unless there is nothing to decide any more."""
        self.state = State.DECISION
        if self._has_begun_message:
            self._has_begun_message = False
            self._ended = MessageEnded(refusal)
        if refusal:
            assert self._envelope is not None
            self.answer_message([refusal] * len(self._envelope.recipients))

    # Replies.

    def _reset(self) -> None:
        if self._has_begun_message:
            self._has_begun_message = False
            self._ended = MessageAbandoned()
        self._envelope = None
        self._reader = self._chunks = None
        self._chunks_bytes = 0
        self.state = State.READY if self.ehlo else State.START

    def _say(self, answer: Reply) -> None:
        self._replies.append(answer.encode())
        if answer.code >= 400:
            self.refusals += 1
            if answer.code >= 500:  # a 4xx is our trouble, or the limit that a client may meet (RFC 5321 §4.5.3.1.10)
                self.errors += 1
                if self.errors > self._limits.errors_max:
                    self.close(reply.TOO_MANY_ERRORS)


def collapse(answers: list[Reply]) -> Reply:
    """The one reply that is true for all: success for all, else a temporary refusal if there is one, else the first."""
    refusals = [answer for answer in answers if not answer.is_positive]
    if not refusals:
        return answers[0]
    return next((answer for answer in refusals if answer.code < 500), refusals[0])
