"""Content on its way out: what the server's reader takes in is what was given, and nothing else can be smuggled."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readdress.smtp.content import ContentReader
from readdress.smtp.content_writer import ContentWriter, LineGuard, StrayByte

TRICKY = b".a\r\n..\r\n\r\n.\r\nb"


def write(pieces: list[bytes]) -> bytes:
    writer = ContentWriter()
    return b"".join([writer.feed(piece) for piece in pieces]) + writer.end()


def guarded(pieces: list[bytes]) -> bytes:
    guard = LineGuard()
    passed = b"".join([guard.check(piece) for piece in pieces])
    guard.check_end()
    return passed


def read(wire: bytes) -> tuple[bytes, bytes | None]:
    reader = ContentReader(bytes_max=1_000_000, line_bytes_max=1_000_000)
    taken = reader.feed(wire)
    assert reader.refusal is None
    return taken


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"..\r\n", b"...\r\n.\r\n"),
        (b"\r\n", b"\r\n.\r\n"),
        (b"a\r\n.\r\nMAIL FROM:<x>\r\n", b"a\r\n..\r\nMAIL FROM:<x>\r\n.\r\n"),
        (b"a.b\r\nc.\r\n", b"a.b\r\nc.\r\n.\r\n"),
        (b"x" * 5_000, b"x" * 5_000 + b"\r\n.\r\n"),
        ("é\xff".encode("latin-1"), b"\xe9\xff\r\n.\r\n"),
    ],
)
def test_dots_are_stuffed_and_the_end_is_said_once(content: bytes, wire: bytes) -> None:
    # RFC 5321 §4.5.2
    assert write([content]) == wire
    assert write([bytes([octet]) for octet in content]) == wire


def test_the_wire_is_the_same_in_every_split() -> None:
    for places in combinations(range(len(TRICKY) + 1), 3):
        edges = [0, *places, len(TRICKY)]
        assert write([TRICKY[start:end] for start, end in pairwise(edges)]) == write([TRICKY])


@given(st.lists(st.sampled_from([b".", b"\r\n", b"a", b"..", b"\xff"]), max_size=30))
def test_the_servers_reader_takes_in_what_was_given(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    expected = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert read(write(pieces)) == (expected, b"")


@pytest.mark.parametrize(
    "content", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n.\n", b"a\n.\r\n", b"a\r\r\n", b"a\r", b"\n", b"a\0\r\n", b"\r\n.\r"]
)
def test_a_stray_byte_never_gets_an_end(content: bytes) -> None:
    # RFC 5321 §2.3.8: what could end the message for a server that reads it otherwise
    for size in range(1, len(content) + 1):
        pieces = [content[start : start + size] for start in range(0, len(content), size)]
        with pytest.raises(StrayByte):
            write(pieces)
        with pytest.raises(StrayByte):
            guarded(pieces)


@given(st.lists(st.binary(max_size=8), max_size=8))
def test_the_guard_passes_on_every_byte_or_none_of_it_is_ended(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    stray = set(content.replace(b"\r\n", b"")) & set(b"\r\n\0")
    if stray:
        with pytest.raises(StrayByte):
            guarded(pieces)
    else:
        assert guarded(pieces) == content
