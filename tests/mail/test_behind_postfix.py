"""A real Postfix in front, configured as docs/postfix.md (a) says, hands mail to our LMTP door."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.http_client import HttpClient
from harness.postfix import Postfix, documented_settings, wait_for
from harness.process import DEV_INSTANCE, ServiceProcess, free_port
from harness.programs import require, require_program
from harness.smtp_client import SmtpClient


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    process = ServiceProcess(tmp_path_factory.mktemp("readdress"), "--lmtp", "127.0.0.1:0")
    yield process
    process.stop()


@pytest.fixture(scope="module")
def postfix(service: ServiceProcess) -> Iterator[Postfix]:
    require_program("postfix")
    if os.geteuid() != 0:
        require("Postfix wants to be started by root")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # Postfix' own users have to come through
    settings = documented_settings("reject_unverified_recipient").replace("127.0.0.1:2424", service.lmtp)
    server = Postfix(folder / "postfix", free_port(), settings)
    yield server
    server.stop()
    shutil.rmtree(folder)


def test_mail_comes_through_postfix_and_follows_the_alias(service: ServiceProcess, postfix: Postfix) -> None:
    client = service.connect()
    ids = {
        name: client.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=f"{name}@example.com")["EmailAddressId"]
        for name in ("primary", "alias")
    }
    pair = {
        "InstanceId": DEV_INSTANCE,
        "EmailAddressId": ids["primary"],
        "AliasConfiguration": {"EmailAddressId": ids["alias"]},
    }

    def subjects(name: str) -> list[str]:
        with HttpClient(service.http_address) as http:
            return [message["Subject"] for message in http.inbox(DEV_INSTANCE, ids[name])]

    def send(subject: str) -> None:
        with SmtpClient(("127.0.0.1", postfix.port)) as smtp:
            smtp.say("EHLO client.example")
            content = f"Subject: {subject}\r\n\r\nhello\r\n".encode()
            assert smtp.mail("sender@example.org", "alias@example.com", content=content).startswith("250")
        wait_for(lambda: subject in subjects("alias"))

    client.associate_email_address_alias(**pair)
    send("while associated")
    client.disassociate_email_address_alias(**pair)
    send("afterwards")
    assert subjects("alias") == ["afterwards", "while associated"]
    assert subjects("primary") == ["while associated"]


def test_an_unknown_address_is_refused_at_postfix_door(service: ServiceProcess, postfix: Postfix) -> None:
    published = service.connect().create_email_address(InstanceId=DEV_INSTANCE, EmailAddress="known@example.com")
    assert published
    with SmtpClient(("127.0.0.1", postfix.port)) as smtp:
        smtp.say("EHLO client.example")
        smtp.say("MAIL FROM:<sender@example.org>")
        refused = wait_for(lambda: _decided(smtp.say("RCPT TO:<nobody@example.com>")))
        assert str(refused).startswith("550 5.1.1")
        assert str(wait_for(lambda: _decided(smtp.say("RCPT TO:<known@example.com>")))).startswith("250")


def _decided(reply: str) -> str | None:
    """Postfix says 450 while its probe is still on the way."""
    return None if reply.startswith("450") else reply
