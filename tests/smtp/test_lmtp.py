"""LMTP against the real process, over TCP and over a socket in the file system (RFC 2033)."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess, split_address
from harness.programs import require_program
from harness.smtp_client import SmtpClient
from readdress.config import Config, ConfigError
from readdress.mail.intake import Intake
from readdress.service import Service
from readdress.smtp.grammar import Path as SmtpPath
from readdress.smtp.grammar import parse_mailbox
from readdress.smtp.server import Peer
from readdress.smtp.session import Envelope, Recipient
from readdress.store.database import Database
from readdress.store.queries import Query


@pytest.fixture(scope="module")
def lmtp_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    process = ServiceProcess(tmp_path_factory.mktemp("lmtp"), "--lmtp", "127.0.0.1:0")
    yield process
    process.stop()


@pytest.fixture(scope="module")
def addresses(lmtp_service: ServiceProcess) -> dict[str, str]:
    """primary@ with its alias alias@, and other@: ids by local part."""
    client = lmtp_service.connect()
    ids = {
        name: client.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=f"{name}@example.com")["EmailAddressId"]
        for name in ("primary", "alias", "other")
    }
    client.associate_email_address_alias(
        InstanceId=DEV_INSTANCE,
        EmailAddressId=ids["primary"],
        AliasConfiguration={"EmailAddressId": ids["alias"]},
    )
    return ids


def deliver(client: SmtpClient, *recipients: str, content: bytes = b"Subject: t\r\n\r\nb\r\n") -> list[str]:
    """The replies after the content, one for each recipient."""
    assert client.say("MAIL FROM:<sender@example.org>").startswith("250")
    for recipient in recipients:
        assert client.say(f"RCPT TO:<{recipient}>").startswith("250")
    assert client.say("DATA").startswith("354")
    client.send(content + b".\r\n")
    return [client.read_reply() for _ in recipients]


def inbox_ids(service: ServiceProcess, address_id: str) -> list[str]:
    with HttpClient(service.http_address) as http:
        return [message["MessageId"] for message in http.inbox(DEV_INSTANCE, address_id)]


def test_each_recipient_has_a_reply_and_each_inbox_one_copy(
    lmtp_service: ServiceProcess, addresses: dict[str, str]
) -> None:
    with SmtpClient(split_address(lmtp_service.lmtp)) as client:
        assert client.greeting.startswith("220 ")
        assert " LMTP " in client.greeting
        assert client.say("LHLO mta.example.net").startswith("250")
        replies = deliver(client, "alias@example.com", "primary@example.com", "other@example.com")
    (message_id,) = {reply.removeprefix("250 2.0.0 accepted ") for reply in replies}
    for address_id in addresses.values():
        assert inbox_ids(lmtp_service, address_id).count(message_id) == 1


def test_the_received_field_says_lmtp(lmtp_service: ServiceProcess, addresses: dict[str, str]) -> None:
    with SmtpClient(split_address(lmtp_service.lmtp)) as client:
        client.say("LHLO mta.example.net")
        (reply,) = deliver(client, "other@example.com")
    message_id = reply.rpartition(" ")[2]
    with HttpClient(lmtp_service.http_address) as http:
        content = http.call("GET", f"/_readdress/instances/{DEV_INSTANCE}/messages/{message_id}/content").body
    assert f"with LMTP id {message_id}".encode() in content  # RFC 3848


def test_swaks_speaks_lmtp_with_it(lmtp_service: ServiceProcess, addresses: dict[str, str]) -> None:
    host, port = split_address(lmtp_service.lmtp)
    command = [require_program("swaks"), "--protocol", "LMTP", "--server", host, "--port", str(port)]
    command += ["--from", "sender@example.org", "--to", "alias@example.com,other@example.com"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("250 2.0.0 accepted") == 2


def test_postfix_smtp_source_speaks_lmtp_with_it(lmtp_service: ServiceProcess, addresses: dict[str, str]) -> None:
    host, port = split_address(lmtp_service.lmtp)
    before = len(inbox_ids(lmtp_service, addresses["other"]))
    command = [require_program("smtp-source"), "-L", "-s", "5", "-m", "50", "-l", "2000"]
    command += ["-f", "sender@example.org", "-t", "other@example.com", f"inet:{host}:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(inbox_ids(lmtp_service, addresses["other"])) == before + 50


def test_a_socket_in_the_file_system(start_service: Callable[..., ServiceProcess], tmp_path: Path) -> None:
    path = tmp_path / "lmtp.sock"
    service = start_service("--lmtp", f"unix:{path}")
    made = service.connect().create_email_address(InstanceId=DEV_INSTANCE, EmailAddress="help@example.com")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(os.fspath(path))
        file = connection.makefile("rwb", buffering=0)
        for line, last in (
            ("", b"220"),
            ("LHLO mta.example.net", b"250 HELP"),
            ("MAIL FROM:<>", b"250"),
            ("RCPT TO:<help@example.com>", b"250"),
            ("DATA", b"354"),
            ("Subject: x\r\n\r\ny\r\n.", b"250 2.0.0 accepted"),
        ):
            if line:
                file.write(line.encode() + b"\r\n")
            while (heard := file.readline())[3:4] == b"-":
                pass
            assert heard.startswith(last), heard
        file.close()
    (message_id,) = inbox_ids(service, made["EmailAddressId"])
    with HttpClient(service.http_address) as http:
        content = http.call("GET", f"/_readdress/instances/{DEV_INSTANCE}/messages/{message_id}/content").body
    assert content.startswith(b"Received: from mta.example.net\r\n\tby ")
    service.stop()
    start_service("--lmtp", f"unix:{path}").stop()  # what the last run left there is no obstacle


def test_lmtp_is_never_spoken_on_port_25(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="port 25"):  # RFC 2033 §5
        Service(Config(data=str(tmp_path), lmtp="127.0.0.1:25"))


def test_development_mode_keeps_lmtp_on_loopback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loopback"):  # contract 4
        Service(Config(data=str(tmp_path), dev=True, lmtp="192.0.2.1:2424"))


@pytest.mark.parametrize("is_staged", [False, True], ids=["small", "staged"])
def test_of_recipients_that_vanish_only_those_are_refused(
    database: Database, addresses_in: Callable[..., dict[str, str]], is_staged: bool
) -> None:
    # contract 6: LMTP gives one reply per recipient
    ids = addresses_in("one", "two", "three")
    paths = [SmtpPath(f"{name}@example.com", parse_mailbox(f"{name}@example.com")) for name in ids]
    envelope = Envelope(SmtpPath("", None), smtputf8=False, recipients=[Recipient(path) for path in paths])

    async def send() -> tuple[str, list[Any]]:
        incoming = Intake(database, hostname="mx.example").begin_message(envelope, Peer("192.0.2.1", "mta", "LMTP"))
        await incoming.add(b"Subject: t\r\n\r\n")
        if is_staged:
            for _ in range(5):
                await incoming.add(b"x" * 99_998 + b"\r\n")
        database.run(lambda tx: delete(tx, ids["two"]))
        return incoming.id, await incoming.accept()

    message_id, replies = asyncio.run(send())
    assert [reply.code for reply in replies] == [250, 550, 250]
    assert {str(reply) for reply in replies if reply.is_positive} == {f"250 2.0.0 accepted {message_id}"}
    for name, count in (("one", 1), ("two", 0), ("three", 1)):
        assert len(database.run(lambda tx, name=name: inbox(tx, ids[name]))) == count  # type: ignore[misc]


def delete(tx: Any, address_id: str) -> None:
    from readdress.directory import addresses as directory

    (instance_id,) = tx.one(Query("SELECT instance_id FROM email_address WHERE id = :id"), id=address_id)
    directory.delete(tx, instance_id=instance_id, address_id=address_id)


def inbox(tx: Any, address_id: str) -> list[Any]:
    from readdress.inbox import messages

    return messages.list_inbox(tx, address_id=address_id, before_id=None, limit=10)


@pytest.fixture
def addresses_in(database: Database) -> Callable[..., dict[str, str]]:
    """Publish addresses of example.com in the test's own database: ids by local part."""
    from readdress.directory import addresses as directory
    from readdress.directory import instances

    def publish(*names: str) -> dict[str, str]:
        def work(tx: Any) -> None:
            instances.create(tx, instances.Instance("i", "123456789012", None, "SAML", None, 1, 1, tx.now_ms))
            for name in names:
                directory.create(
                    tx,
                    address_id=f"id-{name}",
                    instance_id="i",
                    address=f"{name}@example.com",
                    display_name=None,
                    description=None,
                    addresses_max=None,
                )

        database.run(work)
        return {name: f"id-{name}" for name in names}

    return publish
