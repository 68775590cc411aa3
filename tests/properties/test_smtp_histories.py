"""Random sessions against the real server, intake and database, of which a statement fails, or none.

Whatever is said, no session of the server's breaks, every reply is well formed, what was accepted is stored and nothing
else is. What fails here is never told as the sender's fault: the first reply that differs from what the same session
hears with a sound database is a 4xx.
"""

import asyncio
import logging
import re
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from harness.directory import associate, publish
from harness.engine import open_beside
from harness.failing_database import FailingDatabase, Failure
from harness.smtp_client import stuff
from harness.tables import check_promises
from readdress.mail import intake
from readdress.mail.intake import Intake
from readdress.smtp import grammar, reply
from readdress.smtp.connection import Connection, Door, Timeouts
from readdress.smtp.peers import PeerLimits, Peers, parse_networks
from readdress.smtp.server import SmtpServer
from readdress.smtp.session import Limits
from readdress.smtp.tarpit import Tarpit
from readdress.store.database import Database, StoreFull, StoreUnavailable

HOSTNAME = "mx.example"
WAIT_S_MAX = 20
RECIPIENTS = ["alias@example.com", "primary@example.com", "free@example.com", "free+x@example.com", "postmaster"]
STRANGERS = ["ghost@example.com", "b@elsewhere.example", "no mailbox"]
LIMITS = Limits(message_bytes_max=500_000, recipients_max=4, errors_max=12)
# Python's own words are in the texts of errors, and in no reply.
INSIDE = re.compile(r"statement|error:|traceback|sqlite|postgres", re.IGNORECASE)
ACCEPTED = re.compile(r"250 2\.0\.0 accepted (\S+)")


@dataclass
class Said:
    """What a session heard, line by line, and what of it could not be true."""

    lines: list[str] = field(default_factory=list)
    errors: list[logging.LogRecord] = field(default_factory=list)

    @property
    def ids(self) -> set[str]:
        return {match[1] for line in self.lines if (match := ACCEPTED.fullmatch(line))}

    def without_ids(self) -> list[str]:
        return [ACCEPTED.sub("250 2.0.0 accepted", line) for line in self.lines]


def make_door(database: Database, *, lmtp: bool) -> Door:
    return Door(
        "lmtp" if lmtp else "smtp",
        Intake(database, hostname=HOSTNAME),
        hostname=HOSTNAME,
        limits=LIMITS,
        timeouts=Timeouts(),
        connections_max=2,
        peers=Peers(PeerLimits(1, 1, 1, 1), unlimited=parse_networks("127.0.0.0/8")),
        tarpit=Tarpit(after_errors=5, delay_s=0),
        lmtp=lmtp,
    )


def has_read(connections: set[Connection], sent_bytes: int) -> bool:
    """Whether the only connection has taken all of it in, and waits for more or is over."""
    for connection in connections:
        waiter = connection._waiter
        return connection._tally.received_bytes == sent_bytes and waiter is not None and not waiter.done()
    return True


class Client(asyncio.Protocol):
    """Keeps all that it hears, also when the connection is reset under what nobody has read."""

    def __init__(self) -> None:
        self.heard = b""
        self.is_over = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over.set_result(None)


async def talk(door: Door, pieces: Sequence[bytes]) -> list[str]:
    """Each piece is said once what came before is done with, so that the same pieces always make the same session."""
    loop = asyncio.get_running_loop()
    server = SmtpServer(door)
    listening = socket.create_server(("127.0.0.1", 0))
    await server.start([listening])
    transport, client = await loop.create_connection(Client, *listening.getsockname())
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            while not client.heard:
                await asyncio.sleep(0)
            sent_bytes = 0
            for piece in pieces:
                sent_bytes += len(piece)
                transport.write(piece)
                while not (has_read(door.connections, sent_bytes) or client.is_over.done()):
                    await asyncio.sleep(0)
                if not door.connections:
                    break
            if not transport.is_closing():
                transport.write_eof()
            await client.is_over
    finally:
        transport.abort()
        await server.stop()
    return client.heard.decode("ascii").removesuffix("\r\n").split("\r\n")


