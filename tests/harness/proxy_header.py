"""The PROXY header of version 2 as a proxy writes it (specification §2.2), apart from the program's own reader."""

import ipaddress
import struct

_SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"


def proxy_header(source: str | None, *, extra: bytes = b"") -> bytes:
    """For a peer at `source`; None is LOCAL, the proxy's own word. `extra` is what stands behind the addresses."""
    if source is None:
        return _SIGNATURE + struct.pack("!BBH", 0x20, 0, len(extra)) + extra
    address = ipaddress.ip_address(source)
    is_4 = address.version == 4
    destination = ipaddress.ip_address("192.0.2.25" if is_4 else "2001:db8::25")
    block = address.packed + destination.packed + struct.pack("!HH", 40_000, 25) + extra
    return _SIGNATURE + struct.pack("!BBH", 0x21, 0x11 if is_4 else 0x21, len(block)) + block
