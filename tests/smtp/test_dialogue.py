"""What a client hears and says, without sockets: replies in every split, what EHLO offers, and command lines."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.outgoing import outgoing, recipient
from readdress.smtp.dialogue import (
    REPLY_CHARACTERS_MAX,
    BadReply,
    Features,
    RemoteReply,
    ReplyReader,
    check_sendable,
    mail_command,
    parse_features,
    rcpt_command,
)
from readdress.smtp.outgoing import Failure, Outcome

WIRE = b"250-a\r\n250 2.1.0 b\r\n421\r\n"
REPLIES = [RemoteReply(250, "2.1.0", ("a", "b")), RemoteReply(421, "", ("",))]


def read(*pieces: bytes) -> list[RemoteReply]:
    reader = ReplyReader()
    replies = []
    for piece in pieces:
        reader.feed(piece)
        while (reply := reader.next_reply()) is not None:
            replies.append(reply)
    return replies


def features(*lines: str) -> Features:
    return parse_features(RemoteReply(250, "", ("host.example", *lines)))


def test_replies_are_the_same_in_every_split() -> None:
    for places in combinations(range(len(WIRE) + 1), 2):
        edges = [0, *places, len(WIRE)]
        assert read(*(WIRE[start:end] for start, end in pairwise(edges))) == REPLIES


@pytest.mark.parametrize(
    ("wire", "text", "status"),
    [
        (b"550 5.1.1 no such user\r\n", "550 5.1.1 no such user", "5.1.1"),
        (b"550-5.1.1 no\r\n550 5.1.1 such user\r\n", "550 5.1.1 no such user", "5.1.1"),
        (b"550 no\r\n", "550 no", "5.0.0"),
        (b"550 4.1.1 no\r\n", "550 4.1.1 no", "5.0.0"),  # RFC 2034 §4: the class is the code's
        (b"250 2.1.5\r\n", "250 2.1.5", "2.1.5"),
        (b"250\r\n", "250", "2.0.0"),  # RFC 5321 §4.2: the text may be missing
        (b"250 \r\n", "250", "2.0.0"),
        (b"250 lf only\n", "250 lf only", "2.0.0"),
        (b"451 a\tb\x1b[2Jc\x7f\r\n", "451 a b [2Jc", "4.0.0"),
        ("451 é\u202e\u2028x\r\n".encode(), "451 é x", "4.0.0"),
        (b"451 \xff\r\n", "451 \ufffd", "4.0.0"),
        (b"451 " + b"x" * 1_000 + b"\r\n", "451 " + "x" * 496, "4.0.0"),
        (b"550 5.1.10 null\r\n", "550 5.1.10 null", "5.1.10"),
        (b"550 5.1.1234 x\r\n", "550 5.1.1234 x", "5.0.0"),
    ],
)
def test_a_reply_is_one_clean_line(wire: bytes, text: str, status: str) -> None:
    (reply,) = read(wire)
    assert (str(reply), reply.status) == (text, status)


@pytest.mark.parametrize(
    "wire",
    [
        b"hello\r\n",
        b"\r\n",
        b"25\r\n",
        b"2500 x\r\n",
        b"250x\r\n",
        b"150 x\r\n",  # RFC 5321 §4.2.1 has no 1yz
        b"650 x\r\n",
        b"\xb2\xb50 x\r\n",
        b"250-a\r\n251 b\r\n",
        b"250-a\r\nb\r\n",
        b"250 a\0b\r\n",
        b"250 a\rb\r\n",
        b"250 a\r\r\n",
        b" 250 a\r\n",
        b"250 " + b"x" * 2_044 + b"\r\n",
        b"x" * 2_048,
        b"250-x\r\n" * 100,
    ],
)
def test_what_is_no_reply_is_told_at_once(wire: bytes) -> None:
    with pytest.raises(BadReply):
        read(wire)


def test_limits_of_a_reply_are_exact() -> None:
    assert len(read(b"250 " + b"x" * 2_042 + b"\r\n")) == 1
    assert len(read(b"250-x\r\n" * 99 + b"250 x\r\n")[0].lines) == 100


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_are_replies_or_bad(pieces: list[bytes]) -> None:
    try:
        replies = read(*pieces)
    except BadReply:
        return
    for reply in replies:
        assert 200 <= reply.code < 600
        assert len(str(reply)) <= REPLY_CHARACTERS_MAX
        assert str(reply).isprintable() or "\ufffd" in str(reply) or not str(reply).isascii()


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(250, Outcome.DELIVERED), (251, Outcome.DELIVERED), (450, Outcome.TEMPORARY), (552, Outcome.PERMANENT)],
)
def test_the_class_digit_decides(code: int, outcome: Outcome) -> None:
    assert RemoteReply(code, "", ()).outcome is outcome


def test_keywords_are_read_whatever_their_case_and_odd_lines_are_passed_over() -> None:
    offered = features("pipelining", "SIZE 1000", "AUTH plain LOGIN", "", "-x", "a_b c", "Limits RCPTMAX=7 MAILMAX=2")
    assert offered.offers("PIPELINING")
    assert offered.size_bytes_max == 1_000
    assert offered.auth_mechanisms == {"PLAIN", "LOGIN"}
    assert (offered.recipients_max, offered.transactions_max) == (7, 2)  # RFC 9422 §3
    assert not offered.offers("HOST.EXAMPLE")


@pytest.mark.parametrize("line", ["SIZE", "SIZE 0", "SIZE x", "SIZE -1", "SIZE ²", "SIZE " + "9" * 21])
def test_a_size_that_says_nothing_limits_nothing(line: str) -> None:
    assert features(line).size_bytes_max is None  # RFC 1870 §4


@pytest.mark.parametrize("line", ["LIMITS", "LIMITS RCPTMAX", "LIMITS RCPTMAX=0", "LIMITS RCPTMAX=x RCPTMAX=500"])
def test_a_limit_that_makes_no_sense_is_none(line: str) -> None:
    assert features(line).recipients_max == 100
    assert features("LIMITS RCPTMAX=500").recipients_max == 100


@pytest.mark.parametrize(
    ("lines", "members", "said"),
    [
        ((), {}, "MAIL FROM:<a@sender.example>"),
        ((), {"sender": ""}, "MAIL FROM:<>"),
        (("SIZE",), {"size_bytes": 5}, "MAIL FROM:<a@sender.example> SIZE=5"),
        ((), {"body": "8BITMIME"}, "MAIL FROM:<a@sender.example>"),
        (("8BITMIME",), {}, "MAIL FROM:<a@sender.example>"),
        (("8BITMIME",), {"body": "8BITMIME"}, "MAIL FROM:<a@sender.example> BODY=8BITMIME"),
        (("SMTPUTF8",), {"smtputf8": True, "sender": "é@x.example"}, "MAIL FROM:<é@x.example> SMTPUTF8"),
        (("SMTPUTF8",), {}, "MAIL FROM:<a@sender.example>"),
        (("DSN",), {"ret": "HDRS", "envelope_id": "q+2B1"}, "MAIL FROM:<a@sender.example> RET=HDRS ENVID=q+2B1"),
        ((), {"ret": "HDRS", "envelope_id": "q"}, "MAIL FROM:<a@sender.example>"),
        (
            ("BINARYMIME", "CHUNKING", "8BITMIME"),
            {"body": "BINARYMIME"},
            "MAIL FROM:<a@sender.example> BODY=BINARYMIME",
        ),
    ],
)
def test_mail_says_what_was_offered_and_no_more(lines: tuple[str, ...], members: dict[str, object], said: str) -> None:
    mail = outgoing(**members)  # type: ignore[arg-type]
    assert mail_command(mail, features(*lines)) == f"{said}\r\n".encode()


def test_rcpt_passes_on_what_was_asked_about_notices() -> None:
    # RFC 3461 §4.1, §4.2
    to = recipient('"b c"@x.example', notify="SUCCESS,DELAY", original="rfc822;b+2Bc@x.example")
    assert rcpt_command(to, features(), smtputf8=False) == b'RCPT TO:<"b c"@x.example>\r\n'
    said = b'RCPT TO:<"b c"@x.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bc@x.example\r\n'
    assert rcpt_command(to, features("DSN"), smtputf8=False) == said


def test_an_original_recipient_outside_ascii_is_encoded_where_smtputf8_is_not_used() -> None:
    # RFC 6533 §3
    to = recipient("b@x.example", original="utf-8;jos\u00e9@x.example")
    assert b"ORCPT=utf-8;jos\\x{E9}@x.example" in rcpt_command(to, features("DSN"), smtputf8=False)
    assert "ORCPT=utf-8;jos\u00e9@x.example".encode() in rcpt_command(to, features("DSN"), smtputf8=True)


@pytest.mark.parametrize(
    ("lines", "members", "enhanced"),
    [
        (("SIZE 20",), {"size_bytes": 21}, "5.3.4"),  # RFC 1870 §6.1
        (("SIZE 20",), {"size_bytes": 20}, None),
        ((), {"smtputf8": True}, "5.6.7"),  # RFC 6531 §3.5
        (("SMTPUTF8",), {"smtputf8": True}, None),
        ((), {"body": "BINARYMIME"}, "5.6.3"),  # RFC 3030 §3
        (("BINARYMIME",), {"body": "BINARYMIME"}, "5.6.3"),
        (("CHUNKING",), {"body": "BINARYMIME"}, "5.6.3"),
        (("CHUNKING", "BINARYMIME"), {"body": "BINARYMIME"}, None),
        ((), {"body": "8BITMIME"}, None),
    ],
)
def test_what_a_host_cannot_take_is_permanent(
    lines: tuple[str, ...], members: dict[str, object], enhanced: str | None
) -> None:
    mail = outgoing(**members)  # type: ignore[arg-type]
    if enhanced is None:
        check_sendable(mail, features(*lines))
        return
    with pytest.raises(Failure) as raised:
        check_sendable(mail, features(*lines))
    assert (raised.value.enhanced, raised.value.outcome) == (enhanced, Outcome.PERMANENT)
