"""The formats that an import reads, by name: each gives entries with the numbers of their lines.

A format is told by `--format` or by the file's name, and a CSV's by its header.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, Final

from readdress.bulk.entry import FormatError, Numbered
from readdress.bulk.formats import json_lines, postfix, tables
from readdress.bulk.formats.google import GOOGLE
from readdress.bulk.formats.lines import read_lines
from readdress.bulk.formats.own_csv import CSV
from readdress.bulk.formats.postfixadmin import POSTFIXADMIN
from readdress.bulk.formats.simplelogin import SIMPLELOGIN

_TABLES: Final = {"csv": CSV, "google": GOOGLE, "postfixadmin": POSTFIXADMIN, "simplelogin": SIMPLELOGIN}
_READERS: Final[dict[str, Callable[..., Iterator[Numbered]]]] = {
    "jsonl": json_lines.read,
    "postfix": postfix.read,
    **{name: partial(tables.read, layouts=layouts) for name, layouts in _TABLES.items()},
}
_ANY_TABLE: Final = partial(tables.read, layouts=[layout for layouts in _TABLES.values() for layout in layouts])

FORMATS: Final = tuple(_READERS)


def read(stream: BinaryIO, *, name: str, format_name: str | None, addresses_only: bool) -> Iterator[Numbered]:
    """The entries of a file called `name`. Raises FormatError for one that is not of its format."""
    reader = _READERS[format_name] if format_name else _READERS.get(guess_format(name), _ANY_TABLE)
    return reader(read_lines(stream), addresses_only=addresses_only)


def guess_format(name: str) -> str:
    """By the file's name; "table" for a CSV of some kind. Raises FormatError."""
    lower = name.rpartition("/")[2].lower()
    if lower.endswith((".jsonl", ".ndjson")):
        return "jsonl"
    if lower.endswith(".csv"):
        return "table"
    if lower.startswith("virtual") or lower.endswith(".virtual"):
        return "postfix"
    raise FormatError(f"{name}: its name tells no format. Say which with --format: {', '.join(FORMATS)}.")
