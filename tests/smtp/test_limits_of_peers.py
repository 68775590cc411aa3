"""Limits of peers, the tarpit and the log against the real process; a proxy's header says who the peer is."""

import select
import signal
import smtplib
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from harness.process import ServiceProcess
from harness.proxy_header import proxy_header
from harness.smtp_client import SmtpClient, accepted_id, stuff
from harness.stored import inbox, publish, wait_until

PROXIED = {"READDRESS_PROXY_FROM": "127.0.0.1"}
NEVER_MS = "60000"  # longer than any test waits
WAITING_MAX = 100


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def connect(stack: ExitStack, process: ServiceProcess, source: str, *, lmtp: bool = False) -> SmtpClient:
    host, port = process.lmtp.rsplit(":", 1) if lmtp else process.smtp.rsplit(":", 1)
    client = stack.enter_context(SmtpClient((host, int(port)), greeting=False))
    client.send(proxy_header(source))
    client.greeting = client.read_reply()
    return client


def test_connections_of_a_peer_are_bounded_whatever_the_door(
    start_service: Callable[..., ServiceProcess], stack: ExitStack
) -> None:
    process = start_service("--lmtp", "127.0.0.1:0", environment=PROXIED | {"READDRESS_PEER_CONNECTIONS_MAX": "2"})
    first = connect(stack, process, "2001:db8::1")
    assert first.greeting.startswith("220 ")
    assert connect(stack, process, "2001:db8::2", lmtp=True).greeting.startswith("220 ")
    for lmtp in (False, True):
        refused = connect(stack, process, "2001:db8::3", lmtp=lmtp)
        assert refused.greeting.startswith("421 4.7.0 ")  # RFC 5321 §3.8; never a 5xx
        assert refused.read_reply() == ""
    assert connect(stack, process, "2001:db8:0:1::1").greeting.startswith("220 ")
    assert first.say("QUIT").startswith("221")
    wait_until(lambda: connect(stack, process, "2001:db8::4").greeting.startswith("220 "))
    wait_until(lambda: "peer=2001:db8::3 proxy=127.0.0.1 door=lmtp ehlo=- tls=- " in process.errors)
    assert "end=refused" in process.errors


def test_connections_a_minute_are_bounded(start_service: Callable[..., ServiceProcess], stack: ExitStack) -> None:
    process = start_service(environment=PROXIED | {"READDRESS_PEER_CONNECTIONS_PER_MINUTE": "3"})
    greetings = [connect(stack, process, "198.51.100.7").greeting[:9] for _ in range(4)]
    assert [greeting[:3] for greeting in greetings] == ["220", "220", "220", "421"]
    assert connect(stack, process, "198.51.100.8").greeting.startswith("220 ")


def test_messages_a_minute_are_bounded_and_none_is_lost(
    start_service: Callable[..., ServiceProcess], stack: ExitStack
) -> None:
    process = start_service(environment=PROXIED | {"READDRESS_PEER_MESSAGES_PER_MINUTE": "2"})
    address_id, text = publish(process)
    client = connect(stack, process, "198.51.100.7")
    client.say("EHLO client.example")
    taken = [accepted_id(client.mail("a@sender.example", text)) for _ in range(2)]
    assert client.say("MAIL FROM:<a@sender.example>").startswith("250")
    assert client.say(f"RCPT TO:<{text}>").startswith("451 4.7.1 ")
    assert client.say("DATA").startswith("503")
    other = connect(stack, process, "198.51.100.8")
    other.say("EHLO client.example")
    taken.append(accepted_id(other.mail("a@sender.example", text)))
    assert sorted(inbox(process, address_id)) == sorted(taken)


def test_who_guesses_too_much_is_told_nothing_more(
    start_service: Callable[..., ServiceProcess], stack: ExitStack
) -> None:
    process = start_service(environment=PROXIED | {"READDRESS_PEER_BAD_RECIPIENTS_PER_MINUTE": "2"})
    _, text = publish(process)
    client = connect(stack, process, "198.51.100.7")
    client.say("EHLO client.example")
    client.say("MAIL FROM:<a@sender.example>")
    replies = [client.say(f"RCPT TO:<{name}>")[:9] for name in (text, "no1@example.com", "no2@example.com")]
    assert replies == ["250 2.1.5", "550 5.1.1", "550 5.1.1"]
    for name in (text, "no3@example.com"):
        assert client.say(f"RCPT TO:<{name}>").startswith("450 4.7.1 ")
    assert client.say("DATA").startswith("354")
    client.send(stuff(b"x\r\n"))
    accepted_id(client.read_reply())
    client.say("QUIT")
    wait_until(lambda: "recipients_accepted=1 recipients_refused=4" in process.errors)


def test_loopback_has_no_limits_unless_it_is_told(start_service: Callable[..., ServiceProcess]) -> None:
    limits = {
        "READDRESS_PEER_CONNECTIONS_MAX": "1",
        "READDRESS_PEER_CONNECTIONS_PER_MINUTE": "2",
        "READDRESS_MESSAGES_PER_SESSION_MAX": "1",
    }
    process = start_service(environment=limits)
    with SmtpClient(process.smtp_address), SmtpClient(process.smtp_address) as second:
        assert second.greeting.startswith("220 ")
        assert "MAILMAX" not in second.say("EHLO client.example")
        assert [second.say("MAIL FROM:<>")[:3] for _ in range(3)] == ["250", "503", "503"]
    process.stop()
    process = start_service(environment=limits | {"READDRESS_UNLIMITED_PEERS": ""})
    with SmtpClient(process.smtp_address) as first, SmtpClient(process.smtp_address) as second:
        assert second.greeting.startswith("421 4.7.0 ")
        assert "250-LIMITS RCPTMAX=100 MAILMAX=1\n" in first.say("EHLO client.example")  # RFC 9422
        assert first.say("MAIL FROM:<>").startswith("250")
        assert first.say("RSET").startswith("250")
        assert first.say("MAIL FROM:<>").startswith("421 4.5.0 ")
        assert first.read_reply() == ""
    wait_until(lambda: "end=too-many-messages" in process.errors)


