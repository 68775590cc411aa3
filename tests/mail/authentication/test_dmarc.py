"""DMARC by RFC 9989: a table of cases, each judged by mailauth too; and what a From field may look like."""

from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.dns_zone import SERVFAIL, TIMEOUT, DnsServer, PatientResolver, txt
from harness.mailauth import JsonZone, dmarc_case, judge
from readdress.mail.authentication.author import AuthorProblem, find_author_domain
from readdress.mail.authentication.dmarc import check_dmarc, discover
from readdress.mail.authentication.message import split_message
from readdress.mail.authentication.verdicts import DkimVerdict, DmarcVerdict, SpfVerdict

REJECT = "v=DMARC1; p=reject"
REPORTS = "rua=mailto:dmarc@example.com"


class Case(NamedTuple):
    """`records` are DMARC records by domain; `spf` and `dkim` are domains that passed."""

    clause: str
    author: str
    records: dict[str, str | list[str]]
    result: str
    policy: str = "none"
    spf: str = ""
    dkim: tuple[str, ...] = ()
    exists: bool = True


CASES = {
    # Appendix B.1: identifiers in alignment
    "spf strict": Case("B.1.1", "example.com", {"example.com": REJECT}, "pass", "reject", spf="example.com"),
    "spf relaxed": Case("B.1.1", "example.com", {"example.com": REJECT}, "pass", "reject", spf="child.example.com"),
    "spf none": Case("B.1.1", "child.example.com", {"example.com": REJECT}, "fail", "reject", spf="example.net"),
    "dkim strict": Case("B.1.2", "example.com", {"example.com": REJECT}, "pass", "reject", dkim=("example.com",)),
    "dkim relaxed": Case(
        "B.1.2", "child.example.com", {"example.com": REJECT}, "pass", "reject", dkim=("example.com",)
    ),
    "dkim none": Case("B.1.2", "child.example.com", {"example.com": REJECT}, "fail", "reject", dkim=("example.net",)),
    "siblings": Case("4.4", "news.example.com", {"example.com": REJECT}, "pass", "reject", dkim=("foo.example.com",)),
    "either is enough": Case(
        "5.3.5", "example.com", {"example.com": REJECT}, "pass", "reject", spf="example.net", dkim=("example.com",)
    ),
    "one signature of many": Case(
        "4.4.1", "example.com", {"example.com": REJECT}, "pass", "reject", dkim=("a.test", "example.com")
    ),
    "nothing passed": Case("5.3.5", "example.com", {"example.com": REJECT}, "fail", "reject"),
    "the receiver's example": Case(
        "B.3.1",
        "example.com",
        {"example.com": f"v=DMARC1; p=reject; aspf=r; {REPORTS}"},
        "pass",
        "reject",
        spf="mail.example.com",
        dkim=("example.com",),
    ),
    # §4.7: the record's tags
    "adkim=s": Case(
        "4.7", "example.com", {"example.com": f"{REJECT}; adkim=s"}, "fail", "reject", dkim=("m.example.com",)
    ),
    "adkim=s and equal": Case(
        "4.7", "m.example.com", {"example.com": f"{REJECT}; adkim=s"}, "pass", "reject", dkim=("m.example.com",)
    ),
    "aspf=s": Case("4.7", "example.com", {"example.com": f"{REJECT}; aspf=s"}, "fail", "reject", spf="m.example.com"),
    "p=none": Case("4.7", "example.com", {"example.com": "v=DMARC1; p=none"}, "fail", "none"),
    "p=quarantine": Case("4.7", "example.com", {"example.com": "v=DMARC1;p=quarantine"}, "fail", "quarantine"),
    "letter case of values": Case("4.8", "example.com", {"example.com": "v=DMARC1; P=Reject"}, "fail", "reject"),
    "white space": Case("4.8", "example.com", {"example.com": "v = DMARC1 ; p = reject ;"}, "fail", "reject"),
    "unknown tags": Case("4.7", "example.com", {"example.com": f"{REJECT}; zz=1; pct=0; rf=afrf"}, "fail", "reject"),
    "t=y under reject": Case("4.7", "example.com", {"example.com": f"{REJECT}; t=y"}, "fail", "quarantine"),
    "t=y under quarantine": Case("4.7", "example.com", {"example.com": "v=DMARC1; p=quarantine; t=y"}, "fail", "none"),
    "t=y under none": Case("4.7", "example.com", {"example.com": "v=DMARC1; p=none; t=y"}, "fail", "none"),
    "t=y under sp": Case(
        "4.7", "m.example.com", {"example.com": "v=DMARC1; p=none; sp=reject; t=y"}, "fail", "quarantine"
    ),
    "v in another case": Case("4.7", "example.com", {"example.com": "v=dmarc1; p=reject"}, "none"),
    "v not first": Case("4.7", "example.com", {"example.com": "p=reject; v=DMARC1"}, "none"),
    "v of the future": Case("4.7", "example.com", {"example.com": "v=DMARC10; p=reject"}, "none"),
    # §4.10.1: which record, and which of its policies
    "no record": Case("4.10.1", "example.com", {}, "none", dkim=("example.com",)),
    "two records": Case("4.10", "example.com", {"example.com": [REJECT, "v=DMARC1; p=none"]}, "none"),
    "two records, one of something else": Case(
        "4.10", "example.com", {"example.com": [REJECT, "v=spf1 -all"]}, "fail", "reject"
    ),
    "two records below one": Case(
        "4.10",
        "m.example.com",
        {"m.example.com": [REJECT, "v=DMARC1; p=none"], "example.com": "v=DMARC1; p=quarantine"},
        "fail",
        "quarantine",
    ),
    "the author's own record": Case(
        "4.10.1", "m.example.com", {"m.example.com": REJECT, "example.com": "v=DMARC1; p=none"}, "fail", "reject"
    ),
    "sp at home is not for home": Case(
        "4.7", "example.com", {"example.com": "v=DMARC1; p=quarantine; sp=reject"}, "fail", "quarantine"
    ),
    "sp of a subdomain's record": Case(
        "4.7", "m.example.com", {"m.example.com": "v=DMARC1; p=none; sp=reject", "example.com": REJECT}, "fail", "none"
    ),
    "sp for a subdomain": Case(
        "4.10.1", "m.example.com", {"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject"}, "fail", "quarantine"
    ),
    "np for one that is not": Case(
        "4.10.1",
        "m.example.com",
        {"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject"},
        "fail",
        "reject",
        exists=False,
    ),
    "no np": Case(
        "4.7", "m.example.com", {"example.com": "v=DMARC1; p=none; sp=quarantine"}, "fail", "quarantine", exists=False
    ),
    "np alone, existing": Case("4.7", "m.example.com", {"example.com": "v=DMARC1; p=none; np=reject"}, "fail", "none"),
    "np alone, missing": Case(
        "4.7", "m.example.com", {"example.com": "v=DMARC1; p=none; np=reject"}, "fail", "reject", exists=False
    ),
    "no p, no reports": Case("4.10.1", "example.com", {"example.com": "v=DMARC1"}, "none"),
    "no p, but reports": Case("4.10.1", "example.com", {"example.com": f"v=DMARC1; {REPORTS}"}, "fail", "none"),
    "a bad p": Case("4.10.1", "example.com", {"example.com": "v=DMARC1; p=refuse"}, "none"),
    "a bad p, but reports": Case("4.10.1", "example.com", {"example.com": f"v=DMARC1; p=refuse; {REPORTS}"}, "fail"),
    "a bad sp": Case("4.10.1", "example.com", {"example.com": f"{REJECT}; sp=refuse"}, "none"),
    "a bad sp, but reports": Case(
        "4.10.1", "example.com", {"example.com": f"{REJECT}; sp=x; {REPORTS}"}, "fail", "none"
    ),
    "reports to nowhere": Case("4.10.1", "example.com", {"example.com": "v=DMARC1; rua=nowhere"}, "none"),
    # §4.10: the walk
    "eight labels up": Case(
        "4.10", "a.b.c.d.e.f.g.h.i.j.mail.example.com", {"g.h.i.j.mail.example.com": REJECT}, "fail", "reject"
    ),
    "between the ends nobody looks": Case(
        "4.10", "a.b.c.d.e.f.g.h.i.j.mail.example.com", {"f.g.h.i.j.mail.example.com": REJECT}, "none"
    ),
    "a policy above the middle": Case(
        "4.10.1", "a.b.example.com", {"b.example.com": "v=DMARC1; p=none", "example.com": REJECT}, "fail", "reject"
    ),
    # §4.10.2: the Organizational Domain
    "the highest record": Case(
        "4.10.2",
        "a.mail.example.com",
        {"mail.example.com": "v=DMARC1; p=none", "example.com": REJECT},
        "pass",
        "reject",
        dkim=("example.com",),
    ),
    "psd=n ends the walk": Case(
        "4.10.2",
        "a.mail.example.com",
        {"mail.example.com": f"{REJECT}; psd=n", "example.com": REJECT},
        "fail",
        "reject",
        dkim=("example.com",),
    ),
    "within psd=n": Case(
        "4.10.2",
        "a.mail.example.com",
        {"mail.example.com": f"{REJECT}; psd=n", "example.com": REJECT},
        "pass",
        "reject",
        dkim=("b.mail.example.com",),
    ),
    "psd=y above": Case(
        "4.10.2", "a.mail.example.com", {"com": f"{REJECT}; psd=y"}, "pass", "reject", dkim=("example.com",)
    ),
    "another's domain below a psd=y": Case(
        "4.10.2", "a.mail.example.com", {"com": f"{REJECT}; psd=y"}, "fail", "reject", dkim=("example2.com",)
    ),
    "psd=y is no Organizational Domain": Case(
        "4.10.2",
        "example.com",
        {"example.com": REJECT, "com": "v=DMARC1; p=none; psd=y"},
        "fail",
        "reject",
        dkim=("com",),
    ),
    "psd=y of the author itself": Case(
        "4.10.2", "co.test", {"co.test": f"{REJECT}; psd=y"}, "pass", "reject", spf="co.test"
    ),
    "no record above: a parent is not the same": Case(
        "4.10.2", "m.example.com", {"m.example.com": REJECT}, "fail", "reject", dkim=("example.com",)
    ),
    "a subdomain with an organization of its own": Case(
        "4.10.2",
        "example.com",
        {"example.com": REJECT, "x.example.com": "v=DMARC1; p=none; psd=n"},
        "fail",
        "reject",
        dkim=("x.example.com",),
    ),
    "the sp of a public suffix": Case(
        "4.10.1", "example.co.test", {"co.test": "v=DMARC1; p=none; sp=quarantine; psd=y"}, "fail", "quarantine"
    ),
    "a name that only ends alike": Case(
        "4.4", "example.com", {"example.com": REJECT}, "fail", "reject", dkim=("badexample.com",)
    ),
}


