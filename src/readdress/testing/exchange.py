"""A boto3 client's calls without a socket: its signed requests go straight to the service's gateway.

From the signature on everything is as it is over HTTP, faults included. What is left out are two HTTP stacks that talk
to each other inside one process, which take longer than the call itself. botocore calls the event `before-send`.
"""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from readdress.faults import ConnectionLost
from readdress.gateway.wire import HttpRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from concurrent.futures import Future

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from readdress.gateway.app import Gateway
    from readdress.gateway.wire import HttpResponse

    Begin = Callable[[Coroutine[Any, Any, HttpResponse]], Future[HttpResponse]]


def connect_directly(client: Any, gateway: Gateway, begin: Begin) -> None:
    """From now on the client's calls go to the gateway; `begin` starts each on the service's event loop."""
    send = partial(_send, gateway=gateway, begin=begin, timeout_s=client.meta.config.read_timeout)
    client.meta.events.register_first("before-send.connect", send)


def _send(request: AWSPreparedRequest, *, gateway: Gateway, begin: Begin, timeout_s: float, **_: Any) -> AWSResponse:
    """Raises what botocore raises of a connection that is lost or silent, and calls again after, as configured."""
    from botocore.awsrequest import AWSResponse
    from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

    received = _as_received(request)
    try:  # whoever waits no longer has sent the request all the same, and what it asked for is done
        response = begin(gateway.answer(received)).result(timeout_s)
    except TimeoutError as error:
        raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
    except ConnectionLost:
        raise ConnectionClosedError(endpoint_url=request.url) from None
    headers = {
        "x-amzn-requestid": received.id,
        "content-type": response.content_type,
        "content-length": str(len(response.body)),
        **response.headers,
    }
    return AWSResponse(request.url, response.status, headers, _Body(response.body))


def _as_received(prepared: AWSPreparedRequest) -> HttpRequest:
    url = urlsplit(prepared.url)
    headers = [(name.lower().encode(), _octets(value)) for name, value in prepared.headers.items()]
    return HttpRequest(
        prepared.method,
        url.path.encode(),
        url.query.encode(),
        [(b"host", url.netloc.encode()), *headers],
        _octets(prepared.body or b""),
        peer="127.0.0.1",
    )


class _Body(io.BytesIO):
    """What botocore reads as urllib3's."""

    def stream(self, amt: int | None = None, decode_content: bool | None = None) -> Iterator[bytes]:  # noqa: ARG002
        while piece := self.read(amt):
            yield piece


def _octets(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
