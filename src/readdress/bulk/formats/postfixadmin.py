"""PostfixAdmin's table `alias`, as CSV with the names of its columns: `psql --csv -c 'SELECT * FROM alias'`.

Source: PostfixAdmin's schema, alias (address, goto, domain, created, modified, active), and model/AliasHandler.php,
which keeps targets in `goto` with commas between, a mailbox's own address among them. What its web list saves as CSV
has headings in the reader's language: name its first two columns address and goto. What is not active refuses mail.
"""

from collections.abc import Sequence
from typing import Any, Final

from readdress.bulk.entry import Entry, Refused, find_target, make_entry
from readdress.bulk.formats.tables import Cells, Layout
from readdress.directory.settings import ACCEPT, REJECT

_NOT_ACTIVE: Final = frozenset({"0", "f", "false", "no"})


def _entries(cells: Cells, addresses_only: bool) -> Sequence[Entry]:
    address = cells.get("address")
    if address is None:
        raise Refused("address: is required. Give it a value.")
    targets = [target.strip() for target in cells.get("goto", "").split(",") if target.strip()]
    members: dict[str, Any] = {"EmailAddress": address}
    target = find_target(address, targets, addresses_only=addresses_only)
    if target:
        members["AliasOf"] = target
    if cells.get("active", "1").lower() in _NOT_ACTIVE:
        members["Tags"] = {ACCEPT: REJECT}
    return (make_entry(members),)


POSTFIXADMIN: Final = (Layout("postfixadmin", ("address", "goto"), None, _entries),)
