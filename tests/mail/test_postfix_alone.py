"""A real Postfix, configured as docs/postfix.md (b) says, does all the mail handling and asks our directory."""

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.postfix import Postfix, documented_settings, wait_for
from harness.process import DEV_INSTANCE, ServiceProcess, free_port
from harness.programs import require, require_program
from harness.smtp_client import SmtpClient

ALIAS, PRIMARY = "alias@example.com", "primary@example.com"


@dataclass
class MailSystem:
    """Readdress as the directory, Postfix in front, and its own LMTP sink behind it that writes mails to files."""

    folder: Path
    map_port: int
    postfix: Postfix
    sink: "subprocess.Popen[bytes]"
    service: ServiceProcess
    ids: dict[str, str] = field(default_factory=dict)

    def publish(self, *texts: str) -> None:
        client = self.service.connect()
        for text in texts:
            made = client.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=text)
            self.ids[text] = made["EmailAddressId"]

    def pair(self) -> dict[str, Any]:
        return {
            "InstanceId": DEV_INSTANCE,
            "EmailAddressId": self.ids[PRIMARY],
            "AliasConfiguration": {"EmailAddressId": self.ids[ALIAS]},
        }

    def start_service(self) -> None:
        self.service = start_service(self.folder, self.map_port)

    def rcpt(self, recipient: str) -> str:
        with SmtpClient(("127.0.0.1", self.postfix.port)) as smtp:
            smtp.say("EHLO client.example")
            smtp.say("MAIL FROM:<>")
            return smtp.say(f"RCPT TO:<{recipient}>")

    def send(self, subject: str, *recipients: str) -> list[str]:
        """A mail through Postfix; the recipients that it was delivered to, once the queue is empty."""
        with SmtpClient(("127.0.0.1", self.postfix.port)) as smtp:
            smtp.say("EHLO client.example")
            reply = smtp.mail("", *recipients, content=f"Subject: {subject}\r\n\r\nhello\r\n".encode())
            assert reply.startswith("250"), reply
        wait_for(self.is_queue_empty)
        return self.delivered(subject)

    def is_queue_empty(self) -> bool:
        command = ["postqueue", "-c", str(self.postfix.folder / "config"), "-j"]
        return not subprocess.run(command, capture_output=True, check=True, timeout=30).stdout

    def delivered(self, subject: str) -> list[str]:
        texts = [path.read_text() for path in (self.folder / "sink").iterdir()]
        found = [text for text in texts if f"\nSubject: {subject}\n" in text]
        return sorted(match for text in found for match in re.findall(r"^X-Rcpt-Args: <(.*?)>", text, re.MULTILINE))


def start_service(folder: Path, map_port: int) -> ServiceProcess:
    return ServiceProcess(folder / "readdress", "--socketmap", f"127.0.0.1:{map_port}")


def start_mail_system(change: Callable[[str], str] = lambda settings: settings) -> MailSystem:
    require_program("postfix")
    sink_program = require_program("smtp-sink")
    if os.geteuid() != 0:
        require("Postfix wants to be started by root")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # Postfix' own users have to come through
    (folder / "sink").mkdir()
    shutil.chown(folder / "sink", "nobody")
    map_port, sink_port = free_port(), free_port()
    settings = documented_settings("socketmap:")
    assert "lmtp:unix:private/dovecot-lmtp" in settings
    settings = settings.replace("127.0.0.1:2527", f"127.0.0.1:{map_port}")
    settings = settings.replace("lmtp:unix:private/dovecot-lmtp", f"lmtp:inet:127.0.0.1:{sink_port}")
    sink = [sink_program, "-L", "-u", "nobody", "-d", f"{folder}/sink/", f"127.0.0.1:{sink_port}", "100"]
    return MailSystem(
        folder=folder,
        map_port=map_port,
        postfix=Postfix(folder / "postfix", free_port(), change(settings)),
        sink=subprocess.Popen(sink),
        service=start_service(folder, map_port),
    )


def stop_mail_system(system: MailSystem) -> None:
    system.postfix.stop()
    system.sink.terminate()
    system.sink.wait(10)
    if system.service.process.poll() is None:
        system.service.stop()
    shutil.rmtree(system.folder)


@pytest.fixture(scope="module")
def system() -> Iterator[MailSystem]:
    started = start_mail_system()
    started.publish(ALIAS, PRIMARY)
    yield started
    stop_mail_system(started)


