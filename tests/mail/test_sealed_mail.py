"""Mail that leaves our domains is sealed, and other implementations believe the seal; notices are signed."""

import asyncio
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import dkim
import pytest

from harness import checked_mail
from harness.checked_mail import STRANGER, ZONE, connect, mail_of, publish, read, tag
from harness.dns_zone import DnsServer
from harness.http_client import HttpClient
from harness.jobs import make_delivery, make_job
from harness.mailauth import JsonZone, judge, message_case
from harness.outgoing import HOSTNAME, TIMEOUTS, local
from harness.process import DEV_INSTANCE, ServiceProcess, split_address
from harness.settings_file import write_settings
from harness.signed_mail import SELECTOR, ed25519_key, key_text, pem, rsa_key, sign
from harness.smtp_client import accepted_id
from harness.two_hosts import NEXT_DOMAIN, SEAL_DOMAIN, TwoHosts
from readdress.mail.authentication import sealing
from readdress.mail.mx import OwnHost
from readdress.mail.resolver import Resolver
from readdress.mail.transports import Outcome
from readdress.mail.transports.relay import NextDomain, Smtp
from readdress.store.database import Database

SIGNED = sign(mail_of("a@reject.example"), domain="reject.example")
KEY_DOMAINS = (SEAL_DOMAIN, "reject.example", "none.example")


@pytest.fixture(scope="module")
def dns() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as server:
        yield server


