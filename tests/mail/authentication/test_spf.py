"""SPF: the suite of RFC 7208 through our resolver and a real DNS server, and what we decide around it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.dns_zone import SERVFAIL, TIMEOUT, DnsServer, PatientResolver, Zone, txt
from readdress.mail.authentication.spf import check_spf, evaluate_spf

SUITE = Path(__file__).parents[2] / "vectors" / "spf" / "rfc7208-tests.yml"
CLIENT = "192.0.2.1"


def scenarios() -> list[dict[str, Any]]:
    return list(yaml.load_all(SUITE.read_text("utf-8"), Loader=yaml.CSafeLoader))


def zone_of(scenario: dict[str, Any]) -> dict[str, list[tuple[str, str] | str]]:
    """The suite's form of a zone: SPF records stand for TXT records too, unless the name has some of its own."""
    zone: dict[str, list[tuple[str, str] | str]] = {}
    for name, records in scenario["zonedata"].items():
        has_txt = any(isinstance(record, dict) and "TXT" in record for record in records)
        zone[name] = [made for record in records for made in _records(record, has_txt=has_txt)]
    return zone


def _records(record: Any, *, has_txt: bool) -> list[tuple[str, str] | str]:
    if not isinstance(record, dict):
        return [str(record)]
    ((kind, value),) = record.items()
    if kind == "SPF":
        return [] if has_txt else [_text(value)]
    if kind == "TXT":
        return [] if value == "NONE" else [_text(value)]
    if kind == "MX":
        return [("MX", f"{value[0]} {_absolute(value[1])}")]
    return [(kind, _absolute(value) if kind in ("PTR", "CNAME") else value)]


def _text(value: Any) -> tuple[str, str]:
    strings = value if isinstance(value, list) else [value]
    return txt("".join(strings).encode("utf-8"))


def _absolute(name: str) -> str:
    return name if name.endswith(".") else f"{name}."


def cases() -> list[Any]:
    return [
        pytest.param(number, name, id=name) for number, one in enumerate(scenarios()) for name in sorted(one["tests"])
    ]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[tuple[dict[str, Any], DnsServer]]]:
    started = []
    for scenario in scenarios():
        server = DnsServer(zone_of(scenario))
        server.__enter__()
        started.append((scenario["tests"], server))
    yield started
    for _, server in started:
        server.__exit__(None, None, None)


@pytest.mark.parametrize(("number", "name"), cases())
def test_the_suite_of_rfc_7208(number: int, name: str, servers: list[tuple[dict[str, Any], DnsServer]]) -> None:
    tests, server = servers[number]
    case = tests[name]
    lookups = PatientResolver(server).begin(60)
    result, _ = evaluate_spf(
        lookups, client=case["host"], ehlo=case["helo"], sender=case["mailfrom"], receiver="mx.example.org"
    )
    expected = case["result"]
    assert result in (expected if isinstance(expected, list) else [expected])


def result_of(dns: DnsServer, zone: Zone, *, peer: str = CLIENT, ehlo: str = "mail.example.net", sender: str) -> str:
    dns.update(zone)
    lookups = PatientResolver(dns).begin(60)
    return check_spf(lookups, peer_address=peer, ehlo=ehlo, sender=sender, receiver="mx.example.org").result


ONLY_CLIENT = txt(f"v=spf1 ip4:{CLIENT} -all")


def test_the_null_sender_is_checked_by_its_ehlo(dns: DnsServer) -> None:
    # RFC 7208 §2.4
    dns.update({"mail.example.net": [ONLY_CLIENT]})
    verdict = check_spf(
        PatientResolver(dns).begin(60), peer_address=CLIENT, ehlo="mail.example.net", sender="", receiver="mx"
    )
    assert (verdict.result, verdict.identity, verdict.domain) == ("pass", "helo", "mail.example.net")


@pytest.mark.parametrize(
    "peer",
    [
        *("unix", "", "localhost", "256.1.1.1", "0.0.0.0", "127.0.0.1", "10.1.2.3", "172.20.0.1", "192.168.1.1"),
        *("100.64.0.1", "169.254.1.1", "::", "::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1"),
    ],
)
def test_behind_another_hop_the_client_is_not_known(dns: DnsServer, peer: str) -> None:
    # RFC 7208 §11.2: what is checked is the address of the border, which these are not.
    assert result_of(dns, {"example.com": [txt("v=spf1 -all")]}, peer=peer, sender="a@example.com") == "none"
    assert not dns.asked


