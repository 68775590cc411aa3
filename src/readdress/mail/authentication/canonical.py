"""Canonical forms of header fields and of bodies (RFC 6376 §3.4), hashed without a copy of the body.

Time is in proportion to the length, whatever runs of white space a message is made of.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

_WHITE_SPACE = re.compile(rb"[ \t]+")
_BLOCK_BYTES = 1_048_576


class BodyHash(NamedTuple):
    """SHA-256 of the canonical body, and how many bytes that has."""

    digest: bytes
    length_bytes: int


def canonical_field(raw: bytes, *, relaxed: bool) -> bytes:
    """RFC 6376 §3.4.1, §3.4.2: one field with its CRLF."""
    if not relaxed:
        return raw
    name, _, value = raw.partition(b":")
    value = _WHITE_SPACE.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.rstrip(b" \t").lower() + b":" + value + b"\r\n"


def hash_body(body: memoryview, *, relaxed: bool) -> BodyHash:
    """RFC 6376 §3.4.3, §3.4.4: the empty lines at the end count as none, and the last line has its CRLF."""
    digest, length = hashlib.sha256(), 0
    held_back = 0  # empty lines, which count only if something follows
    for block in _blocks(body, relaxed=relaxed):
        canonical = _relax(block) if relaxed else block
        kept = _without_empty_lines(canonical)
        empty_lines = (len(canonical) - len(kept)) // 2
        if not kept:
            held_back += empty_lines
            continue
        for _ in range(held_back // _BLOCK_BYTES):
            digest.update(b"\r\n" * _BLOCK_BYTES)
        digest.update(b"\r\n" * (held_back % _BLOCK_BYTES))
        digest.update(kept)
        length += 2 * held_back + len(kept)
        held_back = empty_lines
    if length or not relaxed:  # a body without a line is one empty line when simple, and nothing when relaxed
        digest.update(b"\r\n")
        length += 2
    return BodyHash(digest.digest(), length)


def _blocks(body: memoryview, *, relaxed: bool) -> Iterator[bytes]:
    """Pieces in which no line's end is cut, nor, where that counts, the white space before it."""
    held = b""
    for at in range(0, len(body), _BLOCK_BYTES):
        piece = held + bytes(body[at : at + _BLOCK_BYTES])
        held = b""
        if at + _BLOCK_BYTES < len(body):
            kept = piece.removesuffix(b"\r")
            held = piece[len(kept) :]
            without_space = kept.rstrip(b" \t") if relaxed else kept
            if len(without_space) < len(kept):
                held = b" " + held  # any run of it is one space
            piece = without_space
        if piece:
            yield piece


def _relax(block: bytes) -> bytes:
    block = block.replace(b"\t", b" ")
    while b"  " in block:  # halves every run
        block = block.replace(b"  ", b" ")
    return block.replace(b" \r\n", b"\r\n")


def _without_empty_lines(block: bytes) -> bytes:
    """The block without every CRLF at its end."""
    kept = block.rstrip(b"\r\n")
    end = block[len(kept) :]
    if len(end) % 2 == 0 and end == b"\r\n" * (len(end) // 2):
        return kept
    length = len(block)
    while block.endswith(b"\r\n", 0, length):  # a lone CR or LF is content
        length -= 2
    return block[:length]
