"""The PROXY protocol's binary header, version 2: who is really at the other end of a connection that a proxy made.

A reader says how many octets it wants next and never wants one too many, so that what follows the header, SMTP or a TLS
handshake, stays where it is. What is no good header raises ProxyHeaderError; nothing else is believed instead.
"""

import ipaddress
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED_BYTES = 16
# By family and transport: how long the address block is at least, and how long the source address in front of it.
_TCP_4, _TCP_6, _UNSPECIFIED, _UNIX_STREAM = 0x11, 0x21, 0x00, 0x31
_BLOCK_BYTES: Final = {_TCP_4: 12, _TCP_6: 36, _UNSPECIFIED: 0, _UNIX_STREAM: 216}
_SOURCE_BYTES: Final = {_TCP_4: 4, _TCP_6: 16}


class ProxyHeaderError(Exception):
    """What came is no PROXY header of version 2; the text says what is wrong with it."""


class ProxyReader:
    """Takes a header's octets, however they are split; `source` is the peer's address, None for the connection's own.

    That is so for LOCAL, when the proxy speaks for itself, and for a family without addresses (specification §2.2).
    """

    def __init__(self) -> None:
        self._octets = b""
        self._size_bytes = _FIXED_BYTES
        self.source: str | None = None

    @property
    def wanted_bytes(self) -> int:
        """How many octets of the header are still to come; 0 once it is whole."""
        return self._size_bytes - len(self._octets)

    def feed(self, octets: bytes) -> None:
        """Take at most `wanted_bytes`. Raises ProxyHeaderError as soon as it can be told."""
        assert len(octets) <= self.wanted_bytes
        self._octets += octets
        if not self._octets.startswith(SIGNATURE[: len(self._octets)]):
            raise ProxyHeaderError("it does not begin with the signature")
        if len(self._octets) == _FIXED_BYTES:
            self._size_bytes += self._read_fixed()
        if not self.wanted_bytes:
            self._read_source()

    def _read_fixed(self) -> int:
        """How much follows the fixed part: addresses, and type-length-values that are skipped."""
        version, command = self._octets[12] >> 4, self._octets[12] & 0x0F
        if version != 2:
            raise ProxyHeaderError(f"its version is {version}")
        if command > 1:
            raise ProxyHeaderError(f"its command is {command}")
        length_bytes = int.from_bytes(self._octets[14:16])
        if self._is_proxied and length_bytes < _BLOCK_BYTES.get(self._octets[13], 65_536):
            raise ProxyHeaderError(f"{length_bytes} octets do not hold addresses of family {self._octets[13]:#04x}")
        return length_bytes

    @property
    def _is_proxied(self) -> bool:
        return self._octets[12] == 0x21

    def _read_source(self) -> None:
        source_bytes = _SOURCE_BYTES.get(self._octets[13])
        if self._is_proxied and source_bytes:
            address = ipaddress.ip_address(self._octets[_FIXED_BYTES : _FIXED_BYTES + source_bytes])
            mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
            self.source = str(mapped or address)
