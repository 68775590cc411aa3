"""All checks of a message together: their verdicts, the order that a hostile sender can't use, and what they cost."""

import logging
import subprocess
import sys

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.dns_zone import SERVFAIL, DnsServer, PatientResolver, Zone, txt
from harness.process import free_port
from harness.signed_mail import MAIL, key_zone, rsa_key, sign
from readdress.mail.authentication import spf
from readdress.mail.authentication.check import check_sender
from readdress.mail.authentication.resolver import Resolver, Server
from readdress.mail.authentication.verdicts import Verdicts

CLIENT = "192.0.2.1"
OURS = "mx.example.org"
ZONE: Zone = {
    "example.com": [txt(f"v=spf1 ip4:{CLIENT} -all")],
    "_dmarc.example.com": [txt("v=DMARC1; p=reject; adkim=s")],
    **key_zone(rsa_key()),
}


def check(content: bytes, resolver: Resolver, *, sender: str = "a@example.com", peer: str = CLIENT) -> Verdicts:
    return check_sender(
        content,
        peer_address=peer,
        ehlo="mail.example.com",
        sender=sender,
        authserv_id=OURS,
        resolver=resolver,
        budget_s=60,
    )


def results(verdicts: Verdicts) -> tuple[str, list[str], str, str]:
    return verdicts.spf.result, [one.result for one in verdicts.dkim], verdicts.arc.result, verdicts.dmarc.result


def test_mail_in_order_passes(dns: DnsServer, resolver: Resolver) -> None:
    dns.update(ZONE)
    verdicts = check(sign(MAIL), resolver)
    assert results(verdicts) == ("pass", ["pass"], "none", "pass")
    assert verdicts.dmarc.aligned == ("spf", "dkim")
    assert (verdicts.dmarc.policy, verdicts.dmarc.policy_domain) == ("reject", "example.com")


def test_a_forged_sender_fails(dns: DnsServer, resolver: Resolver) -> None:
    dns.update(ZONE)
    verdicts = check(MAIL, resolver, peer="198.51.100.1")
    assert results(verdicts) == ("fail", ["none"], "none", "fail")
    assert verdicts.dmarc.policy == "reject"


def test_a_signature_alone_is_enough_behind_another_hop(dns: DnsServer, resolver: Resolver) -> None:
    dns.update(ZONE)
    verdicts = check(sign(MAIL), resolver, peer="unix")
    assert results(verdicts) == ("none", ["pass"], "none", "pass")
    assert verdicts.dmarc.aligned == ("dkim",)


def test_a_pass_never_rests_on_a_signature_of_a_part_of_the_body(dns: DnsServer, resolver: Resolver) -> None:
    # RFC 6376 §8.2
    dns.update(ZONE)
    verdicts = check(sign(MAIL, length=True) + b"more\r\n", resolver, peer="198.51.100.1")
    assert results(verdicts) == ("fail", ["policy"], "none", "fail")


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", b"Subject: x\r\n\r\n", b"From: a@b.test, c@d.test\r\n\r\n", b"From: x\r\n\r\n"]
)
def test_a_message_without_one_author_domain_is_a_permerror(dns: DnsServer, resolver: Resolver, content: bytes) -> None:
    # RFC 9989 §5.3.1
    dns.update(ZONE)
    verdicts = check(content, resolver)
    assert results(verdicts) == ("pass", ["none"], "none", "permerror")
    assert verdicts.dmarc.reason


def test_trouble_in_one_check_leaves_the_others_alone(dns: DnsServer, resolver: Resolver) -> None:
    dns.update(ZONE)
    dns.update({"example.com": [SERVFAIL]})
    assert results(check(sign(MAIL), resolver)) == ("temperror", ["pass"], "none", "pass")
    dns.update(ZONE)
    dns.update({"s1._domainkey.example.com": [SERVFAIL]})
    assert results(check(sign(MAIL), PatientResolver(dns))) == ("pass", ["temperror"], "none", "pass")
    dns.update({"_dmarc.example.com": [SERVFAIL]})
    assert results(check(sign(MAIL), PatientResolver(dns))) == ("pass", ["temperror"], "none", "temperror")


