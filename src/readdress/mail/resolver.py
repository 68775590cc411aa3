"""Questions to DNS: the mail exchangers of a domain and the addresses of a name, asked of the nameservers configured.

There are three answers: records, perhaps none; that the name does not exist; and that nobody can tell now.
"""

import asyncio
import ipaddress
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver as AsyncResolver

_DNS_PORT = 53
# For one question to one nameserver; then the next is asked, or the same again, while the time lasts.
_QUESTION_S_MAX = 2.0


class NameNotFound(Exception):
    """The name does not exist."""


class LookupTrouble(Exception):
    """There is no answer now: a nameserver failed, said nothing, or what came was no answer."""


class MxRecord(NamedTuple):
    """One MX record; the exchange in lower case without its final dot, so empty where it is the root."""

    preference: int
    exchange: str


class Resolver:
    """Follows CNAME, and asks again by TCP what UDP truncated; nothing is cached here."""

    def __init__(self, nameservers: Sequence[str] = (), *, timeout_s: float = 10) -> None:
        """`nameservers` are `ip` or `ip:port`, and those of the system if there are none; ValueError for others.

        `timeout_s` is for one look-up, over all nameservers.
        """
        self._nameservers = [_parse_nameserver(text) for text in nameservers]
        self._timeout_s = timeout_s
        self._resolver: AsyncResolver | None = None

    async def find_mx(self, domain: str) -> list[MxRecord]:
        """Raises NameNotFound and LookupTrouble."""
        records = await self._ask(domain, "MX")
        return [MxRecord(record.preference, _text(record.exchange)) for record in records]

    async def find_addresses(self, name: str) -> list[str]:
        """IPv6 and IPv4 in turn. Raises NameNotFound and LookupTrouble, this one only if it leaves nothing."""
        answers = await asyncio.gather(self._ask(name, "AAAA"), self._ask(name, "A"), return_exceptions=True)
        found: list[list[str]] = []
        trouble: BaseException | None = None
        for answer in answers:
            if isinstance(answer, LookupTrouble):
                trouble = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found.append([str(record.address) for record in answer])
        if trouble and not any(found):
            raise trouble
        return [address for address in chain.from_iterable(zip_longest(*found)) if address]

    async def _ask(self, name: str, kind: str) -> list[Any]:
        from dns.exception import DNSException
        from dns.resolver import NXDOMAIN, NoAnswer

        try:
            if self._resolver is None:
                self._resolver = self._configure()
            return list(await self._resolver.resolve(f"{name}.", kind, search=False))
        except NoAnswer:
            return []
        except NXDOMAIN as error:
            raise NameNotFound(name) from error
        except (DNSException, OSError, UnicodeError) as error:
            raise LookupTrouble(name) from error

    def _configure(self) -> "AsyncResolver":
        from dns.asyncresolver import Resolver as AsyncResolver
        from dns.nameserver import Do53Nameserver

        resolver = AsyncResolver(configure=not self._nameservers)
        if self._nameservers:
            resolver.nameservers = [Do53Nameserver(address, port) for address, port in self._nameservers]
        resolver.timeout = min(_QUESTION_S_MAX, self._timeout_s)
        resolver.lifetime = self._timeout_s
        return resolver


def _text(name: Any) -> str:
    return str(name.to_text(omit_final_dot=True)).lower().removesuffix(".")


def _parse_nameserver(text: str) -> tuple[str, int]:
    """`192.0.2.53`, `192.0.2.53:5353`, `2001:db8::53`, `[2001:db8::53]:5353`. Raises ValueError."""
    host, port = text, str(_DNS_PORT)
    if text.startswith("["):
        host, _, port = text[1:].partition("]:")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError(f"{text!r} is no nameserver: give an IP address, or address:port") from None
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65_535):
        raise ValueError(f"{text!r} is no nameserver: its port is not between 1 and 65535")
    return address, int(port)
