"""Where mail for a domain goes: its hosts by RFC 5321 §5.1, with addresses that may be connected to.

What the domain's DNS says for good is a permanent NoHosts, what it could not say now a temporary one. Whoever owns a
domain decides what its hosts' addresses are, so those inside our own network are refused unless that is allowed.
"""

import asyncio
import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from random import Random
from secrets import SystemRandom
from typing import Final, TypeAlias

from readdress.address import fold_domain
from readdress.mail.resolver import LookupTrouble, MxRecord, NameNotFound, Resolver
from readdress.smtp.outgoing import ADDRESSES_MAX, Outcome

HOSTS_MAX = 10
BUDGET_S = 30.0

_LABEL = r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_LITERAL = re.compile(r"\[(?:IPv6:(?P<six>[0-9A-Fa-f:.]{2,45})|(?P<four>[0-9.]{7,15}))\]", re.IGNORECASE)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class NoHosts(Exception):
    """Mail for the domain can't go anywhere, now or for good; `enhanced` is an RFC 3463 status of that class."""

    def __init__(self, outcome: Outcome, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.enhanced = enhanced
        self.text = text


@dataclass(frozen=True)
class MxHost:
    """A host that takes mail for the domain: connect to the addresses, in their order, and verify the name."""

    name: str
    preference: int
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class OwnHost:
    """What tells ourselves among the hosts of a domain, so that mail is not sent round in a circle."""

    names: Collection[str] = ()
    addresses: Collection[str] = ()

    def has_name(self, name: str) -> bool:
        return name.lower() in {own.lower().rstrip(".") for own in self.names}

    def has_address(self, addresses: Collection[str]) -> bool:
        own = {_unwrap(ipaddress.ip_address(address)) for address in self.addresses}
        return any(_unwrap(ipaddress.ip_address(address)) in own for address in addresses)


async def find_hosts(
    domain: str,
    *,
    resolver: Resolver,
    own: OwnHost = OwnHost(),
    allow_private: bool = False,
    budget_s: float = BUDGET_S,
    random: Random | None = None,
) -> list[MxHost]:
    """The hosts to try in their order, at least one, with at least one address each. Raises NoHosts.

    `domain` may be an address literal. `random` decides among hosts of equal preference; `budget_s` is for everything.
    """
    try:
        async with asyncio.timeout(budget_s):
            if domain.startswith("["):
                hosts = [_literal_host(domain)]
            else:
                hosts = await _look_up(domain, resolver, own, random or SystemRandom())
    except (LookupTrouble, TimeoutError):
        raise _temporary(f"DNS gives no answer for {domain} now") from None
    hosts = _before_own(hosts, own)
    if not hosts:
        raise _permanent("5.4.6", f"mail for {domain} would come back to this host")
    if not allow_private:
        hosts = _public_only(hosts)
    if not hosts:
        raise _permanent("5.4.4", f"the hosts for mail to {domain} have no public address")
    return hosts


async def _look_up(domain: str, resolver: Resolver, own: OwnHost, random: Random) -> list[MxHost]:
    """Raises NoHosts and LookupTrouble."""
    name = fold_domain(domain).removesuffix(".")
    if not _DOMAIN.fullmatch(name):
        raise _permanent("5.1.2", "the domain of the address is not valid")
    try:
        records = await resolver.find_mx(name)
    except NameNotFound:
        raise _permanent("5.1.2", f"the domain {domain} does not exist") from None
    if records and all(not record.exchange for record in records):  # RFC 7505 §3
        raise _permanent("5.1.10", f"the domain {domain} takes no mail")
    if not records:
        records = [MxRecord(0, name)]  # the implicit MX of RFC 5321 §5.1
    records = [record for record in records if _DOMAIN.fullmatch(record.exchange)]
    nearer = _in_order(records, own, random)
    if records and not nearer:
        raise _permanent("5.4.6", f"mail for {domain} would come back to this host")
    answers = await asyncio.gather(*(_resolve(record, resolver) for record in nearer), return_exceptions=True)
    return _usable(domain, answers)


def _in_order(records: list[MxRecord], own: OwnHost, random: Random) -> list[MxRecord]:
    """By preference, equal ones in random order, and only those that are nearer to the domain than we are."""
    ours = [record.preference for record in records if own.has_name(record.exchange)]
    best = {}
    for record in sorted(records, reverse=True):
        if all(record.preference < preference for preference in ours):
            best[record.exchange] = record
    return sorted(best.values(), key=lambda record: (record.preference, random.random()))[:HOSTS_MAX]


async def _resolve(record: MxRecord, resolver: Resolver) -> MxHost:
    addresses = await resolver.find_addresses(record.exchange)
    return MxHost(record.exchange, record.preference, tuple(addresses[:ADDRESSES_MAX]))


def _usable(domain: str, answers: list[MxHost | BaseException]) -> list[MxHost]:
    """Raises NoHosts and LookupTrouble; a host that has no address now stands back for one that has."""
    hosts = [answer for answer in answers if isinstance(answer, MxHost) and answer.addresses]
    if hosts:
        return hosts
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, NameNotFound):
            raise answer
    raise _permanent("5.4.4", f"the hosts for mail to {domain} have no address")


def _before_own(hosts: list[MxHost], own: OwnHost) -> list[MxHost]:
    """A host with an address of ours is us, whatever its name."""
    ours = [host.preference for host in hosts if own.has_address(host.addresses)]
    return [host for host in hosts if all(host.preference < preference for preference in ours)]


def _public_only(hosts: list[MxHost]) -> list[MxHost]:
    public = (
        MxHost(host.name, host.preference, tuple(filter(_is_public, host.addresses)))  # order is kept
        for host in hosts
    )
    return [host for host in public if host.addresses]


def _literal_host(domain: str) -> MxHost:
    """`[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3). Raises NoHosts."""
    match = _LITERAL.fullmatch(domain)
    try:
        if match and match["six"]:
            address: IpAddress = ipaddress.IPv6Address(match["six"])
        else:
            address = ipaddress.IPv4Address(match["four"] if match else "")
    except ValueError:
        raise _permanent("5.1.2", "the address literal is not valid") from None
    return MxHost(str(address), 0, (str(address),))


def _is_public(text: str) -> bool:
    address = _unwrap(ipaddress.ip_address(text))
    special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    if isinstance(address, ipaddress.IPv6Address):
        special = special or address.is_site_local or address.teredo is not None
    return address.is_global and not special


def _unwrap(address: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 address leads to: mapped, 6to4, or by NAT64 (RFC 4291 §2.5.5, 3056, 6052)."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _permanent(enhanced: str, text: str) -> NoHosts:
    return NoHosts(Outcome.PERMANENT, enhanced, text)


def _temporary(text: str) -> NoHosts:
    return NoHosts(Outcome.TEMPORARY, "4.4.3", text)