def test_what_a_check_cannot_bear_is_a_verdict_and_a_line_in_the_log(
    dns: DnsServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dns.update(ZONE)

    def crash(*_: object, **__: object) -> tuple[str, str]:
        raise RecursionError("secret")

    monkeypatch.setattr(spf, "evaluate_spf", crash)
    with caplog.at_level(logging.WARNING):
        verdicts = check(sign(MAIL), resolver)
    assert results(verdicts) == ("permerror", ["pass"], "none", "pass")
    assert "RecursionError" in caplog.text
    assert "secret" not in caplog.text + verdicts.spf.reason


class SlowNames(PatientResolver):
    """Time passes only while names of one domain are asked for, which take all of it."""

    def __init__(self, server: DnsServer, slow: str) -> None:
        super().__init__(server)
        self.slow = slow
        self.now_s = lambda: self.at_s
        self.at_s = 0.0

    def exchange(
        self, server: Server, query: dns.message.QueryMessage, *, timeout_s: float, tcp: bool
    ) -> dns.message.Message:
        if self.slow in query.question[0].name.to_text():
            self.at_s += timeout_s
            raise TimeoutError
        return super().exchange(server, query, timeout_s=timeout_s, tcp=tcp)


@pytest.mark.parametrize("sender", ["a@slow.test", "a@example.com", ""])
def test_slow_names_of_an_attacker_never_keep_a_fail_from_being_found(dns: DnsServer, sender: str) -> None:
    """With a `temperror` in its place a forged mail would get by where only `fail` is acted upon."""
    dns.update(ZONE)
    slow = sign(MAIL, domain="slow.test").removesuffix(MAIL)
    forged = sign(MAIL).replace(b"Hello", b"Hallo")
    verdicts = check(slow * 12 + forged, SlowNames(dns, "slow.test"), sender=sender, peer="198.51.100.1")
    assert [one.result for one in verdicts.dkim] == ["temperror"] * 9 + ["fail", "neutral"]
    assert (verdicts.dmarc.result, verdicts.dmarc.policy) == ("fail", "reject")


def test_loading_the_checks_loads_no_library_before_the_first_message() -> None:
    heavy = {"dns", "spf", "dkim", "authres", "nacl", "cryptography"}
    code = "import readdress.mail.authentication.check, readdress.mail.authentication.sealing, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())


HEADER_BYTES = 262_144
SIGNED = b"DKIM-Signature: v=1; a=rsa-sha256; d=e.test; s=s; bh=AAAA; "
HOSTILE = {
    "spaces in b=": SIGNED + b"h=from; b=A" + b" " * HEADER_BYTES + b"!",
    "folds in b=": SIGNED + b"h=from; b=A" + b"\r\n " * (HEADER_BYTES // 3),
    "tags": b"DKIM-Signature: " + b"a=b;" * (HEADER_BYTES // 4),
    "names in h=": SIGNED + b"b=AAAA; h=from" + b"".join(b":h%d" % number for number in range(HEADER_BYTES // 8)),
    "digits": SIGNED + b"h=from; b=AAAA; l=" + b"9" * HEADER_BYTES,
    "a long domain": SIGNED.replace(b"e.test", "ü".encode() * (HEADER_BYTES // 2)) + b"h=from; b=A",
    "fields": b"a:\r\n" * (HEADER_BYTES // 4),
    "signatures": b"DKIM-Signature:\r\n" * (HEADER_BYTES // 17),
    "ARC fields": b"ARC-Seal: i=1\r\n" * (HEADER_BYTES // 15),
    "ARC spaces": b"ARC-Seal: i" + b" " * HEADER_BYTES + b"1",
    "ARC tags": b"ARC-Seal: " + b"i=x;" * (HEADER_BYTES // 4),
    "comments in From": b"From: " + b"(" * HEADER_BYTES,
    "quotes in From": b'From: "' + b"\\a" * (HEADER_BYTES // 2),
    "addresses in From": b"From: " + b"a@b.test," * (HEADER_BYTES // 9),
    "no field": b"x" * HEADER_BYTES,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_header_costs_in_proportion_to_its_length(kind: str, resolver: Resolver) -> None:
    """Some hundredths of a second; what takes the square of the length would not come to its end in time."""
    verdicts = check(HOSTILE[kind] + b"\r\nFrom: a@example.com\r\n\r\nbody\r\n", resolver)
    assert "pass" not in results(verdicts)[1]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "body",
    [
        b" " * 4_000_000,
        (b" " * 60_000 + b"x\r\n") * 60,
        b"\r\n" * 2_000_000 + b"x",
        b"\n" + b"\r\n" * 2_000_000,
        b"\n\r" * 2_000_000,
    ],
    ids=["spaces", "lines of spaces", "empty lines", "empty lines at the end", "lone line ends"],
)
def test_a_hostile_body_costs_in_proportion_to_its_length(body: bytes, dns: DnsServer, resolver: Resolver) -> None:
    dns.update(ZONE)
    field = sign(MAIL, canonicalize=(b"relaxed", b"relaxed")).removesuffix(MAIL)
    assert results(check(field + b"From: a@example.com\r\n\r\n" + body, resolver))[1] == ["fail"]


@given(
    content=st.binary(max_size=500), ehlo=st.text(max_size=50), sender=st.text(max_size=50), peer=st.text(max_size=20)
)
@settings(deadline=None, max_examples=150)
def test_anything_at_all_has_verdicts(content: bytes, ehlo: str, sender: str, peer: str) -> None:
    nobody = Resolver([f"127.0.0.1:{free_port()}"])
    verdicts = check_sender(
        content, peer_address=peer, ehlo=ehlo, sender=sender, authserv_id=OURS, resolver=nobody, budget_s=60
    )
    assert verdicts.results_field(OURS).isascii()
