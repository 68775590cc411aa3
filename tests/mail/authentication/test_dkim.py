"""DKIM: the vectors of the RFCs and of real mail, what dkimpy signs, and every way in which a signature is not good."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.dns_zone import SERVFAIL, TIMEOUT, DnsServer, PatientResolver, Zone, txt
from harness.process import free_port
from harness.signed_mail import MAIL, SELECTOR, ed25519_key, key_text, key_zone, rsa_key, short_key_text, sign
from readdress.mail.authentication import canonical
from readdress.mail.authentication.canonical import canonical_field, hash_body
from readdress.mail.authentication.dkim import DkimChecks
from readdress.mail.authentication.message import split_message
from readdress.mail.authentication.resolver import Resolver
from readdress.mail.authentication.signature import HashedMessage
from readdress.mail.authentication.verdicts import DkimVerdict

VECTORS = Path(__file__).parents[2] / "vectors" / "dkim"
NAME = f"{SELECTOR}._domainkey.example.com"


def checks(content: bytes, dns: DnsServer, zone: Zone, *, now_s: int | None = None) -> tuple[DkimVerdict, ...]:
    dns.update(zone)
    hashed = HashedMessage(split_message(content))
    return DkimChecks(hashed, PatientResolver(dns).begin(60), now_s=now_s or int(time.time())).verdicts()


def check(content: bytes, dns: DnsServer, zone: Zone, *, now_s: int | None = None) -> tuple[str, str]:
    (verdict,) = checks(content, dns, zone, now_s=now_s)
    return verdict.result, verdict.reason


def load(name: str) -> bytes:
    return (VECTORS / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def keys() -> Zone:
    texts: dict[str, str] = json.loads((VECTORS / "keys.json").read_text())
    return {name: [txt(text)] for name, text in texts.items()}


@pytest.mark.parametrize(
    ("name", "results"),
    [
        ("rfc6376-A.2.eml", ["pass"]),
        ("rfc6376-A.2-body_modified.eml", ["fail"]),
        ("rfc6376-A.2-header_subject_modified.eml", ["fail"]),
        ("rfc6376-A.2-ill_formed-missing_v.eml", ["permerror"]),  # RFC 6376 §6.1.1
        ("rfc6376-A.2-ill_formed-list_id.eml", ["pass"]),
        ("rfc8463-A.3.eml", ["pass", "pass"]),
        ("rfc8463-A.3-key_algo_mismatch.eml", ["permerror", "permerror"]),  # RFC 8463 §4
        ("ill_formed-from.eml", ["none"]),
        ("dkim/added_header-from.eml", ["policy"]),  # RFC 6376 §8.15
        ("dkim/added_header-subject.eml", ["pass"]),
        ("dkim/alignment-signed_by_parent_domain.eml", ["pass"]),
        ("dkim/header_with_non_ascii_char.eml", ["pass"]),
        ("dkim/flags_s-auid_and_sdid_match.eml", ["pass"]),
        ("dkim/flags_s-auid_is_subdomain_of_sdid.eml", ["permerror"]),  # RFC 6376 §3.6.1, t=s
        ("original/Fastmail from Amazon - Verify your new Amazon account.eml", ["pass", "permerror"]),
        ("original/Fastmail from CNN - Thanks for subscribing to 5 Things.eml", ["pass"]),
        ("original/Fastmail from CNN - Welcome to CNN Breaking News.eml", ["pass"]),
    ],
)
def test_a_vector(dns: DnsServer, name: str, results: list[str]) -> None:
    assert [verdict.result for verdict in checks(load(name), dns, keys())] == results


def test_a_signature_is_good_until_it_expires(dns: DnsServer) -> None:
    # RFC 6376 §3.5, x=
    content = load("original/Fastmail from Fastmail - Welcome! Get set up in 3 steps..eml")
    (expires_s,) = {int(part.split(b";")[0]) for part in content.split(b"; x=")[1:]}
    assert checks(content, dns, keys(), now_s=expires_s)[0].result == "pass"
    assert checks(content, dns, keys(), now_s=expires_s + 1)[0].result == "policy"


def test_a_verdict_says_which_signature_it_is_about(dns: DnsServer) -> None:
    first, second = checks(load("rfc8463-A.3.eml"), dns, keys())
    assert (first.domain, first.selector, first.algorithm) == ("football.example.com", "brisbane", "ed25519-sha256")
    assert (first.signature, second.signature) == ("/gCrinpc", "F45dVWDf")  # RFC 6008 §4
    assert second.selector == "test"


@pytest.mark.parametrize("header", [b"simple", b"relaxed"])
@pytest.mark.parametrize("body", [b"simple", b"relaxed"])
@pytest.mark.parametrize("key", [rsa_key(), rsa_key(2_048), ed25519_key()], ids=["rsa-1024", "rsa-2048", "ed25519"])
def test_what_dkimpy_signs_is_good(dns: DnsServer, header: bytes, body: bytes, key: object) -> None:
    # RFC 6376 §3.4, RFC 8463 §3
    signed = sign(MAIL, key, canonicalize=(header, body))
    assert check(signed, dns, key_zone(key)) == ("pass", "")
    assert check(signed.replace(b"Hello", b"Hallo"), dns, key_zone(key))[0] == "fail"
    assert check(signed.replace(b"a@example", b"b@example"), dns, key_zone(key))[0] == "fail"


@pytest.mark.parametrize(
    ("tags", "result"),
    [
        ("", "pass"),  # RFC 6376 §3.6.1: v= is only recommended
        ("v=DKIM1; k=rsa; h=sha1:sha256; s=email:other; t=y; n=a note; ", "pass"),
        ("v=DKIM1; g=x; x y; ", "pass"),  # unknown tags and what is no tag
        ("v=DKIM2; ", "permerror"),
        ("v=DKIM1; k=ed25519; ", "permerror"),
        ("v=DKIM1; h=sha1; ", "permerror"),
        ("v=DKIM1; s=tlsrpt; ", "permerror"),
    ],
)
def test_a_key_record_says_what_the_key_is_for(dns: DnsServer, tags: str, result: str) -> None:
    # RFC 6376 §3.6.1
    assert check(sign(MAIL), dns, key_zone(rsa_key(), tags=tags))[0] == result


@pytest.mark.parametrize(
    ("records", "result", "words"),
    [
        ([], "permerror", "no key"),
        ([txt("v=DKIM1; p=")], "permerror", "revoked"),
        ([txt("v=spf1 -all")], "permerror", "no key"),
        ([txt("v=DKIM1; p=AAAA")], "permerror", "can't be read"),
        ([txt("v=DKIM1; p=*")], "permerror", "can't be read"),
        ([txt(b"v=DKIM1; p=\xff\x00")], "permerror", "can't be read"),
        ([txt("v=DKIM1; p=" + "A" * 5_000)], "permerror", "too long"),
        ([txt(short_key_text(512))], "policy", "512 bits"),  # RFC 8301 §3.2
        ([txt(key_text(rsa_key(name="other")))], "fail", "not by that key"),
        ([txt(key_text(rsa_key(name="other"))), txt(key_text(rsa_key()))], "pass", ""),  # RFC 6376 §3.6.2.2
        ([SERVFAIL], "temperror", ""),
        ([TIMEOUT], "temperror", ""),
    ],
)
def test_without_a_key_that_can_be_used_a_signature_is_not_good(
    dns: DnsServer, records: list[tuple[str, str] | str], result: str, words: str
) -> None:
    found, reason = check(sign(MAIL), dns, {NAME: records})
    assert found == result
    assert words in reason


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        (b"v=1", b"v=2", "permerror"),
        (b"a=rsa-sha256", b"a=rsa-sha1", "permerror"),  # RFC 8301 §3.1
        (b"a=rsa-sha256", b"a=rsa-md5", "permerror"),
        (b"a=rsa-sha256", b"a=ed25519-sha256", "permerror"),
        (b"c=relaxed/simple", b"c=other/simple", "permerror"),
        (b"q=dns/txt", b"q=https", "permerror"),
        (b"d=example.com", b"d=example..com", "permerror"),
        (b"d=example.com", b"x=1; e=example.com", "permerror"),
        (b"i=@example.com", b"i=@example.net", "permerror"),  # RFC 6376 §6.1.1
        (b"i=@example.com", b"i=@badexample.com", "permerror"),
        (b"i=@example.com", b"i=a@sub.example.com", "fail"),
        (b"h=from : ", b"h=", "permerror"),  # RFC 6376 §5.4: From is always signed
        (b"s=s1", b"s=s1; s=s1", "permerror"),  # RFC 6376 §3.2
        (b"s=s1", b"s=", "permerror"),
        (b"s=s1", b"s=s1; =", "permerror"),
        (b"; s=s1", b"; l=x; s=s1", "permerror"),
        (b"; s=s1", b"; l=9999; s=s1", "permerror"),
        (b"; t=", b"; x=5; t=", "permerror"),
        (b"; b=", b"; b=*", "permerror"),
        (b"; bh=", b"; bh=*", "permerror"),
    ],
)
def test_a_signature_that_says_what_it_must_not_is_not_good(
    dns: DnsServer, old: bytes, new: bytes, result: str
) -> None:
    signed = sign(MAIL, include_headers=[b"from", b"to"]).replace(b"\r\n ", b" ", 10)
    field, _, rest = signed.partition(b"\r\n")
    assert old in field
    assert check(field.replace(old, new) + b"\r\n" + rest, dns, key_zone(rsa_key()))[0] == result


def test_a_signature_of_a_part_of_the_body_is_none_to_rest_on(dns: DnsServer) -> None:
    # RFC 6376 §8.2
    signed = sign(MAIL, length=True)
    assert check(signed, dns, key_zone(rsa_key())) == ("pass", "")
    result, reason = check(signed + b"more\r\n", dns, key_zone(rsa_key()))
    assert (result, "l=" in reason) == ("policy", True)


def test_more_than_ten_signatures_are_not_looked_at(dns: DnsServer) -> None:
    # RFC 6376 §6.1
    field = sign(MAIL).removesuffix(MAIL)
    verdicts = checks(field * 12 + MAIL, dns, key_zone(rsa_key()))
    assert [verdict.result for verdict in verdicts] == ["pass"] * 10 + ["neutral"]
    assert "2 more" in verdicts[-1].reason


def test_signatures_that_come_first_are_looked_at_though_they_stand_last(dns: DnsServer) -> None:
    dns.update(key_zone(rsa_key()))
    others = sign(MAIL, domain="other.test").removesuffix(MAIL) * 20
    hashed = HashedMessage(split_message(others + sign(MAIL)))
    made = DkimChecks(
        hashed,
        PatientResolver(dns).begin(60),
        now_s=int(time.time()),
        comes_first=lambda domain: domain == "example.com",
    )
    made.check_first()
    assert [name for name, _ in dns.asked] == [NAME]
    assert [verdict.result for verdict in made.verdicts()] == ["permerror"] * 9 + ["pass", "neutral"]


BODY = st.lists(st.sampled_from([b"a", b"bc", b" ", b"\t", b"  ", b"\r\n", b"\r\n\r\n", b"\xff"]), max_size=30).map(
    b"".join
)


@given(body=BODY, block_bytes=st.integers(1, 40))
@settings(deadline=None)
def test_a_body_is_canonical_as_dkimpy_has_it_wherever_blocks_end(body: bytes, block_bytes: int) -> None:
    # RFC 6376 §3.4.3, §3.4.4
    import hashlib

    from dkim.canonicalization import Relaxed, Simple

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "_BLOCK_BYTES", block_bytes)
        for relaxed, policy in ((False, Simple), (True, Relaxed)):
            expected = policy.canonicalize_body(body)
            found = hash_body(memoryview(body), relaxed=relaxed)
            assert (found.digest, found.length_bytes) == (hashlib.sha256(expected).digest(), len(expected))


@given(name=st.from_regex(rb"[A-Za-z-]{1,10}[ \t]{0,2}", fullmatch=True), value=BODY)
def test_a_field_is_canonical_as_dkimpy_has_it(name: bytes, value: bytes) -> None:
    # RFC 6376 §3.4.2
    from dkim.canonicalization import Relaxed

    value = value.replace(b"\r\n", b"\r\n ")
    ((their_name, their_value),) = Relaxed.canonicalize_headers([(name, value + b"\r\n")])
    assert canonical_field(name + b":" + value + b"\r\n", relaxed=True) == their_name + b":" + their_value


@given(header=st.binary(max_size=300), field=st.binary(max_size=300))
@settings(deadline=None, max_examples=200)
def test_any_bytes_in_a_signature_end_in_a_verdict(header: bytes, field: bytes) -> None:
    content = b"DKIM-Signature: " + field + b"\r\n" + header + b"\r\n\r\nbody\r\n"
    hashed = HashedMessage(split_message(content))
    nobody = Resolver([f"127.0.0.1:{free_port()}"])
    verdicts = DkimChecks(hashed, nobody.begin(60), now_s=0).verdicts()
    assert {verdict.result for verdict in verdicts} <= {"neutral", "permerror", "temperror", "policy", "fail"}
