"""Postfix's virtual alias table, the text that postmap reads: an address, blanks, and its targets.

Source: virtual(5) and postmap(1) of Postfix. An address that is its own target is published without a relation. What
Readdress can't hold is refused: several targets, catch-alls, names that Postfix completes with its own domain.
"""

import re
from collections.abc import Iterator
from typing import Any

from readdress.bulk.entry import Entry, Numbered, Refused, find_target, make_entry
from readdress.bulk.formats.lines import ROW_BYTES_MAX, TOO_LONG, Lines

_TARGETS = re.compile(r"[,\s]+")


def read(lines: Lines, *, addresses_only: bool) -> Iterator[Numbered]:
    for number, logical in _logical_lines(lines):
        try:
            yield number, _entry(logical, addresses_only=addresses_only)
        except Refused as refused:
            yield number, str(refused)


def _logical_lines(lines: Lines) -> Iterator[tuple[int, bytes | None]]:
    """A line that begins with a blank goes on with the one before; empty lines and comments are passed over."""
    began: tuple[int, bytes | None] | None = None
    for number, line in lines:
        stripped = b"" if line is None else line.strip()
        if line is not None and (not stripped or stripped.startswith(b"#")):
            continue
        if began and line is not None and line[:1].isspace():
            first, before = began
            is_short = before is not None and len(before) + len(line) < ROW_BYTES_MAX
            began = first, before + line if is_short and before is not None else None
            continue
        if began:
            yield began
        began = number, line
    if began:
        yield began


def _entry(line: bytes | None, *, addresses_only: bool) -> Entry:
    if line is None:
        raise Refused(TOO_LONG)
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise Refused("is not in UTF-8. Save the file in that encoding.") from None
    if '"' in text or text.startswith(("/", "|", "if ", "endif")):
        raise Refused("has quotes or a pattern, which are not read here. Write the addresses out.")
    address, *rest = text.split(maxsplit=1)
    targets = [target for part in rest for target in _TARGETS.split(part) if target]
    if not targets:
        raise Refused(f"{address} has no target. Give it one, or itself to publish it alone.")
    for name in (address, *([] if addresses_only else targets)):
        if "@" not in name:
            raise Refused(
                f"{name} has no domain. Write it out, or leave the line out if it declares a domain of Postfix."
            )
    members: dict[str, Any] = {"EmailAddress": address}
    target = find_target(address, targets, addresses_only=addresses_only)
    if target:
        members["AliasOf"] = target
    return make_entry(members)
