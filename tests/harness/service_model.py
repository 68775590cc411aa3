"""Compare a declared operation with the published service model: every difference becomes one line of text."""

from collections.abc import Iterator
from typing import Any

import msgspec
from botocore.model import ServiceModel
from msgspec import inspect

from readdress.api.operation import Operation

_KINDS: dict[type, str] = {
    inspect.StrType: "string",
    inspect.LiteralType: "string",
    inspect.IntType: "integer",
    inspect.FloatType: "timestamp",  # REST-JSON carries a time in a body as epoch seconds
    inspect.BoolType: "boolean",
    inspect.ListType: "list",
    inspect.DictType: "map",
    inspect.StructType: "structure",
}
_MODEL_KINDS = {"long": "integer"}


def differences(operation: Operation, model: ServiceModel) -> list[str]:
    """What the declaration and the model say differently; empty when the wire is the model's."""
    if operation.name not in model.operation_names:
        return [f"{operation.name}: the model has no such operation"]
    published = model.operation_model(operation.name)
    found = [
        *_binding(operation, published),
        *_input(operation, published),
        *_output(operation, published),
        *_errors(operation, published),
    ]
    return [f"{operation.name}: {difference}" for difference in found]


def _differ(what: str, ours: Any, theirs: Any) -> Iterator[str]:
    if ours != theirs:
        yield f"{what}: {ours!r}, and in the model {theirs!r}"


def _binding(operation: Operation, published: Any) -> Iterator[str]:
    binding = operation.binding
    yield from _differ("method", binding.method, published.http["method"])
    yield from _differ("path", binding.path, published.http["requestUri"])
    by_location: dict[str, dict[str, str]] = {"uri": {}, "querystring": {}}
    for name, shape in _members(published.input_shape).items():
        location = shape.serialization.get("location")
        if location in by_location:
            by_location[location][shape.serialization.get("name", name)] = name
        elif location is not None:
            yield f"{name}: the model carries it in {location}, where nothing is read"
    yield from _differ("path members", {name: name for name in sorted(binding.path_members)}, by_location["uri"])
    yield from _differ("query", binding.query, by_location["querystring"])


def _input(operation: Operation, published: Any) -> Iterator[str]:
    declared = inspect.type_info(operation.request)
    yield from _structure("input", declared, published.input_shape, is_input=True, path=())


def _output(operation: Operation, published: Any) -> Iterator[str]:
    declared = inspect.type_info(operation.answer)
    yield from _structure("output", declared, published.output_shape, is_input=False, path=())


def _errors(operation: Operation, published: Any) -> Iterator[str]:
    ours = {error.__name__: error.status for error in operation.errors}
    theirs = {shape.error_code: shape.metadata["error"]["httpStatusCode"] for shape in published.error_shapes}
    for name in sorted(ours.keys() | theirs.keys()):
        yield from _differ(f"error {name}", ours.get(name), theirs.get(name))


def _members(shape: Any) -> dict[str, Any]:
    return dict(shape.members) if shape is not None else {}


def _structure(where: str, declared: Any, shape: Any, *, is_input: bool, path: tuple[type, ...]) -> Iterator[str]:
    """The members of a structure, by their names on the wire; `path` ends the descent into what holds itself."""
    if declared.cls in path:
        return
    theirs = _members(shape)
    ours = {field.encode_name: field for field in declared.fields}
    for name in sorted(ours.keys() | theirs.keys()):
        place = f"{where} {name}" if not path else f"{where}.{name}"
        if name not in ours:
            yield f"{place}: missing"
        elif name not in theirs:
            yield f"{place}: not in the model"
        else:
            required = name in shape.required_members
            if is_input or required:
                yield from _differ(f"{place} required", ours[name].required, required)
            inner = (*path, declared.cls)
            yield from _type(place, ours[name].type, theirs[name], is_input=is_input, path=inner)


def _type(where: str, declared: Any, shape: Any, *, is_input: bool, path: tuple[type, ...]) -> Iterator[str]:
    plain, model_pattern = _unwrap(declared)
    kind = _KINDS.get(type(plain), type(plain).__name__)
    theirs = _MODEL_KINDS.get(shape.type_name, shape.type_name)
    yield from _differ(f"{where} type", kind, theirs)
    if kind != theirs:
        return
    if is_input:
        yield from _limits(where, plain, model_pattern, shape)
    if kind == "structure":
        yield from _structure(where, plain, shape, is_input=is_input, path=path)
    elif kind == "list":
        yield from _type(f"{where}[]", plain.item_type, shape.member, is_input=is_input, path=path)
    elif kind == "map":
        yield from _type(f"{where} key", plain.key_type, shape.key, is_input=is_input, path=path)
        yield from _type(f"{where} value", plain.value_type, shape.value, is_input=is_input, path=path)


def _limits(where: str, plain: Any, model_pattern: str | None, shape: Any) -> Iterator[str]:
    if isinstance(plain, inspect.IntType):
        least, most = plain.ge, plain.le
    else:
        least, most = getattr(plain, "min_length", None), getattr(plain, "max_length", None)
    yield from _differ(f"{where} min", least, shape.metadata.get("min"))
    yield from _differ(f"{where} max", most, shape.metadata.get("max"))
    yield from _differ(f"{where} pattern", model_pattern, shape.metadata.get("pattern"))
    ours = sorted(map(str, plain.values)) if isinstance(plain, inspect.LiteralType) else []
    yield from _differ(f"{where} enum", ours, sorted(shape.metadata.get("enum", [])))


def _unwrap(declared: Any) -> tuple[Any, str | None]:
    """The type without `| None` and notes, and the model's pattern where one is noted."""
    pattern: str | None = None
    while isinstance(declared, inspect.UnionType | inspect.Metadata):
        if isinstance(declared, inspect.Metadata):
            pattern = (declared.extra or {}).get("model_pattern", pattern)
            declared = declared.type
        else:
            others = [part for part in declared.types if not isinstance(part, inspect.NoneType)]
            if len(others) != 1:
                raise msgspec.ValidationError(f"a member of several types: {declared}")
            declared = others[0]
    return declared, pattern