def zone_of(case: Case) -> JsonZone:
    zone: JsonZone = {}
    for domain, records in case.records.items():
        zone[f"_dmarc.{domain}"] = {"TXT": [records] if isinstance(records, str) else records}
    if case.exists:
        zone[case.author] = {"MX": ["10 mail.example.net."]}
    return zone


def verdict_of(case: Case, dns: DnsServer) -> DmarcVerdict:
    for name, records in zone_of(case).items():
        texts = [txt(text) for text in records.get("TXT", [])]
        dns.update({name: [*texts, *(("MX", text) for text in records.get("MX", []))]})
    lookups = PatientResolver(dns).begin(60)
    spf = SpfVerdict(result="pass" if case.spf else "none", identity="mailfrom", sender=case.spf, domain=case.spf)
    dkim = [DkimVerdict(result="pass", domain=domain) for domain in case.dkim]
    return check_dmarc(discover(case.author, lookups), lookups, spf=spf, dkim=dkim)


@pytest.mark.parametrize("name", CASES)
def test_a_case_of_the_rfc(name: str, dns: DnsServer) -> None:
    """Each case names its clause of RFC 9989."""
    case = CASES[name]
    verdict = verdict_of(case, dns)
    assert (verdict.result, verdict.policy) == (case.result, case.policy), case.clause