def test_an_aliass_mail_reaches_both_once_and_after_the_200_only_one(system: MailSystem) -> None:
    connect = system.service.connect()
    connect.associate_email_address_alias(**system.pair())
    assert system.send("while associated", ALIAS) == [ALIAS, PRIMARY]
    # contract 6: alias and primary both named give one copy each, however they are spelled
    assert system.send("both named", "ALIAS@Example.com", PRIMARY, "Primary@example.COM") == [ALIAS, PRIMARY]
    assert system.send("the primary alone", PRIMARY) == [PRIMARY]
    connect.disassociate_email_address_alias(**system.pair())
    assert system.send("afterwards", ALIAS) == [ALIAS]
    assert system.send("both, afterwards", ALIAS, PRIMARY) == [ALIAS, PRIMARY]


def test_an_unknown_address_is_550_at_rcpt_until_it_is_published(system: MailSystem) -> None:
    assert system.rcpt("late@example.com").startswith("550 5.1.1 ")
    system.publish("late@example.com")
    assert system.send("late", "late@example.com") == ["late@example.com"]
    system.service.connect().delete_email_address(
        InstanceId=DEV_INSTANCE, EmailAddressId=system.ids["late@example.com"]
    )
    assert system.rcpt("late@example.com").startswith("550 5.1.1 ")


def test_odd_addresses_come_through_postfix_as_they_are(system: MailSystem) -> None:
    system.publish("odd,one@example.com", "paren(these)s@example.com")
    assert system.send("odd", '"odd,one"@example.com') == ['"odd,one"@example.com']
    assert system.send("paren", '"Paren(These)s"@example.com') == ['"paren(these)s"@example.com']
    assert system.send("postmaster", "postmaster@example.com") == ["postmaster@example.com"]


def test_while_the_directory_is_away_postfix_says_4xx_and_the_mail_comes_afterwards(system: MailSystem) -> None:
    system.service.connect().associate_email_address_alias(**system.pair())
    assert system.rcpt(ALIAS).startswith("250 ")
    system.service.stop()
    for recipient in (ALIAS, PRIMARY, "nobody@example.com"):
        assert system.rcpt(recipient).startswith("451 4.3.0 ")
    system.start_service()
    assert system.send("again", ALIAS) == [ALIAS, PRIMARY]  # by the sender's next attempt, to the same processes
    assert system.rcpt("nobody@example.com").startswith("550 5.1.1 ")
    system.service.connect().disassociate_email_address_alias(**system.pair())


def test_with_trouble_in_the_database_postfix_says_4xx_and_the_mail_comes_afterwards(system: MailSystem) -> None:
    database = system.folder / "readdress" / "readdress.db"
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=10)) as other:
        other.execute("ALTER TABLE email_address RENAME TO broken")
        assert system.rcpt(ALIAS).startswith("451 4.3.0 ")
        assert system.rcpt("nobody@example.com").startswith("451 4.3.0 ")
        other.execute("ALTER TABLE broken RENAME TO email_address")
    assert system.send("mended", ALIAS) == [ALIAS]
    assert system.rcpt("nobody@example.com").startswith("550 5.1.1 ")


def test_a_domain_that_comes_by_the_api_is_known_at_once_where_no_process_remembers_it() -> None:
    """What else the document names: the map `domain` with `max_use=1`, and `proxy:`."""

    def ask_for_domains(settings: str) -> str:
        (alias_map,) = re.findall(r"socketmap:\S+:alias", settings)
        assert "virtual_mailbox_domains = example.com" in settings
        settings = settings.replace("= example.com", f"= {alias_map.removesuffix('alias')}domain")
        settings = settings.replace("= socketmap:", "= proxy:socketmap:")
        # Our own client is on loopback, which Postfix would relay for.
        return settings + "max_use = 1\nsmtpd_relay_restrictions = reject_unauth_destination\n"

    system = start_mail_system(ask_for_domains)
    try:
        assert system.rcpt("a@new.example").startswith("554 5.7.1 ")
        system.publish("a@new.example")
        assert system.send("new", "a@new.example") == ["a@new.example"]
        assert system.rcpt("b@new.example").startswith("550 5.1.1 ")
        system.publish("b@new.example")
        assert system.rcpt("b@new.example").startswith("250 ")
        system.service.stop()
        assert system.rcpt("a@new.example").startswith("451 4.3.0 ")
        system.start_service()
        assert system.rcpt("a@new.example").startswith("250 ")
    finally:
        stop_mail_system(system)
