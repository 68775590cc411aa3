"""Senders that drip: a byte now and then buys no time, for a command line nor for a message (RFC 5321 §4.5.3.2)."""

import select
import time
from collections.abc import Callable, Iterable

import pytest

from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.smtp_client import SmtpClient

DRIPS_MAX = 60
PAUSE_S = 0.2


def drip(client: SmtpClient, pieces: Iterable[bytes]) -> bool:
    """Send the pieces with pauses; True as soon as the server says something."""
    for piece in pieces:
        try:
            client.send(piece)
        except OSError:  # it has hung up; what it said is there to read
            return True
        time.sleep(PAUSE_S)
        if select.select([client.socket], [], [], 0)[0]:
            return True
    return False


@pytest.mark.parametrize("beginning", ["", "EHLO client.example\r\n"], ids=["at once", "after a command"])
def test_a_command_that_drips_has_one_deadline(start_service: Callable[..., ServiceProcess], beginning: str) -> None:
    process = start_service(environment={"READDRESS_COMMAND_TIMEOUT_MS": "1000"})
    with SmtpClient(process.smtp_address) as client:
        if beginning:
            assert client.say(beginning.strip()).startswith("250")
        assert drip(client, [b"x"] * DRIPS_MAX)
        assert client.read_reply().startswith("421 4.4.2 ")


def test_commands_that_come_in_time_go_on_for_ever(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service(environment={"READDRESS_COMMAND_TIMEOUT_MS": "3000"})
    with SmtpClient(process.smtp_address) as client:
        for _ in range(20):  # longer in all than one deadline
            assert client.say("NOOP").startswith("250")
            time.sleep(PAUSE_S)


@pytest.mark.parametrize("command", ["DATA", "BDAT 1000000 LAST", "BDAT 0"])
def test_a_message_that_drips_has_one_deadline_and_leaves_nothing(
    start_service: Callable[..., ServiceProcess], command: str
) -> None:
    process = start_service(environment={"READDRESS_MESSAGE_TIMEOUT_MS": "1000"})
    made = process.connect().create_email_address(InstanceId=DEV_INSTANCE, EmailAddress="help@example.com")
    with SmtpClient(process.smtp_address) as client:
        client.say("EHLO client.example")
        client.say("MAIL FROM:<a@example.org>")
        client.say("RCPT TO:<help@example.com>")
        client.send(f"{command}\r\n")
        if command != "BDAT 1000000 LAST":
            assert client.read_reply()[:3] in {"354", "250"}
        assert drip(client, [b"x"] * DRIPS_MAX)
        assert client.read_reply().startswith("421 4.4.2 ")
    with HttpClient(process.http_address) as http:
        assert http.inbox(DEV_INSTANCE, made["EmailAddressId"]) == []


def test_octets_of_a_chunk_without_a_message_have_a_deadline_too(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service(environment={"READDRESS_MESSAGE_TIMEOUT_MS": "1000"})
    with SmtpClient(process.smtp_address) as client:
        client.send("BDAT 1000000 LAST\r\n")
        assert drip(client, [b"x"] * DRIPS_MAX)
        assert client.read_reply().startswith("421 4.4.2 ")


def test_octets_that_stay_away_are_not_waited_for_any_longer_than_content(
    start_service: Callable[..., ServiceProcess],
) -> None:
    process = start_service(environment={"READDRESS_CONTENT_TIMEOUT_MS": "300"})
    with SmtpClient(process.smtp_address) as client:
        client.send("BDAT 1000000 LAST\r\nx")
        assert client.read_reply().startswith("421 4.4.2 ")
