"""Numbered lines of a stream, each up to a limit; of one that is longer only the number comes, and the next follows."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO, Final, TypeAlias

# Every entry within the API's limits has room, however it is escaped.
ROW_BYTES_MAX: Final = 262_144
TOO_LONG: Final = f"is longer than {ROW_BYTES_MAX} bytes, which no entry has to be."

# None is a line that is too long.
Lines: TypeAlias = Iterator[tuple[int, bytes | None]]


def read_lines(stream: BinaryIO) -> Lines:
    """Only LF ends a line; a byte order mark in front of the first is dropped."""
    read, limit = stream.readline, ROW_BYTES_MAX + 1
    number = 0
    while line := read(limit):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) < limit:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = read(limit)
        yield number, None
