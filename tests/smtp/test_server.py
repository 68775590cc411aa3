"""The SMTP server of the real process: smtplib and swaks as oracles, raw sockets for what they would never do."""

import contextlib
import signal
import smtplib
import socket
import struct
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.process import ServiceProcess
from harness.programs import require_program
from harness.smtp_client import SmtpClient, accepted_id, stuff
from harness.stored import WAIT_SECONDS_MAX, content_of, count_rows, inbox, publish, wait_until

MEBIBYTE = 1024 * 1024
LINE = b"0123456789abcdef" * 64


@pytest.fixture
def smtp(service: ServiceProcess) -> Iterator[SmtpClient]:
    with SmtpClient(service.smtp_address) as client:
        assert client.say("EHLO client.example").startswith("250-")
        yield client


def begin_data(client: SmtpClient, recipient: str) -> None:
    assert client.say("EHLO client.example").startswith("250-")
    assert client.say("MAIL FROM:<a@sender.example>").startswith("250")
    assert client.say(f"RCPT TO:<{recipient}>").startswith("250")
    assert client.say("DATA").startswith("354")


def at_end(client: SmtpClient) -> bool:
    """Whether the server has closed; a reset says so too, when it had not read everything."""
    try:
        return client.file.read(1) == b""
    except ConnectionResetError:
        return True


def test_smtplib_finds_the_extensions_and_delivers(service: ServiceProcess) -> None:
    address_id, text = publish(service)
    with smtplib.SMTP(*service.smtp_address, local_hostname="client.example", timeout=10) as client:
        client.ehlo()
        assert client.esmtp_features["size"] == str(40 * MEBIBYTE)
        assert {"8bitmime", "smtputf8", "pipelining", "enhancedstatuscodes"} <= client.esmtp_features.keys()
        assert {"chunking", "binarymime", "dsn"} <= client.esmtp_features.keys()
        assert client.esmtp_features["limits"] == "RCPTMAX=100"
        assert not {"starttls", "auth"} & client.esmtp_features.keys()
        assert client.noop()[0] == 250
        assert client.verify(text)[0] == 252
        assert client.help()
        content = b"Subject: one\r\n\r\n.dots\r\n..\r\n.\r\n"
        assert client.sendmail("a@sender.example", [text], content, mail_options=["BODY=8BITMIME"]) == {}
        assert client.sendmail("", [text], b"Subject: bounce\r\n\r\nx\r\n") == {}
    bounce_id, first_id = inbox(service, address_id)
    assert content_of(service, first_id) == content
    assert content_of(service, bounce_id) == b"Subject: bounce\r\n\r\nx\r\n"


def test_smtplib_hears_which_recipients_are_refused(service: ServiceProcess) -> None:
    # contract 6: unknown address 550 5.1.1; not our domain 550 5.7.1
    _, text = publish(service)
    ghost, stranger = f"ghost-{uuid.uuid4().hex}@example.com", "b@elsewhere.example"
    with smtplib.SMTP(*service.smtp_address, local_hostname="client.example", timeout=10) as client:
        refused = client.sendmail("a@sender.example", [text, ghost, stranger], b"Subject: t\r\n\r\n")
        assert {recipient: (code, said[:5]) for recipient, (code, said) in refused.items()} == {
            ghost: (550, b"5.1.1"),
            stranger: (550, b"5.7.1"),
        }
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@sender.example", [ghost], b"Subject: t\r\n\r\n")
        assert client.mail("a@sender.example", [f"SIZE={41 * MEBIBYTE}"])[0] == 552  # RFC 1870 §6.1


