"""Google Workspace: the users that its Admin console saves as CSV, and the aliases that GAM prints.

Sources: the console's columns `First Name [Required]`, `Last Name [Required]`, `Email Address [Required]` and
`Status [READ ONLY]`; GAM's wiki page Aliases: `gam print aliases` has Alias, Target and TargetType, and with
`onerowpertarget` Target, TargetType and Aliases. Import the users first. A suspended user's address refuses mail.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from readdress.bulk.entry import Entry, Refused, find_target, make_entry
from readdress.bulk.formats.tables import Cells, Layout
from readdress.directory.settings import ACCEPT, REJECT

_EMAIL, _FIRST, _LAST = "email address [required]", "first name [required]", "last name [required]"
_STATUS: Final = "status [read only]"
_BETWEEN = re.compile(r"[,\s]+")


def _users(cells: Cells, _: bool) -> Sequence[Entry]:
    members: dict[str, Any] = {"EmailAddress": cells.get(_EMAIL, "")}
    name = " ".join(cells[part] for part in (_FIRST, _LAST) if part in cells)
    if name:
        members["DisplayName"] = name
    if cells.get(_STATUS, "").lower().startswith("suspended"):
        members["Tags"] = {ACCEPT: REJECT}
    return (make_entry(members),)


def _aliases(cells: Cells, addresses_only: bool) -> Sequence[Entry]:
    """A row of a target without aliases has nothing to say."""
    return _of_target([cells["alias"]] if "alias" in cells else [], cells, addresses_only)


def _targets(cells: Cells, addresses_only: bool) -> Sequence[Entry]:
    aliases = [alias for alias in _BETWEEN.split(cells.get("aliases", "")) if alias]
    if len(aliases) > 1 and not addresses_only:
        raise Refused(
            f"{cells.get('target')} has {len(aliases)} aliases, and an address has one. Print them without "
            "onerowpertarget and keep one, or import with --addresses-only."
        )
    return _of_target(aliases, cells, addresses_only)


def _of_target(aliases: Sequence[str], cells: Cells, addresses_only: bool) -> Sequence[Entry]:
    if "target" not in cells:
        raise Refused("Target: is required. Give it a value.")
    entries = []
    for alias in aliases:
        target = find_target(alias, [cells["target"]], addresses_only=addresses_only)
        entries.append(make_entry({"EmailAddress": alias, **({"AliasOf": target} if target else {})}))
    return entries


GOOGLE: Final = (
    Layout("google users", (_EMAIL,), None, _users),
    Layout("google aliases", ("alias", "target"), None, _aliases),
    Layout("google aliases by target", ("target", "aliases"), None, _targets),
)
