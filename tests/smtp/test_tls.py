"""TLS on SMTP: STARTTLS (RFC 3207) and implicit TLS (RFC 8314) against the real process, and what must not leak in."""

import smtplib
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from harness.certificates import write_certificate
from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess, split_address
from harness.programs import require_program
from harness.smtp_client import SmtpClient
from readdress.config import Config, ConfigError
from readdress.service import Service
from readdress.smtp.events import MessageAbandoned, MessageStarted, NeedData, RecipientGiven, TlsAgreed
from readdress.smtp.reply import RECIPIENT_OK
from readdress.smtp.session import Limits, Session, State

ADDRESS = "help@example.com"


class TlsService:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        chain, key = write_certificate(folder, serial_number=1)
        environment = {"READDRESS_TLS_CERTIFICATE": str(chain), "READDRESS_TLS_KEY": str(key)}
        self.process = ServiceProcess(folder / "data", "--smtp-tls", "127.0.0.1:0", environment=environment)
        self.smtps_address = split_address(self.process.smtps)
        created = self.process.connect().create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=ADDRESS)
        self.address_id = str(created["EmailAddressId"])

    def get(self, path: str) -> Any:
        with HttpClient(self.process.http_address) as http:
            return http.call("GET", f"/_readdress/instances/{DEV_INSTANCE}/{path}")

    def newest(self) -> str:
        with HttpClient(self.process.http_address) as http:
            return str(http.inbox(DEV_INSTANCE, self.address_id)[0]["MessageId"])

    def count(self) -> int:
        with HttpClient(self.process.http_address) as http:
            return len(http.inbox(DEV_INSTANCE, self.address_id))

    def serial_number(self) -> int:
        """Of the certificate that a new connection is shown."""
        raw = socket.create_connection(self.smtps_address, timeout=10)
        with trusting().wrap_socket(raw) as connection:
            shown = connection.getpeercert(binary_form=True)
        assert shown
        return x509.load_der_x509_certificate(shown).serial_number


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsService]:
    service = TlsService(tmp_path_factory.mktemp("tls"))
    yield service
    service.process.stop()


def test_starttls_protects_the_mail_and_the_trace_says_so(tls: TlsService) -> None:
    with smtplib.SMTP(*tls.process.smtp_address) as smtp:
        smtp.ehlo("client.example")
        assert smtp.has_extn("starttls")
        smtp.starttls(context=trusting())
        smtp.ehlo("client.example")
        assert not smtp.has_extn("starttls")
        assert smtp.docmd("STARTTLS")[0] == 503
        smtp.sendmail("a@example.org", [ADDRESS], "Subject: x\r\n\r\ny\r\n")
    message_id = tls.newest()
    assert tls.get(f"messages/{message_id}").json["Connection"]["Tls"] == "TLSv1.3"
    assert f"with ESMTPS id {message_id}".encode() in tls.get(f"messages/{message_id}/content").body  # RFC 3848


def test_implicit_tls_begins_with_the_handshake(tls: TlsService) -> None:
    with smtplib.SMTP_SSL(*tls.smtps_address, context=trusting()) as smtp:
        smtp.ehlo("client.example")
        assert not smtp.has_extn("starttls")
        smtp.sendmail("a@example.org", [ADDRESS], "Subject: x\r\n\r\ny\r\n")
    assert tls.get(f"messages/{tls.newest()}").json["Connection"]["Tls"] == "TLSv1.3"


