"""What was sent is what is stored: every byte below our trace fields, in an inbox, a Maildir, a store and past a relay.

Sealed and checked all the same, since that is how it runs; signatures by the senders hold at the end of the way.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import dkim
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.checked_mail import ZONE, connect, mail_of
from harness.dns_zone import DnsServer
from harness.engine import Engine
from harness.signed_mail import key_text, rsa_key, sign
from harness.smtp_client import SmtpClient, accepted_id, stuff
from harness.two_hosts import Place, TwoHosts

pytestmark = pytest.mark.usefixtures("engine")

VECTORS = Path(__file__).parents[1] / "vectors"
SENDER = "a@reject.example"
TRANSPORTS = ("inbox", "files", "store", "relay")
BATCH = 20
LINE_BYTES_MAX = 65_000
MEBIBYTE = 1_048_576

# What a hop of ours may put on top, and nothing else.
TRACE = {
    *(
        b"authentication-results",
        b"received",
        b"delivered-to",
        b"x-original-to",
        b"return-path",
        b"x-readdress-delivery-id",
    ),
    *(b"arc-seal", b"arc-message-signature", b"arc-authentication-results"),
}


class Mail(NamedTuple):
    """`way` is DATA, BDAT or BINARYMIME; only content that ends with CRLF can come by DATA."""

    content: bytes
    way: str = "DATA"


@pytest.fixture(scope="module")
def hosts(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    with DnsServer(ZONE) as dns:
        two = TwoHosts(tmp_path_factory.mktemp("fidelity"), dns)
        yield two
        two.stop()


def send_all(client: SmtpClient, recipients: Sequence[str], mails: Sequence[Mail]) -> list[str]:
    """With all commands of a mail in one go (RFC 2920 §3.1), and its content too where it comes in a chunk."""
    ids: list[str] = []
    for mail in mails:
        body = "BINARYMIME" if mail.way == "BINARYMIME" else "8BITMIME"
        commands = [f"MAIL FROM:<{SENDER}> BODY={body}", *(f"RCPT TO:<{recipient}>" for recipient in recipients)]
        last = b"DATA\r\n" if mail.way == "DATA" else b"BDAT %d LAST\r\n" % len(mail.content) + mail.content
        client.send("".join(f"{command}\r\n" for command in commands).encode() + last)
        for command in commands:
            assert client.read_reply().startswith("250"), command
        if mail.way == "DATA":
            assert client.read_reply().startswith("354")
            client.send(stuff(mail.content))
        ids.append(accepted_id(client.read_reply()))
    return ids


def deliver(hosts: TwoHosts, mails: Sequence[Mail]) -> list[dict[str, bytes]]:
    """Each mail as it came to rest in each place, after it is found to be there byte by byte."""
    places = [hosts.publish(transport) for transport in TRANSPORTS]
    with connect(hosts.first.smtp) as client:
        ids = send_all(client, [place.text for place in places], mails)
    return [
        {place.transport: check(hosts, place, message_id, mail) for place in places}
        for message_id, mail in zip(ids, mails, strict=True)
    ]


def check(hosts: TwoHosts, place: Place, message_id: str, mail: Mail) -> bytes:
    stored, content, line_end = hosts.stored(place, message_id), mail.content, b"\r\n"
    if place.transport == "files":
        line_end = b"\n"
        content = content if mail.way == "BINARYMIME" else content.replace(b"\r\n", b"\n")
    trace = stored[: len(stored) - len(content)]
    assert stored[len(trace) :] == content, (place.transport, mail)
    assert trace.endswith(line_end)
    assert not set(b"\r\n") & set(trace.replace(line_end, b""))
    names = [line.partition(b":")[0].lower() for line in trace.split(line_end)[:-1] if line[:1] not in b" \t"]
    assert set(names) <= TRACE, names
    assert names.count(b"received") == (1 if place.transport in ("inbox", "files") else 2)
    return stored


# Real mails.


def normalise(content: bytes) -> bytes:
    """What a sender makes of a file: CRLF at every line's end, the last one too."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    return lines if lines.endswith(b"\r\n") else lines + b"\r\n"


def with_its_body_as_it_is(content: bytes) -> bytes:
    """A header in order, and whatever line ends the body has: mail for BINARYMIME."""
    header, empty_line, body = re.split(rb"(\r\n\r\n|\n\n|\r\r)", content + b"\n\n", maxsplit=1)
    assert empty_line
    return normalise(header) + b"\r\n" + body


