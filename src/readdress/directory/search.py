"""Search among an instance's addresses, paged by key in order of creation, at a cost that the hits decide.

A page goes on behind a position that never changes, so a page token stays good while addresses come and go. Hits are
looked up by their texts where the engine has a table for that, else by a tag, else in a walk over all addresses.
"""

from typing import Any, NamedTuple

from readdress.directory import texts
from readdress.directory.addresses import EmailAddress
from readdress.directory.conditions import All, Condition, Tag, compile_where, sql
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


def search(tx: Transaction, *, instance_id: str, condition: Condition, after: str | None, limit: int) -> Page:
    """At most `limit` hits beyond the position `after`. Raises InvalidParameterException for what is no position."""
    parameters: dict[str, Any] = {"instance_id": instance_id}
    where = compile_where(condition, parameters)
    expression = texts.expression(condition) if tx.has_text_table else None
    position: str | int = after or ""
    if expression:
        position = _number(after)
        indexed = _Place(texts.sql.list_indexed, texts.sql.count_indexed, {"expression": expression})
        places = [indexed, _Place(texts.sql.list_new, texts.sql.count_new, {})]
    elif tag := _find_tag(condition):
        places = [_Place(sql.list_tagged, sql.count_tagged, {"tag_key": tag.key, "tag_value": tag.value})]
    else:
        places = [_Place(sql.list_all, sql.count_all, {})]
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


def _find_tag(condition: Condition) -> Tag | None:
    """A tag that every hit carries, with its value."""
    match condition:
        case Tag(_, str()):
            return condition
        case All(conditions):
            return next(filter(None, map(_find_tag, conditions)), None)
        case _:
            return None


def _number(after: str | None) -> int:
    try:
        return int(after or 0)
    except ValueError:
        raise InvalidParameterException(
            "NextToken: it comes from another database. Begin the query again without one."
        ) from None


def _with_where(query: Query, where: str) -> Query:
    return Query(query.replace("{where}", where))
