"""CSV, our own: the columns EmailAddress, DisplayName, Description, AliasOf and Tags, the last as a JSON object.

An empty cell says nothing, so an empty text and none are the same here; JSON lines tell them apart.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from readdress.bulk.entry import Entry, Refused, make_entry
from readdress.bulk.formats.tables import Cells, Layout

COLUMNS: Final = ("EmailAddress", "DisplayName", "Description", "AliasOf", "Tags")
_MEMBERS: Final = {name.lower(): name for name in COLUMNS}


def _entries(cells: Cells, addresses_only: bool) -> Sequence[Entry]:
    members: dict[str, Any] = {_MEMBERS[column]: cell for column, cell in cells.items()}
    if "Tags" in members:
        try:
            members["Tags"] = msgspec.json.decode(members["Tags"])
        except (msgspec.DecodeError, RecursionError) as error:
            raise Refused(f"Tags: is no JSON object: {error}. Write them as one, with its quotes doubled.") from None
    if addresses_only:
        members.pop("AliasOf", None)
    return (make_entry(members),)


CSV: Final = (Layout("csv", ("emailaddress",), tuple(list(_MEMBERS)[1:]), _entries),)


def write_header() -> bytes:
    return _line(COLUMNS)


def write(entry: Entry) -> bytes:
    tags = msgspec.json.encode(entry.tags).decode() if entry.tags else ""
    return _line((entry.email_address, entry.display_name, entry.description, entry.alias_of, tags))


def _line(cells: Sequence[str | None]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()
