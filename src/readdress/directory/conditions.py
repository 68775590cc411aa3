"""What a search asks of an address: a tree of conditions, and the SQL that says the same.

Text is compared without letter case.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from readdress.address import fold
from readdress.store.queries import load_queries

sql = load_queries(__package__, "search.sql")

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


def compile_where(condition: Condition, parameters: dict[str, Any]) -> str:
    """The WHERE text of a condition; values go to `parameters`, never into the text."""
    match condition:
        case Text(field, comparison, value):
            return _compile_text(FIELDS[field], comparison, fold(value), parameters)
        case Tag(key, value):
            if value is None:
                return sql.where_tagged_at_all.replace("{key}", _bind(key, parameters))
            return sql.where_tagged.replace("{key}", _bind(key, parameters)).replace(
                "{value}", _bind(value, parameters)
            )
        case All(conditions):
            return _join(" AND ", "1 = 1", conditions, parameters)
        case AnyOf(conditions):
            return _join(" OR ", "1 = 0", conditions, parameters)


def _compile_text(column: str, comparison: str, folded: str, parameters: dict[str, Any]) -> str:
    fragment, bound = sql.where_equal, folded
    if comparison != EXACT:
        pattern = folded.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"
        fragment, bound = sql.where_like, f"%{pattern}" if comparison == CONTAINS else pattern
    return fragment.replace("{column}", column).replace("{value}", _bind(bound, parameters))


def _join(word: str, when_empty: str, conditions: Sequence[Condition], parameters: dict[str, Any]) -> str:
    return "(" + (word.join(compile_where(condition, parameters) for condition in conditions) or when_empty) + ")"


def _bind(value: str, parameters: dict[str, Any]) -> str:
    name = f"v{len(parameters)}"
    parameters[name] = value
    return name
