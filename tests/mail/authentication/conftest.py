"""A DNS server on loopback whose zone a test fills, and look-ups that ask it."""

from collections.abc import Iterator

import pytest

from harness.dns_zone import DnsServer, PatientResolver
from readdress.mail.authentication.resolver import Lookups, Resolver


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer({}) as server:
        yield server


@pytest.fixture
def resolver(dns: DnsServer) -> Resolver:
    return PatientResolver(dns)


@pytest.fixture
def lookups(resolver: Resolver) -> Lookups:
    return resolver.begin(60)
