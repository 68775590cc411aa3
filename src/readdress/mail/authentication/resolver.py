"""DNS for the checks of one message: a stub resolver with one deadline for all look-ups and a small cache.

Answers come from strangers: their size is bounded, and what is no answer to the question is not read. No answer in
time, or no usable one, raises DnsTemporaryError.
"""

import ipaddress
import socket
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # dnspython is loaded by the first look-up, not by the start of the program
    import dns.message
    import dns.rdata

DNS_PORT = 53
# RFC 9715 §3: what passes most paths in one piece.
_UDP_PAYLOAD_BYTES = 1_232
_UDP_BYTES_MAX = 4_096
# Longer answers are legal, and nothing that a check wants is that long.
RESPONSE_BYTES_MAX = 16_384
_CNAMES_MAX = 8
_TTL_S_MAX = 3_600
_NEGATIVE_TTL_S_MAX = 900  # RFC 2308 §5 allows up to three hours
_CACHED_BYTES_MAX = 4_096
_ROUNDS = 2

Value = bytes | str | tuple[int, str]


class DnsTemporaryError(Exception):
    """There was no answer, or none within the budget; the same question may have one later."""


class Answer(NamedTuple):
    """`values` are bytes for TXT, text for A, AAAA and PTR, and (preference, name) for MX.

    `exists` is False where the name is said not to exist at all (RFC 8020).
    """

    values: tuple[Value, ...]
    exists: bool


class _Response(NamedTuple):
    answer: Answer
    ttl_s: float
    alias_of: str | None


_NOTHING = _Response(Answer((), exists=True), 0, None)


class Server(NamedTuple):
    """A name server, by its IP address."""

    address: str
    port: int


def parse_nameserver(text: str) -> Server:
    """`192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`. Raises ValueError."""
    try:
        return Server(str(ipaddress.ip_address(text)), DNS_PORT)
    except ValueError:
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65_535:
            raise ValueError(f"a name server has to be IP or IP:PORT, and not {text!r}") from None
        return Server(str(ipaddress.ip_address(host.strip("[]"))), int(port))