def test_mailauth_says_the_same(tmp_path: Path) -> None:
    cases = [
        dmarc_case(zone_of(case), author=f"a@{case.author}", spf=[case.spf] if case.spf else [], dkim=list(case.dkim))
        for case in CASES.values()
    ]
    verdicts = judge(cases, tmp_path)
    said = {name: (verdict["result"], verdict["policy"]) for name, verdict in zip(CASES, verdicts, strict=True)}
    assert said == {name: (case.result, case.policy) for name, case in CASES.items()}


def test_the_walk_asks_eight_names_at_most(dns: DnsServer) -> None:
    # RFC 9989 §4.10, its example
    discover("a.b.c.d.e.f.g.h.i.j.mail.example.com", PatientResolver(dns).begin(60))
    assert [name for name, _ in dns.asked] == [
        "_dmarc.a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "_dmarc.g.h.i.j.mail.example.com",
        "_dmarc.h.i.j.mail.example.com",
        "_dmarc.i.j.mail.example.com",
        "_dmarc.j.mail.example.com",
        "_dmarc.mail.example.com",
        "_dmarc.example.com",
        "_dmarc.com",
    ]


@pytest.mark.parametrize("trouble", [SERVFAIL, TIMEOUT])
@pytest.mark.parametrize("name", ["_dmarc.m.example.com", "_dmarc.example.com"])
def test_an_unknown_policy_is_a_temperror(dns: DnsServer, trouble: str, name: str) -> None:
    # RFC 9989 §5.3.6
    dns.update({name: [trouble]})
    assert verdict_of(Case("5.3.6", "m.example.com", {}, ""), dns).result == "temperror"


