"""CSV (RFC 4180) with a header that tells whose it is; a row of several lines counts as the first of them."""

import csv
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from readdress.bulk.entry import Entry, FormatError, Numbered, Refused
from readdress.bulk.formats.lines import ROW_BYTES_MAX, TOO_LONG, Lines

# The cells of a row by the lower-case names of their columns.
Cells: TypeAlias = dict[str, str]


class Layout(NamedTuple):
    """A table of some program: the columns that tell it, what else it may have, and the entries of a row.

    Where `others` is None, columns that are not known are passed over. `entries` gets the cells that are not empty, and
    whether targets are left out. It raises Refused.
    """

    name: str
    columns: tuple[str, ...]
    others: tuple[str, ...] | None
    entries: Callable[[Cells, bool], Sequence[Entry]]


def read(lines: Lines, *, layouts: Sequence[Layout], addresses_only: bool) -> Iterator[Numbered]:
    """Raises FormatError for a header that none of the layouts has."""
    rows = _rows(lines)
    _, header = next(rows, (0, ""))
    layout, columns = _choose(header, layouts)
    for number, row in rows:
        if isinstance(row, str):
            yield number, row
        elif len(row) != len(columns):
            yield number, f"has {len(row)} cells where the header has {len(columns)}. Quote what has commas in it."
        else:
            cells = {column: cell for column, cell in zip(columns, row, strict=True) if cell}
            try:
                for entry in layout.entries(cells, addresses_only):
                    yield number, entry
            except Refused as refused:
                yield number, str(refused)


def _choose(header: list[str] | str, layouts: Sequence[Layout]) -> tuple[Layout, list[str]]:
    if isinstance(header, str):
        raise FormatError(f"the header {header or 'is missing.'}")
    columns = [name.strip().lower() for name in header]
    for layout in layouts:
        if not set(layout.columns) <= set(columns):
            continue
        strange = set() if layout.others is None else set(columns) - {*layout.columns, *layout.others}
        if strange:
            raise FormatError(f"the header names what is not known: {', '.join(sorted(strange))}. Leave it out.")
        if len(set(columns)) < len(columns):
            raise FormatError("the header names a column twice. Leave one of them out.")
        return layout, columns
    known = "; ".join(f"{layout.name}: {', '.join(layout.columns)}" for layout in layouts)
    raise FormatError(f"the header is of no table that is known. The columns by which one is told are {known}.")


class _TooLong(Exception):
    pass


class _Text:
    """The lines as text for csv, with the number of the one where the row began."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._bytes_left = ROW_BYTES_MAX
        self.first = self.last = 0

    def begin_row(self) -> None:
        self._bytes_left = ROW_BYTES_MAX
        self.first = 0

    def __iter__(self) -> "_Text":
        return self

    def __next__(self) -> str:
        self.last, line = next(self._lines)
        self.first = self.first or self.last
        if line is None:
            raise _TooLong
        self._bytes_left -= len(line)
        if self._bytes_left < 0:
            raise _TooLong
        return line.decode()


def _rows(lines: Lines) -> Iterator[tuple[int, list[str] | str]]:
    """The cells of each row, or why it is refused."""
    text = _Text(lines)
    reader = csv.reader(text, strict=True)
    while True:
        text.begin_row()
        row: list[str] | str
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = f"is no CSV: {error}. Perhaps a quote is not closed, or one inside a cell not doubled."
        except UnicodeDecodeError:
            row = "is not in UTF-8. Save the file in that encoding."
        except _TooLong:
            row = f"{TOO_LONG} Perhaps a quote is not closed."
        if row:
            yield text.first, row