def test_swaks_delivers_and_hears_a_refusal(service: ServiceProcess) -> None:
    swaks = require_program("swaks")
    address_id, text = publish(service)
    host, port = service.smtp_address
    arguments = [swaks, "--server", host, "--port", str(port), "--ehlo", "client.example", "--from", "a@sender.example"]
    arguments += ["--header", "Subject: by swaks", "--body", "a line\n.a dot\n"]
    sent = subprocess.run([*arguments, "--pipeline", "--to", text], capture_output=True, text=True, check=False)
    assert sent.returncode == 0, sent.stdout
    assert len(inbox(service, address_id)) == 1
    refused = subprocess.run([*arguments, "--to", f"x{text}"], capture_output=True, text=True, check=False)
    assert refused.returncode == 24, refused.stdout  # swaks(1): no recipient was accepted
    assert "550 5.1.1" in refused.stdout


def test_a_session_sent_byte_by_byte_is_heard(service: ServiceProcess) -> None:
    address_id, text = publish(service)
    with SmtpClient(service.smtp_address) as client:
        replies = []
        content = stuff(b"Subject: slow\r\n\r\n.x\r\n").decode()
        for said in (
            "EHLO client.example\r\n",
            "MAIL FROM:<a@sender.example>\r\n",
            f"RCPT TO:<{text}>\r\n",
            "DATA\r\n",
            content,
        ):
            for character in said:
                client.send(character)
            replies.append(client.read_reply())
        assert [reply[:3] for reply in replies] == ["250", "250", "250", "354", "250"]
        assert inbox(service, address_id) == [accepted_id(replies[-1])]
        assert content_of(service, accepted_id(replies[-1])) == b"Subject: slow\r\n\r\n.x\r\n"


def test_a_pipelined_session_is_answered_in_order(smtp: SmtpClient, service: ServiceProcess) -> None:
    # RFC 2920
    address_id, text = publish(service)
    group = f"MAIL FROM:<a@sender.example>\r\nRCPT TO:<{text}>\r\nRCPT TO:<ghost@elsewhere.example>\r\nDATA\r\n"
    smtp.send(group)
    assert [smtp.read_reply()[:9] for _ in range(4)] == ["250 2.1.0", "250 2.1.5", "550 5.7.1", "354 end w"]
    smtp.send(stuff(b"Subject: 1\r\n\r\n") + group.encode())
    first = accepted_id(smtp.read_reply())
    assert [smtp.read_reply()[:3] for _ in range(4)] == ["250", "250", "550", "354"]
    smtp.send(stuff(b"Subject: 2\r\n\r\n") + b"NOOP\r\nQUIT\r\n")
    second = accepted_id(smtp.read_reply())
    assert [smtp.read_reply()[:3] for _ in range(2)] == ["250", "221"]
    assert at_end(smtp)
    assert inbox(service, address_id) == [second, first]


@pytest.mark.parametrize("state", ["EHLO", "DATA"])
def test_who_talks_out_of_turn_is_dismissed(service: ServiceProcess, state: str) -> None:
    address_id, text = publish(service)
    with SmtpClient(service.smtp_address) as client:
        if state == "EHLO":
            client.send("EHLO client.example\r\nMAIL FROM:<a@sender.example>\r\n")
        else:
            assert client.say("EHLO client.example").startswith("250")
            client.send(f"MAIL FROM:<a@sender.example>\r\nRCPT TO:<{text}>\r\nDATA\r\nSubject: t\r\n.\r\n")
            assert [client.read_reply()[:3] for _ in range(2)] == ["250", "250"]
        assert client.read_reply().startswith("554 5.5.0 ")
        assert at_end(client)
    assert inbox(service, address_id) == []


