"""HTTP on the socket: uvicorn's, with a bound on a request's head, one send an answer, typed errors for no HTTP.

A connection has one deadline, for its next request to come in or to begin, and one timer that looks at it now and then:
to start and stop a timer for each request costs more than to parse it.
"""

import asyncio
import math
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from readdress.clock import new_id
from readdress.errors import SerializationException, ServiceError, ServiceUnavailableException
from readdress.gateway.wire import JSON, write_error
from readdress.metrics import UNKNOWN, counted

HEAD_BYTES_MAX = 65_536


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection; `with_limits` gives the class that uvicorn is to use."""

    connections_max: ClassVar[int]
    request_s: ClassVar[float]
    _head_bytes = 0
    _deadline = math.inf  # of the loop's clock
    _timer: asyncio.TimerHandle | None = None

    @classmethod
    def with_limits(cls, *, connections_max: int, request_s: float) -> type["HttpProtocol"]:
        """`connections_max` at a time, and `request_s` seconds for a request to come in, however it drips."""
        return type(cls.__name__, (cls,), {"connections_max": connections_max, "request_s": request_s})

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", _OneWrite(cast("asyncio.Transport", transport))))
        if len(self.connections) > self.connections_max:
            refusal = ServiceUnavailableException("Too many connections. Try again later.")
            self._refuse("503 Service Unavailable", refusal)
        else:
            self._deadline = self.loop.time() + self.request_s
            self._look_at_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._deadline = self.loop.time() + self.request_s
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._deadline = math.inf
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """In uvicorn's place, but for the timer that it starts here."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._deadline == math.inf:  # no next request has begun
            self._deadline = self.loop.time() + self.timeout_keep_alive

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def send_400_response(self, msg: str) -> None:
        self._refuse("400 Bad Request", SerializationException(msg))

    def _refuse(self, status: str, error: ServiceError) -> None:
        """An error like any other: never HTML or plain text, which SDKs can't read (contract 1)."""
        counted.add_call(UNKNOWN, error.code, 0.0)
        response = write_error(error, JSON)
        headers = {
            "x-amzn-requestid": new_id(),
            "content-type": response.content_type,
            "content-length": str(len(response.body)),
            "connection": "close",
            **response.headers,
        }
        lines = [f"HTTP/1.1 {status}".encode()]
        lines += [name + b": " + value for name, value in self.server_state.default_headers]
        lines += [f"{name}: {value}".encode() for name, value in headers.items()]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + response.body)
        self.transport.close()

    def _look_at_deadline(self) -> None:
        """Close when it has passed; else look again when it will have, if it is not moved by then."""
        left_s = self._deadline - self.loop.time()
        if left_s <= 0:
            self.transport.close()
        else:
            soon_s = min(left_s, self.request_s, self.timeout_keep_alive)
            self._timer = self.loop.call_later(soon_s, self._look_at_deadline)

    def _count(self, size: int) -> None:
        self._head_bytes += size + 4  # the punctuation around them
        if self._head_bytes > HEAD_BYTES_MAX:
            raise ValueError("the head of the request is too large")  # the parser turns it into a 400


class _OneWrite:
    """A transport that gathers what is written in one turn of the loop: a head and its body are one send, not two."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._call_soon = asyncio.get_running_loop().call_soon
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._pieces:
            self._call_soon(self._flush)
        self._pieces.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._pieces and not self._transport.is_closing():
            self._transport.write(b"".join(self._pieces))
        self._pieces.clear()