class Keeping(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def errors_logged() -> Iterator[list[logging.LogRecord]]:
    """What the server logs as errors of its own."""
    handler = Keeping(logging.ERROR)
    log = logging.getLogger("readdress")
    log.addHandler(handler)
    yield handler.records
    log.removeHandler(handler)


def hold_session(database: Database, pieces: Sequence[bytes], *, lmtp: bool, failure: Failure | None = None) -> Said:
    """A whole session, after which exactly what was accepted is in the database, whole, besides what was before."""
    before = stored_ids(database)
    used = FailingDatabase(database, failure) if failure else database
    with errors_logged() as errors:
        said = Said(asyncio.run(talk(make_door(used, lmtp=lmtp), pieces)), errors)
    check_lines(said.lines)
    assert stored_ids(database) - before == said.ids, said.lines
    return said


def stored_ids(database: Database) -> set[str]:
    with open_beside(database) as rows:
        return {message_id for (message_id,) in rows.execute("SELECT id FROM message").fetchall()}


def check_lines(lines: list[str]) -> None:
    for line in lines:
        assert re.fullmatch(r"[2-5][0-5][0-9][ -][\x20-\x7e]+", line), line
        assert not INSIDE.search(line), line


# What senders say: whole mails, sound or not, with anything between.


def join(*lines: str) -> bytes:
    return b"".join(f"{line}\r\n".encode() for line in lines)


@dataclass(frozen=True)
class Odd:
    """Some octets, so many times."""

    octets: bytes
    times: int = 1

    def pieces(self) -> list[bytes]:
        return [self.octets * self.times]


@dataclass(frozen=True)
class Mail:
    """A whole mail: its envelope at once or line by line, its content by DATA or in chunks."""

    sender: str
    recipients: list[str]
    head: str
    body: str
    way: str
    is_pipelined: bool

    def pieces(self) -> list[bytes]:
        lines = [f"MAIL FROM:<{self.sender}>", *(f"RCPT TO:<{recipient}>" for recipient in self.recipients)]
        envelope = [join(*lines)] if self.is_pipelined else [join(line) for line in lines]
        content = HEADS[self.head] + BODIES[self.body]
        if self.way == "data":
            sound = content.endswith(b"\r\n")
            return [*envelope, b"DATA\r\n", stuff(content) if sound else content + b"\r\n.\r\n"]
        cut = len(content) // 2 if self.way == "chunks" else 0
        first = [b"BDAT %d\r\n%b" % (cut, content[:cut])] if cut else []
        return [*envelope, *first, b"BDAT %d LAST\r\n%b" % (len(content) - cut, content[cut:])]


LINE = b"x" * 76 + b"\r\n"
SUBJECT = b"Subject: t\r\n\r\n"
SOUND_HEADS = {"subject": SUBJECT, "no header": b""}
HEADS = SOUND_HEADS | {"a loop": b"Received: x\r\n" * 51, "a line too long": b"X: " + b"y" * 70_000}
# "staged" is more than a part of the database, "too big" more than the limit.
SOUND_BODIES = {"short": b"body\r\n", "dots": b".\r\n..\r\n", "staged": LINE * 4_000}
BODIES = SOUND_BODIES | {"too big": LINE * 8_000, "a bare LF": b"a\nb\r\n", "a NUL": b"\0\r\n", "no line end": b"x"}
WAYS = st.sampled_from(["data", "chunk", "chunks"])
SOUND_MAILS = st.builds(
    Mail,
    sender=st.sampled_from(["a@sender.example", ""]),
    recipients=st.lists(st.sampled_from(RECIPIENTS), min_size=1, max_size=3),
    head=st.sampled_from(sorted(SOUND_HEADS)),
    body=st.sampled_from(sorted(SOUND_BODIES)),
    way=WAYS,
    is_pipelined=st.booleans(),
)
ODD_MAILS = st.builds(
    Mail,
    sender=st.sampled_from(["a@sender.example", "not@a@path"]),
    recipients=st.lists(st.sampled_from(RECIPIENTS + STRANGERS), max_size=5),
    head=st.sampled_from(sorted(HEADS)),
    body=st.sampled_from(sorted(BODIES)),
    way=WAYS,
    is_pipelined=st.booleans(),
)
WORDS = [
    *(b"RSET\r\n", b"NOOP\r\n", b"DATA\r\n", b"VRFY x\r\n", b"STARTTLS\r\n", b".\r\n", b"\r\n", b"\n", b"\r"),
    *(b"MAIL FROM:<a@sender.example> SIZE=999999\r\n", b"MAIL FROM:<> BODY=BINARYMIME ENVID=x\r\n"),
    *(b"RCPT TO:<free@example.com> NOTIFY=NEVER\r\n", b"BDAT 5\r\n", b"BDAT 3 LAST\r\nabc", b"BDAT 0 LAST\r\n"),
    *(b"BDAT x\r\n", b"EHLO again.example\r\n", b"HELO again.example\r\n", b"LHLO again.example\r\n"),
    *(b"\0\r\n", b"QUIT\r\n"),
]
ODD = st.builds(Odd, st.sampled_from(WORDS) | st.binary(max_size=30)) | st.sampled_from(
    [Odd(b"x", 3_000), Odd(b"y", 100_000)]
)
PLAIN_MAIL = Mail("a@sender.example", RECIPIENTS[:2], "subject", "short", "data", is_pipelined=False)
STEPS = st.lists(st.one_of(SOUND_MAILS, SOUND_MAILS, ODD_MAILS, ODD), min_size=1, max_size=6)
HELLO = {False: b"EHLO client.example\r\n", True: b"LHLO client.example\r\n"}
ERRORS = (StoreUnavailable, StoreFull, RuntimeError)
FAILURES = st.builds(
    Failure, at=st.integers(1, 40), after=st.booleans(), lasting=st.booleans(), error=st.sampled_from(ERRORS)
)


@dataclass
class History:
    """What random sessions did, all in all."""

    database: Database
    lmtp: bool
    seen: Counter[str] = field(default_factory=Counter)

    def check(self, steps: Sequence[Mail | Odd], failure: Failure) -> None:
        pieces = [HELLO[self.lmtp], *(piece for step in steps for piece in step.pieces())]
        sound = hold_session(self.database, pieces, lmtp=self.lmtp)
        assert sound.errors == [], sound.errors
        failing = hold_session(self.database, pieces, lmtp=self.lmtp, failure=failure)
        check_promises(self.database)
        self.seen["accepted"] += len(sound.ids)
        pairs = zip(sound.without_ids(), [*failing.without_ids(), ""], strict=False)
        differing = next((said for expected, said in pairs if said != expected), None)
        assert differing is None or differing.startswith("4"), (differing, sound.lines, failing.lines)
        self.seen["told as ours"] += differing is not None
        assert differing is None or failure.happened

    def run(self, **more: Any) -> None:
        @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), **more)
        @given(steps=STEPS, failure=FAILURES)
        @example(
            steps=[PLAIN_MAIL], failure=Failure(2, lasting=True)
        )  # few runs may happen to make nothing that is accepted
        def run(steps: list[Mail | Odd], failure: Failure) -> None:
            self.check(steps, Failure(failure.at, failure.after, failure.lasting, failure.error))

        run()