def test_trouble_above_an_own_record_matters_only_to_relaxed_alignment(dns: DnsServer) -> None:
    # RFC 9989 §4.10.2: the same domain, with a record of its own, needs no walk.
    dns.update({"_dmarc.com": [SERVFAIL]})
    records: dict[str, str | list[str]] = {"example.com": REJECT}
    assert verdict_of(Case("", "example.com", records, "", dkim=("example.com",)), dns).result == "pass"
    assert verdict_of(Case("", "example.com", records, "", dkim=("m.example.com",)), dns).result == "temperror"
    assert verdict_of(Case("", "example.com", records, "", dkim=("example.net",)), dns).result == "fail"


@pytest.mark.parametrize(("domain", "result"), [("m.example.com", "temperror"), ("attacker.test", "fail")])
def test_a_check_that_dns_stopped_counts_only_for_an_aligned_domain(dns: DnsServer, domain: str, result: str) -> None:
    """Who puts on another's domain can't keep the verdict open with slow names of its own."""
    dns.update({"_dmarc.example.com": [txt(REJECT)]})
    lookups = PatientResolver(dns).begin(60)
    spf = SpfVerdict(result="temperror", identity="mailfrom", sender=f"a@{domain}", domain=domain)
    assert check_dmarc(discover("example.com", lookups), lookups, spf=spf, dkim=[]).result == result


def author_of(*lines: str) -> str:
    header = "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape")
    try:
        return find_author_domain(split_message(header + b"\r\n"))
    except AuthorProblem:
        return "problem"


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        ("a@example.com", "example.com"),
        ("<a@example.com>", "example.com"),
        ("A Name <a@EXAMPLE.com>", "example.com"),
        ('"a, b@other.test" <a@example.com>', "example.com"),
        ('"q\\" <x@other.test>" <a@example.com>', "example.com"),
        ('"a@b"@example.com', "example.com"),
        ("a@example.com (b@other.test)", "example.com"),
        ("(c (nested\\) ) x@other.test) a@(hm)example.com", "example.com"),
        ("a@other.test <a@example.com>", "example.com"),
        ("=?utf-8?q?a=40other=2Etest?= <a@example.com>", "example.com"),
        ("a@example.com, B <b@Example.Com>,", "example.com"),
        ("Group: a@example.com, b@example.com;", "example.com"),
        ("<@hop.test,@other.test:a@example.com>", "example.com"),
        ("Ä <a@bücher.example>", "xn--bcher-kva.example"),
        ("a@\r\n example.com", "example.com"),
        ("a@example.com, b@other.test", "problem"),
        ("undisclosed:;", "problem"),
        ("", "problem"),
        ("a", "problem"),
        ("a@", "problem"),
        ("@example.com", "problem"),
        ("a@[192.0.2.1]", "problem"),
        ("a@b@example.com", "problem"),
        ("<a@example.com", "problem"),
        ("<a@example.com> <b@other.test>", "problem"),
        ('"open <a@example.com>', "problem"),
        ("(open <a@example.com>", "problem"),
        ("a@" + "x" * 64 + ".example", "problem"),
        ("a@exa\udcffmple.com", "problem"),
        ("a" * 20_000 + "@example.com", "problem"),
    ],
)
def test_the_author_domain_is_the_only_one_in_from(value: str, domain: str) -> None:
    # RFC 9989 §5.3.1
    assert author_of(f"From: {value}") == domain


@pytest.mark.parametrize(
    "lines", [[], ["From: a@example.com", "From: a@example.com"], ["From: a@b.test", "FROM : c@d.e"]]
)
def test_a_message_without_exactly_one_from_field_has_no_author_domain(lines: list[str]) -> None:
    # RFC 9989 §5.3.1, §11.5
    assert author_of("Subject: x", *lines) == "problem"


@given(st.text(max_size=100))
def test_any_from_field_has_a_domain_or_a_problem(value: str) -> None:
    assert author_of(f"From: {value}")