REAL = sorted((VECTORS / "mail").rglob("*.eml"))


def test_there_are_some_hundreds_of_them() -> None:
    generated = _MODERATELY.max_examples * BATCH // 2
    assert 2 * len(REAL) + len(ODD) + generated > 250


@pytest.mark.parametrize("first", range(0, len(REAL), BATCH))
def test_real_mails_keep_every_byte(hosts: TwoHosts, first: int) -> None:
    # contract 6: a message is never parsed and written anew
    raw = [path.read_bytes() for path in REAL[first : first + BATCH]]
    deliver(hosts, [Mail(normalise(content)) for content in raw])
    deliver(hosts, [Mail(with_its_body_as_it_is(content), "BINARYMIME") for content in raw])


# Odd ones.

_EVERY_BYTE = bytes(byte for byte in range(1, 256) if byte not in b"\r\n")
_HEAD = b"From: a@reject.example\r\nSubject: odd\r\n"
ODD: dict[str, Mail] = {
    "empty": Mail(b""),
    "one line end": Mail(b"\r\n"),
    "nothing in chunks": Mail(b"", "BDAT"),
    "no line end": Mail(b"x", "BDAT"),
    "no header": Mail(b"just words, and no field\r\n"),
    "no body": Mail(_HEAD),
    "no empty line, no line end": Mail(_HEAD.removesuffix(b"\r\n"), "BDAT"),
    "body alone": Mail(b"\r\nFrom: in the body\r\n"),
    "begins with a folded line": Mail(b" folded: into nothing\r\n" + _HEAD + b"\r\nx\r\n"),
    "begins with a tab": Mail(b"\tfolded\r\n" + _HEAD),
    "a colon alone": Mail(b": no name\r\n" + _HEAD + b"\r\nx\r\n"),
    "a field that never ends": Mail(b"X: " + b"\r\n y" * 20_000 + b"\r\n\r\nx\r\n"),
    "mbox's From line": Mail(b"From a@b Thu Jan  1 00:00:00 1970\r\n" + _HEAD + b"\r\nFrom here\r\n"),
    "dots": Mail(b".\r\n..\r\n...\r\n.x\r\n \r\n.\r\n"),
    "an end of mail within": Mail(_HEAD + b"\r\n.\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<z@y.example>\r\nDATA\r\n"),
    "dots in chunks, without an end": Mail(_HEAD + b"\r\n.\r\n.", "BDAT"),
    "every byte": Mail(_HEAD + b"\r\n" + _EVERY_BYTE + b"\r\n"),
    "every byte in the header": Mail(b"X-Odd: " + _EVERY_BYTE + b"\r\n" + _EVERY_BYTE + b": x\r\n\r\n"),
    "Latin-1": Mail("From: Bj\xf6rn <a@reject.example>\r\nSubject: \xfc\r\n\r\n\xe9\r\n".encode("latin-1")),
    "UTF-8 cut in two": Mail(_HEAD + b"\r\n\xc3\r\n\xa9\r\n\xf0\x9f\r\n"),
    "a byte order mark": Mail(b"\xef\xbb\xbf" + _HEAD + b"\r\nx\r\n"),
    "white space at line ends": Mail(_HEAD + b"\r\nx \t \r\n \r\n\t\r\n\r\n\r\n"),
    "empty lines alone": Mail(_HEAD + b"\r\n" * 500),
    "a long line": Mail(_HEAD + b"\r\n" + b"x" * LINE_BYTES_MAX + b"\r\n"),
    "a long line of dots": Mail(_HEAD + b"\r\n" + b"." * LINE_BYTES_MAX + b"\r\n"),
    "a long field": Mail(b"X-Long: " + b"y" * LINE_BYTES_MAX + b"\r\n\r\nx\r\n"),
    "form feeds and the like": Mail(_HEAD + b"\r\n\x0b\x0c\x1c\x1d\x1e\x85\xe2\x80\xa8\r\n"),
    "end of file by DOS": Mail(_HEAD + b"\r\nx\r\n\x1a\r\n"),
    "MIME without its parts": Mail(_HEAD + b'Content-Type: multipart/mixed; boundary="x"\r\n\r\nno part\r\n'),
    "MIME that never ends": Mail(_HEAD + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\n" * 300),
    "MIME in a circle": Mail(_HEAD + b"Content-Type: message/rfc822\r\n\r\n" * 60),
    "base64 that is none": Mail(_HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n\xff=\r\n=====\r\n"),
    "two headers": Mail(_HEAD * 2 + b"Received: from nowhere\r\n" * 40 + b"\r\nx\r\n"),
    "results of others": Mail(b"Authentication-Results: other.example; none\r\n" * 5 + _HEAD + b"\r\nx\r\n"),
    "ours in the body": Mail(_HEAD + b"\r\nAuthentication-Results: mx.example.org; none\r\n"),
    "binary": Mail(_HEAD + b"\r\n" + bytes(range(256)) * 40, "BINARYMIME"),
    "binary line ends": Mail(_HEAD + b"\r\n\n\r\r\n\r.\r\n.\n.\r\r\n", "BINARYMIME"),
    "one byte over a part": Mail(_HEAD + b"\r\n" + (b"x" * 98 + b"\r\n") * 2_621 + b"y" * 7 + b"\r\n"),
    "many parts": Mail(_HEAD + b"\r\n" + (b".x" * 480 + b"\r\n") * 3_000),
}


@pytest.mark.parametrize("first", range(0, len(ODD), BATCH))
def test_odd_mails_keep_every_byte(hosts: TwoHosts, first: int) -> None:
    deliver(hosts, list(ODD.values())[first : first + BATCH])


def test_25_megabytes_keep_every_byte(hosts: TwoHosts) -> None:
    head = mail_of(SENDER, body=b"")
    body = b"".join(b".%08d %s\r\n" % (number, b"\xe9x" * 480) for number in range(25 * MEBIBYTE // 970))
    content = sign(head + body, domain="reject.example", canonicalize=(b"simple", b"simple"))
    (stored,) = deliver(hosts, [Mail(content)])
    assert b"dkim=pass" in stored["relay"].partition(b"\r\n\r\n")[0]


# Generated ones.

_WORDS = [
    *(b"Content-Type: multipart/mixed; boundary=x", b"--x", b"--x--", b"Content-Transfer-Encoding: quoted-printable"),
    *(b"Subject: =?utf-8?q?=ff", b"To: =?x?b?!?=", b"From: a@reject.example", b"Message-ID: <", b"DKIM-Signature: v=1"),
    *(b"ARC-Seal: i=1; cv=none", b"ARC-Message-Signature: i=99", b"Date: yesterday", b"begin 644 x", b"=3D=", b"="),
    *(b".", b"..", b".x", b" ", b"\t", b"", b"", b"QUIT", b"DATA", b"-- ", b"From x", b">From x"),
]
_LINES = st.one_of(
    st.sampled_from(_WORDS),
    st.binary(max_size=120).map(lambda line: line.translate(None, b"\r\n\0")),
    st.text(max_size=60).map(lambda line: re.sub(r"[\r\n\0]", "", line).encode("utf-8", "replace")),
    st.builds(
        lambda byte, count: bytes([byte]) * count, st.sampled_from(b".x \t\xff"), st.integers(900, LINE_BYTES_MAX)
    ),
)
_TEXTS = st.lists(_LINES, max_size=12).map(b"\r\n".join)
_GENERATED = st.one_of(
    st.builds(lambda text: Mail(text + b"\r\n"), _TEXTS),
    st.builds(lambda text: Mail(text, "BDAT"), _TEXTS),
    st.builds(lambda body: Mail(_HEAD + b"\r\n" + body, "BINARYMIME"), st.binary(max_size=2_000)),
)
_MODERATELY = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@_MODERATELY
@given(mails=st.lists(_GENERATED, min_size=BATCH // 2, max_size=BATCH))
def test_generated_mails_keep_every_byte(hosts: TwoHosts, mails: list[Mail]) -> None:
    deliver(hosts, mails)


@_MODERATELY
@given(bodies=st.lists(_TEXTS, min_size=3, max_size=6))
def test_generated_signatures_hold_past_a_relay(hosts: TwoHosts, bodies: list[bytes]) -> None:
    # RFC 6376 §3.4.1, §3.4.3: in the simple form, which bears no change of a byte
    mails = [
        Mail(sign(mail_of(SENDER, body=body + b"\r\n"), domain="reject.example", canonicalize=(b"simple", b"simple")))
        for body in bodies
    ]
    for stored in deliver(hosts, mails):
        for transport in ("inbox", "store", "relay"):
            assert dkim.verify(stored[transport], dnsfunc=lambda *_, **__: key_text(rsa_key()).encode())
        assert stored["relay"].partition(b"\r\n\r\n")[0].count(b"\r\nARC-Seal: ") == 1
