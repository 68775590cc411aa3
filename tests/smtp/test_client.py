"""The client against a host that follows a script: what it says for what was offered, and what each reply comes to."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from harness.outgoing import CONTENT, HOSTNAME, TIMEOUTS, local, outgoing, recipient, summary
from harness.scripted_host import BYE, GREETING, Hear, HearChunk, HearContent, Step, ehlo, scripted_host, send_to
from readdress.smtp.client import send
from readdress.smtp.outgoing import Outcome, SendResult


def taking(*keywords: str, recipients: int = 1) -> list[Step]:
    """A host that takes a mail, each command answered when it was heard."""
    asked: list[Step] = [step for _ in range(recipients) for step in (Hear("RCPT"), "250 2.1.5 ok")]
    begun = [GREETING, *ehlo(*keywords), Hear("MAIL"), "250 2.1.0 ok", *asked]
    return [*begun, Hear("DATA"), "354 go on", HearContent(), "250 2.0.0 taken as 7", *BYE]


def test_a_mail_is_delivered_and_the_result_says_how() -> None:
    result, (heard,) = send_to(outgoing(), taking())
    (one,) = result.recipients
    assert one.outcome is Outcome.DELIVERED
    assert (one.reply, one.enhanced, one.stage) == ("250 2.0.0 taken as 7", "2.0.0", "content")
    assert one.is_remote
    assert (result.host, result.tls, result.has_dsn) == ("127.0.0.1", None, False)
    assert result.address.startswith("127.0.0.1:")
    assert heard.lines == [
        "EHLO client.example",
        "MAIL FROM:<a@sender.example>",
        "RCPT TO:<b@host.example>",
        "DATA",
        "QUIT",
    ]
    assert heard.contents == [CONTENT]


def test_helo_where_ehlo_is_not_known() -> None:
    # RFC 5321 §3.2
    script = [GREETING, Hear("EHLO"), "502 what?", Hear("HELO"), "250 host.example", *taking()[3:]]
    result, (heard,) = send_to(outgoing(), script)
    assert summary(result) == [("delivered", "2.0.0", "content")]
    assert heard.lines[:3] == ["EHLO client.example", "HELO client.example", "MAIL FROM:<a@sender.example>"]


def test_pipelining_sends_the_envelope_at_once() -> None:
    # RFC 2920 §3.1: the host answers nothing before it has heard DATA
    replies = "250 ok\r\n250 ok\r\n550 5.1.1 who?\r\n354 go on"
    script = [GREETING, *ehlo("PIPELINING"), Hear("DATA"), replies, HearContent(), "250 2.0.0 ok", *BYE]
    result, (heard,) = send_to(outgoing("b@host.example", "c@host.example"), script)
    assert summary(result) == [("delivered", "2.0.0", "content"), ("permanent", "5.1.1", "rcpt")]
    assert heard.contents == [CONTENT]


def test_when_every_recipient_is_refused_a_pipelined_data_is_ended_with_a_lone_dot() -> None:
    # RFC 2920 §3.1
    replies = "250 ok\r\n550 5.1.1 who?\r\n354 go on"
    script = [GREETING, *ehlo("PIPELINING"), Hear("DATA"), replies, HearContent(), "554 5.5.1 nobody", *BYE]
    result, (heard,) = send_to(outgoing(), script)
    assert summary(result) == [("permanent", "5.1.1", "rcpt")]
    assert heard.contents == [b""]
    assert heard.lines[-1] == "QUIT"


@pytest.mark.parametrize("keywords", [(), ("PIPELINING", "CHUNKING")], ids=["plain", "chunking"])
def test_when_every_recipient_is_refused_no_content_is_begun(keywords: tuple[str, ...]) -> None:
    refused: list[Step] = [Hear("MAIL"), "250 ok", Hear("RCPT"), "550 5.1.1 who?"]
    result, (heard,) = send_to(outgoing(), [GREETING, *ehlo(*keywords), *refused, *BYE])
    assert summary(result) == [("permanent", "5.1.1", "rcpt")]
    assert heard.lines[-1] == "QUIT"
    assert not any(line.startswith(("DATA", "BDAT")) for line in heard.lines)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("450 4.2.0 later", ("temporary", "4.2.0", "mail")),
        ("550 5.7.1 not you", ("permanent", "5.7.1", "mail")),
        ("552 too big", ("permanent", "5.0.0", "mail")),
        ("421 4.3.2 closing", ("temporary", "4.3.2", "mail")),
    ],
)
@pytest.mark.parametrize("keywords", [(), ("PIPELINING",)], ids=["plain", "pipelining"])
def test_a_refused_sender_is_every_recipients_result(
    keywords: tuple[str, ...], reply: str, expected: tuple[str, str, str]
) -> None:
    rest = ["503 no\r\n503 no\r\n503 no", *BYE] if keywords else BYE
    script = [GREETING, *ehlo(*keywords), Hear("DATA" if keywords else "MAIL"), reply, *rest]
    result, _ = send_to(outgoing("b@host.example", "c@host.example"), script)
    assert summary(result) == [expected] * 2


def test_each_recipient_has_the_outcome_of_its_own_reply() -> None:
    replies = ["250 ok", "450 4.2.1 later", "452 4.5.3 too many", "550 5.1.1 who?", "552 5.2.2 full", "552 too many"]
    steps: list[Step] = [step for reply in replies for step in (Hear("RCPT"), reply)]
    script = [GREETING, *ehlo(), Hear("MAIL"), "250 ok", *steps, Hear("DATA"), "354 go", HearContent(), "250 ok", *BYE]
    result, _ = send_to(outgoing(*(f"r{number}@host.example" for number in range(6))), script)
    assert summary(result) == [
        ("delivered", "2.0.0", "content"),
        ("temporary", "4.2.1", "rcpt"),
        ("temporary", "4.5.3", "rcpt"),
        ("permanent", "5.1.1", "rcpt"),
        ("permanent", "5.2.2", "rcpt"),
        ("temporary", "4.5.3", "rcpt"),  # RFC 5321 §4.5.3.1.10
    ]
    assert result.recipients[5].reply == "552 too many"


@pytest.mark.parametrize("keywords", [(), ("PIPELINING",)], ids=["plain", "pipelining"])
def test_421_at_a_recipient_leaves_what_was_answered_before(keywords: tuple[str, ...]) -> None:
    # RFC 5321 §3.8
    replies = ["250 ok", "550 5.1.1 who?", "421 4.3.2 closing"]
    if keywords:
        steps: list[Step] = [Hear("DATA"), "\r\n".join(["250 ok", *replies])]
    else:
        steps = [Hear("MAIL"), "250 ok", *(step for reply in replies for step in (Hear("RCPT"), reply))]
    result, _ = send_to(
        outgoing(*(f"r{number}@host.example" for number in range(4))), [GREETING, *ehlo(*keywords), *steps]
    )
    closing = ("temporary", "4.3.2", "rcpt")
    assert summary(result) == [closing, ("permanent", "5.1.1", "rcpt"), closing, closing]
    assert result.recipients[3].is_remote


@pytest.mark.parametrize(
    ("reply", "expected"),
    [("451 4.3.0 later", ("temporary", "4.3.0", "data")), ("554 5.7.0 no", ("permanent", "5.7.0", "data"))],
)
def test_a_refused_data_is_the_result_of_those_accepted(reply: str, expected: tuple[str, str, str]) -> None:
    script = [*taking()[:7], Hear("DATA"), reply, *BYE]
    result, _ = send_to(outgoing(), script)
    assert summary(result) == [expected]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("451 4.3.0 later", ("temporary", "4.3.0", "content")),
        ("554 5.6.0 spam", ("permanent", "5.6.0", "content")),
        ("421 4.3.2 closing", ("temporary", "4.3.2", "content")),
        (b"", ("temporary", "4.4.2", "content")),  # lost before the last reply: it may come twice, and is not lost
    ],
)
def test_the_reply_to_the_content_decides(reply: Step, expected: tuple[str, str, str]) -> None:
    script = [*taking()[:10], reply]
    assert summary(send_to(outgoing(), script)[0]) == [expected]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (["554 5.7.1 not here", *BYE], ("temporary", "4.7.1", "greeting")),  # RFC 5321 §3.1
        (["421 too busy"], ("temporary", "4.0.0", "greeting")),
        ([], ("temporary", "4.4.2", "greeting")),
        ([GREETING, Hear("EHLO"), "451 4.3.0 later", *BYE], ("temporary", "4.3.0", "ehlo")),
        ([GREETING, Hear("EHLO"), "500 no", Hear("HELO"), "550 no", *BYE], ("temporary", "4.0.0", "ehlo")),
        ([GREETING, Hear("EHLO")], ("temporary", "4.4.2", "ehlo")),
    ],
)
def test_before_mail_everything_is_temporary(script: list[Step], expected: tuple[str, str, str]) -> None:
    result, _ = send_to(outgoing("b@host.example", "c@host.example"), script)
    assert summary(result) == [expected] * 2


def test_a_host_that_does_not_listen_is_temporary() -> None:
    async def refused() -> SendResult:
        async with scripted_host() as host:
            port = host.port
        return await send(local(port), outgoing(), timeouts=TIMEOUTS, hostname=HOSTNAME)

    result = asyncio.run(refused())
    assert summary(result) == [("temporary", "4.4.1", "connect")]
    assert result.recipients[0].reply == "cannot connect to 127.0.0.1: connection refused"
    assert (result.address, result.tls, result.recipients[0].is_remote) == ("", None, False)


def test_the_first_address_that_takes_the_connection_is_used() -> None:
    script = taking()
    result, _ = send_to(outgoing(), script, host="mx.invalid", addresses=("127.0.0.2", "::1", "127.0.0.1"))
    assert summary(result) == [("delivered", "2.0.0", "content")]
    assert (result.host, result.address.rpartition(":")[0]) == ("mx.invalid", "127.0.0.1")


def test_a_name_without_address_is_temporary(tmp_path: Any) -> None:
    result, _ = send_to(outgoing(), host="no-such-host.invalid")  # RFC 6761 §6.4
    assert [(one.outcome, one.stage) for one in result.recipients] == [(Outcome.TEMPORARY, "connect")]
    assert result.recipients[0].enhanced == "4.4.3"


def test_a_hostname_that_could_break_a_line_is_refused() -> None:
    with pytest.raises(ValueError, match="neither"):
        asyncio.run(send(local(25), outgoing(), timeouts=TIMEOUTS, hostname="x\r\nMAIL"))


def test_what_a_host_cannot_take_is_said_without_asking() -> None:
    result, (heard,) = send_to(outgoing(content=b"x" * 11 + b"\r\n"), [GREETING, *ehlo("SIZE 12"), *BYE])
    assert summary(result) == [("permanent", "5.3.4", "mail")]
    assert not result.recipients[0].is_remote
    assert heard.lines[-1] == "QUIT"


def test_notices_are_passed_on_where_dsn_is_offered() -> None:
    to = recipient("b@host.example", notify="NEVER", original="rfc822;x@y.example")
    result, (heard,) = send_to(outgoing(to, ret="FULL", envelope_id="q1"), taking("DSN"))
    assert result.has_dsn
    assert heard.lines[1:3] == [
        "MAIL FROM:<a@sender.example> RET=FULL ENVID=q1",
        "RCPT TO:<b@host.example> NOTIFY=NEVER ORCPT=rfc822;x@y.example",
    ]


# More recipients than fit.


def transaction(count: int, *, verb: str = "MAIL") -> list[Step]:
    asked: list[Step] = [step for _ in range(count) for step in (Hear("RCPT"), "250 ok")]
    return [Hear(verb), "250 ok", *asked, Hear("DATA"), "354 go", HearContent(), "250 2.0.0 ok"]


def test_more_recipients_than_the_host_takes_have_a_further_transaction() -> None:
    # RFC 9422 §3.2
    again: list[Step] = [Hear("RSET"), "250 ok"]
    script = [GREETING, *ehlo("LIMITS RCPTMAX=2"), *transaction(2), *again, *transaction(2), *again, *transaction(1)]
    result, (heard,) = send_to(outgoing(*(f"r{number}@host.example" for number in range(5))), [*script, *BYE])
    assert summary(result) == [("delivered", "2.0.0", "content")] * 5
    assert heard.contents == [CONTENT] * 3


def test_the_rest_of_the_recipients_is_temporary_where_transactions_are_limited_too() -> None:
    script = [GREETING, *ehlo("LIMITS RCPTMAX=2 MAILMAX=1"), *transaction(2), *BYE]
    result, _ = send_to(outgoing(*(f"r{number}@host.example" for number in range(3))), script)
    assert summary(result)[1:] == [("delivered", "2.0.0", "content"), ("temporary", "4.5.3", "mail")]


def test_a_sender_refused_once_is_not_asked_about_again() -> None:
    script = [GREETING, *ehlo("LIMITS RCPTMAX=1"), Hear("MAIL"), "550 5.7.1 not you", *BYE]
    result, (heard,) = send_to(outgoing("b@host.example", "c@host.example"), script)
    assert summary(result) == [("permanent", "5.7.1", "mail")] * 2
    assert heard.lines[-1] == "QUIT"


def test_what_was_delivered_stays_so_when_a_further_transaction_is_lost() -> None:
    script = [GREETING, *ehlo("LIMITS RCPTMAX=1"), *transaction(1), Hear("RSET")]
    result, _ = send_to(outgoing("b@host.example", "c@host.example"), script)
    assert summary(result) == [("delivered", "2.0.0", "content"), ("temporary", "4.4.2", "mail")]


# LMTP.


def test_lmtp_has_a_reply_for_each_recipient_that_was_accepted() -> None:
    # RFC 2033 §4.2
    asked = "250 ok\r\n250 ok\r\n550 5.1.1 who?\r\n250 ok\r\n250 ok\r\n354 go"
    replies = "250 2.1.5 first\r\n452 4.2.2 full\r\n554 5.6.0 no"
    script = [GREETING, *ehlo("PIPELINING", verb="LHLO"), Hear("DATA"), asked, HearContent(), replies, *BYE]
    result, (heard,) = send_to(outgoing(*(f"r{number}@host.example" for number in range(4))), script, lmtp=True)
    assert summary(result) == [
        ("delivered", "2.1.5", "content"),
        ("permanent", "5.1.1", "rcpt"),
        ("temporary", "4.2.2", "content"),
        ("permanent", "5.6.0", "content"),
    ]
    assert heard.lines[0] == "LHLO client.example"


def test_lmtp_that_ends_among_its_replies_leaves_the_rest_temporary() -> None:
    script = [GREETING, *ehlo(verb="LHLO"), *transaction(3)[:-1], "250 2.0.0 ok\r\n421 4.3.2 closing"]
    result, _ = send_to(outgoing(*(f"r{number}@host.example" for number in range(3))), script, lmtp=True)
    closing = ("temporary", "4.3.2", "content")
    assert summary(result) == [("delivered", "2.0.0", "content"), closing, closing]


def test_lhlo_has_no_fallback() -> None:
    result, (heard,) = send_to(outgoing(), [GREETING, Hear("LHLO"), "500 no", *BYE], lmtp=True)
    assert summary(result) == [("temporary", "4.0.0", "ehlo")]
    assert heard.lines == ["LHLO client.example", "QUIT"]


# CHUNKING (RFC 3030).


def chunks(*replies: str, keywords: Sequence[str] = (), verb: str = "EHLO") -> list[Step]:
    asked: list[Step] = [Hear("MAIL"), "250 ok", Hear("RCPT"), "250 ok"]
    said: list[Step] = [step for reply in replies for step in (HearChunk(), reply)]
    return [GREETING, *ehlo("CHUNKING", *keywords, verb=verb), *asked, *said, *BYE]


def test_content_goes_in_chunks_without_stuffing() -> None:
    content = b".dots\r\n.\r\nno end"
    result, (heard,) = send_to(outgoing(content=content), chunks("250 2.0.0 ok"))
    assert summary(result) == [("delivered", "2.0.0", "content")]
    assert heard.contents == [content]
    assert heard.lines[3] == f"BDAT {len(content)} LAST"


def test_large_content_has_a_chunk_for_each_piece_and_the_last_one_says_so() -> None:
    pieces = [b"x" * 254 + b"\r\n"] * 3_000
    result, (heard,) = send_to(outgoing(content=pieces), chunks("250 1", "250 2", "250 2.0.0 ok"))
    assert summary(result) == [("delivered", "2.0.0", "content")]
    assert b"".join(heard.contents) == b"".join(pieces)
    assert [line.endswith(" LAST") for line in heard.lines[3:6]] == [False, False, True]


def test_a_line_end_across_pieces_is_no_stray_byte() -> None:
    piece = b"\n" + b"x" * 262_142 + b"\r"
    result, (heard,) = send_to(outgoing(content=[piece[1:], piece, b"\n"]), chunks("250 1", "250 2", "250 2.0.0 ok"))
    assert summary(result) == [("delivered", "2.0.0", "content")]
    assert b"".join(heard.contents) == piece[1:] + piece + b"\n"


def test_an_empty_message_is_an_empty_last_chunk() -> None:
    result, (heard,) = send_to(outgoing(content=b""), chunks("250 2.0.0 ok"))
    assert summary(result) == [("delivered", "2.0.0", "content")]
    assert heard.lines[3] == "BDAT 0 LAST"


def test_a_refused_chunk_is_the_result() -> None:
    mail = outgoing(content=[b"x" * 262_142 + b"\r\n"] * 3)
    result, (heard,) = send_to(mail, chunks("250 1", "552 5.3.4 too big"))
    assert summary(result) == [("permanent", "5.3.4", "content")]
    assert heard.lines[-1] == "QUIT"


def test_lmtp_replies_to_the_last_chunk_for_each_recipient() -> None:
    asked: list[Step] = [Hear("MAIL"), "250 ok", Hear("RCPT"), "250 ok", Hear("RCPT"), "250 ok"]
    replies = "250 2.0.0 ok\r\n452 4.2.2 full"
    script = [GREETING, *ehlo("CHUNKING", verb="LHLO"), *asked, HearChunk(), replies, *BYE]
    result, _ = send_to(outgoing("b@host.example", "c@host.example"), script, lmtp=True)
    assert summary(result) == [("delivered", "2.0.0", "content"), ("temporary", "4.2.2", "content")]


def test_binary_content_goes_as_it_is() -> None:
    content = b"\0\n\r.\r\n.\r\n\xff"
    result, (heard,) = send_to(
        outgoing(content=content, body="BINARYMIME"), chunks("250 2.0.0 ok", keywords=["BINARYMIME"])
    )
    assert summary(result) == [("delivered", "2.0.0", "content")]
    assert heard.contents == [content]
    assert heard.lines[1].endswith(" BODY=BINARYMIME")
