"""HTTP on the socket: uvicorn's server and parser, and from the last byte of a call straight to the gateway.

Pages are an ASGI application, which uvicorn serves. A call of the API needs none of what ASGI is for, and its messages
to and fro took longer than the signature; so calls are taken here: bounded in head and body, answered in the order in
which they came, each answer by one send, and what is no HTTP gets a typed error.

A connection has one deadline, for its next request to come in or to begin, and one timer that looks at it now and then:
to start and stop a timer for each request costs more than to parse it.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from readdress.clock import new_id
from readdress.errors import SerializationException, ServiceError, ServiceUnavailableException
from readdress.faults import ConnectionLost
from readdress.gateway.wire import JSON, HttpRequest, HttpResponse, write_error
from readdress.metrics import UNKNOWN, counted

log = logging.getLogger("readdress.gateway")

HEAD_BYTES_MAX = 65_536
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

AnswerCall: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponse]]


class HttpSettings(NamedTuple):
    """What the connections of one listening socket share; what begins with `pages` is left to the ASGI application.

    `connections_max` at a time, and `request_s` seconds for a request to come in, however it drips. Without
    `answer_call` everything is for the ASGI application.
    """

    connections_max: int
    request_s: float
    body_bytes_max: int
    answer_call: AnswerCall | None = None
    pages: bytes | None = None


class _Call:
    """A request on its way in, and then in the queue for its answer."""

    __slots__ = ("is_complete", "keeps_alive", "pieces", "request", "size", "task")
    task: asyncio.Task[None]

    def __init__(self, request: HttpRequest, *, keeps_alive: bool) -> None:
        self.request = request
        self.keeps_alive = keeps_alive
        self.pieces: list[bytes] = []
        self.size = 0
        self.is_complete = False


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection; `with_settings` gives the class that uvicorn is to use."""

    settings: ClassVar[HttpSettings]
    _heads: ClassVar[dict[int, tuple[Any, bytes]]]  # by status: the server's own fields, and all of them as bytes
    _head_bytes = 0
    _deadline = math.inf  # of the loop's clock
    _timer: asyncio.TimerHandle | None = None
    _coming: _Call | None = None
    _is_deaf = False

    @classmethod
    def with_settings(cls, settings: HttpSettings) -> type["HttpProtocol"]:
        return type(cls.__name__, (cls,), {"settings": settings, "_heads": {}})

    # From the event loop and uvicorn.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._calls: deque[_Call] = deque()
        self._out = _OneWrite(cast("asyncio.Transport", transport))
        super().connection_made(cast("asyncio.Transport", self._out))
        if len(self.connections) > self.settings.connections_max:
            self._refuse(ServiceUnavailableException("Too many connections. Try again later."))
        else:
            self._deadline = self.loop.time() + self.settings.request_s
            self._look_at_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._calls.clear()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Answer what is there and close."""
        if self._calls:
            self._calls[-1].keeps_alive = False
        else:
            super().shutdown()

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

    # From the parser.

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._deadline = self.loop.time() + self.settings.request_s
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        name = name.lower()
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        url = httptools.parse_url(self.url)
        pages = self.settings.pages
        is_page = self.settings.answer_call is None or (pages is not None and url.path.startswith(pages))
        if self._is_deaf or self._is_mixed(is_page=is_page):
            self._is_deaf = True
        elif is_page:
            self._begin_page()
        else:
            self._begin_call(url.path, url.query or b"")

    def on_body(self, body: bytes) -> None:
        call = self._coming
        if call is None:
            if not self._is_deaf:
                super().on_body(body)
            return
        call.size += len(body)
        if call.size <= self.settings.body_bytes_max:
            call.pieces.append(body)
        elif not call.request.is_too_large:
            self._refuse_body(call)

    def on_message_complete(self) -> None:
        self._deadline = math.inf
        call, self._coming = self._coming, None
        if call is None:
            if not self._is_deaf:
                super().on_message_complete()
        elif not call.request.is_too_large:
            call.request.body = b"".join(call.pieces)
            self._complete(call)

    def _begin_page(self) -> None:
        """Hand over to uvicorn, which makes its scope before it knows the head."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    # A call: begun with its head, complete with its body, answered when those before it are.

    def _begin_call(self, path: bytes, query: bytes) -> None:
        peer = self.client[0] if self.client else "-"
        request = HttpRequest(self.parser.get_method().decode("ascii"), path, query, self.headers, peer=peer)
        keeps_alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        self._coming = call = _Call(request, keeps_alive=keeps_alive)
        self._calls.append(call)
        length = request.header(b"content-length")
        if length is not None and int(length) > self.settings.body_bytes_max:
            self._refuse_body(call)
        elif self.expect_100_continue and len(self._calls) == 1:
            self.transport.write(_CONTINUE)

    def _refuse_body(self, call: _Call) -> None:
        """Before the rest of it has come, which is read and forgotten."""
        call.request.is_too_large = True
        call.pieces.clear()
        self._complete(call)

    def _complete(self, call: _Call) -> None:
        call.is_complete = True
        if self._calls[0] is call:
            self._start(call)
        else:
            self.flow.pause_reading()

    def _start(self, call: _Call) -> None:
        call.task = self.loop.create_task(self._answer(call))
        self.tasks.add(call.task)

    async def _answer(self, call: _Call) -> None:
        assert self.settings.answer_call is not None
        try:
            response = await self.settings.answer_call(call.request)
        except ConnectionLost:  # as a fault wants it
            self.transport.abort()
        except Exception:
            log.exception("request %s: there is no answer", call.request.id)
            self.transport.abort()
        else:
            self._end(call, response)
        finally:
            self.tasks.discard(call.task)

    def _end(self, call: _Call, response: HttpResponse) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._write(call, response)
        self._calls.popleft()
        if not call.keeps_alive:
            self.transport.close()
        elif self._calls:
            if self._calls[0].is_complete:
                self._start(self._calls[0])
        else:
            self.flow.resume_reading()
            if self._deadline == math.inf:  # no next request has begun
                self._deadline = self.loop.time() + self.timeout_keep_alive

    def _write(self, call: _Call, response: HttpResponse) -> None:
        head = self._compose_head(call.request.id, response, keeps_alive=call.keeps_alive)
        self._out.send(head if call.request.method == "HEAD" else head + response.body)

    def _compose_head(self, request_id: str, response: HttpResponse, *, keeps_alive: bool) -> bytes:
        """All in front of the body."""
        head = b"%bx-amzn-requestid: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (
            self._head(response.status),
            request_id.encode(),
            response.content_type.encode(),
            len(response.body),
        )
        for name, value in response.headers.items():
            head += f"{name}: {value}\r\n".encode()
        return head + (b"\r\n" if keeps_alive else b"connection: close\r\n\r\n")

    def _head(self, status: int) -> bytes:
        """Status line and the server's own fields, which change once a second."""
        fields = self.server_state.default_headers
        made_of, head = self._heads.get(status, (None, b""))
        if made_of is not fields:
            head = STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % field for field in fields)
            self._heads[status] = (fields, head)
        return head

    # What is not served.

    def _is_mixed(self, *, is_page: bool) -> bool:
        """Whether a page is asked for behind a call that waits, or the other way round: the connection ends with it.

        Then it is for the client to ask again (RFC 9112 §9.3.2); no client that shares connections so is known.
        """
        if is_page and self._calls:
            self._calls[-1].keeps_alive = False
            return True
        if not is_page and self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return True
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """Who asks for another protocol is answered in this one; there is nothing to warn the operator of."""

    def send_400_response(self, msg: str) -> None:
        self._refuse(SerializationException(msg))

    def _refuse(self, error: ServiceError) -> None:
        """An error like any other: never HTML or plain text, which SDKs can't read (contract 1)."""
        counted.add_call(UNKNOWN, error.code, 0.0)
        response = write_error(error, JSON)
        self.transport.write(self._compose_head(new_id(), response, keeps_alive=False) + response.body)
        self.transport.close()

    def _look_at_deadline(self) -> None:
        """Close when it has passed; else look again when it will have, if it is not moved by then."""
        left_s = self._deadline - self.loop.time()
        if left_s <= 0:
            self.transport.close()
        else:
            soon_s = min(left_s, self.settings.request_s, self.timeout_keep_alive)
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

    def send(self, data: bytes) -> None:
        """Write what is whole, now."""
        if self._pieces:
            self._pieces.append(data)
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._pieces and not self._transport.is_closing():
            self._transport.write(b"".join(self._pieces))
        self._pieces.clear()
