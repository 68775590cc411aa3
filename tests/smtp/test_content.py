"""Content on the wire: dots unstuffed, the one true end of data in every split, and nothing that could be smuggled."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.smuggling import ENDS, ENDS_TRULY
from readdress.smtp.content import ChunkReader, ContentReader
from readdress.smtp.reply import Reply

BYTES_MAX = 1_000_000
END = b"\r\n.\r\n"


def reader(*, bytes_max: int = BYTES_MAX, line_bytes_max: int = 65_536) -> ContentReader:
    return ContentReader(bytes_max=bytes_max, line_bytes_max=line_bytes_max)


def stuff(content: bytes) -> bytes:
    """RFC 5321 §4.5.2, the sender's side: a dot before every line that begins with one; then the end."""
    lines = content.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines) + b".\r\n"


def feed(taker: ContentReader, pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    """What came out, and what followed the end: with the pieces that were left, or None without an end."""
    taken = b""
    for number, piece in enumerate(pieces):
        content, rest = taker.feed(piece)
        taken += content
        if rest is not None:
            return taken, rest + b"".join(pieces[number + 1 :])
    return taken, None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def code_of(refusal: Reply | None) -> str | None:
    return f"{refusal.code} {refusal.enhanced}" if refusal else None


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"..a\r\n.\r\n", b".a\r\n"),
        (b"...\r\n.\r\n", b"..\r\n"),
        (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
        (b"a\r\n...\r\n..b.\r\n.\r\n", b"a\r\n..\r\n.b.\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
        (b"a.b\r\n.\r\n", b"a.b\r\n"),
        # RFC 5321 §4.5.2: of a line with more than the dot the first dot goes, whether or not it was stuffed.
        (b".a\r\n.\r\n", b"a\r\n"),
        (b". \r\n.\r\n", b" \r\n"),
        (b"\r\n\r\n\r\n.\r\n", b"\r\n\r\n\r\n"),
        (b"\xff\x80\xe9\r\n.\r\n", b"\xff\x80\xe9\r\n"),
    ],
)
def test_the_end_is_found_and_dots_are_unstuffed_in_every_split(wire: bytes, content: bytes) -> None:
    data = wire + b"NEXT\r\n"
    for count in range(3):
        for places in combinations(range(1, len(data)), count):
            taker = reader()
            assert feed(taker, cut(data, list(places))) == (content, b"NEXT\r\n"), places
            assert taker.refusal is None
            assert taker.size_bytes == len(content)
    assert feed(reader(), [data[at : at + 1] for at in range(len(data))]) == (content, b"NEXT\r\n")


@pytest.mark.parametrize("wire", [b"", b".", b".\r", b"a\r\n.", b"a\r\n.\r", b"a\r\n..\r\n", b"a.\r\n", b"a\r\n.b\r\n"])
def test_content_without_its_end_goes_on(wire: bytes) -> None:
    _, rest = reader().feed(wire)
    assert rest is None


LINES = st.lists(
    st.one_of(
        st.binary(max_size=30).map(lambda line: line.translate(None, b"\r\n\0")),
        st.from_regex(rb"\.{0,4}[a\.]{0,3}", fullmatch=True),
    ),
    max_size=12,
)


@given(lines=LINES, places=st.lists(st.integers(0, 1_000), max_size=8), rest=st.binary(max_size=10))
def test_any_content_comes_out_as_it_was_before_stuffing(lines: list[bytes], places: list[int], rest: bytes) -> None:
    # contract 6: the raw bytes are kept
    content = b"".join(line + b"\r\n" for line in lines)
    taker = reader()
    assert feed(taker, cut(stuff(content) + rest, places)) == (content, rest)
    assert taker.refusal is None
    assert taker.size_bytes == len(content)


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("before", [b"Subject: t\r\n\r\nbody", b"Subject: t\r\n\r\nbody\r\n", b""])
def test_a_smuggled_end_ends_nothing_and_the_message_is_refused(name: str, before: bytes) -> None:
    """Contract 6: only CRLF.CRLF ends a message; any other is 550 5.5.2. In every split into two, and bytewise."""
    smuggled = b"MAIL FROM:<evil@example.com>\r\n"
    data = before + ENDS[name] + smuggled
    splits = [cut(data, [place]) for place in range(len(data))] + [[data[at : at + 1] for at in range(len(data))]]
    for pieces in splits:
        taker = reader()
        _, rest = feed(taker, [*pieces, END, b"NOOP\r\n"])
        expected = smuggled + END + b"NOOP\r\n" if name in ENDS_TRULY else b"NOOP\r\n"
        assert rest == expected, pieces
        assert code_of(taker.refusal) == "550 5.5.2", pieces


