"""What is kept of an accepted mail: its id, its bytes, its trace, and the facts that the API shows."""

import email
import email.policy
import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from harness.http_client import HttpAnswer
from harness.instance import Instance
from harness.process import ServiceProcess
from harness.smtp_client import SmtpClient, accepted_id, stuff

SENDER = "customer@sender.example"
VECTORS = Path(__file__).parents[1] / "vectors" / "mail"
MAILS = sorted(VECTORS.rglob("*.eml"))
KIBIBYTE = 1024
HEADER_BYTES_MAX = 256 * KIBIBYTE


def get(instance: Instance, message_id: str, path: str = "") -> HttpAnswer:
    answer = instance.http.call("GET", f"/_readdress/instances/{instance.id}/messages/{message_id}{path}")
    assert answer.status == 200, answer
    return answer


def trace_of(instance: Instance, message_id: str, content: bytes) -> bytes:
    """What stands above the content as it was sent: our Received field alone, which is checked here."""
    body = get(instance, message_id, "/content").body
    assert body[len(body) - len(content) :] == content
    trace = body[: len(body) - len(content)]
    assert re.fullmatch(rb"Received: [^\r\n]+(?:\r\n\t[^\r\n]+)*\r\n", trace), trace
    assert all(len(line) <= 998 for line in trace.split(b"\r\n"))  # RFC 5322 §2.1.1
    return trace


def test_the_message_has_one_id_everywhere(instance: Instance, smtp: SmtpClient, service: ServiceProcess) -> None:
    # contract 6: in the SMTP reply, the Received field, the log, the trace and the API
    address = instance.publish()
    message_id = accepted_id(smtp.mail(SENDER, address.text))
    assert [entry["MessageId"] for entry in instance.http.inbox(instance.id, address.id)] == [message_id]
    assert get(instance, message_id).json["MessageId"] == message_id
    assert f" id {message_id}".encode() in get(instance, message_id, "/content").body
    assert f"message {message_id} " in service.errors


