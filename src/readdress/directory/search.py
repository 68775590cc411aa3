"""Search among an instance's addresses, paged by key in order of creation, at a cost that the hits decide.

A page goes on behind a position that never changes, so a page token stays good while addresses come and go. Hits are
looked up by the whole address, by their texts where the engine has a table for that, by a tag, or in a walk over all.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from readdress.address import split_address
from readdress.directory import texts
from readdress.directory.addresses import EmailAddress
from readdress.directory.conditions import EXACT, All, Condition, Tag, Text, compile_where, sql
from readdress.errors import InvalidParameterException
from readdress.store.database import Row, Transaction
from readdress.store.queries import Query

# As far as hits are counted.
COUNT_MAX = 1_000


class Page(NamedTuple):
    """Hits, how many there are on all pages (COUNT_MAX may mean more), and the position of the last if more follow."""

    hits: list[EmailAddress]
    total: int
    next_after: str | None


class _Place(NamedTuple):
    """Where hits are: what lists them behind a position, what counts them, and what both need to know."""

    listing: Query
    counting: Query
    parameters: dict[str, Any]
    is_numbered: bool = False


def search(tx: Transaction, *, instance_id: str, condition: Condition, after: str | None, limit: int) -> Page:
    """At most `limit` hits beyond the position `after`. Raises InvalidParameterException for what is no position."""
    parameters: dict[str, Any] = {"instance_id": instance_id}
    where = compile_where(condition, parameters)
    places = _places(tx, condition)
    position = _number(after) if places[0].is_numbered else after or ""
    rows: list[Row] = []
    for place in places:
        if len(rows) <= limit:
            room = limit + 1 - len(rows)
            listing = _with_where(place.listing, where)
            rows += tx.all(listing, after=position, limit=room, **place.parameters, **parameters)
    more = len(rows) > limit
    count = _count(tx, places, where, parameters) if more or after else len(rows)
    return Page([EmailAddress(*row[1:]) for row in rows[:limit]], count, str(rows[limit - 1][0]) if more else None)


def _count(tx: Transaction, places: list[_Place], where: str, parameters: dict[str, Any]) -> int:
    count = 0
    for place in places:
        if count < COUNT_MAX:
            row = tx.one(_with_where(place.counting, where), limit=COUNT_MAX - count, **place.parameters, **parameters)
            count += row[0] if row else 0
    return count


def _places(tx: Transaction, condition: Condition) -> list[_Place]:
    """Where all hits are, in the order of pages."""
    for known in _required(condition):
        if isinstance(known, Text) and (key := _key(known)):
            return [_Place(sql.list_keyed, sql.count_keyed, {"address_key": key})]
    expression = texts.expression(condition) if tx.has_text_table else None
    if expression:
        return [
            _Place(texts.sql.list_indexed, texts.sql.count_indexed, {"expression": expression}, is_numbered=True),
            _Place(texts.sql.list_new, texts.sql.count_new, {}),
        ]
    for known in _required(condition):
        if isinstance(known, Tag) and known.value is not None:
            return [_Place(sql.list_tagged, sql.count_tagged, {"tag_key": known.key, "tag_value": known.value})]
    return [_Place(sql.list_all, sql.count_all, {})]


def _required(condition: Condition) -> Iterator[Condition]:
    """Conditions that every hit meets."""
    if isinstance(condition, All):
        for inner in condition.conditions:
            yield from _required(inner)
    else:
        yield condition


def _key(text: Text) -> str | None:
    """The key of the one address that can have this text; None where it has none, or not one alone.

    Two texts that are equal without letter case have one key, but for an ß in a domain, which is one of its own there
    and the same as ss in a text.
    """
    address = split_address(text.value)
    is_whole = text.field == "emailaddress" and text.comparison == EXACT
    return address.key if is_whole and text.value.isascii() and "ss" not in address.domain.lower() else None


def _number(after: str | None) -> int:
    try:
        return int(after or 0)
    except ValueError:
        raise InvalidParameterException(
            "NextToken: it comes from another database. Begin the query again without one."
        ) from None


def _with_where(query: Query, where: str) -> Query:
    return Query(query.replace("{where}", where))
