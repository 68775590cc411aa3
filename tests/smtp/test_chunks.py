"""BDAT against the real process (RFC 3030): what was sent is what is stored, and a sender that fails leaves nothing."""

import smtplib
from collections.abc import Callable
from typing import Any

import pytest

from harness.process import DEV_INSTANCE, ServiceProcess
from harness.smtp_client import SmtpClient, accepted_id
from harness.stored import content_of, count_rows, inbox, publish, wait_until

MEBIBYTE = 1024 * 1024


def begin(client: SmtpClient, recipient: str, *, parameters: str = "") -> None:
    assert client.say("EHLO client.example").startswith("250-")
    assert client.say(f"MAIL FROM:<a@sender.example>{parameters}").startswith("250")
    assert client.say(f"RCPT TO:<{recipient}>").startswith("250")


def chunk(content: bytes, *, is_last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n" % (len(content), b" LAST" if is_last else b"") + content


@pytest.mark.parametrize(
    ("parameters", "content"),
    [
        ("", b"Subject: t\r\n\r\n.\r\n..dots\r\nno line end"),
        (" BODY=8BITMIME", b"Subject: t\r\n\r\n\xc3\xa9\r\n.\r\n"),
        (" BODY=BINARYMIME", b"Subject: t\r\n\r\n" + bytes(range(256)) * 3_000),
    ],
)
def test_what_came_in_chunks_is_stored_as_it_is(service: ServiceProcess, parameters: str, content: bytes) -> None:
    address_id, text = publish(service)
    with SmtpClient(service.smtp_address) as client:
        begin(client, text, parameters=parameters)
        for at in range(0, len(content), 100_000):
            client.send(chunk(content[at : at + 100_000]))
            assert client.read_reply() == "250 2.0.0 chunk taken"
        message_id = accepted_id(client.say("BDAT 0 LAST"))
    assert inbox(service, address_id) == [message_id]
    assert content_of(service, message_id) == content


def test_smtplib_pipelines_a_message_in_one_chunk(service: ServiceProcess) -> None:
    address_id, text = publish(service)
    content = b"Subject: one\r\n\r\n.dots\r\n"
    with smtplib.SMTP(*service.smtp_address, local_hostname="client.example", timeout=10) as client:
        client.ehlo()
        assert client.has_extn("chunking")
        client.mail("a@sender.example")
        client.rcpt(text)
        client.send(chunk(content, is_last=True) + b"NOOP\r\n")
        code, said = client.getreply()
        assert (code, client.getreply()[0]) == (250, 250)
    (message_id,) = inbox(service, address_id)
    assert said.endswith(message_id.encode())
    assert content_of(service, message_id) == content


def test_a_chunk_over_the_limit_is_swallowed_and_the_session_goes_on(service: ServiceProcess) -> None:
    # RFC 3030 §2, contract 6: 552 5.3.4
    address_id, text = publish(service)
    with SmtpClient(service.smtp_address, timeout_s=60) as client:
        begin(client, text)
        client.send(chunk(b"\r\n" * (41 * MEBIBYTE // 2), is_last=True))
        assert client.read_reply().startswith("552 5.3.4 ")
        message_id = accepted_id(client.mail("a@sender.example", text))
    assert inbox(service, address_id) == [message_id]


@pytest.mark.parametrize("manner", ["hang up", "RSET", "QUIT", "within a chunk", "refused"])
def test_a_message_without_its_last_chunk_leaves_nothing(
    start_service: Callable[..., ServiceProcess], manner: str
) -> None:
    process = start_service()
    _, text = publish(process)
    with SmtpClient(process.smtp_address) as client:
        begin(client, text)
        client.send(chunk(b"0123456789abcde\r\n" * 30_000))
        assert client.read_reply().startswith("250")
        wait_until(lambda: count_rows(process.data)["staged_content"] == 1)
        if manner == "within a chunk":
            client.send(b"BDAT 1000 LAST\r\nhalf of it")
        elif manner == "refused":
            client.send(chunk(b"\n"))
            assert client.read_reply().startswith("550 5.5.2")
            wait_until(lambda: not any(count_rows(process.data).values()))
        elif manner != "hang up":
            client.say(manner)
        if manner == "RSET":
            assert client.say("BDAT 0 LAST").startswith("503")
    wait_until(lambda: not any(count_rows(process.data).values()))


def test_sigterm_waits_for_the_last_chunk(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service()
    address_id, text = publish(process)
    with SmtpClient(process.smtp_address) as client:
        begin(client, text)
        client.send(chunk(b"Subject: t\r\n"))
        assert client.read_reply().startswith("250")
        process.process.terminate()
        client.send(chunk(b"\r\nlast\r\n", is_last=True))
        message_id = accepted_id(client.read_reply())
        assert client.read_reply().startswith("421 4.3.2 ")
    process.stop()
    again = start_service(data=process.data)
    assert inbox(again, address_id) == [message_id]


def test_lmtp_says_of_each_recipient_what_became_of_the_chunks(start_service: Callable[..., Any]) -> None:
    process = start_service("--lmtp", "127.0.0.1:0")
    _, text = publish(process)
    other = process.connect().create_email_address(InstanceId=DEV_INSTANCE, EmailAddress="other@example.com")
    host, port = process.lmtp.rsplit(":", 1)
    with SmtpClient((host, int(port))) as client:
        assert "250-CHUNKING" in client.say("LHLO client.example")
        client.say("MAIL FROM:<>")
        client.say(f"RCPT TO:<{text}>")
        client.say("RCPT TO:<other@example.com>")
        client.send(chunk(b"Subject: t\r\n") + chunk(b"\r\nx\r\n", is_last=True))
        replies = [client.read_reply() for _ in range(3)]
    assert replies[0] == "250 2.0.0 chunk taken"
    assert replies[1] == replies[2]
    assert inbox(process, other["EmailAddressId"]) == [accepted_id(replies[2])]
