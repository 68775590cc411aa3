"""Gives an instance's addresses as entries, a page at a time: first what others may be aliases of, then the aliases."""

from collections.abc import Iterator
from typing import BinaryIO, Final

from readdress.bulk.entry import Entry
from readdress.bulk.formats import json_lines, own_csv
from readdress.bulk.importing import list_tags, sql
from readdress.store.database import Transaction

PAGE_ROWS: Final = 1_000


def entries(tx: Transaction, instance_id: str) -> Iterator[Entry]:
    """In the order of keys, so an import finds its way quickly."""
    for page in (sql.page_addresses, sql.page_aliases):
        after = ""
        while rows := tx.all(page, instance_id=instance_id, after=after, limit=PAGE_ROWS):
            tags = list_tags(tx, [row[0] for row in rows])
            for address_id, _, address, display_name, description, primary in rows:
                yield _make_entry(address, display_name, description, primary, tags.get(address_id))
            after = rows[-1][1]


def write(tx: Transaction, instance_id: str, stream: BinaryIO, form: str) -> int:
    """How many addresses there are; `form` is csv or jsonl."""
    encode = own_csv.write if form == "csv" else json_lines.write
    if form == "csv":
        stream.write(own_csv.write_header())
    count = 0
    for entry in entries(tx, instance_id):
        stream.write(encode(entry))
        count += 1
    return count


def _make_entry(
    address: str, display_name: str | None, description: str | None, primary: str | None, tags: dict[str, str] | None
) -> Entry:
    return Entry(
        email_address=address, display_name=display_name, description=description, alias_of=primary, tags=tags or None
    )
