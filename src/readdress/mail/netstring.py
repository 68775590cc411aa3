"""Netstrings on the wire, `5:hello,`: bytes in, whole strings out; no socket, no clock.

What is none raises, and nothing that follows on the same connection can be trusted any more.
"""

import re

_LENGTH = re.compile(rb"(0|[1-9][0-9]*)(:?)")


class NetstringError(Exception):
    """What came is no netstring; the text says why."""


class NetstringTooLong(NetstringError):
    """What comes would be longer than is taken."""


class NetstringReader:
    """Takes bytes as they come and gives each netstring once it is whole; holds one of `bytes_max` at most."""

    __slots__ = ("_at", "_bytes_max", "_digits_max", "_input")

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._digits_max = len(str(bytes_max))
        self._input = b""
        self._at = 0

    @property
    def has_partial(self) -> bool:
        """Whether a netstring has begun that is not whole."""
        return self._at < len(self._input)

    def feed(self, data: bytes) -> None:
        self._input = self._input[self._at :] + data
        self._at = 0

    def next(self) -> bytes | None:
        """The next netstring, or None before more bytes come. Raises NetstringError, and again when asked again."""
        if not self.has_partial:
            return None
        head = _LENGTH.match(self._input, self._at, self._at + self._digits_max + 1)
        if head is None:
            raise NetstringError("no length in decimal digits")
        length_bytes = int(head[1])
        if length_bytes > self._bytes_max or len(head[1]) > self._digits_max:
            raise NetstringTooLong(f"longer than {self._bytes_max} bytes")
        if not head[2]:
            if head.end() < len(self._input):
                raise NetstringError("no colon after the length")
            return None
        end = head.end() + length_bytes
        if end >= len(self._input):
            return None
        if self._input[end : end + 1] != b",":
            raise NetstringError("no comma after the last byte")
        self._at = end + 1
        return self._input[head.end() : end]


def encode_netstring(content: bytes) -> bytes:
    return b"%d:%b," % (len(content), content)
