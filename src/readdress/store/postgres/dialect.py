"""The one SQL text of both engines as PostgreSQL takes it: `:name` becomes `$1`, a lock's token its clause.

A parameter or token that is not known fails when the statement is first used.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from readdress.store.queries import Query

# Mail locks its recipients as a foreign key would: others may do so too, and only a change of aliases has to wait.
_LOCKS = {
    "{lock}": "FOR UPDATE",
    "{lock_share}": "FOR KEY SHARE",
    "{lock_skip}": "FOR UPDATE SKIP LOCKED",
}
_TEXTS = ("{texts}", "json_array_elements_text(:texts::json) AS texts(value)")
_PARTS = re.compile(r"'[^']*'|::|:(?P<name>\w+)|(?P<lock>\{\w+\})")
_VALUES = re.compile(r"\bVALUES\s*\(([^()]*)\)")
_WHERE = re.compile(r"\bWHERE\b")
_NAME = re.compile(r"(?<!:):(\w+)")

_BOOL, _BYTEA, _INT8, _INT4, _TEXT = 16, 17, 20, 23, 25
_ARRAYS = {_BYTEA: 1001, _INT8: 1016, _TEXT: 1009}
_NULL = b"\xff\xff\xff\xff"


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


def ask_all(query: Query, rows: Sequence[Mapping[str, Any]]) -> Ask:
    """One statement for all rows, of which there is one at least: each parameter is the array of its values."""
    statement = _translate(_for_all(query.locking), is_kept=bool(query.name))
    columns = [[row[name] for row in rows] for name in statement.names]
    types = [_type(next((value for value in column if value is not None), "")) for column in columns]
    values: list[bytes | None] = [_encode_array(column, type_) for column, type_ in zip(columns, types, strict=True)]
    return Ask(statement, tuple(_ARRAYS[type_] for type_ in types), values)


def plain(text: str) -> Ask:
    """A statement without parameters, for who begins and ends transactions."""
    return Ask(Statement(text.encode(), (), is_kept=True), (), [])


def translate(query: Query) -> Statement:
    return _translate(query.locking, is_kept=bool(query.name))


@lru_cache(maxsize=256)
def _for_all(text: str) -> str:
    """`VALUES (:a)` as `SELECT _a FROM unnest(:a) AS every (_a)`; an UPDATE gets the same FROM."""
    names = list(dict.fromkeys(_NAME.findall(text)))
    columns = ", ".join(f"_{name}" for name in names)
    every = f"FROM unnest({', '.join(f':{name}' for name in names)}) AS every ({columns})"
    if text.startswith("UPDATE"):
        return _WHERE.sub(f"{every} WHERE", _to_columns(text), count=1)
    return _VALUES.sub(lambda found: f"SELECT {_to_columns(found[1])} {every}", text)


def _to_columns(text: str) -> str:
    return _NAME.sub(r"_\1", text)


@lru_cache(maxsize=4_096)
def _translate(locking: str, *, is_kept: bool) -> Statement:
    names: list[str] = []

    def replace(found: re.Match[str]) -> str:
        if name := found["name"]:
            if name not in names:
                names.append(name)
            return f"${names.index(name) + 1}"
        return _LOCKS[found["lock"]] if found["lock"] else found[0]

    text = _PARTS.sub(replace, locking.replace(*_TEXTS))
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


def _encode_array(values: Sequence[Any], type_: int) -> bytes:
    """The binary form of an array of one dimension."""
    head = struct.pack("!iiiii", 1, 1, type_, len(values), 1)
    parts = [head]
    for value in values:
        encoded = _encode(value)
        if encoded is None:
            parts.append(_NULL)
        else:
            parts += (len(encoded).to_bytes(4, "big"), encoded)
    return b"".join(parts)


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