def test_swaks_delivers_over_tls(tls: TlsService) -> None:
    command = [require_program("swaks"), "--server", tls.process.smtp, "--tls", "--to", ADDRESS]
    done = subprocess.run(
        [*command, "--from", "a@example.org"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stdout
    assert "TLS started with cipher" in done.stdout


def test_a_large_message_comes_whole_through_tls(tls: TlsService) -> None:
    content = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 64 + b"\r\n"
    content += b"x" * 998 + b"\r\n"
    content *= 1_500
    with smtplib.SMTP(*tls.process.smtp_address) as smtp:
        smtp.starttls(context=trusting())
        smtp.sendmail("a@example.org", [ADDRESS], content)
    stored = tls.get(f"messages/{tls.newest()}/content").body
    assert stored.endswith(content)


def test_what_was_said_before_the_handshake_counts_no_more(tls: TlsService) -> None:
    # RFC 3207 §4.2
    with smtplib.SMTP(*tls.process.smtp_address) as smtp:
        smtp.ehlo("client.example")
        assert smtp.docmd("MAIL FROM:<a@example.org>")[0] == 250
        smtp.starttls(context=trusting())
        assert smtp.docmd(f"RCPT TO:<{ADDRESS}>")[0] == 503
        assert smtp.docmd("MAIL FROM:<a@example.org>")[0] == 503


@pytest.mark.parametrize("injected", ["RSET\r\n", "MAIL FROM:<evil@example.org>\r\n", "x"])
def test_a_command_behind_starttls_is_never_taken_for_a_protected_one(tls: TlsService, injected: str) -> None:
    with SmtpClient(tls.process.smtp_address) as client:
        client.say("EHLO client.example")
        client.send(f"STARTTLS\r\n{injected}")
        assert client.read_reply().startswith("554 5.5.0")
        assert client.read_reply() == ""


def test_plain_text_instead_of_a_handshake_ends_the_connection(tls: TlsService) -> None:
    before = tls.count()
    with SmtpClient(tls.process.smtp_address) as client:
        client.say("EHLO client.example")
        assert client.say("STARTTLS").startswith("220 2.0.0")
        client.send(f"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<{ADDRESS}>\r\nDATA\r\nevil\r\n.\r\n")
        heard = client.file.read()
    assert b"250" not in heard
    assert tls.count() == before


def test_starttls_waits_for_a_hello_and_takes_no_parameters(tls: TlsService) -> None:
    with SmtpClient(tls.process.smtp_address) as client:
        assert client.say("STARTTLS").startswith("503 5.5.1")
        client.say("EHLO client.example")
        assert client.say("STARTTLS now").startswith("501 5.5.4")


def test_tls_1_1_is_refused(tls: TlsService) -> None:
    context = trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(tls.smtps_address, timeout=10) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw)


def test_a_new_certificate_is_shown_without_a_restart_and_a_broken_one_is_not(tls: TlsService) -> None:
    assert tls.serial_number() == 1
    write_certificate(tls.folder, serial_number=2)
    assert tls.serial_number() == 2
    (tls.folder / "chain.pem").write_text("no certificate")
    assert tls.serial_number() == 2
    assert "the last one stays in use" in tls.process.errors
    write_certificate(tls.folder, serial_number=1)
    assert tls.serial_number() == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tls_key": "key.pem"}, "go together"),
        ({"smtp_tls": "127.0.0.1:0"}, "wants a certificate"),
        ({"tls_certificate": "/nowhere.pem", "tls_key": "/nowhere.pem"}, "cannot read the certificate"),
        ({"tls_certificate": __file__, "tls_key": __file__}, "cannot use the certificate"),
        ({"dev": True, "smtp_tls": "192.0.2.1:465"}, "loopback"),  # contract 4
    ],
)
def test_a_certificate_that_cannot_be_used_stops_the_start(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Service(Config(data=str(tmp_path), **settings))


def test_the_session_offers_tls_once_and_forgets_what_was_before() -> None:
    session = Session(hostname="mx.example.com", limits=Limits(), offers_tls=True)
    session.receive(b"EHLO client.example\r\n")
    assert isinstance(session.next_event(), NeedData)
    assert b"250-STARTTLS\r\n" in session.outgoing()
    session.receive(b"STARTTLS\r\n")
    assert isinstance(session.next_event(), TlsAgreed)
    assert session.outgoing().startswith(b"220 2.0.0 ")
    session.tls_started()
    assert (session.state, session.ehlo) == (State.START, "")
    session.receive(b"EHLO client.example\r\n")
    assert isinstance(session.next_event(), NeedData)
    assert b"STARTTLS" not in session.outgoing()


def test_a_message_between_two_chunks_is_abandoned_for_tls() -> None:
    session = Session(hostname="mx.example.com", limits=Limits(), offers_tls=True)
    session.receive(b"EHLO client.example\r\n")
    session.next_event()
    session.receive(b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nBDAT 0\r\n")
    assert isinstance(session.next_event(), RecipientGiven)
    session.answer_recipient(RECIPIENT_OK)
    assert isinstance(session.next_event(), MessageStarted)
    assert isinstance(session.next_event(), NeedData)
    session.receive(b"STARTTLS\r\n")
    assert isinstance(session.next_event(), TlsAgreed)
    session.tls_started()
    assert isinstance(session.next_event(), MessageAbandoned)
    assert isinstance(session.next_event(), NeedData)
