"""JSON lines, our own: an object a line, with the API's members and `AliasOf`, the address that it is an alias of."""

from collections.abc import Iterator

import msgspec

from readdress.api.operation import explain
from readdress.bulk.entry import Entry, Numbered
from readdress.bulk.formats.lines import TOO_LONG, Lines


def read(lines: Lines, *, addresses_only: bool) -> Iterator[Numbered]:
    decode = msgspec.json.Decoder(Entry).decode
    for number, line in lines:
        entry: Entry | str
        if line is None:
            entry = TOO_LONG
        elif line.isspace():
            continue
        else:
            try:
                entry = decode(line)
            except msgspec.ValidationError as error:
                entry = explain(str(error))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                entry = f"is no JSON: {error}. Give one object a line."
            else:
                if addresses_only:
                    entry.alias_of = None
        yield number, entry


def write(entry: Entry) -> bytes:
    return msgspec.json.encode(entry) + b"\n"