@given(data=st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\0", b"\r\n"]), max_size=40).map(b"".join))
def test_only_crlf_dot_crlf_ends_whatever_comes(data: bytes) -> None:
    """The oracle is the rule itself: the first CRLF.CRLF, DATA's own CRLF before (RFC 5321 §4.1.1.4)."""
    before, end, rest = (b"\r\n" + data).partition(END)
    whole, bytewise = reader(), reader()
    taken = feed(whole, [data])
    assert taken[1] == (rest if end else None)
    assert feed(bytewise, [data[at : at + 1] for at in range(len(data))])[1] == taken[1]
    if end:
        stray = (before + b"\r\n").replace(b"\r\n", b"")
        is_refused = any(byte in stray for byte in b"\r\n\0")
        assert code_of(whole.refusal) == code_of(bytewise.refusal) == ("550 5.5.2" if is_refused else None)


@pytest.mark.parametrize(("size_bytes", "refusal"), [(999, None), (1_000, None), (1_001, "552 5.3.4")])
@pytest.mark.parametrize("piece_bytes", [1, 7, 4_096])
def test_the_size_limit_counts_octets_without_their_stuffing(
    size_bytes: int, refusal: str | None, piece_bytes: int
) -> None:
    # RFC 1870 §3: dots added for transparency don't count; the end of data neither. contract 6: 552 5.3.4
    content = b".\r\n" * 300 + b"." * (size_bytes - 902) + b"\r\n"
    assert len(content) == size_bytes
    wire = stuff(content)
    taker = reader(bytes_max=1_000)
    taken, rest = feed(taker, [wire[at : at + piece_bytes] for at in range(0, len(wire), piece_bytes)])
    assert rest == b""
    assert code_of(taker.refusal) == refusal
    assert refusal or taken == content


def test_nothing_more_comes_out_once_a_message_is_refused() -> None:
    """So that a refused message takes no memory, however long it goes on."""
    taker = reader(bytes_max=1_000)
    taker.feed(b"x" * 2_000)
    assert code_of(taker.refusal) == "552 5.3.4"
    for _ in range(100):
        assert taker.feed(b"x" * 100_000 + b"\r\n") == (b"", None)
    assert taker.feed(b".\r\nNOOP\r\n") == (b"", b"NOOP\r\n")


@pytest.mark.parametrize(
    ("line_bytes", "refusal"),
    # RFC 5321 §4.5.3.1.6: a line's length has its CRLF in it, and not the stuffed dot.
    [(1_000, None), (1_001, "550 5.6.0"), (1_002, "550 5.6.0"), (5_000, "550 5.6.0")],
)
@pytest.mark.parametrize("start", [b"x", b"."])
@pytest.mark.parametrize("before", [b"", b"a\r\n", b"y" * 997 + b"\r\n"])
@pytest.mark.parametrize("after", [b"", b"b\r\n", b"z" * 998 + b"\r\n"])
@pytest.mark.parametrize("piece_bytes", [1, 499, 10_000])
def test_a_line_over_the_limit_is_refused_wherever_it_stands(
    line_bytes: int, refusal: str | None, start: bytes, before: bytes, after: bytes, piece_bytes: int
) -> None:
    wire = stuff(before + start.ljust(line_bytes - 2, b"x") + b"\r\n" + after)
    taker = reader(line_bytes_max=1_000)
    _, rest = feed(taker, [wire[at : at + piece_bytes] for at in range(0, len(wire), piece_bytes)])
    assert rest == b""
    assert code_of(taker.refusal) == refusal


PIECES = st.lists(st.sampled_from([b"a", b".", b"\r", b"\n", b"\r\n", b"\0", b"x" * 19, b"\xe9"]), max_size=12)


@given(pieces=PIECES, places=st.lists(st.integers(0, 100), max_size=6))
def test_chunks_are_refused_for_what_data_is_refused_for(pieces: list[bytes], places: list[int]) -> None:
    """And for nothing else, wherever the chunks are cut; DATA itself is the oracle (a content with a line end)."""
    content = b"".join(pieces) + b"\r\n"
    chunks = ChunkReader(bytes_max=60, line_bytes_max=40, is_binary=False)
    taken = b"".join([chunks.feed(piece) for piece in cut(content, places)])
    chunks.end()
    data = reader(bytes_max=60, line_bytes_max=40)
    if b"\r" in content.replace(b"\r\n", b"") or b"\n" in content.replace(b"\r\n", b"") or b"\0" in content:
        assert chunks.refusal
        return
    expected, rest = feed(data, [stuff(content)])
    assert rest == b""
    assert bool(chunks.refusal) == bool(data.refusal)
    assert chunks.refusal or taken == expected == content


@given(pieces=PIECES, places=st.lists(st.integers(0, 100), max_size=6))
def test_binary_chunks_are_refused_for_their_size_alone(pieces: list[bytes], places: list[int]) -> None:
    content = b"".join(pieces)
    chunks = ChunkReader(bytes_max=60, line_bytes_max=10, is_binary=True)
    taken = b"".join([chunks.feed(piece) for piece in cut(content, places)])
    chunks.end()
    assert code_of(chunks.refusal) == (None if len(content) <= 60 else "552 5.3.4")
    assert chunks.refusal or taken == content


def test_a_cr_at_the_very_end_is_bare() -> None:
    chunks = ChunkReader(bytes_max=60, line_bytes_max=40, is_binary=False)
    assert chunks.feed(b"a\r") == b"a"
    assert chunks.refusal is None
    chunks.end()
    assert code_of(chunks.refusal) == "550 5.5.2"
