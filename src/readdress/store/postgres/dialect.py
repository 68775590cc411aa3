"""The one SQL text of both engines as PostgreSQL takes it: `:name` becomes `$1`, a lock's token its clause.

A parameter or token that is not known fails when the statement is first used.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from readdress.store.queries import Query

# Mail locks its recipients as a foreign key would: others may do so too, and only a change of aliases has to wait.
_LOCKS = {
    "{lock}": "FOR UPDATE",
    "{lock_share}": "FOR KEY SHARE",
    "{lock_skip}": "FOR UPDATE SKIP LOCKED",
}
_PARTS = re.compile(r"'[^']*'|::|:(?P<name>\w+)|(?P<lock>\{\w+\})")

_BOOL, _BYTEA, _INT8, _INT4, _TEXT = 16, 17, 20, 23, 25


class Statement(NamedTuple):
    """SQL for the wire, and the names of its parameters in their order; one with `is_kept` is worth preparing."""

    text: bytes
    names: tuple[str, ...]
    is_kept: bool


class Ask(NamedTuple):
    """A statement with its values as the wire has them: their types' numbers, and their bytes or None."""

    statement: Statement
    types: tuple[int, ...]
    values: list[bytes | None]


def ask(query: Query, parameters: dict[str, Any]) -> Ask:
    """Raises KeyError for a parameter that is missing."""
    statement = translate(query)
    values = [parameters[name] for name in statement.names]
    return Ask(statement, tuple(map(_type, values)), list(map(_encode, values)))


def plain(text: str) -> Ask:
    """A statement without parameters, for who begins and ends transactions."""
    return Ask(Statement(text.encode(), (), is_kept=True), (), [])


def translate(query: Query) -> Statement:
    return _translate(query.locking, is_kept=bool(query.name))


@lru_cache(maxsize=4_096)
def _translate(locking: str, *, is_kept: bool) -> Statement:
    names: list[str] = []

    def replace(found: re.Match[str]) -> str:
        if name := found["name"]:
            if name not in names:
                names.append(name)
            return f"${names.index(name) + 1}"
        return _LOCKS[found["lock"]] if found["lock"] else found[0]

    text = _PARTS.sub(replace, locking)
    return Statement(text.encode(), tuple(names), is_kept=is_kept)


def _type(value: Any) -> int:
    """The number of the value's type; 0 leaves it to the server."""
    if isinstance(value, str):
        return _TEXT
    if isinstance(value, int):
        return _INT8
    return 0 if value is None else _BYTEA


def _encode(value: Any) -> bytes | None:
    """PostgreSQL's binary form."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int):
        return value.to_bytes(8, "big", signed=True)
    assert value is None or isinstance(value, bytes)
    return value


def _decode_int(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


# What our statements give; a type that is missing here is a mistake in one of them, and a KeyError.
DECODERS: Final[dict[int, Callable[[bytes], Any]]] = {
    _BOOL: _decode_int,
    _BYTEA: bytes,
    _INT8: _decode_int,
    _INT4: _decode_int,
    _TEXT: bytes.decode,
}
