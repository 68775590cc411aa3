"""The client against real servers: smtp-sink with each of its refusals, our own doors, and a Postfix."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop

from harness.certificates import write_certificate
from harness.http_client import HttpClient
from harness.outgoing import CONTENT, HOSTNAME, TIMEOUTS, local, outgoing
from harness.postfix import ALIAS_TO_MAILDIRS, Postfix
from harness.process import DEV_INSTANCE, ServiceProcess, free_port, split_address
from harness.programs import require, require_program
from harness.smtp_sink import SmtpSink
from readdress.smtp.client import send
from readdress.smtp.outgoing import OutgoingMail, SendResult, Target

PIECE_BYTES = 262_144
DELIVERY_SECONDS_MAX = 20
DELIVERED = ("delivered", "content")


def deliver(
    target: Target, mail: OutgoingMail, make_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> SendResult:
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(send(target, mail, timeouts=TIMEOUTS, hostname=HOSTNAME))


def summary(result: SendResult) -> list[tuple[str, str]]:
    return [(one.outcome.value, one.stage) for one in result.recipients]


def in_pieces(content: bytes) -> list[bytes]:
    places = [*range(0, len(content), PIECE_BYTES), len(content)]
    return [content[start:end] for start, end in pairwise(places)]


# smtp-sink.


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp())
    made.chmod(0o777)  # smtp-sink does not stay root
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], DELIVERED),
        (["-8", "-E", "-N", "-p", "-a"], DELIVERED),
        (["-e"], DELIVERED),
        (["-P"], DELIVERED),
        (["-W", ".:1"], DELIVERED),
        (["-f", "CONNECT"], ("temporary", "greeting")),
        (["-f", "EHLO"], DELIVERED),
        (["-f", "EHLO,HELO"], ("temporary", "ehlo")),
        (["-f", "MAIL"], ("permanent", "mail")),
        (["-f", "RCPT"], ("permanent", "rcpt")),
        (["-f", "DATA"], ("permanent", "data")),
        (["-f", "."], ("permanent", "content")),
        (["-f", "QUIT"], DELIVERED),
        (["-r", "CONNECT"], ("temporary", "greeting")),
        (["-r", "EHLO"], ("temporary", "ehlo")),
        (["-r", "MAIL"], ("temporary", "mail")),
        (["-r", "RCPT"], ("temporary", "rcpt")),
        (["-r", "DATA"], ("temporary", "data")),
        (["-r", "."], ("temporary", "content")),
        (["-q", "CONNECT"], ("temporary", "greeting")),
        (["-q", "EHLO"], ("temporary", "ehlo")),
        (["-q", "MAIL"], ("temporary", "mail")),
        (["-q", "RCPT"], ("temporary", "rcpt")),
        (["-q", "DATA"], ("temporary", "data")),
        (["-q", "."], ("temporary", "content")),
        (["-q", "QUIT"], DELIVERED),
        (["-Q", "MAIL"], ("temporary", "mail")),
        (["-Q", "RCPT"], ("temporary", "rcpt")),
        (["-Q", "DATA"], ("temporary", "data")),
        (["-Q", "."], ("temporary", "content")),
        (["-p", "-Q", "RCPT"], ("temporary", "rcpt")),
    ],
    ids=" ".join,
)
def test_smtp_sink_refuses_at_each_command(folder: Path, options: list[str], expected: tuple[str, str]) -> None:
    with SmtpSink(folder, *options) as sink:
        result = deliver(local(sink.port), outgoing("b@x.example", "c@x.example"))
    assert summary(result) == [expected] * 2
    if expected == DELIVERED:
        (dump,) = folder.iterdir()
        assert dump.read_bytes().endswith(b"(UTC)\n" + CONTENT.replace(b"\r\n", b"\n") + b"\n")
        assert b"X-Rcpt-Args: <c@x.example>" in dump.read_bytes()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-L"], DELIVERED),
        (["-L", "-p", "-N"], DELIVERED),
        (["-L", "-f", "LHLO"], ("temporary", "ehlo")),
        (["-L", "-f", "."], ("permanent", "content")),
        (["-L", "-r", "."], ("temporary", "content")),
        (["-L", "-q", "."], ("temporary", "content")),
    ],
    ids=" ".join,
)
def test_smtp_sink_speaks_lmtp(folder: Path, options: list[str], expected: tuple[str, str]) -> None:
    with SmtpSink(folder, *options) as sink:
        result = deliver(local(sink.port, lmtp=True), outgoing("b@x.example", "c@x.example"))
    assert summary(result) == [expected] * 2


def test_smtp_sink_hears_what_is_asked_about_notices(folder: Path) -> None:
    with SmtpSink(folder) as sink:
        result = deliver(local(sink.port), outgoing(ret="HDRS", envelope_id="q7"))
    assert result.has_dsn
    (dump,) = folder.iterdir()
    assert b"RET=HDRS ENVID=q7\n" in dump.read_bytes()


def test_a_refusal_before_the_end_of_a_large_message_is_heard(folder: Path) -> None:
    content = (b"x" * 998 + b"\r\n") * 20_000
    with SmtpSink(folder, "-A", "0") as sink:
        result = deliver(local(sink.port), outgoing(content=in_pieces(content)))
    (one,) = result.recipients
    # Its 550 may be lost when the connection is reset under what is still being sent.
    assert (one.outcome.value, one.stage) in {("permanent", "content"), ("temporary", "content")}
    assert one.enhanced in {"5.0.0", "4.4.2"}


# Our own doors.

CONTENTS = {
    "leading dots": b".\r\n..\r\n.a\r\n\r\n.\r\nQUIT\r\n",
    "eight bits": b"Subject: \xe9\xff\x80\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
    "long lines": b"x" * 60_000 + b"\r\n" + b"y" * 5_000 + b"\r\n",
    "no final line end": b"Subject: t\r\n\r\nend",
    "empty": b"",
    "five megabytes": b"Subject: t\r\n\r\n" + (b".123456789abcdef" * 61 + b"\r\n") * 5_200,
}


class Doors:
    """Readdress, with every door it has."""

    def __init__(self, folder: Path) -> None:
        self.authority, key = write_certificate(folder, serial_number=1)
        environment = {"READDRESS_TLS_CERTIFICATE": str(self.authority), "READDRESS_TLS_KEY": str(key)}
        options = ["--lmtp", "127.0.0.1:0", "--smtp-tls", "127.0.0.1:0"]
        self.process = ServiceProcess(folder / "data", *options, environment=environment)
        client = self.process.connect()
        self.ids = {
            name: client.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=f"{name}@example.com")[
                "EmailAddressId"
            ]
            for name in ("one", "two")
        }

    def target(self, door: str) -> Target:
        tls: dict[str, Any] = {"host": "localhost", "addresses": ("127.0.0.1",), "ca_file": str(self.authority)}
        match door:
            case "lmtp":
                return local(split_address(self.process.lmtp)[1], lmtp=True)
            case "starttls":
                return local(self.process.smtp_address[1], tls="require", **tls)
            case "implicit":
                return local(split_address(self.process.smtps)[1], tls="implicit", **tls)
            case _:
                return local(self.process.smtp_address[1])

    def newest(self, name: str) -> bytes:
        """The content of what came last, below our Received field."""
        with HttpClient(self.process.http_address) as http:
            message_id = http.inbox(DEV_INSTANCE, self.ids[name])[0]["MessageId"]
            body = http.call("GET", f"/_readdress/instances/{DEV_INSTANCE}/messages/{message_id}/content").body
        return body.partition(b"+0000\r\n")[2]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    opened = Doors(tmp_path_factory.mktemp("doors"))
    yield opened
    opened.process.stop()


@pytest.mark.parametrize("door", ["smtp", "lmtp", "starttls", "implicit"])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=list(CONTENTS))
def test_every_byte_arrives_at_every_door(doors: Doors, door: str, content: bytes) -> None:
    mail = outgoing("one@example.com", content=in_pieces(content), body="8BITMIME")
    result = deliver(doors.target(door), mail)
    assert summary(result) == [DELIVERED], result
    assert result.tls == ("TLSv1.3" if door in {"starttls", "implicit"} else None)
    assert doors.newest("one") == content  # RFC 3030: a chunk needs no line end


@pytest.mark.parametrize("door", ["smtp", "lmtp", "starttls", "implicit"])
def test_the_same_on_the_event_loop_of_the_service(doors: Doors, door: str) -> None:
    content = CONTENTS["five megabytes"]
    for _ in range(3):
        result = deliver(
            doors.target(door), outgoing("two@example.com", content=in_pieces(content)), uvloop.new_event_loop
        )
        assert summary(result) == [DELIVERED], result
    assert doors.newest("two") == content


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
def test_refused_recipients_are_told_from_accepted_ones(doors: Doors, door: str) -> None:
    mail = outgoing("ghost@example.com", "one@example.com", "x@elsewhere.example", "two@example.com")
    result = deliver(doors.target(door), mail)
    assert [one.enhanced for one in result.recipients] == ["5.1.1", "2.0.0", "5.7.1", "2.0.0"]
    assert doors.newest("one") == doors.newest("two") == CONTENT


def test_a_message_too_big_is_refused_by_its_size(doors: Doors) -> None:
    (one,) = deliver(doors.target("smtp"), outgoing("one@example.com", size_bytes=41 * 1024 * 1024)).recipients
    assert (one.outcome.value, one.enhanced, one.is_remote) == ("permanent", "5.3.4", False)


def test_many_recipients_have_as_many_transactions_as_they_need(doors: Doors) -> None:
    result = deliver(doors.target("smtp"), outgoing(*["one@example.com"] * 250))
    assert summary(result) == [DELIVERED] * 250
    assert len({one.reply for one in result.recipients}) == 3


def test_an_address_beyond_ascii_arrives(doors: Doors) -> None:
    client = doors.process.connect()
    client.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress="jos\u00e9@example.com")
    result = deliver(doors.target("smtp"), outgoing("jos\u00e9@example.com", smtputf8=True))
    assert summary(result) == [DELIVERED]


def test_lmtp_over_a_socket_in_the_file_system(start_service: Callable[..., ServiceProcess], tmp_path: Path) -> None:
    path = tmp_path / "lmtp.sock"
    service = start_service("--lmtp", f"unix:{path}")
    service.connect().create_email_address(InstanceId=DEV_INSTANCE, EmailAddress="help@example.com")
    target = Target(unix_path=str(path), lmtp=True, tls="none")
    for make_loop in (None, uvloop.new_event_loop):
        result = deliver(target, outgoing("help@example.com", "ghost@example.com"), make_loop)
        assert [one.enhanced for one in result.recipients] == ["2.0.0", "5.1.1"]
        assert result.address == str(path)
    (one,) = deliver(Target(unix_path=f"{path}.not", tls="none"), outgoing()).recipients
    assert (one.outcome.value, one.enhanced, one.stage) == ("temporary", "4.4.1", "connect")


# Postfix, with BDAT and without.


@pytest.fixture(scope="module", params=["", "smtpd_discard_ehlo_keywords = chunking\n"], ids=["bdat", "data"])
def postfix(request: pytest.FixtureRequest) -> Iterator[Postfix]:
    require_program("postfix")
    if os.geteuid() != 0:
        require("Postfix wants to be started by root")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # Postfix' own users have to come through
    server = Postfix(folder / "postfix", free_port(), ALIAS_TO_MAILDIRS + request.param)
    yield server
    server.stop()
    shutil.rmtree(folder)


def test_every_byte_arrives_in_a_maildir_of_postfix(postfix: Postfix) -> None:
    inbox = postfix.folder / "mail" / "primary" / "new"
    mail = {name: content for name, content in CONTENTS.items() if name != "long lines"}  # it breaks those at 998
    for name, content in mail.items():
        marked = b"X-Name: " + name.encode() + b"\r\n\r\n" + content
        result = deliver(
            local(postfix.port), outgoing("primary@example.com", content=in_pieces(marked), body="8BITMIME")
        )
        assert summary(result) == [DELIVERED], result
        assert result.has_dsn
    for name, content in mail.items():
        expected = content.replace(b"\r\n", b"\n")
        # By BDAT the last line goes without an end, too, and Postfix gives it one.
        expected += b"" if expected[-1:] in {b"\n", b""} else b"\n"
        assert _wait_for(inbox, b"X-Name: " + name.encode() + b"\n").partition(b"\n\n")[2] == expected, name


def _wait_for(inbox: Path, field: bytes) -> bytes:
    """The message in the Maildir that has the field."""
    deadline = time.monotonic() + DELIVERY_SECONDS_MAX
    while time.monotonic() < deadline:
        for path in inbox.iterdir() if inbox.is_dir() else ():
            if field in (message := path.read_bytes()):
                return message
        time.sleep(0.05)
    raise AssertionError(f"Postfix did not deliver {field!r} in time")


def test_postfix_knows_who_is_refused(postfix: Postfix) -> None:
    result = deliver(local(postfix.port), outgoing("primary@example.com", "ghost@example.com"))
    assert summary(result) == [DELIVERED, ("permanent", "rcpt")]
    assert [one.enhanced for one in result.recipients] == ["2.0.0", "5.1.1"]
