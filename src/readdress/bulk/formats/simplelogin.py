"""SimpleLogin's export of aliases: CSV with the columns alias, note, enabled and mailboxes.

Source: app/alias_utils.py of SimpleLogin, alias_export_csv; mailboxes have blanks between, and the note becomes the
description. An alias that is not enabled refuses mail. Mailboxes mostly are elsewhere, and many aliases have the same
one: then --addresses-only leaves them out, and a transport passes the mail on.
"""

from collections.abc import Sequence
from typing import Any, Final

from readdress.bulk.entry import Entry, Refused, find_target, make_entry
from readdress.bulk.formats.tables import Cells, Layout
from readdress.directory.settings import ACCEPT, REJECT


def _entries(cells: Cells, addresses_only: bool) -> Sequence[Entry]:
    address = cells.get("alias")
    if address is None:
        raise Refused("alias: is required. Give it a value.")
    members: dict[str, Any] = {"EmailAddress": address}
    target = find_target(address, cells.get("mailboxes", "").split(), addresses_only=addresses_only)
    if target:
        members["AliasOf"] = target
    if "note" in cells:
        members["Description"] = cells["note"]
    if cells.get("enabled", "True").lower() == "false":
        members["Tags"] = {ACCEPT: REJECT}
    return (make_entry(members),)


SIMPLELOGIN: Final = (Layout("simplelogin", ("alias", "note", "enabled", "mailboxes"), (), _entries),)
