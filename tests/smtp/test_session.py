"""The session as transcripts, as a table of states and verbs, and against arbitrary bytes; no socket anywhere.

A transcript has `C:` lines (`C=` for bytes as written, without CRLF, with backslash escapes; `BDAT:` and `LAST:` for a
chunk of such bytes behind its command), `S:` lines that begin the replies, where `(extensions)` stands for the whole
reply to EHLO or LHLO, `B:` lines with what the backend answers next, one reply or one for each recipient between ` / `
(without one: success), and `M:` lines with the messages that the backend got. `limits:`, `feed: turns` and `door: lmtp`
come first.
"""

import random
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readdress.smtp import reply
from readdress.smtp.events import (
    Closed,
    ContentReceived,
    MessageAbandoned,
    MessageEnded,
    MessageStarted,
    NeedData,
    RecipientGiven,
)
from readdress.smtp.reply import Reply
from readdress.smtp.session import Envelope, Limits, Session, State, collapse

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
HOSTNAME = "mx.example.com"
KEYWORDS = ("PIPELINING", "SIZE", "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")
EXTENSIONS = [f"250-{HOSTNAME}", *(f"250-{keyword}" for keyword in (*KEYWORDS, "LIMITS")), "250 HELP"]
WITHOUT_ENHANCED_CODE = ("220", "250-", f"250 {HOSTNAME}", "250 HELP", "354")  # RFC 2034 §4


class Dialogue:
    """A session with its backend: bytes in, replies out, messages kept."""

    def __init__(
        self, limits: Limits | None = None, answers: Iterable[list[Reply]] = (), *, lmtp: bool = False
    ) -> None:
        self.session = Session(hostname=HOSTNAME, limits=limits or Limits(), lmtp=lmtp)
        self.answers = deque(answers)
        self.messages: list[str] = []
        self._envelope: Envelope | None = None
        self._content = b""
        self.session.greet()
        self.greeting = self.session.outgoing()

    @property
    def is_closed(self) -> bool:
        return self.session.state is State.CLOSED

    def feed(self, data: bytes) -> bytes:
        """Everything that the session says to the data, which it has to be done with in a bounded number of events."""
        self.session.receive(data)
        for _ in range(3 * len(data) + 10):
            match self.session.next_event():
                case NeedData() | Closed():
                    return self.session.outgoing()
                case RecipientGiven():
                    self.session.answer_recipient(self._next_answers([reply.RECIPIENT_OK])[0])
                case MessageStarted(envelope):
                    assert self._envelope is None, "the message before has not ended"
                    self._envelope, self._content = envelope, b""
                case ContentReceived(content):
                    assert content
                    assert self._envelope
                    self._content += content
                case MessageEnded(refusal):
                    if refusal is None:
                        self._take_message()
                    self._envelope = None
                case MessageAbandoned():
                    assert self._envelope
                    self._envelope = None
                    self.messages.append("(abandoned)")
        raise AssertionError("next_event does not end")

    def _take_message(self) -> None:
        envelope = self._envelope
        assert envelope is not None
        body = "" if envelope.body == "7BIT" else envelope.body
        said = [f"<{envelope.sender.text}>", *named(BODY=body, RET=envelope.ret, ENVID=envelope.envelope_id), "->"]
        for recipient in envelope.recipients:
            said += [f"<{recipient.path.text}>", *named(NOTIFY=recipient.notify, ORCPT=recipient.original)]
        self.messages.append(f'{" ".join(said)}: "{escape(self._content)}"')
        self.session.answer_message(self._next_answers([reply.accepted("id")] * len(envelope.recipients)))

    def _next_answers(self, default: list[Reply]) -> list[Reply]:
        return self.answers.popleft() if self.answers else default


@dataclass
class Turn:
    """What the client sends before it listens, and what it then hears."""

    sent: bytes = b""
    expected: list[str] = field(default_factory=list)


