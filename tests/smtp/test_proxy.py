"""The PROXY header of version 2: read in every split, never an octet too many, and nothing else is taken for one."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readdress.smtp.proxy import SIGNATURE, ProxyHeaderError, ProxyReader

LOCAL, PROXY = 0x20, 0x21
TCP_4, TCP_6, UNSPECIFIED, UNIX = 0x11, 0x21, 0x00, 0x31


def header(command: int, family: int, block: bytes) -> bytes:
    """Specification §2.2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


def block_4(source: str) -> bytes:
    return socket.inet_aton(source) + socket.inet_aton("192.0.2.25") + struct.pack("!HH", 40_000, 25)


def block_6(source: str) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "2001:db8::25")
    return ends + struct.pack("!HH", 40_000, 25)


def read(octets: bytes, *, step: int = 65_536) -> tuple[ProxyReader, bytes]:
    """The reader when it wants no more, and what it left."""
    reader = ProxyReader()
    at = 0
    while reader.wanted_bytes and at < len(octets):
        piece = octets[at : at + min(step, reader.wanted_bytes)]
        reader.feed(piece)
        at += len(piece)
    return reader, octets[at:]


TLV = b"\x03\x00\x04\xde\xad\xbe\xef"  # PP2_TYPE_CRC32C, and wrong: skipped
HEADERS = [
    (header(PROXY, TCP_4, block_4("198.51.100.7")), "198.51.100.7"),
    (header(PROXY, TCP_4, block_4("198.51.100.7") + TLV), "198.51.100.7"),
    (header(PROXY, TCP_6, block_6("2001:db8::7")), "2001:db8::7"),
    (header(PROXY, TCP_6, block_6("2001:db8::7") + TLV * 100), "2001:db8::7"),
    (header(PROXY, TCP_6, block_6("::ffff:198.51.100.7")), "198.51.100.7"),
    (header(LOCAL, UNSPECIFIED, b""), None),
    (header(LOCAL, TCP_4, block_4("198.51.100.7")), None),
    (header(LOCAL, 0xFF, b"x"), None),
    (header(PROXY, UNSPECIFIED, TLV), None),
    (header(PROXY, UNIX, b"/run/a.sock".ljust(108, b"\0") * 2), None),
]


@pytest.mark.parametrize(("octets", "source"), HEADERS)
@pytest.mark.parametrize("behind", [b"", b"EHLO client.example\r\n", b"\x16\x03\x01\x02\x00"])
def test_the_source_is_read_and_what_is_behind_stays(octets: bytes, source: str | None, behind: bytes) -> None:
    for step in (1, 3, 16, 65_536):
        reader, rest = read(octets + behind, step=step)
        assert not reader.wanted_bytes
        assert (reader.source, rest) == (source, behind)


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"E", "signature"),
        (b"EHLO client.example\r\n", "signature"),
        (b"PROXY TCP4 198.51.100.7 192.0.2.25 40000 25\r\n", "signature"),  # version 1
        (SIGNATURE[:11] + b"\r", "signature"),
        (header(0x11, TCP_4, block_4("198.51.100.7")), "version is 1"),
        (header(0x31, TCP_4, block_4("198.51.100.7")), "version is 3"),
        (header(0x22, TCP_4, block_4("198.51.100.7")), "command is 2"),
        (header(PROXY, TCP_4, block_4("198.51.100.7")[:11]), "11 octets"),
        (header(PROXY, TCP_6, block_4("198.51.100.7")), "12 octets"),
        (header(PROXY, UNIX, b"/short"), "6 octets"),
        (header(PROXY, 0x12, block_4("198.51.100.7")), "family 0x12"),  # datagrams
        (header(PROXY, 0x41, block_6("2001:db8::7")), "family 0x41"),
    ],
)
def test_what_is_no_good_header_is_refused_as_soon_as_it_can_be(octets: bytes, said: str) -> None:
    for step in (1, 65_536):
        with pytest.raises(ProxyHeaderError, match=said):
            read(octets, step=step)


@given(octets=st.binary(max_size=200) | st.binary(max_size=200).map(SIGNATURE.__add__), step=st.integers(1, 40))
def test_any_octets_are_a_header_or_refused(octets: bytes, step: int) -> None:
    try:
        reader, _ = read(octets, step=step)
    except ProxyHeaderError:
        return
    assert reader.wanted_bytes or reader.source is None or socket.getaddrinfo(reader.source, None, proto=6)
    assert 0 <= reader.wanted_bytes <= 65_535 + 16
