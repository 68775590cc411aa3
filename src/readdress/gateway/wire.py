"""What both wires share: a JSON object in, an error out."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from readdress.errors import SerializationException, ServiceError

JSON = "application/json"
JSON_1_1 = "application/x-amz-json-1.1"


class HttpResponse(NamedTuple):
    """An answer on its way out; header names in lower case."""

    status: int
    content_type: str
    body: bytes = b""
    headers: Mapping[str, str] = {}


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; no body is an empty one. Raises SerializationException."""
    if not body:
        return {}
    try:
        # The first reader is strict about UTF-8, numbers and surrogates; the second sees what is said twice.
        value = msgspec.json.decode(body)
        _DUPLICATES.decode(body.decode())
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SerializationException(f"The body is not a JSON object in UTF-8: {_reason(error)}.") from None
    if not isinstance(value, dict):
        raise SerializationException("The body is not a JSON object.")
    return value


def write_error(error: ServiceError, content_type: str) -> HttpResponse:
    """Both ways of naming the error, for SDKs read one or the other (contract 1)."""
    headers = {"x-amzn-errortype": error.code}
    if error.retry_after_ms is not None:
        # botocore obeys the first, in milliseconds; the JavaScript SDK the second, in seconds.
        headers["x-amz-retry-after"] = str(error.retry_after_ms)
        headers["retry-after"] = str(-(-error.retry_after_ms // 1000))
    body = msgspec.json.encode({"__type": error.code, "Message": error.message})
    return HttpResponse(error.status, content_type, body, headers)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the member {name} is there twice")
            seen.add(name)
    return members


_DUPLICATES = json.JSONDecoder(object_pairs_hook=_refuse_duplicates)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    return str(error).split(" (byte")[0].rstrip(".")
