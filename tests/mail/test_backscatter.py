"""Whom a failed delivery is told: never somebody whose address was forged, by what the checks found at arrival."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from harness import checked_mail
from harness.checked_mail import CLIENT, STRANGER, ZONE, connect, mail_of, publish
from harness.dns_zone import DnsServer, txt
from harness.engine import open_beside
from harness.process import ServiceProcess
from harness.settings_file import write_settings
from harness.signed_mail import key_zone, rsa_key, sign
from harness.smtp_client import SmtpClient, accepted_id
from harness.smtp_sink import SmtpSink
from harness.stored import wait_until

PLAIN = mail_of("a@plain.example")
BY_REJECT = sign(PLAIN, domain="reject.example")


def signed_by(domain: str) -> bytes:
    return sign(PLAIN, domain=domain)


# Sender, client, content, and whether the sender hears that the delivery failed.
CASES: Mapping[str, tuple[str, str, bytes, bool]] = {
    "spf pass": ("pass@reject.example", CLIENT, PLAIN, True),
    "spf fail": ("fail@reject.example", STRANGER, PLAIN, False),
    "spf softfail": ("softfail@soft.example", STRANGER, PLAIN, False),
    "spf neutral": ("neutral@neutral.example", STRANGER, PLAIN, True),
    "spf none": ("none@plain.example", STRANGER, PLAIN, True),
    "spf permerror": ("permerror@broken.example", STRANGER, PLAIN, True),
    "spf temperror": ("temperror@trouble.example", STRANGER, PLAIN, True),
    "spf not known behind a hop": ("hop@reject.example", "10.0.0.1", PLAIN, True),
    "spf fail, dkim pass": ("signed@reject.example", STRANGER, BY_REJECT, True),
    "spf fail, dkim pass of the domain above": ("above@sub.reject.example", STRANGER, BY_REJECT, True),
    "spf fail, dkim pass of a domain below": ("below@reject.example", STRANGER, signed_by("sub.reject.example"), True),
    "spf fail, dkim fail": ("broken@reject.example", STRANGER, BY_REJECT.replace(b"hello", b"hallo"), False),
    "spf fail, dkim permerror": ("nokey@reject.example", STRANGER, signed_by("plain.example"), False),
    "spf fail, dkim pass of a stranger": ("stranger@reject.example", STRANGER, signed_by("none.example"), False),
    "spf fail, dkim pass of a look-alike": ("alike@reject.example", STRANGER, signed_by("notreject.example"), False),
}


class Told(NamedTuple):
    """Who had a notice in the end, and what the log says."""

    senders: list[str]
    log: str


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Send every case to an address whose next host refuses it."""
    folder = tmp_path_factory.mktemp("backscatter")
    zone = {
        **ZONE,
        **key_zone(rsa_key(), "sub.reject.example"),
        **key_zone(rsa_key(), "notreject.example"),
        "sub.reject.example": [txt("v=spf1 -all")],
    }
    with (
        DnsServer(zone) as dns,
        SmtpSink(folder / "refusing", "-f", "RCPT") as refusing,
        SmtpSink(folder / "taking") as taking,
    ):
        settings = write_settings(
            folder / "settings.toml",
            transports={
                "refused": {"type": "smtp", "host": "127.0.0.1", "port": refusing.port, "tls": "none"},
                "back": {"type": "smtp", "host": "127.0.0.1", "port": taking.port, "tls": "none"},
            },
            return_transport="back",
        )
        process = checked_mail.start(folder / "data", dns, "--config", str(settings))
        try:
            _send_all(process)
            wait_until(lambda: not _waiting(folder / "data"))
            yield Told([recipient for mail in taking.mails() for recipient in mail.recipients], process.errors)
        finally:
            process.stop()


def _send_all(process: ServiceProcess) -> None:
    _, text = publish(process, transport="refused")
    for sender, source, content, _ in CASES.values():
        with connect(process.smtp, source=source) as client:
            _send(client, sender, text, content)


def _send(client: SmtpClient, sender: str, recipient: str, content: bytes) -> None:
    accepted_id(client.mail(sender, recipient, content=content))


def _waiting(data: Path) -> int:
    """How many deliveries are to be tried; a notice is one from the transaction on that records the failure."""
    with open_beside(data / "readdress.db") as rows:
        (count,) = rows.execute("SELECT count(*) FROM delivery WHERE state = 'QUEUED'").fetchone()
    return int(count)


@pytest.mark.parametrize(("sender", "source", "content", "hears"), CASES.values(), ids=CASES)
def test_a_sender_hears_of_a_failure_unless_forged(
    told: Told, sender: str, source: str, content: bytes, hears: bool
) -> None:
    # contract 6, RFC 3834 §2: backscatter
    assert source
    assert content
    assert told.senders.count(sender) == (1 if hears else 0)


def test_nobody_else_hears_of_anything_and_the_log_says_why(told: Told) -> None:
    unheard = told.log.count("(failed): its sender failed SPF, and no good signature is of that domain")
    assert unheard == sum(not hears for _, _, _, hears in CASES.values())
    assert sorted(told.senders) == sorted(sender for sender, _, _, hears in CASES.values() if hears)