@dataclass
class Transcript:
    limits: Limits = field(default_factory=Limits)
    is_split: bool = True
    is_lmtp: bool = False
    turns: list[Turn] = field(default_factory=lambda: [Turn()])
    answers: list[list[Reply]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def dialogue(self) -> Dialogue:
        return Dialogue(self.limits, self.answers, lmtp=self.is_lmtp)


def named(**values: str) -> list[str]:
    return [f"{name}={value}" for name, value in values.items() if value]


def escape(content: bytes) -> str:
    return content.decode("latin-1").encode("unicode_escape").decode()


def unescape(text: str) -> bytes:
    """Python's escapes as bytes, and `{x*3}` as `xxx`."""
    text = re.sub(r"\{(.)\*(\d+)\}", lambda match: match[1] * int(match[2]), text)
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def parse_reply(text: str) -> Reply:
    code, enhanced, words = text.split(" ", 2)
    return Reply(int(code), enhanced, words)


def sent(kind: str, text: str) -> bytes:
    if kind == "C:":
        return text.encode() + b"\r\n"
    octets = unescape(text)
    if kind == "C=":
        return octets
    return b"BDAT %d%s\r\n" % (len(octets), b" LAST" if kind == "LAST:" else b"") + octets


def read_transcript(path: Path) -> Transcript:
    transcript = Transcript()
    for line in path.read_text("utf-8").splitlines():
        kind, _, text = line.partition(" ")
        match kind:
            case "" | "#":
                pass
            case "limits:":
                transcript.limits = Limits(**{k: int(v) for k, v in (word.split("=") for word in text.split())})
            case "feed:":
                assert text == "turns"
                transcript.is_split = False
            case "door:":
                assert text == "lmtp"
                transcript.is_lmtp = True
            case "B:":
                transcript.answers.append([parse_reply(answer) for answer in text.split(" / ")])
            case "M:":
                transcript.messages.append(text)
            case "S:":
                transcript.turns[-1].expected += EXTENSIONS if text == "(extensions)" else [text]
            case "C:" | "C=" | "BDAT:" | "LAST:":
                if transcript.turns[-1].expected:
                    transcript.turns.append(Turn())
                transcript.turns[-1].sent += sent(kind, text)
            case _:
                raise AssertionError(f"{path.name}: {line}")
    return transcript


def check_replies(said: bytes) -> list[str]:
    """The lines of well-formed replies: RFC 5321 §4.2, and an enhanced code in each but for RFC 2034's exceptions."""
    lines = said.decode("ascii").split("\r\n")
    assert lines.pop() == ""
    previous = ""
    for line in lines:
        match = re.fullmatch(r"([2-5][0-5][0-9])([ -])([\x20-\x7e]+)", line)
        assert match, line
        assert len(line) <= 510  # RFC 5321 §4.5.3.1.5
        if previous[3:4] == "-":
            assert line[:3] == previous[:3]
        if not line.startswith(WITHOUT_ENHANCED_CODE):
            assert re.match(rf"{line[0]}\.[0-9]{{1,3}}\.[0-9]{{1,3}} \S", match[3]), line  # RFC 3463 §2
        previous = line
    assert previous[3:4] != "-"
    return lines


def check_expected(heard: list[str], expected: list[str]) -> None:
    assert len(heard) == len(expected), heard
    for line, beginning in zip(heard, expected, strict=True):
        assert line == beginning or line.startswith(beginning + " "), heard


def hear(dialogue: Dialogue, pieces: Iterable[bytes]) -> list[str]:
    was_closed = dialogue.is_closed
    said = b"".join([dialogue.feed(piece) for piece in pieces])
    return check_replies(said) + (["(closed)"] if dialogue.is_closed and not was_closed else [])


def bundle(turns: list[Turn]) -> list[bytes]:
    """All that a client may send at once: it has to wait after EHLO, HELO and DATA only (RFC 2920 §3.1)."""
    bundles = [b""]
    for turn in turns:
        bundles[-1] += turn.sent
        last = turn.sent.rstrip(b"\r\n").rpartition(b"\n")[2]
        if last[:4].upper() in {b"EHLO", b"HELO", b"LHLO", b"DATA"}:
            bundles.append(b"")
    return bundles


def split_randomly(data: bytes, chance: random.Random) -> list[bytes]:
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 12)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) > 20


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_is_spoken_turn_by_turn(path: Path) -> None:
    transcript = read_transcript(path)
    dialogue = transcript.dialogue()
    name = b"LMTP" if transcript.is_lmtp else b"ESMTP"
    assert dialogue.greeting == b"220 mx.example.com %s Readdress\r\n" % name
    for turn in transcript.turns:
        check_expected(hear(dialogue, [turn.sent]), turn.expected)
    assert dialogue.messages == transcript.messages
    assert not dialogue.answers


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("manner", ["bytes", "bundles", "random splits"])
def test_a_transcript_is_the_same_however_it_is_cut(path: Path, manner: str) -> None:
    transcript = read_transcript(path)
    if not transcript.is_split:
        return  # it is about what comes at once
    expected = [line for turn in transcript.turns for line in turn.expected]
    for seed in range(20 if manner == "random splits" else 1):
        chance = random.Random(seed)
        dialogue = transcript.dialogue()
        heard: list[str] = []
        for data in bundle(transcript.turns):
            if manner == "bytes":
                pieces = [data[at : at + 1] for at in range(len(data))]
            else:
                pieces = split_randomly(data, chance) if manner == "random splits" else [data]
            heard += hear(dialogue, pieces)
        check_expected(heard, expected)
        assert dialogue.messages == transcript.messages