def test_an_ipv4_address_in_ipv6_form_is_that_address(dns: DnsServer) -> None:
    zone = {"example.com": [ONLY_CLIENT]}
    assert result_of(dns, zone, peer=f"::ffff:{CLIENT}", sender="a@example.com") == "pass"


@pytest.mark.parametrize("ehlo", ["localhost", "[192.0.2.1]", "bücher", "", "a b.c\x00", "x" * 300 + ".example"])
def test_a_null_sender_with_an_ehlo_that_is_no_name_has_no_domain(dns: DnsServer, ehlo: str) -> None:
    # RFC 7208 §2.3, §4.3
    assert result_of(dns, {}, ehlo=ehlo, sender="") == "none"


def test_a_domain_beyond_ascii_is_looked_up_in_a_labels(dns: DnsServer) -> None:
    # RFC 8616 §4
    assert result_of(dns, {"xn--bcher-kva.example": [ONLY_CLIENT]}, sender="a@bücher.example") == "pass"


def test_a_local_part_beyond_ascii_matches_no_macro_and_harms_nothing(dns: DnsServer) -> None:
    # RFC 8616 §4
    zone = {"example.com": [txt("v=spf1 exists:%{l}.ok.example.com ip4:192.0.2.0/24 -all")]}
    assert result_of(dns, zone, sender="größe@example.com") == "pass"


@pytest.mark.parametrize(("trouble", "result"), [(SERVFAIL, "temperror"), (TIMEOUT, "temperror")])
def test_dns_trouble_is_a_temperror(dns: DnsServer, trouble: str, result: str) -> None:
    # RFC 7208 §2.6.6, §4.4
    assert result_of(dns, {"example.com": [trouble]}, sender="a@example.com") == result


def test_the_eleventh_term_that_asks_dns_is_a_permerror(dns: DnsServer) -> None:
    # RFC 7208 §4.6.4
    names = [f"i{number}.example.com" for number in range(11)]
    zone: dict[str, list[tuple[str, str] | str]] = {name: [txt("v=spf1 ?all")] for name in names}
    ten = zone | {"example.com": [txt("v=spf1 " + " ".join(f"include:{name}" for name in names[:10]) + " -all")]}
    eleven = zone | {"example.com": [txt("v=spf1 " + " ".join(f"include:{name}" for name in names) + " -all")]}
    assert result_of(dns, ten, sender="a@example.com") == "fail"
    assert result_of(dns, eleven, sender="a@example.com") == "permerror"


def test_the_third_void_look_up_is_a_permerror(dns: DnsServer) -> None:
    # RFC 7208 §4.6.4
    two = {"example.com": [txt("v=spf1 a:v1.example.com a:v2.example.com -all")]}
    three = {"example.com": [txt("v=spf1 a:v1.example.com a:v2.example.com a:v3.example.com -all")]}
    assert result_of(dns, two, sender="a@example.com") == "fail"
    assert result_of(dns, three, sender="a@example.com") == "permerror"


def test_an_explanation_is_not_looked_up(dns: DnsServer) -> None:
    zone = {"example.com": [txt("v=spf1 -all exp=why.example.com")], "why.example.com": [txt("because")]}
    assert result_of(dns, zone, sender="a@example.com") == "fail"
    assert {name for name, _ in dns.asked} == {"example.com"}


@pytest.mark.parametrize("terms", ["ip4:198.51.100.1 " * 300, "a:x." + "a" * 510 + "! ", "x=" + "%%." * 200 + " "])
def test_a_record_or_a_term_longer_than_any_in_order_is_a_permerror(dns: DnsServer, terms: str) -> None:
    # RFC 7208 §3.4
    assert result_of(dns, {"example.com": [txt(f"v=spf1 {terms}-all")]}, sender="a@example.com") == "permerror"


def test_two_checks_at_once_ask_their_own_resolvers(dns: DnsServer) -> None:
    """pyspf's look-up is replaced in each query and never in the module."""
    import spf

    before = spf.DNSLookup
    with DnsServer({"example.com": [txt("v=spf1 -all")]}) as other:
        assert result_of(dns, {"example.com": [txt("v=spf1 +all")]}, sender="a@example.com") == "pass"
        assert result_of(other, {}, sender="a@example.com") == "fail"
        assert result_of(dns, {}, sender="a@example.com") == "pass"
    assert spf.DNSLookup is before
