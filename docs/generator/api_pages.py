"""A page for each operation, in Markdown, out of its declaration: examples, what it takes and answers, its errors.

What a member means is in `members.toml`; one that is not there is a KeyError.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from api_examples import examples, is_own
from readdress.api.operation import Operation
from readdress.api.shapes import NO_CONTROLS, TEXT_CONTROLS_ONLY, Answer

_MEANINGS: dict[str, str] = tomllib.loads(Path(__file__).with_name("members.toml").read_text("utf-8"))
_AMAZONS, _OURS = "Amazon Connect's", "Our own"
_CONTROLS = {
    NO_CONTROLS.pattern: "no control characters",
    TEXT_CONTROLS_ONLY.pattern: "no control characters but tabs and line ends",
}
_NAMES: dict[type[inspect.Type], str] = {
    inspect.StrType: "string",
    inspect.IntType: "integer",
    inspect.FloatType: "time, in seconds since 1970",
    inspect.DateTimeType: "time of ISO 8601 with its zone",
    inspect.BoolType: "boolean",
    inspect.BytesType: "bytes, in JSON as base64",
    inspect.AnyType: "any value",
}
# Where an explanation names the paragraph of a specification that is not published.
_CITATION = re.compile(r" \(contract [\d.]+\)")


def path(operation: Operation) -> str:
    return f"api/{operation.name}.md"


def navigation(operations: Iterable[Operation]) -> list[dict[str, list[str]]]:
    return [{owner: [path(operation) for operation in owned]} for owner, owned in _by_owner(operations).items()]


def tables(operations: Iterable[Operation]) -> str:
    """Each operation in a line, with a link to its page."""
    parts = []
    for owner, owned in _by_owner(operations).items():
        rows = [(f"[{operation.name}]({operation.name}.md)", _said(operation.handler)) for operation in owned]
        parts.append(f"## {owner}\n\n" + _table(("operation", "what it does"), rows))
    return "\n\n".join(parts)


def page(operation: Operation) -> str:
    return "\n\n".join(part for part in _parts(operation) if part) + "\n"


def _parts(operation: Operation) -> Iterator[str]:
    yield f"# {operation.name}"
    yield _said(operation.handler)
    resources = " and ".join(f"`{_resource(operation, template)}`" for template in operation.resources)
    whose = "our own: no SDK of Amazon's knows it" if is_own(operation) else "Amazon Connect's"
    yield "\n".join(
        (
            f"- an operation that is {whose}",
            f"- request: `{operation.binding.method} {operation.binding.path}`",
            f"- allowed by `{operation.action}` on {resources}",
        )
    )
    yield "## Examples\n\nThey take what is yours [from the environment](index.md#running-the-examples)."
    yield "\n".join(
        f'=== "{example.language}"\n\n' + _indent(f"```{example.fence}\n{example.text}```\n")
        for example in examples(operation)
    )
    yield from _request(operation)
    yield from _answer(operation)
    yield "## Errors\n\nWhen each is given, and what to do then, is told [for all operations](index.md#errors)."
    errors = sorted(operation.errors, key=lambda error: (error.status, error.__name__))
    yield _table(("error", "status"), [(f"`{error.__name__}`", str(error.status)) for error in errors])


def _request(operation: Operation) -> Iterator[str]:
    """The members, and where the REST wire carries each."""
    binding = operation.binding
    places = dict.fromkeys(binding.path_members, "path") | {
        member: f"query, as `{name}`" for name, member in binding.query.items()
    }
    yield "## Request"
    yield _own_words(operation.request)
    declared = _structure(operation.request)
    rows = [
        (
            _name(field, " **required**"),
            _meaning(declared, field),
            _describe(field.type),
            places.get(field.encode_name, "body"),
        )
        for field in declared.fields
    ]
    yield _table(("member", "what it is", "type and limits", "carried in"), rows)
    for nested in _nested(declared):
        yield from _members(nested, required=" **required**")


def _answer(operation: Operation) -> Iterator[str]:
    declared = _structure(operation.answer)
    yield "## Answer"
    if not declared.fields:
        yield "200 without a body; on the JSON 1.1 wire, `{}`."
        return
    if not all(field.required for structure in (declared, *_nested(declared)) for field in structure.fields):
        yield "What is not marked *always* is left out where there is none."
    yield from _members(declared, required=" *always*")
    for nested in _nested(declared):
        yield from _members(nested, required=" *always*")


def _members(structure: inspect.StructType, *, required: str) -> Iterator[str]:
    """A structure's members; a structure inside of another one has a heading, which its type links to."""
    name = structure.cls.__name__
    if not issubclass(structure.cls, Answer):
        yield f"### {name}"
    yield _own_words(structure.cls)
    rows = [(_name(field, required), _meaning(structure, field), _describe(field.type)) for field in structure.fields]
    yield _table(("member", "what it is", "type and limits"), rows)