def test_who_talks_before_the_greeting_is_dismissed(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service()
    process.process.send_signal(signal.SIGSTOP)  # so that the words are there when the server looks
    try:
        client = SmtpClient(process.smtp_address, greeting=False)
        client.send("EHLO client.example\r\n")
    finally:
        process.process.send_signal(signal.SIGCONT)
    with client:
        assert client.read_reply().startswith("554 5.5.0 ")
        assert at_end(client)
    with SmtpClient(process.smtp_address) as polite:
        assert polite.greeting.startswith("220 ")


def test_one_connection_too_many_hears_421(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service(environment={"READDRESS_CONNECTIONS_MAX": "3"})
    clients = [SmtpClient(process.smtp_address) for _ in range(4)]
    assert [client.greeting[:3] for client in clients] == ["220", "220", "220", "421"]
    assert clients[3].greeting.startswith("421 4.7.0 ")
    assert at_end(clients[3])
    assert clients[2].say("NOOP").startswith("250")
    assert clients[0].say("QUIT").startswith("221")
    assert at_end(clients[0])
    clients[1].close()  # without a word

    def is_welcome() -> bool:
        clients.append(SmtpClient(process.smtp_address))
        return clients[-1].greeting.startswith("220")

    wait_until(is_welcome)
    wait_until(is_welcome)
    assert clients[2].say("NOOP").startswith("250")
    for client in clients:
        client.close()


def test_who_keeps_us_waiting_hears_421(start_service: Callable[..., ServiceProcess]) -> None:
    """RFC 5321 §4.5.3.2; contract 6: nothing is left of a message that didn't come to its end."""
    environment = {"READDRESS_COMMAND_TIMEOUT_MS": "1500", "READDRESS_CONTENT_TIMEOUT_MS": "300"}
    process = start_service(environment=environment)
    address_id, text = publish(process)
    with (
        SmtpClient(process.smtp_address) as silent,
        SmtpClient(process.smtp_address) as halting,
        SmtpClient(process.smtp_address) as writing,
    ):
        begin_data(writing, text)
        writing.send(b"Subject: t\r\n\r\nand th")
        halting.send("NOO")
        for client in (writing, silent, halting):
            assert client.read_reply().startswith("421 4.4.2 ")
            assert at_end(client)
    assert inbox(process, address_id) == []
    assert not any(count_rows(process.data).values())


def send_without_reading(client: SmtpClient) -> None:
    for _ in range(500):  # far more than all buffers on the way hold
        client.send(b"NOOP\r\n" * 10_000)


def test_who_never_reads_is_cut_off(start_service: Callable[..., ServiceProcess]) -> None:
    """Replies that nobody takes away don't gather in memory."""
    process = start_service(environment={"READDRESS_COMMAND_TIMEOUT_MS": "500"})
    before = memory(process, "VmHWM")
    with SmtpClient(process.smtp_address, timeout_s=WAIT_SECONDS_MAX) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_without_reading(client)
    assert memory(process, "VmHWM") - before < 32 * MEBIBYTE
    with SmtpClient(process.smtp_address) as other:
        assert other.say("NOOP").startswith("250")


def test_a_half_closed_connection_hears_its_replies(service: ServiceProcess) -> None:
    address_id, text = publish(service)
    with SmtpClient(service.smtp_address) as client:
        begin_data(client, text)
        client.send(stuff(b"Subject: last\r\n\r\nwords\r\n") + b"NOOP\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        message_id = accepted_id(client.read_reply())
        assert client.read_reply().startswith("250 2.0.0 ")
        assert at_end(client)
    assert inbox(service, address_id) == [message_id]


@pytest.mark.parametrize("manner", ["half-close", "close", "reset"])
@pytest.mark.parametrize("size_bytes", [100, 900_000])
def test_a_connection_dropped_within_data_leaves_nothing(
    start_service: Callable[..., ServiceProcess], manner: str, size_bytes: int
) -> None:
    """Contract 6: nothing half-stored, whether or not a part of it was on disk already."""
    process = start_service()
    _, text = publish(process)
    with SmtpClient(process.smtp_address) as client:
        begin_data(client, text)
        client.send((b"Subject: t\r\n\r\n" + (LINE + b"\r\n") * 1_000)[:size_bytes])
        if size_bytes > MEBIBYTE // 2:
            wait_until(lambda: count_rows(process.data)["staged_content"] == 1)
        if manner == "half-close":
            client.socket.shutdown(socket.SHUT_WR)
            assert at_end(client)
        elif manner == "reset":
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: not any(count_rows(process.data).values()))
    with SmtpClient(process.smtp_address) as client:
        client.say("EHLO client.example")
        accepted_id(client.mail("a@sender.example", text))
    assert count_rows(process.data) == {"message": 1, "content": 1, "staged_content": 0, "delivery": 1}


@pytest.mark.parametrize("size_bytes", [100, 900_000])
def test_sigterm_finishes_the_message_in_hand_and_sends_the_idle_away(
    start_service: Callable[..., ServiceProcess], size_bytes: int, tmp_path: Path
) -> None:
    process = start_service()
    address_id, text = publish(process)
    content = (b"Subject: t\r\n\r\n" + (LINE + b"\r\n") * 1_000)[:size_bytes] + b"\r\n"
    with (
        SmtpClient(process.smtp_address) as writing,
        SmtpClient(process.smtp_address) as idle,
        SmtpClient(process.smtp_address) as waiting,
    ):
        idle.say("EHLO client.example")
        idle.say("MAIL FROM:<a@sender.example>")
        begin_data(writing, text)
        writing.send(content[: size_bytes // 2])
        process.process.send_signal(signal.SIGTERM)
        for client in (idle, waiting):
            assert client.read_reply().startswith("421 4.3.2 ")
            assert at_end(client)
        with contextlib.suppress(OSError), SmtpClient(process.smtp_address) as late:
            assert late.greeting[:9] in {"", "421 4.3.2"}
        assert process.process.poll() is None
        writing.send(content[size_bytes // 2 :] + b".\r\n")
        message_id = accepted_id(writing.read_reply())
        assert writing.read_reply().startswith("421 4.3.2 ")
        assert at_end(writing)
    assert process.process.wait(WAIT_SECONDS_MAX) == 0
    process.stop()
    again = start_service(data=process.data)
    assert inbox(again, address_id) == [message_id]
    assert content_of(again, message_id) == content


def send_long(address: tuple[str, int], recipient: str, content: bytes) -> str:
    with SmtpClient(address, timeout_s=60) as client:
        begin_data(client, recipient)
        client.send(content + b".\r\n")
        return client.read_reply()


def test_a_message_over_the_limit_is_552_and_the_session_goes_on(service: ServiceProcess) -> None:
    # contract 6: too big 552 5.3.4; RFC 1870 §6.3
    address_id, text = publish(service)
    with SmtpClient(service.smtp_address, timeout_s=60) as client:
        begin_data(client, text)
        for _ in range(41):
            client.send((LINE[:1_022] + b"\r\n") * 1_024)
        client.send(b".\r\n")
        assert client.read_reply().startswith("552 5.3.4 ")
        message_id = accepted_id(client.mail("a@sender.example", text))
    assert inbox(service, address_id) == [message_id]


def memory(process: ServiceProcess, name: str) -> int:
    """A figure of the process's memory in bytes, such as VmHWM, the most that it ever held."""
    status = Path(f"/proc/{process.process.pid}/status")
    if not status.exists():
        pytest.skip("only Linux tells how much memory a process holds")
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def test_eight_long_messages_at_once_pass_through_little_memory(start_service: Callable[..., ServiceProcess]) -> None:
    """30 MiB each; their bytes are kept as they are (contract 6), and memory grows by far less than one of them."""
    process = start_service()
    address_id, text = publish(process)
    body = b"\r\n".join(b"%08x %s" % (number, LINE[:500]) for number in range(62_000)) + b"\r\n"
    contents = [b"Subject: %d\r\n\r\n" % number + body for number in range(8)]
    assert all(30 * MEBIBYTE <= len(content) <= 31 * MEBIBYTE for content in contents)
    send_long(process.smtp_address, text, contents[0][: 2 * MEBIBYTE] + b"\r\n")
    before = memory(process, "VmHWM")
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda content: send_long(process.smtp_address, text, content), contents))
    ids = [accepted_id(reply) for reply in replies]
    assert memory(process, "VmHWM") - before < 64 * MEBIBYTE
    assert sorted(inbox(process, address_id))[1:] == sorted(ids)
    for number in (0, 7):
        assert content_of(process, ids[number]) == contents[number]