@pytest.fixture(scope="module")
def hosts(dns: DnsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    two = TwoHosts(tmp_path_factory.mktemp("sealed"), dns)
    yield two
    two.stop()


def mailauth_says(content: bytes, folder: Path) -> dict[str, Any]:
    zone: JsonZone = {f"{SELECTOR}._domainkey.{domain}": {"TXT": [key_text(rsa_key())]} for domain in KEY_DOMAINS}
    (verdict,) = judge([message_case(content, zone)], folder)
    return verdict


def key_in_dns(name: bytes, timeout: float = 5) -> bytes:
    _ = name, timeout
    return key_text(rsa_key()).encode()


def relayed(hosts: TwoHosts, content: bytes, *, transport: str = "relay") -> checked_mail.Judged:
    """What the next host has got and found, of a mail whose client SPF does not name."""
    place = hosts.publish(transport)
    with connect(hosts.first.smtp, source=STRANGER) as client:
        message_id = accepted_id(client.mail("a@reject.example", place.text, content=content))
    return hosts.judged(place, message_id)


def chained(content: bytes) -> bytes:
    """With a set of a hop before us, by dkimpy."""
    given = b"Authentication-Results: hop.example; arc=none; dkim=pass header.d=reject.example\r\n" + content
    fields = dkim.arc_sign(given, SELECTOR.encode(), b"none.example", pem(rsa_key()), b"hop.example")
    return b"".join(fields) + given


ODD = {
    "signed": SIGNED,
    "not signed": mail_of("a@reject.example"),
    "eight bits and long lines": sign(
        mail_of("a@reject.example", body=bytes(range(128, 256)) * 200 + b" \t \r\n\r\n\r\n"), domain="reject.example"
    ),
    "no body": sign(mail_of("a@reject.example", body=b""), domain="reject.example"),
    "large": sign(mail_of("a@reject.example", body=(b".x" * 400 + b"\r\n") * 3_000), domain="reject.example"),
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_a_seal_is_believed_by_all(hosts: TwoHosts, content: bytes, tmp_path: Path) -> None:
    # RFC 8617 §5.1, §5.2: by the next Readdress, by dkimpy and by mailauth
    judged = relayed(hosts, content)
    assert judged.raw.endswith(content)
    assert (judged.verdicts["Arc"]["Result"], judged.verdicts["Arc"]["Domain"]) == ("pass", SEAL_DOMAIN)
    assert dkim.arc_verify(judged.raw, dnsfunc=key_in_dns)[0] == b"pass"
    others = mailauth_says(judged.raw, tmp_path)
    assert (others["arc"], others["instance"]) == ("pass", 1)
    assert others["authResults"].split(";")[0].strip().endswith("mx.example.org")
    # And the signature of the author's domain holds as it did.
    is_signed = b"DKIM-Signature" in content
    assert judged.shown("Dkim") == ("pass" if is_signed else "none")
    if is_signed:
        assert [row["result"] for row in others["dkim"]] == ["pass"]
        assert dkim.verify(judged.raw, dnsfunc=key_in_dns)


def test_a_seal_says_what_was_found_when_the_mail_arrived(hosts: TwoHosts) -> None:
    # RFC 8617 §4.1.1, RFC 8601 §2.7
    header = relayed(hosts, SIGNED).raw.partition(b"\r\n\r\n")[0].replace(b"\r\n\t", b" ")
    (results,) = [line for line in header.split(b"\r\n") if line.startswith(b"ARC-Authentication-Results:")]
    assert results.startswith(b"ARC-Authentication-Results: i=1; mx.example.org; spf=fail")
    assert b"dkim=pass header.d=reject.example" in results
    assert b"dmarc=pass header.from=reject.example policy.dmarc=reject" in results
    assert b"; cv=none;" in header


def test_a_chain_goes_on_with_our_set(hosts: TwoHosts, tmp_path: Path) -> None:
    judged = relayed(hosts, chained(SIGNED))
    assert (judged.verdicts["Arc"]["Result"], judged.verdicts["Arc"]["Sets"]) == ("pass", 2)
    assert dkim.arc_verify(judged.raw, dnsfunc=key_in_dns)[0] == b"pass"
    others = mailauth_says(judged.raw, tmp_path)
    assert (others["arc"], others["instance"]) == ("pass", 2)
    assert b"i=2; cv=pass;" in judged.raw


def test_a_chain_that_was_broken_is_sealed_as_such(hosts: TwoHosts, tmp_path: Path) -> None:
    # RFC 8617 §5.1.2
    judged = relayed(hosts, chained(SIGNED).replace(b"hello", b"hallo"))
    assert b"i=2; cv=fail;" in judged.raw
    assert judged.shown("Arc") == "fail"
    assert mailauth_says(judged.raw, tmp_path)["arc"] == "fail"


def test_a_chain_that_dns_keeps_from_being_judged_is_left_as_it_was(hosts: TwoHosts) -> None:
    given = b"Authentication-Results: hop.example; arc=none\r\n" + SIGNED
    fields = dkim.arc_sign(given, SELECTOR.encode(), b"trouble.example", pem(rsa_key()), b"hop.example")
    content = b"".join(fields) + given
    judged = relayed(hosts, content)
    assert judged.shown("Arc") == "temperror"
    assert judged.raw.count(b"ARC-Seal: ") == 1
    assert judged.raw.endswith(content)


@pytest.mark.parametrize("transport", ["store", "inside"])
def test_mail_that_stays_in_our_domains_is_not_sealed(hosts: TwoHosts, transport: str) -> None:
    judged = relayed(hosts, SIGNED, transport=transport)
    assert b"\r\nARC-" not in judged.raw
    assert (judged.shown("Arc"), judged.shown("Dkim")) == ("none", "pass")
    assert judged.raw.endswith(SIGNED)


def test_two_relays_make_a_chain_of_two(hosts: TwoHosts, tmp_path: Path) -> None:
    """And the second host, which knows none of the first's secrets, finds what the first found."""
    once = relayed(hosts, SIGNED)
    twice = relayed(hosts, once.raw)
    assert twice.verdicts["Arc"]["Sets"] == 2
    assert twice.shown("Arc") == "pass"
    assert twice.shown("Dkim") == "pass"
    assert mailauth_says(twice.raw, tmp_path)["arc"] == "pass"


def test_a_seal_that_fails_keeps_no_mail_here(
    hosts: TwoHosts, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(content: bytes, verdicts: str) -> bytes:
        raise ValueError(len(content), verdicts)

    place_id, text = publish(hosts.next)
    relay = Smtp(
        local(split_address(hosts.next.smtp)[1]),
        recipient="",
        allow_private=False,
        next_domain=NextDomain(database, Resolver(), OwnHost(), fail),
        hostname=HOSTNAME,
        timeouts=TIMEOUTS,
        concurrency=1,
        keep_content=False,
    )
    job = make_job(SIGNED, delivery=make_delivery("", next_hop=text), verdicts="{}")
    assert asyncio.run(relay.deliver(job)).outcome is Outcome.DELIVERED
    assert hosts.wait_for_inbox(hosts.next, place_id).endswith(SIGNED)
    assert "goes on without a seal" in caplog.text


# Notices.


def fields_of(content: bytes) -> Message:
    from email import message_from_bytes

    return message_from_bytes(content)


@pytest.mark.parametrize("leaves", [False, True], ids=["to a sender of ours", "to a sender elsewhere"])
def test_a_notice_is_signed_and_others_believe_it(hosts: TwoHosts, tmp_path: Path, leaves: bool) -> None:
    # RFC 6376; RFC 3464 §2 for what it is
    place = hosts.publish("relay")
    with HttpClient(hosts.next.http_address) as http:
        arn = f"arn:aws:connect:us-east-1:123456789012:instance/{DEV_INSTANCE}/email-address/{place.next_id}"
        tag(http, arn, accept="reject")
    host = hosts.next if leaves else hosts.first
    sender_id, sender = publish(host, f"sender{place.id[:8]}@{NEXT_DOMAIN}" if leaves else "")
    with connect(hosts.first.smtp) as client:
        accepted_id(client.mail(sender, place.text, content=mail_of("a@plain.example")))
    notice = hosts.wait_for_inbox(host, sender_id)
    assert fields_of(notice)["Auto-Submitted"] == "auto-replied"
    assert b"Status: 5.2.1" in notice
    assert b"ARC-Seal" not in notice
    assert dkim.verify(notice, dnsfunc=key_in_dns)
    assert mailauth_says(notice, tmp_path)["dkim"] == [{"result": "pass", "domain": SEAL_DOMAIN}]
    if leaves:
        (received,) = [line for line in notice.split(b"\r\n") if b"by mx.next.example" in line]
        judged = read(hosts.next, received.split(b" id ")[1].split(b";")[0].split(b" ")[0].decode().strip())
        assert (judged.shown("Dkim"), judged.verdicts["Dkim"][0]["Domain"]) == ("pass", SEAL_DOMAIN)


# Settings that can't be used.

BAD_KEYS = {
    "no PEM": b"not a key",
    "Ed25519": pem(ed25519_key()),
    "cut": pem(rsa_key())[:-60],
    "of 512 bits": b"-----BEGIN PRIVATE KEY-----\n"
    b"MIIBVQIBADANBgkqhkiG9w0BAQEFAASCAT8wggE7AgEAAkEAuNLTcbGtOQkMbRGr\n-----END PRIVATE KEY-----\n",
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_key_that_cannot_seal_stops_the_start(
    start_service: Callable[..., ServiceProcess], tmp_path: Path, key: bytes
) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(key)
    said = start_with(start_service, tmp_path, seal_key=str(file))
    assert "seal_key: " in said
    assert "Traceback" not in said
    assert "BEGIN" not in said


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"seal_key": "/nowhere/key.pem"}, "seal_key: [Errno 2] No such file or directory: '/nowhere/key.pem'"),
        ({"seal_key": ""}, "seal_domain, seal_selector and seal_key go together: give all of them, or none"),
        ({"seal_domain": "exa mple.org"}, "seal_domain has to be a domain name in ASCII, and not 'exa mple.org'"),
        ({"seal_selector": "s1; x"}, "seal_selector has to be a domain name in ASCII, and not 's1; x'"),
    ],
)
def test_seal_settings_that_make_no_sense_stop_the_start(
    start_service: Callable[..., ServiceProcess], tmp_path: Path, settings: dict[str, str], sentence: str
) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(pem(rsa_key()))
    assert sentence in start_with(start_service, tmp_path, **({"seal_key": str(file)} | settings))


def start_with(start_service: Callable[..., ServiceProcess], folder: Path, **settings: str) -> str:
    """What the program says instead of starting."""
    values: dict[str, Any] = {"seal_domain": SEAL_DOMAIN, "seal_selector": SELECTOR} | settings
    file = write_settings(folder / "settings.toml", **values)
    with pytest.raises(AssertionError, match="did not start") as raised:
        start_service("--config", str(file))
    return str(raised.value)


def test_a_key_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL checks an RSA key for some 30 ms whenever it loads one, and notices are signed in the writer."""
    from cryptography.hazmat.primitives import serialization

    key = pem(rsa_key(name="loaded once"))
    first = sealing.sign_dkim(SIGNED, SEAL_DOMAIN, SELECTOR, key)
    monkeypatch.setattr(serialization, "load_pem_private_key", None)
    second = sealing.sign_dkim(SIGNED, SEAL_DOMAIN, SELECTOR, key)
    assert first.partition(b"t=")[0] == second.partition(b"t=")[0]
