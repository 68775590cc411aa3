"""The REST-JSON wire, which every SDK sends: method and path name the operation, the body holds the rest.

Routes are matched on the raw path, for identifiers may be ARNs and arrive percent-encoded in one segment.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote_to_bytes

import msgspec

from readdress.api.messages import MessageContent
from readdress.api.operation import Operation
from readdress.api.shapes import Answer, Empty
from readdress.errors import InvalidParameterException, UnknownOperationException
from readdress.gateway.wire import JSON, HttpRequest, HttpResponse, decode_object

QUERY_FIELDS_MAX = 200

_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)


@dataclass(frozen=True)
class _Route:
    """An operation's path in segments by their places: those that are fixed, and those that are members' values."""

    operation: Operation
    fixed_at: tuple[int, ...]
    fixed: list[bytes]
    members: tuple[tuple[int, str], ...]
    query_types: dict[str, type]

    def match(self, segments: list[bytes]) -> bool:
        return [segments[at] for at in self.fixed_at] == self.fixed


class Router:
    """The REST-JSON wire of a set of operations."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._routes: dict[tuple[str, int], list[_Route]] = {}
        for operation in operations:
            route = _route(operation)
            length = len(route.fixed) + len(route.members)
            self._routes.setdefault((operation.binding.method, length), []).append(route)

    def read(self, request: HttpRequest) -> tuple[Operation, dict[str, Any]]:
        """The operation and its members' values.

        Raises UnknownOperationException, SerializationException, InvalidParameterException for what is no text.
        """
        segments = request.path.split(b"/")
        for route in self._routes.get((request.method, len(segments)), ()):
            if route.match(segments):
                return route.operation, _read_members(route, segments, request)
        raise UnknownOperationException(
            f"No operation has the method {request.method} and this path. Check the endpoint and the SDK's service."
        )


def write(answer: Answer) -> HttpResponse:
    if isinstance(answer, Empty):
        return HttpResponse(200, JSON)
    if isinstance(answer, MessageContent):
        return HttpResponse(200, "message/rfc822", answer.content)
    return HttpResponse(200, JSON, msgspec.json.encode(answer))


def _route(operation: Operation) -> _Route:
    segments = list(enumerate(operation.binding.path.split("/")))
    hints = get_type_hints(operation.request)
    wire_names = {field.encode_name: field.name for field in msgspec.structs.fields(operation.request)}
    return _Route(
        operation,
        tuple(at for at, segment in segments if not segment.startswith("{")),
        [segment.encode() for _, segment in segments if not segment.startswith("{")],
        tuple((at, segment.strip("{}")) for at, segment in segments if segment.startswith("{")),
        {name: _plain_type(hints[wire_names[member]]) for name, member in operation.binding.query.items()},
    )


def _plain_type(hint: Any) -> type:
    """int, list or str: what a query has to be turned into."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in {Union, UnionType}:
        return next(_plain_type(part) for part in get_args(hint) if part is not type(None))
    plain: type = get_origin(hint) or hint
    return plain


def _read_members(route: _Route, segments: list[bytes], request: HttpRequest) -> dict[str, Any]:
    operation = route.operation
    values = decode_object(request.body) if request.method not in {"GET", "DELETE"} else {}
    if route.query_types and request.query:
        values |= _read_query(route, request.query)
    for at, member in route.members:
        segment = segments[at]
        try:
            values[member] = (unquote_to_bytes(segment) if b"%" in segment else segment).decode()
        except UnicodeDecodeError:
            raise operation.refusal(InvalidParameterException, f"{member}: is not UTF-8.") from None
    return values


def _read_query(route: _Route, query: bytes) -> dict[str, Any]:
    operation = route.operation
    values: dict[str, Any] = {}
    fields = query.split(b"&")
    try:
        pairs = [_read_field(field) for field in fields[: QUERY_FIELDS_MAX + 1] if field]
    except UnicodeDecodeError:
        raise operation.refusal(InvalidParameterException, "The query is not UTF-8.") from None
    if len(fields) > QUERY_FIELDS_MAX:
        raise operation.refusal(InvalidParameterException, f"The query has more than {QUERY_FIELDS_MAX} fields.")
    for name, text in pairs:
        member = operation.binding.query.get(name)
        if member is None:
            continue
        kind = route.query_types[name]
        if kind is list:
            values.setdefault(member, []).append(text)
        elif kind is int and _INTEGER.fullmatch(text):
            values[member] = int(text)
        else:
            values[member] = text
    return values


def _read_field(field: bytes) -> tuple[str, str]:
    """Name and value; a plus sign is a plus sign, as it is in the signature."""
    name, _, value = field.partition(b"=")
    return unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()
