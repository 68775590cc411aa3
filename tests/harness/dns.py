"""A nameserver on loopback, by UDP and TCP on one port, that answers from a zone of the test or misbehaves by name."""

import contextlib
import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Zone: TypeAlias = Mapping[str, Mapping[str, Sequence[str]]]
"""Name → type → records in the words of a zone file; a name that is missing does not exist."""

Mode: TypeAlias = Literal["servfail", "refused", "silent", "truncate", "garbage"]
"""`truncate` is for UDP alone: over TCP the answer is whole."""

_CHAIN_MAX = 16


@dataclass
class NameServer:
    zone: Zone
    modes: Mapping[str, Mode]
    port: int = 0
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, type and transport of every question."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answer(self, wire: bytes, *, transport: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype), transport))
        mode = self.modes.get(name)
        if mode == "silent":
            return None
        if mode == "garbage":
            return wire[:2] + b"\x80\x00\xff"
        response = dns.message.make_response(query, recursion_available=True)
        if mode in {"servfail", "refused"}:
            response.set_rcode(dns.rcode.from_text(mode))
        elif mode == "truncate" and transport == "udp":
            response.flags |= dns.flags.TC
        else:
            self._fill(response, name, dns.rdatatype.to_text(question.rdtype))
        return response.to_wire(max_size=65_535 if transport == "tcp" else 1_232)

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> None:
        for _ in range(_CHAIN_MAX):
            records = self.zone.get(name)
            if records is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                return
            found = "CNAME" if "CNAME" in records else kind
            if records.get(found):
                rrset = dns.rrset.from_text_list(f"{name}.", 60, "IN", found, list(records[found]))
                response.answer.append(rrset)
            if found != "CNAME":
                return
            name = records["CNAME"][0].rstrip(".").lower()


class _Udp(socketserver.BaseRequestHandler):
    server: "_UdpServer"

    def handle(self) -> None:
        data, connection = self.request
        answer = self.server.nameserver.answer(data, transport="udp")
        if answer:
            connection.sendto(answer, self.client_address)


class _Tcp(socketserver.StreamRequestHandler):
    server: "_TcpServer"
    timeout = 10

    def handle(self) -> None:
        with contextlib.suppress(OSError, struct.error):
            (length,) = struct.unpack("!H", self.rfile.read(2))
            answer = self.server.nameserver.answer(self.rfile.read(length), transport="tcp")
            if answer:
                self.wfile.write(struct.pack("!H", len(answer)) + answer)


class _UdpServer(socketserver.ThreadingUDPServer):
    max_packet_size = 4_096
    nameserver: NameServer


class _TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    nameserver: NameServer


@contextlib.contextmanager
def name_server(zone: Zone, modes: Mapping[str, Mode] | None = None) -> Iterator[NameServer]:
    nameserver = NameServer(zone, modes or {})
    udp, tcp = _bind()
    nameserver.port = udp.server_address[1]
    threads = []
    for server in (udp, tcp):
        server.nameserver = nameserver
        threads.append(threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}))
        threads[-1].start()
    try:
        yield nameserver
    finally:
        for server in (udp, tcp):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


def _bind() -> tuple[_UdpServer, _TcpServer]:
    """Both on one port, which is free for both."""
    for _ in range(50):
        udp = _UdpServer(("127.0.0.1", 0), _Udp)
        try:
            return udp, _TcpServer(udp.server_address, _Tcp)
        except OSError:
            udp.server_close()
    raise AssertionError("no port is free for both UDP and TCP")