class Resolver:
    """Asks the given name servers, or those of the system. One for all messages; safe to share between threads."""

    def __init__(
        self,
        nameservers: Sequence[str] = (),
        *,
        query_timeout_s: float = 2.0,
        cache_entries_max: int = 2_048,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = [parse_nameserver(text) for text in nameservers]
        self._query_timeout_s = query_timeout_s
        self._cache = _Cache(cache_entries_max)
        self.now_s = now_s

    def begin(self, budget_s: float) -> "Lookups":
        """Look-ups for one message, which end together when the budget is spent."""
        return Lookups(self, self.now_s() + budget_s)

    def resolve(self, name: str, rdtype: str, *, deadline_s: float) -> Answer:
        """The answer for a name in A-labels, without a trailing dot. Raises DnsTemporaryError."""
        cached = self._cache.find((name, rdtype), self.now_s())
        if cached is not None:
            return cached
        target, ttl_s = name, float(_TTL_S_MAX)
        for _ in range(_CNAMES_MAX):
            response = self._ask(target, rdtype, deadline_s)
            ttl_s = min(ttl_s, response.ttl_s)
            if response.alias_of is None:
                self._cache.put((name, rdtype), response.answer, self.now_s() + ttl_s)
                return response.answer
            target = response.alias_of
        return _NOTHING.answer

    def _ask(self, name: str, rdtype: str, deadline_s: float) -> _Response:
        import dns.flags
        import dns.message
        import dns.name
        import dns.rdatatype

        labels = [label.encode("ascii") for label in name.split(".")]
        query = dns.message.make_query(
            dns.name.Name([*labels, b""]), dns.rdatatype.from_text(rdtype), use_edns=0, payload=_UDP_PAYLOAD_BYTES
        )
        trouble = "no name server is configured"
        for server in self._system_or_given() * _ROUNDS:
            timeout_s = min(self._query_timeout_s, deadline_s - self.now_s())
            if timeout_s <= 0:
                raise DnsTemporaryError("the time for look-ups is over")
            try:
                response = self.exchange(server, query, timeout_s=timeout_s, tcp=False)
                if response.flags & dns.flags.TC:
                    timeout_s = max(0.001, min(self._query_timeout_s, deadline_s - self.now_s()))
                    response = self.exchange(server, query, timeout_s=timeout_s, tcp=True)
                return _read(response)
            except OSError:
                trouble = "no name server answered in time"
            except DnsTemporaryError as error:
                trouble = str(error)
        raise DnsTemporaryError(trouble)

    def exchange(
        self, server: Server, query: "dns.message.QueryMessage", *, timeout_s: float, tcp: bool
    ) -> "dns.message.Message":
        """One question to one server. Raises OSError or DnsTemporaryError."""
        family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
        expires_s = time.monotonic() + timeout_s
        with socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as connection:
            connection.settimeout(timeout_s)
            # A connected socket takes datagrams from that server only.
            connection.connect(tuple(server))
            wire = query.to_wire()
            connection.sendall(struct.pack("!H", len(wire)) + wire if tcp else wire)
            while True:
                received = _receive_tcp(connection, expires_s) if tcp else _receive_udp(connection, expires_s)
                response = _parse(query, received)
                if response is not None:
                    return response
                if tcp:
                    raise DnsTemporaryError("a name server gave no answer to the question")

    def _system_or_given(self) -> list[Server]:
        if not self._servers:
            import dns.resolver

            try:
                system = dns.resolver.Resolver()
            except dns.resolver.NoResolverConfiguration:
                return []
            self._servers = [Server(str(address), system.port) for address in system.nameservers]
        return self._servers


class Lookups:
    """The look-ups of one message: each is done once, whatever its time to live, and all within one deadline."""

    def __init__(self, resolver: Resolver, deadline_s: float) -> None:
        self._resolver = resolver
        self._deadline_s = deadline_s
        self._done: dict[tuple[str, str], Answer | DnsTemporaryError] = {}

    def resolve(self, name: str, rdtype: str) -> Answer:
        """Raises DnsTemporaryError. A name that can't be in DNS does not exist."""
        name = name.removesuffix(".").lower()
        if not is_dns_name(name):
            return Answer((), exists=False)
        key = (name, rdtype)
        done = self._done.get(key)
        if done is None:
            try:
                done = self._resolver.resolve(name, rdtype, deadline_s=self._deadline_s)
            except DnsTemporaryError as error:
                done = error
            self._done[key] = done
        if isinstance(done, DnsTemporaryError):
            raise DnsTemporaryError(str(done))
        return done

    def texts(self, name: str) -> list[bytes]:
        """The TXT records of a name, each with its strings joined."""
        return [value for value in self.resolve(name, "TXT").values if isinstance(value, bytes)]

    def exists(self, name: str) -> bool:
        """RFC 9989 §A.4: a name exists unless DNS says NXDOMAIN, whatever records it has."""
        return self.resolve(name, "A").exists


def is_dns_name(name: str) -> bool:
    """RFC 1035 §2.3.4: labels of 1 to 63 octets, 253 in all; what is not ASCII is no name in DNS."""
    return name.isascii() and len(name) <= 253 and all(0 < len(label) <= 63 for label in name.split("."))


class _Cache:
    """Answers until their time to live is over, the least recently used first out."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._entries: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: tuple[str, str], now_s: float) -> Answer | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry[0] <= now_s:
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return entry[1]

    def put(self, key: tuple[str, str], answer: Answer, expires_s: float) -> None:
        if sum(len(value) for value in answer.values) > _CACHED_BYTES_MAX:
            return
        with self._lock:
            self._entries[key] = (expires_s, answer)
            self._entries.move_to_end(key)
            while len(self._entries) > self._entries_max:
                self._entries.popitem(last=False)


def _receive_udp(connection: socket.socket, expires_s: float) -> bytes:
    connection.settimeout(_left(expires_s))
    return connection.recv(_UDP_BYTES_MAX)


def _receive_tcp(connection: socket.socket, expires_s: float) -> bytes:
    (length,) = struct.unpack("!H", _receive_exactly(connection, 2, expires_s))
    if length > RESPONSE_BYTES_MAX:
        raise DnsTemporaryError(f"an answer of {length} bytes is too long")
    return _receive_exactly(connection, length, expires_s)


def _receive_exactly(connection: socket.socket, count: int, expires_s: float) -> bytes:
    received = b""
    while len(received) < count:
        connection.settimeout(_left(expires_s))
        piece = connection.recv(count - len(received))
        if not piece:
            raise DnsTemporaryError("a name server hung up")
        received += piece
    return received


def _left(expires_s: float) -> float:
    left_s = expires_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("a name server did not answer in time")
    return left_s


def _parse(query: "dns.message.QueryMessage", received: bytes) -> "dns.message.Message | None":
    """The answer to the question, None for anything else: forged datagrams are to be outwaited (RFC 5452 §9.1)."""
    import dns.exception
    import dns.message

    try:
        response = dns.message.from_wire(received, ignore_trailing=True)
        return response if query.is_response(response) else None
    except (dns.exception.DNSException, ValueError, struct.error):
        return None


def _read(response: "dns.message.Message") -> _Response:
    import dns.exception
    import dns.message
    import dns.rcode
    import dns.rdatatype

    rcode = response.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or not isinstance(response, dns.message.QueryMessage):
        raise DnsTemporaryError(f"a name server said {dns.rcode.to_text(rcode)}")
    try:
        chain = response.resolve_chaining()
    except dns.message.ChainTooLong:
        return _NOTHING  # CNAMEs in a circle: the name is there, and leads to no record
    except dns.exception.DNSException as error:
        raise DnsTemporaryError(f"a name server's answer makes no sense: {type(error).__name__}") from None
    if chain.answer is not None:
        values = tuple(value for rdata in chain.answer if (value := _value(rdata)) is not None)
        return _Response(Answer(values, exists=True), min(chain.minimum_ttl, _TTL_S_MAX), None)
    has_soa = any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)
    if rcode == dns.rcode.NXDOMAIN or has_soa or not chain.cnames:
        # RFC 2308 §5: without an SOA record a negative answer is not to be kept.
        ttl_s = min(chain.minimum_ttl, _NEGATIVE_TTL_S_MAX) if has_soa else 0
        return _Response(Answer((), exists=rcode != dns.rcode.NXDOMAIN), ttl_s, None)
    return _Response(Answer((), exists=True), chain.minimum_ttl, _name(chain.canonical_name))


def _value(rdata: "dns.rdata.Rdata") -> Value | None:
    import dns.rdtypes.ANY.MX
    import dns.rdtypes.ANY.PTR
    import dns.rdtypes.ANY.TXT
    import dns.rdtypes.IN.A
    import dns.rdtypes.IN.AAAA

    if isinstance(rdata, dns.rdtypes.ANY.TXT.TXT):
        return b"".join(rdata.strings)
    if isinstance(rdata, dns.rdtypes.IN.A.A | dns.rdtypes.IN.AAAA.AAAA):
        return str(rdata.address)
    if isinstance(rdata, dns.rdtypes.ANY.MX.MX):
        return (rdata.preference, _name(rdata.exchange))
    if isinstance(rdata, dns.rdtypes.ANY.PTR.PTR):
        return _name(rdata.target)
    return None


def _name(name: object) -> str:
    return str(name).removesuffix(".").lower()
