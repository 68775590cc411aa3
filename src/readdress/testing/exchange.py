"""A boto3 client's calls without a socket: its signed requests go straight to the service's ASGI application.

From the signature on everything is as it is over HTTP, faults included. What is left out are two HTTP stacks that talk
to each other inside one process, which take longer than the call itself. botocore calls the event `before-send`.
"""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from readdress.gateway import faulty

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from concurrent.futures import Future

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from readdress.gateway.server import Application

    Answer = tuple[int, dict[str, str], bytes]  # status, headers and body
    Begin = Callable[[Coroutine[Any, Any, Answer | None]], Future[Answer | None]]


def connect_directly(client: Any, application: Application, begin: Begin) -> None:
    """From now on the client's calls go to the application; `begin` starts each on the application's event loop."""
    send = partial(_send, application=application, begin=begin, timeout_s=client.meta.config.read_timeout)
    client.meta.events.register_first(f"before-send.{client.meta.service_model.service_id.hyphenize()}", send)


def _send(
    request: AWSPreparedRequest, *, application: Application, begin: Begin, timeout_s: float, **_: Any
) -> AWSResponse:
    """Raises what botocore raises of a connection that is lost or silent, and calls again after, as configured."""
    from botocore.awsrequest import AWSResponse
    from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

    try:  # whoever waits no longer has sent the request all the same, and what it asked for is done
        answer = begin(_ask(application, request)).result(timeout_s)
    except TimeoutError as error:
        raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
    if answer is None:
        raise ConnectionClosedError(endpoint_url=request.url)
    status, headers, body = answer
    return AWSResponse(request.url, status, headers, _Body(body))


class _Body(io.BytesIO):
    """What botocore reads as urllib3's."""

    def stream(self, amt: int | None = None, decode_content: bool | None = None) -> Iterator[bytes]:  # noqa: ARG002
        while piece := self.read(amt):
            yield piece


def _ask(application: Application, request: AWSPreparedRequest) -> Coroutine[Any, Any, Answer | None]:
    url = urlsplit(request.url)
    headers = [(name.lower().encode(), _octets(value)) for name, value in request.headers.items()]
    scope = {
        "type": "http",
        "method": request.method,
        "path": url.path,
        "raw_path": url.path.encode(),
        "query_string": url.query.encode(),
        "headers": [(b"host", url.netloc.encode()), *headers],
        "client": ("127.0.0.1", 0),
        "extensions": {faulty.ABORT: {"abort": lambda: None}},
    }
    return _exchange(application, scope, _octets(request.body or b""))


async def _exchange(application: Application, scope: dict[str, Any], body: bytes) -> Answer | None:
    """The answer, or None where a fault ended the connection before it."""
    coming = iter([{"type": "http.request", "body": body}])
    start: dict[str, Any] = {}
    pieces: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return next(coming, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            pieces.append(message.get("body", b""))

    await application(scope, receive, send)
    if not start:
        return None
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, b"".join(pieces)


def _octets(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