TARPIT = {"READDRESS_TARPIT_AFTER_ERRORS": "2", "READDRESS_TARPIT_MS": NEVER_MS, "READDRESS_UNLIMITED_PEERS": ""}
FREE = {"READDRESS_PEER_CONNECTIONS_MAX": "0", "READDRESS_PEER_CONNECTIONS_PER_MINUTE": "0"}


def fall_in(client: SmtpClient) -> None:
    """Two mistakes are answered, the third one is held back."""
    for _ in range(2):
        assert client.say("XYZZY").startswith("500 ")
    client.send("XYZZY\r\n")


def is_silent(client: SmtpClient) -> bool:
    return not select.select([client.socket], [], [], 0.2)[0]


def test_who_errs_again_and_again_waits_and_nobody_else_does(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service(environment=TARPIT | FREE)
    address_id, text = publish(process)
    with SmtpClient(process.smtp_address) as held, SmtpClient(process.smtp_address) as other:
        fall_in(held)
        assert is_silent(held)
        other.say("EHLO client.example")
        message_id = accepted_id(other.mail("a@sender.example", text))
        assert is_silent(held)
        process.process.send_signal(signal.SIGTERM)  # stopping lets it go
        assert held.read_reply().startswith("500 ")
        assert held.read_reply().startswith("421 4.3.2 ")
    assert process.process.wait(15) == 0
    process.stop()
    again = start_service(data=process.data)
    assert inbox(again, address_id) == [message_id]


def test_guesses_sent_at_once_are_held_back_too(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service(environment=TARPIT | FREE | {"READDRESS_SESSION_ERRORS_MAX": "5"})
    with SmtpClient(process.smtp_address) as client:
        client.send("XYZZY\r\n" * 6)
        assert is_silent(client)
    wait_until(lambda: "end=too-many-errors" in process.errors)  # who hangs up is not waited for


def test_only_so_many_wait_at_a_time(start_service: Callable[..., ServiceProcess], stack: ExitStack) -> None:
    process = start_service(environment=TARPIT | FREE)
    waiting = [stack.enter_context(SmtpClient(process.smtp_address)) for _ in range(WAITING_MAX)]
    for client in waiting:
        fall_in(client)
    late = stack.enter_context(SmtpClient(process.smtp_address))
    fall_in(late)
    assert late.read_reply().startswith("500 ")
    assert late.read_reply().startswith("421 4.7.0 ")
    waiting[0].close()
    wait_until(lambda: "end=lost" in process.errors)
    next_one = stack.enter_context(SmtpClient(process.smtp_address))
    fall_in(next_one)
    assert is_silent(next_one)


def test_loopback_is_not_held_back(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service(environment={"READDRESS_TARPIT_AFTER_ERRORS": "1", "READDRESS_TARPIT_MS": NEVER_MS})
    with SmtpClient(process.smtp_address) as client:
        for _ in range(10):
            assert client.say("XYZZY").startswith("500 ")


def last_session(process: ServiceProcess, end: str) -> str:
    wait_until(lambda: f"end={end}\n" in process.errors)
    return next(line for line in process.errors.splitlines() if line.endswith(f"end={end}"))


def test_a_session_leaves_one_line(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service(environment={"READDRESS_COMMAND_TIMEOUT_MS": "1500"})
    _, text = publish(process)
    with smtplib.SMTP(*process.smtp_address, local_hostname="client.example", timeout=10) as smtp:
        smtp.sendmail("a@sender.example", [text, "ghost@example.com"], b"Subject: t\r\n\r\nx\r\n")
        smtp.docmd("MAIL FROM:<a@sender.example>")
        smtp.docmd(f"RCPT TO:<{text}>")
        smtp.docmd("DATA")
        smtp.send(b"bare\nline\r\n.\r\n")
        assert smtp.getreply()[0] == 550
    line = last_session(process, "quit")
    assert " INFO readdress.smtp: session peer=127.0.0.1 proxy=- door=smtp ehlo=client.example tls=- " in line
    assert " messages_accepted=1 messages_refused=1 recipients_accepted=2 recipients_refused=1 received_bytes=" in line
    with SmtpClient(process.smtp_address) as client:
        client.send("EHLO client.example\r\nMAIL FROM:<>\r\n")
        assert client.read_reply().startswith("554")
    last_session(process, "early-talker")
    with SmtpClient(process.smtp_address) as client:
        assert client.read_reply().startswith("421 4.4.2 ")
    last_session(process, "timed-out")
    with SmtpClient(process.smtp_address) as client:
        for _ in range(20):
            client.say("XYZZY")
        assert client.say("XYZZY").startswith("500")
    last_session(process, "too-many-errors")
    SmtpClient(process.smtp_address).close()
    last_session(process, "lost")
    assert process.errors.count(": session peer=") == 5


def test_nothing_that_a_peer_says_gets_a_line_of_its_own(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service()
    with SmtpClient(process.smtp_address) as client:
        for name in ("a\x1b[2Jb", "a\rb", "a\x00b", "a b end=quit", "é"):
            assert client.say(f"EHLO {name}")[0] == "5"
        client.say("QUIT")
    line = last_session(process, "quit")
    assert " ehlo=- " in line
    assert line.isprintable()
