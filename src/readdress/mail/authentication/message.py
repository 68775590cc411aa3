"""A message cut into header fields and body, for hashing: bytes are looked at and never changed.

Takes time in proportion to the header, whatever it holds.
"""

import re
from typing import NamedTuple

_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")  # RFC 5322 §3.6.8; §4.5 has white space before the colon


class Field(NamedTuple):
    """A header field: its name in lower case, and all its bytes with the CRLF at the end."""

    name: bytes
    raw: bytes

    @property
    def value(self) -> bytes:
        """What follows the colon, still folded, without the last CRLF."""
        return self.raw.partition(b":")[2].removesuffix(b"\r\n")

    @property
    def unfolded(self) -> bytes:
        return self.value.replace(b"\r\n", b"")


class Message(NamedTuple):
    """`fields` from top to bottom; `body` is a view, so that a long one is not copied."""

    fields: list[Field]
    body: memoryview

    def named(self, name: bytes) -> list[Field]:
        return [field for field in self.fields if field.name == name]


def split_message(content: bytes) -> Message:
    """Lines in the header that are no field (RFC 5322 §2.2) are left out, with what continues them."""
    if content.startswith(b"\r\n"):
        return Message([], memoryview(content)[2:])
    end = content.find(b"\r\n\r\n")
    header = content[:end] if end >= 0 else content.removesuffix(b"\r\n")
    body = memoryview(content)[end + 4 :] if end >= 0 else memoryview(b"")
    return Message(_split_header(header), body)


def _split_header(header: bytes) -> list[Field]:
    fields: list[Field] = []
    name, pieces = b"", list[bytes]()
    for line in header.split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            pieces.append(line)
            continue
        if name:
            fields.append(Field(name, b"\r\n".join(pieces) + b"\r\n"))
        name, pieces = _name(line), [line]
    if name:
        fields.append(Field(name, b"\r\n".join(pieces) + b"\r\n"))
    return fields


def _name(line: bytes) -> bytes:
    """Empty for a line that is no field."""
    match = _NAME.match(line)
    return match[1].lower() if match else b""
