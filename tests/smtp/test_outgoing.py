"""What the client is asked to send: nothing that could break out of its line is ever constructed."""

from typing import Any

import pytest

from harness.outgoing import outgoing, recipient
from readdress.smtp.grammar import Path
from readdress.smtp.outgoing import RECIPIENTS_MAX, ClientTimeouts, OutgoingMail, Target
from readdress.smtp.session import Recipient

BREAKS = ["\r\nRSET", "\n", "\r", "\0", " X=1", "> SIZE=1", "\x7f", "\u2028", "\ud800"]


@pytest.mark.parametrize("text", BREAKS)
def test_no_path_or_parameter_breaks_out_of_its_line(text: str) -> None:
    mailbox = f"a{text}@x.example"
    bad: list[dict[str, Any]] = [
        {"sender": mailbox, "smtputf8": True},
        {"ret": f"FULL{text}"},
        {"envelope_id": f"q{text}"},
    ]
    if text != "\u2028":  # a letter like others to RFC 6531 §3.3, and no line end on the wire
        for members in bad:
            with pytest.raises(ValueError):
                outgoing(**members)
        with pytest.raises(ValueError):
            outgoing(Recipient(Path(mailbox, None)), smtputf8=True)
    for asked in ({"notify": f"NEVER{text}"}, {"original": f"rfc822;a{text}"}):
        with pytest.raises(ValueError):
            outgoing(recipient("b@x.example", **asked))


@pytest.mark.parametrize(
    "members",
    [
        {"sender": "nobody"},
        {"sender": "<a@x.example>"},
        {"sender": "é@x.example"},
        {"ret": "ALL"},
        {"envelope_id": "a=b"},
        {"envelope_id": "x" * 101},
        {"size_bytes": -1},
    ],
)
def test_what_is_no_envelope_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        outgoing(**members)


@pytest.mark.parametrize(
    "asked", [{"notify": "ALWAYS"}, {"notify": "NEVER,DELAY"}, {"original": "no-type"}, {"original": "rfc822;a=b"}]
)
def test_what_asks_for_no_notice_is_refused(asked: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        outgoing(recipient("b@x.example", **asked))


def test_a_mail_has_recipients_up_to_a_limit() -> None:
    one = [recipient("b@x.example")]
    outgoing(*one * RECIPIENTS_MAX)
    with pytest.raises(ValueError, match="recipients"):
        outgoing(*one * (RECIPIENTS_MAX + 1))
    with pytest.raises(ValueError, match="recipients"):
        OutgoingMail(sender="", recipients=[], content=outgoing().content, size_bytes=0)


def test_the_null_sender_and_postmaster_alone_are_sound() -> None:
    assert outgoing("Postmaster", "postmaster@x.example", sender="").sender == ""  # RFC 5321 §4.5.1, §4.5.5


@pytest.mark.parametrize(
    "members",
    [
        {"host": ""},
        {"host": "a b"},
        {"host": "a..b"},
        {"host": ".a"},
        {"host": "a."},
        {"host": "x" * 64 + ".example"},
        {"host": "mx.example\r\n"},
        {"host": "é.example"},
        {"host": "mx.example", "port": 0},
        {"host": "mx.example", "port": 65_536},
        {"host": "mx.example", "addresses": ("mx.example",)},
        {"host": "mx.example", "addresses": ("192.0.2.1",) * 9},
        {"unix_path": "x" * 108},
        {"unix_path": "/a\0b"},
        {"unix_path": "/a", "tls": "require"},
        {"host": "mx.example", "username": "a\0b"},
        {"host": "mx.example", "password": "secret"},
        {"host": "mx.example", "username": "a", "password": "x" * 4_097},
    ],
)
def test_what_is_no_target_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Target(**members)


@pytest.mark.parametrize("host", ["mx.example", "192.0.2.1", "2001:db8::1", "::1", "fe80::1%eth0", "_x.example", "a"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    assert Target(host=host).host == host


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Target(host="mx.example", username="a", password="secret"))


@pytest.mark.parametrize("name", ["connect_s", "final_s", "total_s"])
def test_a_time_out_is_some_time(name: str) -> None:
    with pytest.raises(ValueError):
        ClientTimeouts(**{name: 0})
