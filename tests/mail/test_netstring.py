"""Netstrings, fed in every split: what is one comes out whole, and what is none never comes out at all."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readdress.mail.netstring import NetstringError, NetstringReader, NetstringTooLong, encode_netstring

BYTES_MAX = 12
PIECES = st.sampled_from([b"0", b"1", b"9", b":", b",", b"a", b"1:a,", b"0:,", b"\xff"])


def read_all(pieces: list[bytes]) -> tuple[list[bytes], type[NetstringError] | None]:
    """What came out, and what stopped it."""
    reader = NetstringReader(bytes_max=BYTES_MAX)
    out: list[bytes] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (content := reader.next()) is not None:
                out.append(content)
    except NetstringError as error:
        return out, type(error)
    return out, None


def split_at(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def test_the_definitions_own_example() -> None:
    # cr.yp.to/proto/netstrings.txt, section 2
    example = bytes.fromhex("31323a68656c6c6f20776f726c64212c")
    assert encode_netstring(b"hello world!") == example
    assert encode_netstring(b"") == b"0:,"
    assert read_all([example, b"0:,"]) == ([b"hello world!", b""], None)


@pytest.mark.parametrize(
    ("data", "out", "error"),
    [
        (b"3:a,b,0:,2:\r\n,", [b"a,b", b"", b"\r\n"], None),
        (b"1:a,12:123456789012,1", [b"a", b"123456789012"], None),
        (b"1:a,13:", [b"a"], NetstringTooLong),
        (b"99", [], NetstringTooLong),
        (b"100000000000000000000", [], NetstringTooLong),
        (b"01:a,", [], NetstringError),  # "there are no extra zeros at the front"
        (b"00:,", [], NetstringError),
        (b"-1:a,", [], NetstringError),
        (b"+1:a,", [], NetstringError),
        (b" 1:a,", [], NetstringError),
        (b":a,", [], NetstringError),
        (b"1;a,", [], NetstringError),
        (b"1:ab", [], NetstringError),
        (b"1:a\n", [], NetstringError),
        (b"1:a,\n1:b,", [b"a"], NetstringError),
        ("\u0661:a,".encode(), [], NetstringError),  # a digit, and none of ASCII's
        (b"get alias a@example.com\n", [], NetstringError),  # tcp_table(5), the wrong protocol
    ],
)
def test_every_split_of_it_reads_the_same(data: bytes, out: list[bytes], error: type[NetstringError] | None) -> None:
    assert read_all([data]) == (out, error)
    assert read_all([bytes([byte]) for byte in data]) == (out, error)
    for cut in range(len(data)):
        assert read_all([data[:cut], data[cut:]]) == (out, error)


@given(st.lists(st.binary(max_size=BYTES_MAX)), st.lists(st.integers(min_value=0, max_value=1_000), max_size=20))
def test_what_was_encoded_comes_out_whatever_the_splits(contents: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(encode_netstring, contents))
    assert read_all(split_at(data, cuts)) == (contents, None)


@given(
    st.lists(PIECES, max_size=30).map(b"".join),
    st.lists(st.integers(min_value=0, max_value=1_000), max_size=20),
)
def test_any_bytes_read_the_same_whatever_the_splits(data: bytes, cuts: list[int]) -> None:
    assert read_all(split_at(data, cuts)) == read_all([data])


@given(st.binary(max_size=40))
def test_what_came_out_was_there(data: bytes) -> None:
    out, error = read_all([data])
    again = b"".join(map(encode_netstring, out))
    assert data.startswith(again)
    if error is None:  # the rest is the beginning of one, or nothing
        assert len(data) - len(again) <= len(b"12:") + BYTES_MAX


def test_after_an_error_nothing_comes_any_more() -> None:
    reader = NetstringReader(bytes_max=BYTES_MAX)
    reader.feed(b"x")
    for following in (b"", b"1:a,", b"1:b,"):
        reader.feed(following)
        with pytest.raises(NetstringError):
            reader.next()


def test_the_longest_is_taken_and_one_byte_more_is_not() -> None:
    assert read_all([encode_netstring(b"x" * BYTES_MAX)]) == ([b"x" * BYTES_MAX], None)
    assert read_all([encode_netstring(b"x" * (BYTES_MAX + 1))]) == ([], NetstringTooLong)
