"""Search among an instance's addresses: a tree of conditions, compiled to SQL, paged by key in order of creation.

Text is compared without letter case. The order is that of the ids, which never change, so a page token stays good
while addresses come and go.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from readdress.address import fold
from readdress.directory.addresses import EmailAddress
from readdress.store.database import Transaction
from readdress.store.queries import Query, load_queries

sql = load_queries(__package__, "directory.sql")

# What may be searched, by its API name without letter case (contract 5).
FIELDS = {
    "emailaddress": "e.address_folded",
    "displayname": "e.display_name_folded",
    "description": "e.description_folded",
}

EXACT, STARTS_WITH, CONTAINS = "EXACT", "STARTS_WITH", "CONTAINS"


class Text(NamedTuple):
    """A field compared with a value; `field` is a key of FIELDS, `comparison` one of the three."""

    field: str
    comparison: str
    value: str


class Tag(NamedTuple):
    """A tag that the address carries; without a value, any value."""

    key: str
    value: str | None


class All(NamedTuple):
    conditions: "Sequence[Condition]"


class AnyOf(NamedTuple):
    conditions: "Sequence[Condition]"


Condition: TypeAlias = Text | Tag | All | AnyOf


def search(
    tx: Transaction, *, instance_id: str, condition: Condition, after_id: str, limit: int
) -> tuple[list[EmailAddress], int]:
    """At most `limit` hits beyond `after_id`, and how many there are in all."""
    parameters: dict[str, Any] = {"instance_id": instance_id}
    where = _compile(condition, parameters)
    count = tx.one(_with_where(sql.search_count, where), **parameters)
    rows = tx.all(_with_where(sql.search_page, where), after_id=after_id, limit=limit, **parameters)
    return [EmailAddress(*row) for row in rows], count[0] if count else 0


def _with_where(query: Query, where: str) -> Query:
    return Query(query.replace("{where}", where))


def _compile(condition: Condition, parameters: dict[str, Any]) -> str:
    """The WHERE text of a condition; values go to `parameters`, never into the text."""
    match condition:
        case Text(field, comparison, value):
            return _compile_text(FIELDS[field], comparison, value, parameters)
        case Tag(key, value):
            fragment = sql.search_tag_key if value is None else sql.search_tag
            fragment = Query(fragment.replace("{key}", _bind(key, parameters)))
            return fragment if value is None else fragment.replace("{value}", _bind(value, parameters))
        case All(conditions):
            return _join(" AND ", "1 = 1", conditions, parameters)
        case AnyOf(conditions):
            return _join(" OR ", "1 = 0", conditions, parameters)


def _compile_text(column: str, comparison: str, value: str, parameters: dict[str, Any]) -> str:
    folded = fold(value)
    if comparison == CONTAINS:
        escaped = folded.replace("!", "!!").replace("%", "!%").replace("_", "!_")
        fragment, bound = sql.search_contains, f"%{escaped}%"
    elif comparison == STARTS_WITH:
        fragment, bound = sql.search_starts_with, folded
    else:
        fragment, bound = sql.search_exact, folded
    return fragment.replace("{column}", column).replace("{value}", _bind(bound, parameters))


def _join(word: str, when_empty: str, conditions: Sequence[Condition], parameters: dict[str, Any]) -> str:
    return "(" + (word.join(_compile(condition, parameters) for condition in conditions) or when_empty) + ")"


def _bind(value: str, parameters: dict[str, Any]) -> str:
    name = f"v{len(parameters)}"
    parameters[name] = value
    return name
