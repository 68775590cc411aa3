"""Where mail for a domain goes, asked of a nameserver on loopback: RFC 5321 §5.1, RFC 7505, and what is refused."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pytest

from harness.dns_zone import GARBAGE, REFUSED, SERVFAIL, TIMEOUT, DnsServer
from readdress.mail.mx import HOSTS_MAX, MxHost, NoHosts, OwnHost, find_hosts
from readdress.mail.resolver import Resolver
from readdress.smtp.outgoing import Outcome, Target

TIMEOUT_S = 1.0
A1, A2, A3 = "198.41.0.4", "199.9.14.201", "192.33.4.12"  # public, and never connected to
AAAA1 = "2001:503:ba3e::2:30"


# Of a name: texts by record type. A trouble takes the place of all of a name's records.
Zone: TypeAlias = Mapping[str, Mapping[str, Sequence[str]]]
Troubles: TypeAlias = Mapping[str, str]


def serve(zone: Zone, troubles: Troubles | None = None, *, udp_bytes_max: int = 1_232) -> DnsServer:
    records = {name: [(kind, text) for kind, texts in of.items() for text in texts] for name, of in zone.items()}
    return DnsServer(
        {**records, **{name: [trouble] for name, trouble in (troubles or {}).items()}}, udp_bytes_max=udp_bytes_max
    )


def find(
    domain: str, zone: Zone, troubles: Troubles | None = None, *, timeout_s: float = 5, **options: Any
) -> tuple[list[MxHost], DnsServer]:
    with serve(zone, troubles, udp_bytes_max=options.pop("udp_bytes_max", 1_232)) as nameserver:
        resolver = Resolver([nameserver.address], timeout_s=timeout_s)
        options.setdefault("random", random.Random(1))
        return asyncio.run(find_hosts(domain, resolver=resolver, **options)), nameserver


def refusal(domain: str, zone: Zone, troubles: Troubles | None = None, **options: Any) -> tuple[Outcome, str]:
    with pytest.raises(NoHosts) as raised:
        find(domain, zone, troubles, **options)
    assert raised.value.enhanced[0] == ("5" if raised.value.outcome is Outcome.PERMANENT else "4")
    assert raised.value.text.isprintable()
    return raised.value.outcome, raised.value.enhanced


def names(hosts: Sequence[MxHost]) -> list[str]:
    return [host.name for host in hosts]


ZONE: Zone = {
    "x.example": {"MX": ["20 second.example.", "10 first.example."]},
    "first.example": {"A": [A1], "AAAA": [AAAA1]},
    "second.example": {"A": [A2, A3]},
}


def test_hosts_come_by_preference_with_their_addresses() -> None:
    hosts, _ = find("X.example", ZONE)
    assert names(hosts) == ["first.example", "second.example"]
    assert hosts[0] == MxHost("first.example", 10, (AAAA1, A1))
    assert sorted(hosts[1].addresses) == sorted([A2, A3])


def test_equal_preferences_are_shuffled_and_unequal_ones_never() -> None:
    # RFC 5321 §5.1
    zone: Zone = {
        "x.example": {"MX": [f"10 m{number}.example." for number in range(4)] + ["5 best.example."]},
        **{f"m{number}.example": {"A": [A1]} for number in range(4)},
        "best.example": {"A": [A2]},
    }
    orders = {tuple(names(find("x.example", zone, random=random.Random(seed))[0])) for seed in range(6)}
    assert len(orders) > 1
    assert {order[0] for order in orders} == {"best.example"}
    assert len({frozenset(order) for order in orders}) == 1


def test_without_mx_the_domain_itself_is_the_host() -> None:
    hosts, _ = find("first.example", ZONE)
    assert hosts == [MxHost("first.example", 0, (AAAA1, A1))]


def test_a_cname_is_followed() -> None:
    zone: Zone = {
        "alias.example": {"CNAME": ["x.example."]},
        "www.example": {"CNAME": ["first.example."]},
        "m.example": {"MX": ["1 www.example."]},
        **ZONE,
    }
    assert names(find("alias.example", zone)[0]) == ["first.example", "second.example"]
    assert find("m.example", zone)[0] == [MxHost("www.example", 1, (AAAA1, A1))]
    assert find("www.example", zone)[0][0].addresses == (AAAA1, A1)


def test_a_domain_beyond_ascii_is_asked_for_by_its_a_labels() -> None:
    hosts, nameserver = find("b\u00fccher.example", {"xn--bcher-kva.example": {"A": [A1]}})
    assert names(hosts) == ["xn--bcher-kva.example"]
    assert {name for name, _ in nameserver.asked} == {"xn--bcher-kva.example"}


def test_a_null_mx_takes_no_mail() -> None:
    # RFC 7505 §3
    assert refusal("x.example", {"x.example": {"MX": ["0 ."], "A": [A1]}}) == (Outcome.PERMANENT, "5.1.10")


def test_a_null_mx_among_others_means_nothing() -> None:
    zone: Zone = {"x.example": {"MX": ["0 .", "10 first.example."]}, "first.example": {"A": [A1]}}
    assert names(find("x.example", zone)[0]) == ["first.example"]


@pytest.mark.parametrize("domain", ["nowhere.example", "nowhere.example."])
def test_a_domain_that_does_not_exist_is_permanent(domain: str) -> None:
    assert refusal(domain, ZONE) == (Outcome.PERMANENT, "5.1.2")


@pytest.mark.parametrize(
    "domain",
    ["", ".", "a..example", "x" * 64 + ".example", "a b.example", "x.example\r\n", ".".join(["x" * 60] * 5), "é" * 300],
)
def test_what_is_no_domain_is_permanent_and_never_asked_for(domain: str) -> None:
    with serve({}) as nameserver:
        with pytest.raises(NoHosts) as raised:
            asyncio.run(find_hosts(domain, resolver=Resolver([nameserver.address])))
        assert (raised.value.enhanced, nameserver.asked) == ("5.1.2", [])


def test_a_domain_with_neither_mx_nor_address_is_permanent() -> None:
    assert refusal("x.example", {"x.example": {"TXT": ["t"]}}) == (Outcome.PERMANENT, "5.4.4")


def test_an_address_beside_mx_records_that_lead_nowhere_is_not_used() -> None:
    # RFC 5321 §5.1: with MX records, the domain's own address is not an implicit one
    zone: Zone = {"x.example": {"MX": ["10 gone.example."], "A": [A1]}}
    assert refusal("x.example", zone) == (Outcome.PERMANENT, "5.4.4")


@pytest.mark.parametrize("trouble", [SERVFAIL, REFUSED, TIMEOUT, GARBAGE])
def test_a_nameserver_without_an_answer_is_temporary(trouble: str) -> None:
    found = refusal("x.example", ZONE, {"x.example": trouble}, timeout_s=TIMEOUT_S)
    assert found == (Outcome.TEMPORARY, "4.4.3")


@pytest.mark.parametrize("trouble", [SERVFAIL, TIMEOUT])
def test_a_host_whose_address_is_not_known_now_stands_back(trouble: str) -> None:
    hosts, _ = find("x.example", ZONE, {"first.example": trouble}, timeout_s=TIMEOUT_S)
    assert names(hosts) == ["second.example"]
    troubles = {"first.example": trouble, "second.example": trouble}
    assert refusal("x.example", ZONE, troubles, timeout_s=TIMEOUT_S) == (Outcome.TEMPORARY, "4.4.3")


def test_what_udp_truncates_is_asked_again_by_tcp() -> None:
    hosts, nameserver = find("x.example", ZONE, udp_bytes_max=0)
    assert names(hosts) == ["first.example", "second.example"]
    assert [kind for name, kind in nameserver.asked if name == "x.example"] == ["MX", "MX/tcp"]


def test_the_budget_is_for_everything() -> None:
    found = refusal("x.example", ZONE, {"second.example": TIMEOUT, "first.example": TIMEOUT}, budget_s=0.3)
    assert found == (Outcome.TEMPORARY, "4.4.3")


def test_the_next_nameserver_is_asked_when_one_fails() -> None:
    with serve({}, dict.fromkeys(ZONE, SERVFAIL)) as bad, serve(ZONE) as good:
        resolver = Resolver([bad.address, good.address], timeout_s=8)
        hosts = asyncio.run(find_hosts("x.example", resolver=resolver))
    assert names(hosts) == ["first.example", "second.example"]
    assert {name for name, _ in bad.asked} <= {name for name, _ in good.asked} == set(ZONE)


def test_hosts_and_addresses_have_a_limit() -> None:
    zone: dict[str, dict[str, list[str]]] = {
        "x.example": {"MX": [f"{number} m{number}.example." for number in range(30)]}
    }
    for number in range(30):
        zone[f"m{number}.example"] = {"A": [f"198.41.0.{host}" for host in range(1, 20)], "AAAA": [AAAA1]}
    hosts, nameserver = find("x.example", zone, udp_bytes_max=0)
    assert names(hosts) == [f"m{number}.example" for number in range(HOSTS_MAX)]
    assert {len(host.addresses) for host in hosts} == {8}
    assert all(AAAA1 in host.addresses for host in hosts)
    assert len({name for name, _ in nameserver.asked}) == HOSTS_MAX + 1


def test_a_host_that_is_named_twice_counts_once_at_its_best_preference() -> None:
    zone: Zone = {"x.example": {"MX": ["10 first.example.", "5 FIRST.example."]}, "first.example": {"A": [A1]}}
    assert find("x.example", zone)[0] == [MxHost("first.example", 5, (A1,))]


def test_an_exchange_that_is_no_host_name_is_passed_over() -> None:
    odd = ["-a.example", "a-.example", "a\\032b.example", "\\255.example", "\\000.example", "a/b.example", "*.example"]
    zone: Zone = {
        "x.example": {"MX": [f"{number} {name}." for number, name in enumerate(odd)] + ["90 _ok.example."]},
        "_ok.example": {"A": [A1]},
        **{name: {"A": [A2]} for name in odd},
    }
    hosts, _ = find("x.example", zone)
    assert names(hosts) == ["_ok.example"]
    assert Target(host=hosts[0].name, addresses=hosts[0].addresses)
    only_odd: Zone = {"x.example": {"MX": ["1 -a.example."]}, "-a.example": {"A": [A1]}}
    assert refusal("x.example", only_odd) == (Outcome.PERMANENT, "5.4.4")


# Ourselves among the hosts.

CIRCLE: Zone = {
    "x.example": {"MX": ["10 near.example.", "20 us.example.", "20 beside.example.", "30 far.example."]},
    "y.example": {"MX": ["10 us.example.", "20 far.example."]},
    "near.example": {"A": [A1]},
    "us.example": {"A": [A2]},
    "beside.example": {"A": [A3]},
    "far.example": {"A": [A3]},
}


@pytest.mark.parametrize(
    "own", [OwnHost(names=["US.example"]), OwnHost(addresses=[A2]), OwnHost(addresses=[f"::ffff:{A2}"])]
)
def test_only_hosts_nearer_than_ourselves_are_tried(own: OwnHost) -> None:
    # RFC 5321 §5.1
    assert names(find("x.example", CIRCLE, own=own)[0]) == ["near.example"]
    assert refusal("y.example", CIRCLE, own=own) == (Outcome.PERMANENT, "5.4.6")
    assert refusal("us.example", CIRCLE, own=own) == (Outcome.PERMANENT, "5.4.6")


# What a stranger's DNS may not make us connect to.


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
    ],
)
def test_hosts_inside_are_refused_unless_allowed(address: str) -> None:
    zone: Zone = {"x.example": {"MX": ["10 in.example.", "20 out.example."]}, "in.example": {"A": [address]}}
    assert refusal("x.example", zone) == (Outcome.PERMANENT, "5.4.4")
    assert refusal(f"[{address}]", zone) == (Outcome.PERMANENT, "5.4.4")
    assert find("x.example", zone, allow_private=True)[0] == [MxHost("in.example", 10, (address,))]
    hosts, _ = find("x.example", {**zone, "out.example": {"A": [address, A1]}})
    assert hosts == [MxHost("out.example", 20, (A1,))]


@pytest.mark.parametrize(
    "address",
    [
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:db8::1",
        "2001:0:7f00:1::",
    ],
)
def test_no_form_of_ipv6_leads_inside(address: str) -> None:
    zone: Zone = {"x.example": {"AAAA": [address]}}
    assert refusal("x.example", zone) == (Outcome.PERMANENT, "5.4.4")
    assert refusal(f"[IPv6:{address}]", zone) == (Outcome.PERMANENT, "5.4.4")


# Address literals (RFC 5321 §4.1.3).


@pytest.mark.parametrize(
    ("literal", "address"), [(f"[{A1}]", A1), (f"[IPv6:{AAAA1}]", AAAA1), (f"[ipv6:{AAAA1}]", AAAA1)]
)
def test_an_address_literal_is_its_own_host(literal: str, address: str) -> None:
    hosts, nameserver = find(literal, {})
    assert hosts == [MxHost(address, 0, (address,))]
    assert nameserver.asked == []


@pytest.mark.parametrize(
    "literal", ["[]", "[x]", "[1.2.3]", "[1.2.3.256]", f"[{AAAA1}]", "[IPv6:1]", f"[{A1}", f"[{A1}]x"]
)
def test_what_is_no_literal_is_permanent(literal: str) -> None:
    assert refusal(literal, {}) == (Outcome.PERMANENT, "5.1.2")


@pytest.mark.parametrize(
    "text", ["", "ns.example", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:0", "192.0.2.1:65536", "[2001:db8::1", "[::1]53"]
)
def test_what_is_no_nameserver_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="nameserver"):
        Resolver([text])


def test_nameservers_are_addresses_with_or_without_a_port() -> None:
    resolver = Resolver(["192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:5353", "[::1]:53"])
    assert resolver._nameservers == [
        ("192.0.2.1", 53),
        ("192.0.2.1", 5353),
        ("2001:db8::1", 53),
        ("2001:db8::1", 5353),
        ("::1", 53),
    ]