def test_get_message_gives_the_facts(instance: Instance, smtp: SmtpClient) -> None:
    alias, primary = instance.publish("alias"), instance.publish("primary")
    instance.associate(primary=primary.id, alias=alias.id)
    content = b"Subject: the facts\r\n\r\n.\r\n..\r\nbody\r\n"
    typed = alias.text.upper()
    message_id = accepted_id(smtp.mail(SENDER, typed, content=content))
    facts = get(instance, message_id).json
    assert facts["Subject"] == "the facts"
    assert facts["SizeBytes"] == len(content)
    assert facts["Envelope"] == {"Sender": SENDER, "Recipients": [typed]}
    assert facts["Connection"] == {"Peer": "127.0.0.1", "Ehlo": "client.example"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", facts["ReceivedTimestamp"])
    to_alias, to_primary = facts["Deliveries"]
    assert (to_alias["EmailAddressId"], to_alias["EmailAddress"]) == (alias.id, alias.text)
    assert to_alias["Reasons"] == [{"Reason": "DIRECT"}]
    assert (to_primary["EmailAddressId"], to_primary["EmailAddress"]) == (primary.id, primary.text)
    assert to_primary["Reasons"] == [{"Reason": "ALIAS", "AliasId": alias.id}]
    assert to_alias["Recipients"] == to_primary["Recipients"] == [typed]
    assert to_alias["DeliveryId"] != to_primary["DeliveryId"]


def test_final_delivery_puts_its_trace_fields_on_top(instance: Instance, smtp: SmtpClient) -> None:
    # contract 6: Delivered-To, X-Original-To and Return-Path at final delivery (RFC 5321 §4.4, RFC 9228)
    alias, primary = instance.publish("alias"), instance.publish("primary")
    instance.associate(primary=primary.id, alias=alias.id)
    content = b"Return-Path: <forged@sender.example>\r\nSubject: t\r\n\r\nbody\r\n"
    message_id = accepted_id(smtp.mail("", alias.text.upper(), content=content))
    received = trace_of(instance, message_id, content)
    for delivery in get(instance, message_id).json["Deliveries"]:
        body = get(instance, message_id, f"/content?deliveryId={delivery['DeliveryId']}").body
        final = body.removesuffix(received + content).decode().split("\r\n")
        assert sorted(final) == sorted(
            [
                "",
                "Return-Path: <>",
                f"Delivered-To: {delivery['EmailAddress']}",
                f"X-Original-To: {alias.text.upper()}",
            ]
        )


def test_a_null_sender_is_kept_as_such(instance: Instance, smtp: SmtpClient) -> None:
    # contract 6: null sender accepted
    address = instance.publish()
    message_id = accepted_id(smtp.mail("", address.text))
    assert get(instance, message_id).json["Envelope"]["Sender"] == ""
    assert instance.http.inbox(instance.id, address.id)[0]["Sender"] == ""


# The Received field: RFC 5321 §4.4, RFC 3848, RFC 6531 §4.3.


@pytest.mark.parametrize(
    ("greeting", "parameters", "protocol"),
    [
        ("HELO old.example", "", "SMTP"),
        ("EHLO client.example", "", "ESMTP"),
        ("EHLO client.example", " BODY=8BITMIME SIZE=100", "ESMTP"),
        ("EHLO [IPv6:::1]", " SMTPUTF8", "UTF8SMTP"),
    ],
)
def test_the_received_field_says_whence_how_and_when(
    instance: Instance, smtp: SmtpClient, greeting: str, parameters: str, protocol: str
) -> None:
    address = instance.publish()
    assert smtp.say(greeting).startswith("250")
    hostname = smtp.greeting.split()[1]
    content = b"Subject: t\r\n\r\n"
    message_id = accepted_id(smtp.mail(SENDER, address.text, content=content, parameters=parameters))
    field = trace_of(instance, message_id, content).decode()
    words = " ".join(field.split())
    ehlo = greeting.split()[1]
    expected = r"Received: from (\S+) \(\[127\.0\.0\.1\]\) by (\S+) with (\S+) id (\S+) for <(\S+)>; (.+)"
    match = re.fullmatch(expected, words)
    assert match, words
    assert match.groups()[:5] == (ehlo, hostname, protocol, message_id, address.text)
    sent = parsedate_to_datetime(match[6])
    received = get(instance, message_id).json["ReceivedTimestamp"]
    assert sent.strftime("%Y-%m-%dT%H:%M:%S") == received[:19]


@pytest.mark.parametrize("spelling", [str, str.upper])
def test_several_recipients_are_not_named_to_each_other(instance: Instance, smtp: SmtpClient, spelling: Any) -> None:
    # contract 6 and RFC 5321 §7.2: a `for` clause would betray a blind copy
    one, other = instance.publish("one"), instance.publish("other")
    content = b"Subject: t\r\n\r\n"
    message_id = accepted_id(smtp.mail(SENDER, one.text, spelling(other.text), content=content))
    trace = trace_of(instance, message_id, content).lower()
    assert b" for <" not in trace
    assert b"\tfor <" not in trace
    assert one.text.encode() not in trace
    assert other.text.encode() not in trace


# The subject, as the API shows it: RFC 2047, raw UTF-8 (RFC 6532), folded (RFC 5322 §2.2.3), hostile.
SUBJECTS: list[tuple[str, bytes, str | None]] = [
    ("plain", b"Subject: plain words", "plain words"),
    ("letter case", b"SUBJECT:no blank", "no blank"),
    ("blank before colon", b"Subject : odd", "odd"),
    ("empty", b"Subject:", ""),
    ("missing", b"X-Subject: not this", ""),
    ("first of two", b"Subject: first\r\nSubject: second", "first"),
    ("folded", b"Subject: one\r\n two\r\n\tthree", "one two three"),
    ("lookalike in a folded field", b"X-Y: a\r\n Subject: no\r\nSubject: yes", "yes"),
    # RFC 2047 §8
    ("Q", b"Subject: =?ISO-8859-1?Q?a?=", "a"),
    ("Q and text", b"Subject: =?ISO-8859-1?Q?a?= b", "a b"),
    ("Q and Q", b"Subject: =?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
    ("Q folded Q", b"Subject: =?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=", "ab"),
    ("Q with a space", b"Subject: =?ISO-8859-1?Q?a_b?=", "a b"),
    (
        "B",
        b"Subject: =?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?= =?ISO-8859-2?B?dSB1bmRlcnN0YW5kLg==?=",
        "If you can read this you understand.",
    ),
    ("UTF-8 B", b"Subject: =?utf-8?b?w6nDqA==?=", "\u00e9\u00e8"),
    ("raw UTF-8", "Subject: caf\u00e9 \u6f22\u5b57".encode(), "caf\u00e9 \u6f22\u5b57"),
    ("raw Latin-1", b"Subject: caf\xe9!", "caf\ufffd!"),
    ("unknown charset", b"Subject: =?x-nothing?q?a?=", "=?x-nothing?q?a?="),
    ("no charset name", b"Subject: =?\xc3\xa9?q?a?=", "=?\u00e9?q?a?="),
    ("no text codec", b"Subject: =?rot13?q?a?=", "=?rot13?q?a?="),
    ("broken base64", b"Subject: =?utf-8?b?abc?=", "=?utf-8?b?abc?="),
    ("broken UTF-8", b"Subject: =?utf-8?q?=ff?=", "=?utf-8?q?=ff?="),
    ("a line end inside", b"Subject: =?utf-8?q?a=0d=0aX-Forged:_1?=", "a X-Forged: 1"),
    ("NUL and escape inside", b"Subject: =?utf-8?q?a=00=1b[2Jb?=", "a [2Jb"),
    ("a lone surrogate", b"Subject: =?utf-7?q?+2AA-?=", None),
    ("markup", b"Subject: <script>alert(1)</script>", "<script>alert(1)</script>"),
    ("very long", b"Subject: " + b"x" * 5_000, "x" * 998),
    ("very long and folded", b"Subject:" + b"\r\n x" * 5_000, "x " * 499),
]


@pytest.mark.parametrize(("header", "subject"), [case[1:] for case in SUBJECTS], ids=[case[0] for case in SUBJECTS])
def test_a_subject_is_decoded_for_reading_and_kept_as_it_came(
    instance: Instance, smtp: SmtpClient, header: bytes, subject: str | None
) -> None:
    address = instance.publish()
    content = b"From: a@sender.example\r\n" + header + b"\r\n\r\nSubject: of the body\r\n"
    message_id = accepted_id(smtp.mail(SENDER, address.text, content=content))
    shown = get(instance, message_id).json["Subject"]
    if subject is not None:
        assert shown == subject
    assert instance.http.inbox(instance.id, address.id)[0]["Subject"] == shown
    trace_of(instance, message_id, content)


@pytest.mark.parametrize("piece", [b"=?a?q?x", b"=?utf-8?q?a?= ", b"=?a?b?", b"=?"])
def test_a_hostile_subject_delays_nobody(instance: Instance, smtp: SmtpClient, piece: bytes) -> None:
    """What takes the square of its length to decode would stop every other session for a minute."""
    address = instance.publish()
    content = b"Subject: " + (piece * 100 + b"\r\n ") * (2_100 // len(piece)) + b"\r\n\r\n"
    accepted_id(smtp.mail(SENDER, address.text, content=content))


# The bytes: contract 6, kept as received.


def normalise(content: bytes) -> bytes:
    """What a sender has to make of a file: CRLF at every line's end, the last one too."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    return lines if lines.endswith(b"\r\n") else lines + b"\r\n"


def test_there_are_mails_of_every_kind() -> None:
    assert {path.parent.name for path in MAILS} == {"flanker", "bsd", "dos", "mac", "not"}
    assert len(MAILS) > 50


@pytest.mark.parametrize("path", MAILS, ids=lambda path: str(path.relative_to(VECTORS)))
def test_a_real_mail_keeps_every_byte(instance: Instance, smtp: SmtpClient, path: Path) -> None:
    address = instance.publish()
    content = normalise(path.read_bytes())
    message_id = accepted_id(smtp.mail(SENDER, address.text, content=content, parameters=" BODY=8BITMIME"))
    trace_of(instance, message_id, content)
    facts = get(instance, message_id).json
    assert facts["SizeBytes"] == len(content)
    parsed = email.message_from_bytes(content, policy=email.policy.compat32)
    subject = parsed["Subject"]
    if subject is None:
        assert facts["Subject"] == ""
    elif str(subject).isascii() and "=?" not in str(subject):
        assert facts["Subject"] == str(subject).replace("\r\n", "").strip()
    elif "=?" in str(subject):
        assert facts["Subject"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"no header at all\r\n",
        b"\r\nbody only\r\n",
        b"Subject: header only\r\n",
        b".\r\n..\r\n...\r\n",
        bytes(byte for byte in range(1, 256) if byte not in b"\r\n") + b"\r\n",
        b"Subject: t\r\n\r\n" + b"x" * 60_000 + b"\r\n",
    ],
    ids=["empty", "one line end", "no header", "no field", "no body", "dots", "every byte", "long line"],
)
def test_an_odd_message_keeps_every_byte(instance: Instance, smtp: SmtpClient, content: bytes) -> None:
    address = instance.publish()
    message_id = accepted_id(smtp.mail(SENDER, address.text, content=content))
    trace_of(instance, message_id, content)
    assert get(instance, message_id).json["SizeBytes"] == len(content)


@pytest.mark.parametrize("size_bytes", [size + by for size in (262_144, 524_288, 3_000_000) for by in (-1, 0, 1)])
def test_a_long_message_keeps_every_byte_in_both_inboxes(instance: Instance, smtp: SmtpClient, size_bytes: int) -> None:
    alias, primary = instance.publish("alias"), instance.publish("primary")
    instance.associate(primary=primary.id, alias=alias.id)
    head, line = b"Subject: long\r\n\r\n", b".%06d, a line of forty octets with CRLF\r\n"
    count = (size_bytes - len(head)) // len(line % 0) - 1
    content = head + b"".join(line % number for number in range(count))
    content += b"y" * (size_bytes - len(content) - 2) + b"\r\n"
    message_id = accepted_id(smtp.mail(SENDER, alias.text, content=content))
    trace_of(instance, message_id, content)
    facts = get(instance, message_id).json
    assert facts["SizeBytes"] == len(content) == size_bytes
    assert facts["Subject"] == "long"
    for address in (alias, primary):
        assert [entry["MessageId"] for entry in instance.http.inbox(instance.id, address.id)] == [message_id]


# What is refused after DATA.


def header_of(size_bytes: int) -> bytes:
    """A header of exactly so many octets, its empty line included."""
    line = b"X-Filler: " + b"x" * 900 + b"\r\n"
    filled = line * (size_bytes // len(line) - 1)
    rest = size_bytes - len(filled) - len(b"X: \r\n\r\n")
    return filled + b"X: " + b"y" * rest + b"\r\n\r\n"


def in_pieces(content: bytes, piece_bytes: int) -> Iterator[bytes]:
    for at in range(0, len(content), piece_bytes):
        yield content[at : at + piece_bytes]


@pytest.mark.parametrize("body", [b"", b"b" * 100 + b"\r\n", (b"b" * 100 + b"\r\n") * 9_000], ids=len)
@pytest.mark.parametrize(
    ("size_bytes", "is_accepted"),
    [(HEADER_BYTES_MAX, True), (HEADER_BYTES_MAX + 1, False), (300 * KIBIBYTE, False), (500 * KIBIBYTE, False)],
)
def test_a_header_over_a_quarter_mebibyte_is_refused_however_it_comes(
    instance: Instance, smtp: SmtpClient, size_bytes: int, is_accepted: bool, body: bytes
) -> None:
    # contract 6: too big 552 5.3.4
    address = instance.publish()
    content = header_of(size_bytes) + body
    assert content.find(b"\r\n\r\n") == size_bytes - 4
    for piece_bytes in (len(content) + 5, 70_000):
        assert smtp.begin(SENDER, address.text).startswith("354")
        for piece in in_pieces(stuff(content), piece_bytes):
            smtp.send(piece)
        assert smtp.read_reply().startswith("250 2.0.0 " if is_accepted else "552 5.3.4 ")


@pytest.mark.parametrize("field", [b"Received: from a by b; now\r\n", b"RECEIVED : from a\r\n\tby b;\r\n now\r\n"])
@pytest.mark.parametrize("body", [b"", b"Received: in the body\r\n" * 60, b"line\r\n" * 100_000], ids=len)
def test_a_message_with_51_received_fields_is_in_a_loop(
    instance: Instance, smtp: SmtpClient, field: bytes, body: bytes
) -> None:
    # contract 6: more than 50 Received is 554 5.4.6
    address = instance.publish()
    others = b"Subject: t\r\nReceived-SPF: pass\r\nX-Received: x\r\n\r\n"
    fine = accepted_id(smtp.mail(SENDER, address.text, content=field * 50 + others + body))
    assert smtp.mail(SENDER, address.text, content=field * 51 + others + body).startswith("554 5.4.6 ")
    assert [entry["MessageId"] for entry in instance.http.inbox(instance.id, address.id)] == [fine]


@pytest.mark.parametrize("stray", [b"\n", b"\r", b"\0"])
@pytest.mark.parametrize("before", [b"", b"line\r\n" * 100_000], ids=len)
def test_a_bare_line_end_is_refused_and_nothing_is_stored(
    instance: Instance, smtp: SmtpClient, stray: bytes, before: bytes
) -> None:
    # contract 6: 550 5.5.2
    address = instance.publish()
    assert smtp.mail(SENDER, address.text, content=before + b"a" + stray + b"b\r\n").startswith("550 5.5.2 ")
    assert instance.http.inbox(instance.id, address.id) == []