# Declarations in words.


def _by_owner(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    owned: dict[str, list[Operation]] = {_AMAZONS: [], _OURS: []}
    for operation in operations:
        owned[_OURS if is_own(operation) else _AMAZONS].append(operation)
    return owned


def _resource(operation: Operation, template: str) -> str:
    """`instance/{0.instance_id}` as a policy writes it, with names of the wire."""

    def name(match: re.Match[str]) -> str:
        structure, names = _structure(operation.request), []
        for attribute in match[1].split("."):
            field = next(field for field in structure.fields if field.name == attribute)
            names.append(field.encode_name)
            inner = _plain(field.type)
            structure = inner if isinstance(inner, inspect.StructType) else structure
        return f"{{{'.'.join(names)}}}"

    text = re.sub(r"{0\.([\w.]+)}", name, template)
    return text if text == "*" or text.startswith("{") else f"arn:aws:connect:{{region}}:{{account}}:{text}"


def _name(field: inspect.Field, required: str) -> str:
    return f"`{field.encode_name}`{required if field.required else ''}"


def _meaning(structure: inspect.StructType, field: inspect.Field) -> str:
    particular = f"{structure.cls.__name__}.{field.encode_name}"
    return _MEANINGS[particular if particular in _MEANINGS else field.encode_name]


def _describe(declared: inspect.Type) -> str:
    """The type and its limits."""
    plain = _plain(declared)
    match plain:
        case inspect.LiteralType():
            kind = " or ".join(f"`{value}`" for value in plain.values)
        case inspect.StructType():
            kind = f"[{plain.cls.__name__}](#{plain.cls.__name__.lower()})"
        case inspect.ListType():
            kind = f"list of {_bracket(plain.item_type)}"
        case inspect.DictType():
            kind = f"map of {_bracket(plain.key_type)} to {_bracket(plain.value_type)}"
        case _:
            kind = _NAMES[type(plain)]
    return ", ".join([kind, *_limits(declared, plain)])


def _bracket(inner: inspect.Type) -> str:
    text = _describe(inner)
    return f"({text})" if ", " in text else text


def _limits(declared: inspect.Type, plain: Any) -> Iterator[str]:
    units: dict[type[inspect.Type], str] = {
        inspect.StrType: "characters",
        inspect.ListType: "entries",
        inspect.DictType: "entries",
    }
    if isinstance(plain, inspect.IntType):
        least, most, unit = plain.ge, plain.le, ""
    else:
        least, most = getattr(plain, "min_length", None), getattr(plain, "max_length", None)
        unit = f" {units.get(type(plain), '')}"
    if most is not None:
        yield f"{least or 0:,} to {most:,}{unit}"
    elif least:
        yield f"at least {least:,}{unit}"
    pattern = getattr(plain, "pattern", None)
    if pattern in _CONTROLS:
        yield _CONTROLS[pattern]
    elif pattern:
        yield f"matches `{_model_pattern(declared)}`"


def _model_pattern(declared: inspect.Type) -> str:
    """As the service model has it, or as we do; a table wants its bars escaped."""
    while not isinstance(declared, inspect.Metadata):
        assert isinstance(declared, inspect.UnionType), declared
        declared = next(part for part in declared.types if not isinstance(part, inspect.NoneType))
    return str((declared.extra or {})["model_pattern"]).replace("|", r"\|")


def _plain(declared: inspect.Type) -> inspect.Type:
    """The type without `| None` and notes."""
    while isinstance(declared, inspect.UnionType | inspect.Metadata):
        if isinstance(declared, inspect.Metadata):
            declared = declared.type
        else:
            (declared,) = (part for part in declared.types if not isinstance(part, inspect.NoneType))
    return declared


def _structure(declared: type[msgspec.Struct]) -> inspect.StructType:
    found = inspect.type_info(declared)
    assert isinstance(found, inspect.StructType)
    return found


def _nested(top: inspect.StructType) -> list[inspect.StructType]:
    """The structures inside, each once, in the order in which a reader meets them."""
    found: dict[type, inspect.StructType] = {top.cls: top}

    def look(declared: inspect.Type) -> None:
        match _plain(declared):
            case inspect.StructType() as structure if structure.cls not in found:
                found[structure.cls] = structure
                for field in structure.fields:
                    look(field.type)
            case inspect.ListType() as items:
                look(items.item_type)
            case inspect.DictType() as entries:
                look(entries.value_type)

    for field in top.fields:
        look(field.type)
    return [structure for structure in found.values() if structure is not top]


def _said(declared: Any) -> str:
    """The docstring, of this very object."""
    return _CITATION.sub("", " ".join((declared.__doc__ or "").split()))


def _own_words(declared: type) -> str:
    return _said(declared) if "__doc__" in vars(declared) else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _indent(text: str) -> str:
    return "".join(f"    {line}" if line.strip() else line for line in text.splitlines(keepends=True))
