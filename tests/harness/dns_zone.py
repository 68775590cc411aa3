"""A DNS server on loopback, over UDP and TCP: its zone is a table, which also says what trouble it makes."""

import socket
import socketserver
import struct
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from readdress.mail.authentication.resolver import Resolver, Server

# In place of a record: no answer at all, one that says SERVFAIL or REFUSED, or one that can't be read.
TIMEOUT = "TIMEOUT"
SERVFAIL = "SERVFAIL"
REFUSED = "REFUSED"
GARBAGE = "GARBAGE"

# Of a name: records as `(type, text)` in the form of a zone file, or one of the troubles above.
Zone = Mapping[str, Iterable[tuple[str, str] | str]]

TTL_S = 300


def txt(text: str | bytes) -> tuple[str, str]:
    """A TXT record of strings of 255 bytes at most, escaped for a zone file."""
    raw = text.encode() if isinstance(text, str) else text
    pieces = [raw[at : at + 255] for at in range(0, len(raw), 255)] or [b""]
    escaped = ("".join(f"\\{byte:03d}" for byte in piece) for piece in pieces)
    return "TXT", " ".join(f'"{piece}"' for piece in escaped)


class DnsServer:
    """Answers from a zone; `asked` lists every question as (name, type), with `/tcp` behind the type over TCP."""

    def __init__(self, zone: Zone, *, ttl_s: int = TTL_S, udp_bytes_max: int = 1_232) -> None:
        self.zone: dict[str, list[tuple[str, str] | str]] = {}
        self.update(zone)
        self.ttl_s = ttl_s
        self.udp_bytes_max = udp_bytes_max
        self.asked: list[tuple[str, str]] = []
        self._tcp, self._udp = _bind_both()
        self._tcp.answering = self._udp.answering = self
        self.port = int(self._tcp.server_address[1])
        self._threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            for server in (self._tcp, self._udp)
        ]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def update(self, zone: Zone) -> None:
        self.zone |= {name.lower().removesuffix("."): list(records) for name, records in zone.items()}

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join(5)

    def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """The response's bytes, None for no answer."""
        query = dns.message.from_wire(wire)
        (question,) = query.question
        rdtype = dns.rdatatype.to_text(question.rdtype)
        name = _key(question.name)
        self.asked.append((name, f"{rdtype}/tcp" if tcp else rdtype))
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        # Like the suites' own servers: trouble at a name is for the types that it has no records of.
        found = self.zone.get(name, [])
        if not any(kind in (rdtype, "CNAME") for kind, _ in _records(found)):
            if TIMEOUT in found:
                return None
            if GARBAGE in found:
                return wire[:2] + b"\x80\x00\xff"
            for trouble in (SERVFAIL, REFUSED):
                if trouble in found:
                    response.set_rcode(dns.rcode.from_text(trouble))
                    return response.to_wire()
        self._fill(response, question.name, rdtype)
        wire = response.to_wire(max_size=65_535)
        if not tcp and len(wire) > self.udp_bytes_max:
            cut = dns.message.make_response(query)
            cut.flags |= dns.flags.TC
            return cut.to_wire()
        return wire

    def _fill(self, response: dns.message.Message, name: dns.name.Name, rdtype: str) -> None:
        """The records, behind the CNAMEs that lead to them; an SOA record where there are none (RFC 2308 §3)."""
        for _ in range(20):
            key = _key(name)
            records = list(_records(self.zone.get(key, [])))
            texts = [text for kind, text in records if kind == rdtype]
            if texts:
                response.answer.append(dns.rrset.from_text_list(name, self.ttl_s, "IN", rdtype, texts))
                return
            aliases = [text for kind, text in records if kind == "CNAME"]
            if not aliases:
                break
            response.answer.append(dns.rrset.from_text(name, self.ttl_s, "IN", "CNAME", aliases[0]))
            name = dns.name.from_text(aliases[0])
        if not self._exists(_key(name)):
            response.set_rcode(dns.rcode.NXDOMAIN)
        soa = f"ns.invalid. hostmaster.invalid. 1 2 3 4 {self.ttl_s}"
        response.authority.append(dns.rrset.from_text(dns.name.root, self.ttl_s, "IN", "SOA", soa))

    def _exists(self, name: str) -> bool:
        """A name exists when something is below it, too (RFC 8020 §2)."""
        return any(key == name or key.endswith(f".{name}") for key in self.zone)


def _key(name: dns.name.Name) -> str:
    """A name as the zone has it, whatever characters its labels are made of."""
    return b".".join(name.labels[:-1]).decode("latin-1").lower()


def _records(found: Iterable[tuple[str, str] | str]) -> Iterable[tuple[str, str]]:
    return (record for record in found if isinstance(record, tuple))


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True
    answering: DnsServer


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    answering: DnsServer


class _UdpHandler(socketserver.BaseRequestHandler):
    server: _Udp

    def handle(self) -> None:
        wire, connection = self.request
        answer = self.server.answering.answer(wire, tcp=False)
        if answer is not None:
            connection.sendto(answer, self.client_address)


class _TcpHandler(socketserver.StreamRequestHandler):
    server: _Tcp
    connection: socket.socket

    def handle(self) -> None:
        (length,) = struct.unpack("!H", self.rfile.read(2))
        answer = self.server.answering.answer(self.rfile.read(length), tcp=True)
        if answer is not None:
            self.wfile.write(struct.pack("!H", len(answer)) + answer)


def _bind_both() -> tuple[_Tcp, _Udp]:
    """A port that is free for both; others come and go while tests run side by side."""
    for _ in range(50):
        tcp = _Tcp(("127.0.0.1", 0), _TcpHandler)
        try:
            return tcp, _Udp(tcp.server_address, _UdpHandler)
        except OSError:
            tcp.server_close()
    raise AssertionError("no port is free for both TCP and UDP")


class PatientResolver(Resolver):
    """Waits long for an answer that will come, and not for one that the zone says will not."""

    def __init__(self, server: DnsServer, *, budget_s: float = 30) -> None:
        super().__init__([server.address], query_timeout_s=budget_s)
        self._server = server

    def exchange(
        self, server: Server, query: dns.message.QueryMessage, *, timeout_s: float, tcp: bool
    ) -> dns.message.Message:
        if TIMEOUT in self._server.zone.get(_key(query.question[0].name), []):
            timeout_s = 0.02
        return super().exchange(server, query, timeout_s=timeout_s, tcp=tcp)