@pytest.mark.parametrize("path", [path for path in TRANSCRIPTS if "bdat" in path.stem], ids=lambda path: path.stem)
def test_chunks_may_be_cut_in_two_at_every_byte(path: Path) -> None:
    transcript = read_transcript(path)
    expected = [line for turn in transcript.turns for line in turn.expected]
    bundles = bundle(transcript.turns)
    for at in range(max(map(len, bundles))):
        dialogue = transcript.dialogue()
        heard = [line for data in bundles for line in hear(dialogue, [data[:at], data[at:]])]
        check_expected(heard, expected)
        assert dialogue.messages == transcript.messages


START, READY, SENDER, RECIPIENTS, CONTENT, CLOSED = (
    State.START,
    State.READY,
    State.SENDER,
    State.RECIPIENTS,
    State.CONTENT,
    State.CLOSED,
)
CHUNK, BETWEEN = State.CHUNK, State.BETWEEN_CHUNKS
WAY_TO: dict[State, list[bytes]] = {
    START: [],
    READY: [b"EHLO client.example\r\n"],
    SENDER: [b"EHLO client.example\r\n", b"MAIL FROM:<a@example.com>\r\n"],
    RECIPIENTS: [b"EHLO client.example\r\n", b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\n"],
}
WAY_TO[CONTENT] = [*WAY_TO[RECIPIENTS], b"DATA\r\n"]
WAY_TO[CHUNK] = [*WAY_TO[RECIPIENTS], b"BDAT 1000\r\n"]
WAY_TO[BETWEEN] = [*WAY_TO[RECIPIENTS], b"BDAT 3\r\nx\r\n"]
WAY_TO[CLOSED] = [*WAY_TO[READY], b"QUIT\r\n"]

# RFC 5321 §4.1.4 and §4.3.2: what is said, and the state after it; None stays.
SAME: dict[State, State | None] = dict.fromkeys((START, READY, SENDER, RECIPIENTS, BETWEEN))
TO_READY: dict[State, State | None] = dict.fromkeys(SAME, READY)
TO_CLOSED: dict[State, State | None] = dict.fromkeys(SAME, CLOSED)
VERBS: dict[str, tuple[str | dict[State, str], dict[State, State | None]]] = {
    "EHLO client.example": ("250", TO_READY),
    "HELO client.example": ("250", TO_READY),
    "MAIL FROM:<c@example.com>": (
        {START: "503 5.5.1", READY: "250 2.1.0", SENDER: "503 5.5.1", RECIPIENTS: "503 5.5.1", BETWEEN: "503 5.5.1"},
        SAME | {READY: SENDER},
    ),
    "RCPT TO:<d@example.com>": (
        {START: "503 5.5.1", READY: "503 5.5.1", SENDER: "250 2.1.5", RECIPIENTS: "250 2.1.5", BETWEEN: "503 5.5.1"},
        SAME | {SENDER: RECIPIENTS},
    ),
    "DATA": (
        {START: "503 5.5.1", READY: "503 5.5.1", SENDER: "503 5.5.1", RECIPIENTS: "354", BETWEEN: "503 5.5.1"},
        SAME | {RECIPIENTS: CONTENT},
    ),
    "RSET": ("250 2.0.0", TO_READY | {START: START}),
    "NOOP": ("250 2.0.0", SAME),
    "VRFY someone": ("252 2.", SAME),
    "HELP": ("214 2.0.0", SAME),
    "QUIT": ("221 2.0.0", TO_CLOSED),
    "EXPN list": ("502 5.5.1", SAME),
    "TURN": ("502 5.5.1", SAME),
    "ETRN example.com": ("502 5.5.1", SAME),
    "STARTTLS": ("502 5.5.1", SAME),
    "AUTH PLAIN AGEAYg==": ("502 5.5.1", SAME),
    "BDAT 0": (
        {START: "503 5.5.1", READY: "503 5.5.1", SENDER: "503 5.5.1", RECIPIENTS: "250 2.0.0", BETWEEN: "250 2.0.0"},
        SAME | {RECIPIENTS: BETWEEN},
    ),
    "BDAT 0 LAST": (
        {START: "503 5.5.1", READY: "503 5.5.1", SENDER: "503 5.5.1", RECIPIENTS: "250 2.0.0", BETWEEN: "250 2.0.0"},
        SAME | {RECIPIENTS: READY, BETWEEN: READY},
    ),
    "BDAT": ("501 5.5.4", TO_CLOSED),
    "XYZZY": ("500 5.5.1", SAME),
    "": ("500 5.5.1", SAME),
}


def reach(state: State) -> Dialogue:
    dialogue = Dialogue()
    for data in WAY_TO[state]:
        dialogue.feed(data)
    assert dialogue.session.state is state
    return dialogue


@pytest.mark.parametrize("line", VERBS)
@pytest.mark.parametrize("state", [START, READY, SENDER, RECIPIENTS, BETWEEN], ids=lambda state: state.name)
def test_every_verb_in_every_state(state: State, line: str) -> None:
    answers, states = VERBS[line]
    dialogue = reach(state)
    said = check_replies(dialogue.feed(line.encode() + b"\r\n"))
    assert said[-1].startswith(answers if isinstance(answers, str) else answers[state])
    assert dialogue.session.state is (states[state] or state)


@pytest.mark.parametrize("line", VERBS)
@pytest.mark.parametrize("state", [CONTENT, CHUNK, CLOSED], ids=lambda state: state.name)
def test_no_verb_is_heard_in_content_or_after_the_end(state: State, line: str) -> None:
    dialogue = reach(state)
    assert dialogue.feed(line.encode() + b"\r\n") == b""
    assert dialogue.session.state is state


def test_every_state_but_the_decision_is_in_the_table() -> None:
    assert set(WAY_TO) | {State.DECISION} == set(State)


def test_a_closing_session_says_one_last_word() -> None:
    session = Session(hostname=HOSTNAME, limits=Limits())
    session.close(reply.SHUTTING_DOWN)
    session.close(reply.TIMED_OUT)
    session.receive(b"NOOP\r\n")
    assert session.next_event() == Closed()
    assert session.outgoing() == reply.SHUTTING_DOWN.encode()


TEMPORARY = Reply(451, "4.3.0", "come again")
PERMANENT = Reply(550, "5.1.1", "never")
GOOD = Reply(250, "2.0.0", "fine")


@pytest.mark.parametrize(
    ("answers", "one"),
    [
        ([GOOD], GOOD),
        ([GOOD, GOOD], GOOD),
        ([PERMANENT, PERMANENT], PERMANENT),
        ([GOOD, PERMANENT], PERMANENT),
        ([PERMANENT, TEMPORARY], TEMPORARY),  # a 5xx would lose the mail of those who may still get it
        ([GOOD, TEMPORARY], TEMPORARY),
    ],
)
def test_one_reply_for_many_recipients_is_never_too_good_nor_too_final(answers: list[Reply], one: Reply) -> None:
    assert collapse(answers) == one


LINES = st.sampled_from(
    [
        b"EHLO client.example\r\n",
        b"HELO [192.0.2.1]\r\n",
        b"MAIL FROM:<a@example.com>\r\n",
        b"MAIL FROM:<> SIZE=10 BODY=8BITMIME SMTPUTF8\r\n",
        b"MAIL FROM:<> BODY=BINARYMIME ENVID=a+20\r\n",
        b"RCPT TO:<b@example.com> NOTIFY=DELAY\r\n",
        b"RCPT TO:<b@example.com>\r\n",
        b"RCPT TO:<postmaster>\r\n",
        b"DATA\r\n",
        b"BDAT 10\r\n",
        b"BDAT 0\r\n",
        b"BDAT 7 LAST\r\n",
        b"BDAT 5 LAST\r\nabc\r\n",
        b"BDAT 95\r\n",
        b"BDAT 999 LAST\r\n",
        b"BDAT x\r\n",
        b"body\r\n.\r\n",
        b"..\r\n",
        b".\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"\n",
        b"\r",
        b"x" * 100,
    ]
)
ANSWERS = st.lists(st.sampled_from([GOOD, TEMPORARY, PERMANENT]).map(lambda answer: [answer]), max_size=5)
NARROW = Limits(
    command_line_bytes_max=64, content_line_bytes_max=50, message_bytes_max=90, recipients_max=2, errors_max=8
)


@given(pieces=st.lists(LINES | st.binary(max_size=20), max_size=25), answers=ANSWERS)
def test_any_bytes_get_well_formed_replies_and_the_same_ones_bytewise(
    pieces: list[bytes], answers: list[list[Reply]]
) -> None:
    """RFC 5321 §4.2; no exception and no endless loop, whatever comes."""
    at_once, bytewise = Dialogue(NARROW, answers), Dialogue(NARROW, answers)
    heard = b"".join([at_once.feed(piece) for piece in pieces])
    lines = check_replies(heard)
    data = b"".join(pieces)
    heard_bytewise = b"".join([bytewise.feed(data[at : at + 1]) for at in range(len(data))])
    check_replies(heard_bytewise)
    if not any(line.startswith("554 5.5.0") for line in lines):  # who sends bytewise never talks early
        assert heard_bytewise == heard
        assert bytewise.messages == at_once.messages


@given(data=st.binary(max_size=2_000))
def test_arbitrary_bytes_at_once_get_well_formed_replies(data: bytes) -> None:
    check_replies(Dialogue().feed(data))
    check_replies(reach(CONTENT).feed(data))
