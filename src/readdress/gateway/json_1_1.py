"""The JSON 1.1 wire of the documentation's example: `POST /`, X-Amz-Target names the operation, the body has it all."""

from typing import Any

import msgspec

from readdress.api.operation import Operation, Operations
from readdress.api.shapes import Answer
from readdress.errors import UnknownOperationException
from readdress.gateway.wire import JSON_1_1, HttpRequest, HttpResponse, decode_object

TARGET_PREFIX = "AmazonConnectService."


def is_json_1_1(request: HttpRequest) -> bool:
    return request.path == b"/" and request.method == "POST" and request.header(b"x-amz-target") is not None


def read(operations: Operations, request: HttpRequest) -> tuple[Operation, dict[str, Any]]:
    """The operation and its members' values. Raises UnknownOperationException, SerializationException."""
    target = request.header(b"x-amz-target") or ""
    name = target.removeprefix(TARGET_PREFIX)
    operation = operations.find(name) if target.startswith(TARGET_PREFIX) else None
    if operation is None:
        raise UnknownOperationException(f"X-Amz-Target has to be {TARGET_PREFIX} followed by the name of an operation.")
    return operation, decode_object(request.body)


def write(answer: Answer) -> HttpResponse:
    return HttpResponse(200, JSON_1_1, msgspec.json.encode(answer))
