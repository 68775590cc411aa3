"""An entry is what a line of a file says of one address, within the limits of the API; or the line is refused.

A reason ends up in the report of an import: it names the member or the address, and says what to do.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from readdress.address import split_address
from readdress.api.operation import explain
from readdress.api.shapes import Description, DisplayName, EmailAddressText, TagMap


class Entry(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """An address as it should be; what is None stays as it is. Mail for it goes to `alias_of` as well."""

    email_address: EmailAddressText
    display_name: DisplayName | None = None
    description: Description | None = None
    alias_of: EmailAddressText | None = None
    tags: TagMap | None = None


class Refused(Exception):
    """An entry can't be taken; the text is the reason."""


class FormatError(Exception):
    """The file as a whole is not of its format; the text says what is missing, or how to name another."""


# An entry with the number of its line, or the reason why the line is refused.
Numbered: TypeAlias = tuple[int, Entry | str]


def make_entry(members: dict[str, Any]) -> Entry:
    """An entry of members by their API names. Raises Refused."""
    try:
        return msgspec.convert(members, Entry)
    except msgspec.ValidationError as error:
        raise Refused(explain(str(error))) from None


def key_of(address: str) -> str:
    if address.isascii() and '"' not in address:
        return address.lower()  # what the rules come to for most
    return split_address(address).key


def find_target(address: str, targets: Sequence[str], *, addresses_only: bool) -> str | None:
    """The one address elsewhere that gets mail for an alias, if any. Raises Refused where there are several.

    An address among its own targets keeps a copy, which every alias does here (contract 2.2).
    """
    if address.startswith("@"):
        raise Refused(
            f"{address} is a catch-all. Tag the address that should have that mail with readdress:catch-all=true."
        )
    if addresses_only:
        return None
    own = key_of(address)
    others = {key_of(target): target for target in targets}
    others.pop(own, None)
    if len(others) > 1:
        raise Refused(
            f"{address} has {len(others)} targets, and an alias leads to one address. Keep one of them, or import with "
            "--addresses-only and pass its mail on by a transport."
        )
    return next(iter(others.values()), None)
