"""The members of a declared operation, and values for each that a check of shapes has to refuse or to let pass."""

import copy
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from msgspec import inspect

from readdress.api.operation import Operation

_DEPTH_MAX = 5
_WRONG_TYPES: dict[type, list[Any]] = {
    inspect.StrType: [1, 1.5, True, [], {}, ["a"]],
    inspect.LiteralType: [1, True, [], {}],
    inspect.IntType: ["1", 1.5, True, [], {}],
    inspect.DateTimeType: [1, True, [], {}, "", "yesterday", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "\x00"],
    inspect.BoolType: ["true", 1, 0, [], {}],
    inspect.ListType: ["a", 1, True, {}],
    inspect.DictType: ["a", 1, True, []],
    inspect.StructType: ["a", 1, True, []],
}
_CONTROLS = ["\x00", "\x01", "\x1b", "\x7f", "\x85"]
_WRONG_PATTERNS = {
    "EmailAddress": ["a", "a@b", "@example.com", "a@", "a b@example.com", "a@b@example.com", "a@example.com\n"],
    "InstanceAlias": ["d-abc", "-abc", "abc-", "a_b", "a b", "\u00e9", "\u0663"],
    "DirectoryId": ["d-00000000zz", "x-0000000000", "D-0000000000"],
    "TagKey": ["aws:x", "a*b", "a\u2014b", "<"],
}


class Member(NamedTuple):
    """A member by its place: names of structures' members, 0 for a list's, `KEY` or `VALUE` for a map's."""

    path: tuple[str | int, ...]
    type: Any
    required: bool
    pattern_of: str | None

    @property
    def place(self) -> str:
        """As messages name it, with nothing between the brackets."""
        text = ""
        for step in self.path:
            if step is KEY:
                continue
            text += "[]" if step is VALUE or isinstance(step, int) else f".{step}"
        return text.removeprefix(".")


KEY, VALUE = "<key>", "<value>"


@dataclass(frozen=True)
class Bad:
    """A value that has to be refused; `absent` stands for the member not being there at all."""

    member: Member
    label: str
    value: Any = None
    absent: bool = False

    def put_into(self, values: dict[str, Any]) -> dict[str, Any]:
        return without(values, self.member.path) if self.absent else with_(values, self.member.path, self.value)


def members(operation: Operation) -> Iterator[Member]:
    yield from _fields(inspect.type_info(operation.request), ())


def _fields(structure: Any, path: tuple[str | int, ...]) -> Iterator[Member]:
    for field in structure.fields:
        yield from _walk(field.type, (*path, field.encode_name), required=field.required)


def _walk(declared: Any, path: tuple[str | int, ...], *, required: bool) -> Iterator[Member]:
    if len(path) > _DEPTH_MAX:
        return
    pattern = False
    while isinstance(declared, inspect.Metadata | inspect.UnionType):
        if isinstance(declared, inspect.Metadata):
            pattern = True
            declared = declared.type
        else:
            declared = next(part for part in declared.types if not isinstance(part, inspect.NoneType))
    name = "TagKey" if path[-1] is KEY or path[0] == "tagKeys" else str(path[-1])
    yield Member(path, declared, required, name if pattern else None)
    if isinstance(declared, inspect.StructType):
        yield from _fields(declared, path)
    elif isinstance(declared, inspect.ListType):
        yield from _walk(declared.item_type, (*path, 0), required=False)
    elif isinstance(declared, inspect.DictType):
        yield from _walk(declared.key_type, (*path, KEY), required=False)
        yield from _walk(declared.value_type, (*path, VALUE), required=False)


def bad_values(member: Member) -> Iterator[Bad]:
    """Everything about the member that is a mistake of shape."""
    if member.required:
        yield Bad(member, "missing", absent=True)
        yield Bad(member, "null", None)
    elif member.path[-1] in {0, VALUE}:
        yield Bad(member, "null", None)
    if member.path[-1] is not KEY:  # JSON has no other keys than text
        for value in _WRONG_TYPES[type(member.type)]:
            yield Bad(member, f"{type(value).__name__} {value}", value)
    yield from _beyond_limits(member)
    if isinstance(member.type, inspect.StrType):
        for control in _CONTROLS:
            yield Bad(member, f"control {control!r}", f"a{control}b")
        for text in _WRONG_PATTERNS[member.pattern_of] if member.pattern_of else []:
            yield Bad(member, f"pattern {text!r}", text)
    if isinstance(member.type, inspect.LiteralType):
        for text in ("", "OTHER", str(member.type.values[0]).lower(), f"{member.type.values[0]} - at `$.Other`"):
            yield Bad(member, f"enum {text!r}", text)


def _beyond_limits(member: Member) -> Iterator[Bad]:
    least, most = limits(member)
    if isinstance(member.type, inspect.IntType):
        for number in (least - 1, most + 1, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**40):
            yield Bad(member, f"number {number}", number)
        return
    if least:
        yield Bad(member, "empty" if least == 1 else "short", sized(member, least - 1))
    if most:
        yield Bad(member, f"{most} + 1", sized(member, most + 1))


def limits(member: Member) -> tuple[int, int]:
    """The least and the most, 0 where there is none."""
    if isinstance(member.type, inspect.IntType):
        return member.type.ge or 0, member.type.le or 0
    return getattr(member.type, "min_length", None) or 0, getattr(member.type, "max_length", None) or 0


def sized(member: Member, size: int) -> Any:
    """A value of that length (or that number) which is good in all else."""
    if isinstance(member.type, inspect.IntType):
        return size
    if isinstance(member.type, inspect.ListType):
        return [f"k{number}" for number in range(size)]
    if isinstance(member.type, inspect.DictType):
        return {f"k{number}": "v" for number in range(size)}
    if size == 0:
        return ""
    if member.pattern_of == "EmailAddress":
        return uuid.uuid4().hex.ljust(size - 12, "\u00e9") + "@example.com"
    if member.pattern_of == "InstanceAlias":
        return uuid.uuid4().hex.ljust(size, "a")
    if member.pattern_of == "DirectoryId":
        return "d-".ljust(size, "0")
    if member.path == ("resourceArn",):
        return "arn:aws:connect:us-east-1:123456789012:instance/".ljust(size, "x")
    return "\u00e9" * size


def with_(values: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A copy with the member set, and everything around it that it needs."""
    changed = copy.deepcopy(values)
    holder: Any = changed
    for step, following in zip(path, (*path[1:], None), strict=True):
        if step is KEY:
            holder.clear()
            holder[value] = "v"
        elif following is None:
            if isinstance(holder, list):
                holder[:] = [value]
            else:
                holder["k" if step is VALUE else step] = value
        elif isinstance(holder, list):
            holder[:] = [[] if following == 0 else {}]
            holder = holder[0]
        else:
            holder = holder.setdefault(step, [] if following == 0 else {})
    return changed


def without(values: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
    """A copy without the member."""
    changed = copy.deepcopy(values)
    holder: Any = changed
    for step in path[:-1]:
        holder = holder[step]
    holder.pop(path[-1])
    return changed
