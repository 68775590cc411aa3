"""Our seals and signatures, judged by dkimpy and by mailauth: they hold, and they hold after what hops add."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dkim
import pytest

from harness.dns_zone import DnsServer, PatientResolver
from harness.mailauth import JsonZone, judge, message_case
from harness.signed_mail import MAIL, SELECTOR, ed25519_key, key_text, key_zone, pem, rsa_key, sign
from readdress.mail.authentication.arc import check_arc
from readdress.mail.authentication.check import check_sender
from readdress.mail.authentication.message import split_message
from readdress.mail.authentication.sealing import SIGNED_NAMES, PrivateKeyError, seal, sign_dkim
from readdress.mail.authentication.signature import HashedMessage
from readdress.mail.authentication.verdicts import ArcVerdict

OURS = "mx.example.org"
DOMAIN = "example.org"
HOPS = (
    b"Return-Path: <b@example.net>\r\nDelivered-To: b@example.net\r\nReceived: from x\r\n\tby y; date\r\n"
    b"Authentication-Results: other.test; none\r\n"
)

Seal = Callable[..., bytes]


@pytest.fixture
def seal_it(dns: DnsServer) -> Seal:
    """What a relay does: check at arrival, then seal on top."""
    dns.update(key_zone(rsa_key(), DOMAIN))
    dns.update(key_zone(rsa_key()))

    def sealed(content: bytes, *, authserv_id: str = OURS, domain: str = DOMAIN) -> bytes:
        verdicts = check_sender(
            content,
            peer_address="192.0.2.1",
            ehlo="mail.example.com",
            sender="a@example.com",
            authserv_id=authserv_id,
            resolver=PatientResolver(dns),
            budget_s=60,
        )
        return seal(
            content,
            verdicts_field=verdicts.results_field(authserv_id),
            domain=domain,
            selector=SELECTOR,
            private_key_pem=pem(rsa_key()),
            authserv_id=authserv_id,
        )

    return sealed


def arc_of(content: bytes, dns: DnsServer) -> ArcVerdict:
    return check_arc(HashedMessage(split_message(content)), PatientResolver(dns).begin(60))


def dkimpy_says(content: bytes) -> tuple[Any, str]:
    def look_up(name: bytes, timeout: float = 5) -> bytes:
        _ = timeout
        return key_text(rsa_key()).encode() if name.startswith(SELECTOR.encode()) else b""

    result, _, reason = dkim.arc_verify(content, dnsfunc=look_up)
    return result, reason


def zone() -> JsonZone:
    return {f"{SELECTOR}._domainkey.{domain}": {"TXT": [key_text(rsa_key())]} for domain in (DOMAIN, "example.com")} | {
        "ed._domainkey.example.org": {"TXT": [key_text(ed25519_key())]}
    }


def test_a_set_has_its_fields_in_order(seal_it: Seal) -> None:
    # RFC 8617 §4.1, §5.1: and the results are those of the arrival
    made = seal_it(sign(MAIL)).decode()
    assert [line.partition(":")[0] for line in made.split("\r\n") if line and not line[0].isspace()] == [
        "ARC-Seal",
        "ARC-Message-Signature",
        "ARC-Authentication-Results",
    ]
    assert "ARC-Authentication-Results: i=1; mx.example.org;\r\n\tspf=none smtp.mailfrom=a@example.com;" in made
    assert "\tdkim=pass header.d=example.com" in made
    assert " cv=none;" in made
    assert max(map(len, made.split("\r\n"))) <= 100


def test_a_seal_holds_for_us_and_for_dkimpy(seal_it: Seal, dns: DnsServer) -> None:
    content = sign(MAIL)
    for count in range(1, 4):
        content = HOPS + seal_it(content) + content
        verdict = arc_of(content, dns)
        assert (verdict.result, verdict.sets, verdict.domain) == ("pass", count, DOMAIN)
        assert dkimpy_says(content) == (b"pass", "success")


def test_a_seal_holds_for_mailauth(seal_it: Seal, tmp_path: Path) -> None:
    signed = sign(MAIL)
    one = seal_it(signed) + signed
    two = HOPS + seal_it(one) + one
    changed = two.replace(b"Hello", b"Hallo")
    broken = seal_it(changed) + changed
    verdicts = judge([message_case(content, zone()) for content in (MAIL, one, two, changed, broken)], tmp_path)
    assert [verdict["arc"] for verdict in verdicts] == ["none", "pass", "pass", "fail", "fail"]
    assert [verdict["instance"] for verdict in verdicts[1:3]] == [1, 2]
    assert [row["result"] for row in verdicts[2]["dkim"]] == ["pass"]


def test_a_chain_that_broke_on_its_way_is_sealed_as_failed_once(seal_it: Seal, dns: DnsServer) -> None:
    # RFC 8617 §5.1.2
    content = seal_it(MAIL) + MAIL
    changed = content.replace(b"Hello", b"Hallo")
    failed = seal_it(changed)
    assert b"i=2; cv=fail;" in failed
    assert arc_of(failed + changed, dns).reason == "the chain was broken before i=2"
    # dkimpy: None, for a chain that has ended, when the new set itself is good
    assert dkimpy_says(failed + changed)[0] is None
    assert seal_it(failed + changed) == b""


def test_a_chain_whose_sets_are_no_chain_is_sealed_as_failed(seal_it: Seal) -> None:
    content = seal_it(MAIL) + MAIL
    for name in (b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"):
        renamed = content.replace(name + b":", b"X-Gone:")
        assert b"i=2; cv=fail;" in seal_it(renamed), name


def test_there_is_no_fifty_first_set(seal_it: Seal, dns: DnsServer) -> None:
    # RFC 8617 §4.2.1
    content = b"".join(
        f"ARC-Seal: i={i}; cv=none\r\nARC-Message-Signature: i={i}\r\nARC-Authentication-Results: i={i}; x\r\n".encode()
        for i in range(50, 0, -1)
    )
    assert seal_it(content + MAIL) == b""
    more = b"ARC-Authentication-Results: i=51; x\r\n"
    assert arc_of(more + content + MAIL, dns).reason == "more than 50 sets"


def test_a_chain_that_could_not_be_judged_is_left_alone(seal_it: Seal, dns: DnsServer) -> None:
    content = seal_it(MAIL) + MAIL
    dns.update({f"{SELECTOR}._domainkey.{DOMAIN}": ["SERVFAIL"]})
    assert arc_of(content, dns).result == "temperror"
    assert seal_it(content) == b""


def test_what_hops_add_or_change_is_not_signed() -> None:
    # RFC 8617 §4.1.2, RFC 6376 §5.4.1
    assert not {b"received", b"return-path", b"delivered-to", b"x-original-to", b"authentication-results"} & {
        *SIGNED_NAMES
    }


def test_only_results_of_our_own_are_sealed() -> None:
    field = "Authentication-Results: other.test; arc=none\r\n"
    with pytest.raises(ValueError, match="our own"):
        seal(
            MAIL,
            verdicts_field=field,
            domain=DOMAIN,
            selector=SELECTOR,
            private_key_pem=pem(rsa_key()),
            authserv_id=OURS,
        )


def test_a_sender_cannot_put_the_state_of_the_chain_into_the_results(seal_it: Seal) -> None:
    made = seal_it(MAIL.replace(b"a@example.com", b"a@arc=fail;arc=pass.example"))
    assert b"cv=none" in made


@pytest.mark.parametrize("private_key", [b"", b"-----BEGIN", pem(rsa_key())[:-40], pem(ed25519_key())])
def test_a_key_that_cannot_seal_is_named_as_such(private_key: bytes) -> None:
    with pytest.raises(PrivateKeyError):
        seal(
            MAIL,
            verdicts_field="Authentication-Results: mx.example.org;\r\n\tarc=none\r\n",
            domain=DOMAIN,
            selector=SELECTOR,
            private_key_pem=private_key,
            authserv_id=OURS,
        )


def test_notices_that_we_sign_are_good_for_all(tmp_path: Path, dns: DnsServer) -> None:
    # RFC 6376, RFC 8463
    with_rsa = sign_dkim(MAIL, "example.org", SELECTOR, pem(rsa_key())) + MAIL
    with_ed25519 = sign_dkim(MAIL, "example.org", "ed", pem(ed25519_key())) + MAIL
    added = b"From: other@example.com\r\n" + with_rsa
    verdicts = judge([message_case(content, zone()) for content in (with_rsa, with_ed25519, added)], tmp_path)
    assert [verdict["dkim"] for verdict in verdicts] == [
        [{"result": "pass", "domain": "example.org"}],
        [{"result": "pass", "domain": "example.org"}],
        [{"result": "fail", "domain": "example.org"}],
    ]
    assert dkim.verify(with_rsa, dnsfunc=lambda *_, **__: key_text(rsa_key()).encode())
    assert dkim.verify(with_ed25519, dnsfunc=lambda *_, **__: key_text(ed25519_key()).encode())