@pytest.fixture(params=[False, True], ids=["smtp", "lmtp"])
def history(request: pytest.FixtureRequest, database: Database) -> History:
    for change in (
        *(publish(name, f"{name}@example.com") for name in ("alias", "primary", "free")),
        associate("alias", "primary"),
    ):
        database.run(change)
    return History(database, request.param)


@pytest.mark.parametrize(
    "examples",
    [40, pytest.param(2_000, marks=[pytest.mark.torture, pytest.mark.timeout(3_600)])],
    ids=["short", "long"],
)
def test_whatever_is_said_what_is_accepted_is_stored_and_our_faults_are_ours(history: History, examples: int) -> None:
    # contract 6
    history.run(max_examples=examples)
    assert history.seen["accepted"] > examples // 100
    assert history.seen["told as ours"] > examples // 100


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_an_error_of_our_own_at_any_statement_ends_the_session_with_451(history: History, lasting: bool) -> None:
    """Also where what has come of a message can't be dropped any more: the sender is told, and its place is free."""
    mail = Mail("a@sender.example", RECIPIENTS[:2], "subject", "staged", "data", is_pipelined=True)
    pieces = [HELLO[history.lmtp], *mail.pieces()]
    for at in count(1):
        failure = Failure(at, lasting=lasting, error=RuntimeError)
        said = hold_session(history.database, pieces, lmtp=history.lmtp, failure=failure)
        if not failure.happened:
            break
        # On PostgreSQL what fails among others runs again alone, and has succeeded then.
        assert said.lines[-1] == str(reply.STORE_TROUBLE) or (said.ids and not lasting)
    assert at > 5


# The sessions find what is wrong: each of these is a mistake that the code could have.


async def say_so_and_store_nothing(incoming: intake.Incoming, *_: Any) -> list[reply.Reply]:
    return [reply.accepted(incoming.id)] * len(incoming._envelope.recipients)


async def store_and_say_otherwise(incoming: intake.Incoming, *arguments: Any) -> list[reply.Reply]:
    await _store(incoming, *arguments)
    return [reply.STORE_TROUBLE] * len(incoming._envelope.recipients)


def break_on_bare_line_ends(path: str) -> Any:
    if path == "" or "\\" in path:
        raise IndexError
    return _parse_command(path)


_store, _parse_command = intake.Incoming._store, grammar.parse_command
MISTAKES: dict[str, tuple[Any, str, Any]] = {
    "our fault is told as theirs": (reply, "STORE_TROUBLE", reply.Reply(554, "5.3.0", "cannot store")),
    "accepted and not stored": (intake.Incoming, "_store", say_so_and_store_nothing),
    "stored and not accepted": (intake.Incoming, "_store", store_and_say_otherwise),
    "a session breaks": (grammar, "parse_command", break_on_bare_line_ends),
}


@pytest.mark.sqlite_only
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(monkeypatch: pytest.MonkeyPatch, history: History, mistake: str) -> None:
    monkeypatch.setattr(*MISTAKES[mistake])
    with pytest.raises(AssertionError):
        history.run(
            max_examples=200,
            derandomize=True,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            print_blob=False,
        )
