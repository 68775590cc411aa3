"""What both wires share: a request as received, a JSON object in, an answer or an error out."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from readdress.clock import new_id
from readdress.errors import SerializationException, ServiceError
from readdress.metrics import UNKNOWN

JSON = "application/json"
JSON_1_1 = "application/x-amz-json-1.1"


Headers = Sequence[tuple[bytes, bytes]]


class HttpRequest:
    """A request as received; `path` and `query` are the bytes on the wire, header names are in lower case.

    `id` is what its answer and the log call it. `key_id` and `operation` are for the log, once they have been checked;
    an `operation` of "" is none. Of a body that `is_too_large` nothing is kept.
    """

    __slots__ = (
        "_by_name", "body", "headers", "id", "is_too_large", "key_id", "method", "operation", "path", "peer", "query"
    )  # fmt: skip

    def __init__(
        self, method: str, path: bytes, query: bytes, headers: Headers, body: bytes = b"", *, peer: str = "-"
    ) -> None:
        self.id = new_id()
        self.method = method
        self.peer = peer
        self.is_too_large = False
        self.key_id = "-"
        self.operation = UNKNOWN
        self.headers = headers
        self.path = path
        self.query = query
        self.body = body
        self._by_name = dict(headers)
        if len(self._by_name) < len(headers):  # some are there several times
            self._by_name = _join(headers)

    def header(self, name: bytes) -> str | None:
        """The header's value, several of them joined by commas; bytes beyond ASCII become Latin-1 characters."""
        value = self._by_name.get(name)
        return None if value is None else value.strip().decode("latin-1")

    def canonical_header(self, name: str) -> str:
        """The value as it is signed: trimmed, and every run of spaces one space; no byte is lost, UTF-8 or not."""
        return b" ".join(self._by_name.get(name.encode(), b"").split()).decode("utf-8", "surrogateescape")


def _join(headers: Headers) -> dict[bytes, bytes]:
    joined: dict[bytes, bytes] = {}
    for name, value in headers:
        joined[name] = joined[name] + b"," + value.strip() if name in joined else value.strip()
    return joined


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
