"""The client against hosts that break the protocol: a result for every recipient, no exception, no wait without end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.outgoing import CONTENT, HOSTNAME, TIMEOUTS, local, outgoing, summary
from harness.scripted_host import (
    ENVELOPE,
    GREETING,
    Hear,
    HearChunk,
    HearContent,
    Heard,
    Silence,
    Step,
    ehlo,
    scripted_host,
    send_to,
)
from readdress.smtp.client import send
from readdress.smtp.outgoing import ClientTimeouts, Outcome, OutgoingMail, SendResult

READY: list[Step] = [GREETING, *ehlo(), *ENVELOPE, Hear("DATA"), "354 go"]
PIECE = (b"x" * 510 + b"\r\n") * 512
LARGE = [b"x" * 998 + b"\r\n"] * 20_000


@pytest.mark.parametrize(
    ("script", "stage"),
    [
        ([b"HTTP/1.1 200 OK\r\n\r\n", Silence()], "greeting"),
        ([b"220-a\r\n250 b\r\n", Silence()], "greeting"),
        ([b"220 " + b"x" * 4_096, Silence()], "greeting"),
        ([b"220-x\r\n" * 5_000, Silence()], "greeting"),
        ([b"354 go\r\n", Silence()], "greeting"),
        ([b"220 a\0\r\n", Silence()], "greeting"),
        ([b"220 a\r\n250 b\r\n", Silence()], "ehlo"),  # a reply before there was a command
        ([GREETING, Hear("EHLO"), b"250-a\r\n250 b\r\n250 c\r\n", Silence()], "mail"),
        ([GREETING, Hear("EHLO"), b"334 a\r\n", Silence()], "ehlo"),
        ([GREETING, *ehlo(), Hear("MAIL"), b"354 go\r\n", Silence()], "mail"),
        ([GREETING, *ehlo(), Hear("MAIL"), b"250 ok\r\n250 ok\r\n", Silence()], "rcpt"),
        ([GREETING, *ehlo(), *ENVELOPE[:3], b"354 go\r\n", Silence()], "rcpt"),
        ([GREETING, *ehlo(), *ENVELOPE, Hear("DATA"), b"250 taken\r\n", Silence()], "data"),
        ([GREETING, *ehlo("PIPELINING"), Hear("DATA"), b"250 a\r\n250 b\r\n250 c\r\n", Silence()], "data"),
        ([GREETING, *ehlo("PIPELINING"), Hear("DATA"), b"550 a\r\n250 b\r\n354 c\r\n", Silence()], "mail"),
        ([*READY[:-1], b"354 go\r\n250 taken\r\n", Silence()], "content"),  # an acceptance before the end
        ([*READY, HearContent(), b"354 go\r\n", Silence()], "content"),
        ([*READY, HearContent(), b"250 a\r\n250 b\r\n", Silence()], "content"),  # one reply too many
    ],
)
def test_a_host_that_lies_is_left_and_the_mail_stays(script: list[Step], stage: str) -> None:
    result, (heard,) = send_to(outgoing("b@host.example"), script)
    (one,) = result.recipients
    if stage == "mail" and "550 a" in one.reply:
        assert one.outcome is Outcome.PERMANENT  # that reply was in order, the next one was not
    else:
        assert one.outcome is Outcome.TEMPORARY
        assert one.enhanced == "4.5.0"
        assert not one.is_remote
    assert one.stage == stage
    assert "QUIT" not in heard.lines


@pytest.mark.parametrize(
    ("script", "stage", "limit"),
    [
        ([Silence()], "greeting", "greeting_s"),
        ([b"220-drip", Silence()], "greeting", "greeting_s"),
        ([GREETING, Silence()], "ehlo", "command_s"),
        ([GREETING, *ehlo(), Silence()], "mail", "command_s"),
        ([GREETING, *ehlo(), *ENVELOPE[:2], Silence()], "rcpt", "command_s"),
        ([GREETING, *ehlo(), *ENVELOPE, Silence()], "data", "data_init_s"),
        ([*READY, Silence()], "content", "final_s"),
    ],
)
def test_silence_has_an_end_at_every_stage(script: list[Step], stage: str, limit: str) -> None:
    # RFC 5321 §4.5.3.2
    result, _ = send_to(outgoing(), script, timeouts=replace(TIMEOUTS, **{limit: 0.5}))
    assert summary(result) == [("temporary", "4.4.2", stage)]
    assert result.recipients[0].reply == "no reply from the next host within 0.5 s"


def test_a_host_that_does_not_say_goodbye_changes_nothing() -> None:
    script = [*READY, HearContent(), "250 2.0.0 ok", Silence()]
    result, _ = send_to(outgoing(), script, timeouts=replace(TIMEOUTS, quit_s=0.1))
    assert summary(result) == [("delivered", "2.0.0", "content")]


def test_421_instead_of_a_goodbye_changes_nothing() -> None:
    result, _ = send_to(outgoing(), [*READY, HearContent(), b"250 2.0.0 ok\r\n421 4.4.2 closing\r\n"])
    assert summary(result) == [("delivered", "2.0.0", "content")]


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_host_that_takes_no_content_is_left_and_little_waits_for_it(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield PIECE

    timeouts = replace(TIMEOUTS, block_s=0.3)

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in (b"220 x\r\n", b"250-x\r\n250 PIPELINING\r\n", b"250 a\r\n250 b\r\n354 c\r\n"):
            writer.write(reply)
            await reader.readline()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await done.wait()
        writer.transport.abort()

    async def converse() -> SendResult:
        server = await asyncio.start_server(stall, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await send(local(port), given_by(endless), timeouts=timeouts, hostname=HOSTNAME)
        finally:
            done.set()
            server.close()
            await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        done = asyncio.Event()
        result = runner.run(converse())
    assert summary(result) == [("temporary", "4.4.2", "content")]
    assert "took no content" in result.recipients[0].reply
    assert asked * len(PIECE) < 32 * 1024 * 1024  # what the system's own buffers take


@pytest.mark.parametrize(
    ("early", "expected"),
    [
        (b"552 5.3.4 too big\r\n", ("permanent", "5.3.4", "content")),
        (b"451 4.3.1 full\r\n", ("temporary", "4.3.1", "content")),
        (b"421 4.3.2 closing\r\n", ("temporary", "4.3.2", "content")),
        (b"250 2.0.0 taken\r\n", ("temporary", "4.5.0", "content")),
    ],
)
def test_a_refusal_may_come_before_the_end_and_an_acceptance_may_not(
    early: bytes, expected: tuple[str, str, str]
) -> None:
    result, (heard,) = send_to(outgoing(content=LARGE), [*READY, early, Silence()])
    assert summary(result) == [expected]
    assert "QUIT" not in heard.lines


@pytest.mark.parametrize("keywords", [(), ("CHUNKING",)], ids=["data", "bdat"])
@pytest.mark.parametrize("stray", [b"a\nb\r\n", b"a\rb\r\n", b"\0\r\n", b"a\r\n.\n", b"a\r"])
@pytest.mark.parametrize("before", [[], LARGE[:600]], ids=["small", "large"])
def test_a_stray_byte_ends_the_connection_before_the_message(
    keywords: tuple[str, ...], stray: bytes, before: list[bytes]
) -> None:
    # RFC 5321 §2.3.8: SMTP smuggling
    begin: list[Step] = [] if keywords else [Hear("DATA"), "354 go"]
    taken: list[Step] = [step for _ in range(len(before) // 250) for step in (HearChunk(), "250 ok")]
    end: list[Step] = [*taken, Hear("BDAT"), Silence()] if keywords else [HearContent(), "250 taken"]
    result, (heard,) = send_to(
        outgoing(content=[*before, stray]), [GREETING, *ehlo(*keywords), *ENVELOPE, *begin, *end]
    )
    assert summary(result) == [("permanent", "5.6.0", "content")]
    assert not result.recipients[0].is_remote
    assert not any(content.endswith(b".\r\n") for content in heard.contents)
    assert not any("LAST" in line or line == "QUIT" for line in heard.lines)


def test_lmtp_never_gives_an_end_to_content_for_nobody() -> None:
    script = [GREETING, *ehlo("PIPELINING", verb="LHLO"), Hear("DATA"), b"250 a\r\n550 b\r\n354 c\r\n", Silence()]
    result, _ = send_to(outgoing(), script, lmtp=True)
    assert summary(result) == [("permanent", "5.0.0", "rcpt")]


# Our own trouble.


async def _failing() -> AsyncIterator[bytes]:
    yield b"Subject: t\r\n"
    raise RuntimeError("password=hunter2")


async def _hanging() -> AsyncIterator[bytes]:
    yield b"Subject: t\r\n"
    await asyncio.sleep(60)


def given_by(content: Callable[[], AsyncIterator[bytes]], size_bytes: int = 0) -> OutgoingMail:
    mail = outgoing()
    return OutgoingMail(sender=mail.sender, recipients=mail.recipients, content=content, size_bytes=size_bytes)


@pytest.mark.parametrize("mail", [given_by(_failing), outgoing(size_bytes=len(CONTENT) + 1)], ids=["error", "short"])
def test_content_that_cannot_be_read_whole_is_not_sent(mail: OutgoingMail) -> None:
    result, (heard,) = send_to(mail, [*READY, HearContent(), "250 taken"])
    assert summary(result) == [("temporary", "4.3.0", "content")]
    assert result.recipients[0].reply == "the message cannot be read now"
    assert not heard.contents[0].endswith(b"\r\n.\r\n")
    assert "QUIT" not in heard.lines


def test_a_mail_has_one_deadline_whatever_drips() -> None:
    result, _ = send_to(given_by(_hanging), [*READY, Silence()], timeouts=replace(TIMEOUTS, total_s=1))
    assert summary(result) == [("temporary", "4.4.2", "content")]
    assert "more than 1 s" in result.recipients[0].reply


def test_cancelling_closes_the_connection() -> None:
    async def converse() -> Heard:
        async with scripted_host([*READY, Silence()]) as host:
            sending = asyncio.create_task(
                send(local(host.port), given_by(_hanging), timeouts=TIMEOUTS, hostname=HOSTNAME)
            )
            async with asyncio.timeout(10):
                while not (host.heard and "DATA" in host.heard[0].lines):
                    await asyncio.sleep(0.01)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                while not host.heard[0].is_over:
                    await asyncio.sleep(0.01)
            return host.heard[0]

    assert asyncio.run(converse()).is_over


# Anything at all.

FRAGMENTS = st.one_of(
    st.sampled_from(
        [
            b"220 a\r\n",
            b"250 ok\r\n",
            b"250-PIPELINING\r\n",
            b"250-CHUNKING\r\n",
            b"250 STARTTLS\r\n",
            b"354 go\r\n",
            b"334 x\r\n",
            b"421 bye\r\n",
            b"450 later\r\n",
            b"550 5.1.1 no\r\n",
            b"250",
            b"\r\n",
            b"\0",
        ]
    ),
    st.binary(max_size=12),
)


async def babble(answers: list[bytes], act: Callable[[int], Awaitable[Any]]) -> Any:
    """A host that says the next of the answers whenever it hears something, and goes when it has none left."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for answer in answers:
                writer.write(answer)
                if not await reader.read(65_536):
                    break
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        return await act(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await asyncio.sleep(0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    answers=st.lists(st.lists(FRAGMENTS, max_size=4).map(b"".join), max_size=8),
    begins_well=st.integers(0, 3),
    lmtp=st.booleans(),
)
def test_whatever_a_host_says_every_recipient_has_a_result(answers: list[bytes], begins_well: int, lmtp: bool) -> None:
    good = [b"220 a\r\n", b"250-a\r\n250 PIPELINING\r\n", b"250 a\r\n250 b\r\n550 c\r\n354 d\r\n"][:begins_well]
    timeouts = ClientTimeouts(
        connect_s=1, greeting_s=0.02, command_s=0.02, data_init_s=0.02, block_s=0.02, final_s=0.02, quit_s=0.02
    )

    def act(port: int) -> Awaitable[SendResult]:
        mail = outgoing("b@host.example", "c@host.example")
        return send(local(port, lmtp=lmtp), mail, timeouts=timeouts, hostname=HOSTNAME)

    result = asyncio.run(babble(good + answers, act))
    assert len(result.recipients) == 2
    for one in result.recipients:
        assert one.enhanced[0] == {"delivered": "2", "temporary": "4", "permanent": "5"}[one.outcome.value]
        assert len(one.reply) <= 500
        assert not any(ord(character) < 32 for character in one.reply)
        if one.outcome is not Outcome.TEMPORARY:
            assert one.stage in {"mail", "rcpt", "data", "content"}
            assert one.is_remote
