"""HTTP on the socket, between the parser (httptools) and what answers: the gateway for calls, an application for pages.

Requests are bounded in head and body, gathered whole, and answered in the order in which they came; a call's answer is
one send, and what is no HTTP gets a typed error.

A connection has one deadline, for its next request to come in or to begin, and one timer that looks at it now and then:
to start and stop a timer for each request costs more than to parse it.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import NamedTuple, TypeAlias, cast

import httptools

from readdress.errors import InternalServiceException, SerializationException, ServiceError, ServiceUnavailableException
from readdress.faults import ConnectionLost
from readdress.gateway.pages import Application, Page
from readdress.gateway.wire import JSON, HttpRequest, HttpResponse, write_error
from readdress.metrics import UNKNOWN, counted

log = logging.getLogger("readdress.gateway")

HEAD_BYTES_MAX = 65_536
KEEP_ALIVE_S = 75.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

AnswerCall: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponse]]


class HttpSettings(NamedTuple):
    """What the connections of one door share.

    `connections_max` at a time, and `request_s` seconds for a request to come in, however it drips. A path that begins
    with `pages` is for the ASGI application, all others are for `answer_call`.
    """

    connections_max: int
    request_s: float
    body_bytes_max: int
    answer_call: AnswerCall
    pages: bytes | None = None
    application: Application | None = None


class Door:
    """What the connections of one server have in common besides its settings: they themselves, and a clock's second."""

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings
        self.connections: set[HttpProtocol] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._second = 0
        self._heads: dict[int, bytes] = {}

    def head(self, status: int) -> bytes:
        """Status line and Date, which changes once a second."""
        second = int(time())
        if second != self._second:
            self._second = second
            self._heads.clear()
        head = self._heads.get(status)
        if head is None:
            line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ndate: {formatdate(second, usegmt=True)}\r\n"
            head = self._heads[status] = line.encode()
        return head


class Exchange:
    """A request on its way in, then in the queue for its answer, which an `error` is already."""

    __slots__ = ("error", "is_complete", "is_page", "keeps_alive", "pieces", "request", "size", "task")
    task: asyncio.Task[None]

    def __init__(self, request: HttpRequest, *, keeps_alive: bool, is_page: bool = False) -> None:
        self.request = request
        self.keeps_alive = keeps_alive
        self.is_page = is_page
        self.error: ServiceError | None = None
        self.pieces: list[bytes] = []
        self.size = 0
        self.is_complete = False


class HttpProtocol(asyncio.Protocol):
    """One HTTP connection."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._settings = door.settings
        self._queue: deque[Exchange] = deque()  # in the order in which they are answered
        self._coming: Exchange | None = None  # whose body comes
        self._head_bytes = 0
        self._unparsed = 0  # bytes of the body that the parser leaves to us
        self._deadline = math.inf  # of the loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self._page: Page | None = None  # that is being answered
        self._writable: asyncio.Event | None = None  # while the client takes nothing more
        self._is_deaf = False  # nothing more is read from it
        self._is_reading = True

    # From the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._peer: tuple[str, int] | None = transport.get_extra_info("peername")
        connections = self._door.connections
        connections.add(self)
        if len(connections) > self._settings.connections_max:
            self._refuse(ServiceUnavailableException("Too many connections. Try again later."))
        else:
            self._deadline = self._loop.time() + self._settings.request_s
            self._look_at_deadline()

    def connection_lost(self, _: Exception | None) -> None:
        self._door.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._is_deaf = True
        self._queue.clear()
        if self._page:
            self._page.lose_client()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._unparsed:
            data = self._take_unparsed(data)
        if self._is_deaf or not data:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.data_received(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(SerializationException("Invalid HTTP request received."))

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writable:
            self._writable.set()
            self._writable = None

    def shutdown(self) -> None:
        """Answer what is there and close."""
        if self._queue:
            self._queue[-1].keeps_alive = False
            self._is_deaf = self._coming is None
        else:
            self.transport.close()

    # From the parser.

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._deadline = self._loop.time() + self._settings.request_s
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        name = name.lower()
        if name == b"expect":
            self._expects_continue = value.lower() == b"100-continue"
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._is_deaf:
            return
        url = httptools.parse_url(self._url)
        path = url.path or b""
        pages = self._settings.pages
        request = HttpRequest(
            self._parser.get_method().decode("ascii"),
            path,
            url.query or b"",
            self._headers,
            peer=self._peer[0] if self._peer else "-",
        )
        self._coming = coming = Exchange(
            request,
            keeps_alive=self._parser.should_keep_alive() and self._parser.get_http_version() != "1.0",
            is_page=pages is not None and path.startswith(pages),
        )
        self._queue.append(coming)
        length = request.header(b"content-length")
        if length is not None and int(length) > self._settings.body_bytes_max:
            self._refuse_body(coming)
        elif self._expects_continue and len(self._queue) == 1:
            self.transport.write(_CONTINUE)
        if self._parser.should_upgrade():
            self._stay_with_http(request, length)

    def on_body(self, body: bytes) -> None:
        coming = self._coming
        if coming is None:
            return
        coming.size += len(body)
        if coming.size <= self._settings.body_bytes_max:
            coming.pieces.append(body)
        elif not coming.request.is_too_large:
            self._refuse_body(coming)

    def on_message_complete(self) -> None:
        if self._unparsed:
            return
        self._deadline = math.inf
        coming, self._coming = self._coming, None
        if coming is not None and not coming.request.is_too_large:
            coming.request.body = b"".join(coming.pieces)
            self._complete(coming)

    def _stay_with_http(self, request: HttpRequest, length: str | None) -> None:
        """Who asks for another protocol is answered in this one; its body the parser takes for that protocol."""
        if request.header(b"transfer-encoding") is not None:
            raise ValueError("where the body ends is for the parser to say, which does not look")
        self._unparsed = int(length or 0)

    def _take_unparsed(self, data: bytes) -> bytes:
        """What is behind the body."""
        body = data[: self._unparsed]
        self._unparsed -= len(body)
        self.on_body(body)
        if not self._unparsed:
            self.on_message_complete()
        return data[len(body) :]

    def _count(self, size: int) -> None:
        self._head_bytes += size + 4  # the punctuation around them
        if self._head_bytes > HEAD_BYTES_MAX:
            raise ValueError("the head of the request is too large")  # the parser turns it into an error of its own

    # An exchange: begun with its head, complete with its body, answered when those before it are.

    def _refuse_body(self, coming: Exchange) -> None:
        """Before the rest of it has come, which is read and forgotten."""
        coming.request.is_too_large = True
        coming.is_page = False
        coming.pieces.clear()
        self._complete(coming)

    def _complete(self, exchange: Exchange) -> None:
        exchange.is_complete = True
        if self._queue[0] is exchange:
            self._start(exchange)
        elif self._is_reading:
            self._is_reading = False
            self.transport.pause_reading()

    def _start(self, exchange: Exchange) -> None:
        if exchange.error is not None:
            self._answer_error(exchange, exchange.error)
            return
        exchange.task = self._loop.create_task(self._answer(exchange))
        self._door.tasks.add(exchange.task)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            if exchange.is_page:
                await self._show_page(exchange)
            else:
                self._end_call(exchange, await self._settings.answer_call(exchange.request))
        except ConnectionLost:  # as a fault wants it
            self.transport.abort()
        except Exception:
            log.exception("request %s: there is no answer", exchange.request.id)
            self.transport.abort()
        finally:
            self._door.tasks.discard(exchange.task)

    def _end_call(self, exchange: Exchange, response: HttpResponse) -> None:
        if self.transport.is_closing():
            return
        head = self._compose_head(exchange.request.id, response, keeps_alive=exchange.keeps_alive)
        self.transport.write(head if exchange.request.method == "HEAD" else head + response.body)
        self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        queue = self._queue
        queue.popleft()
        if not exchange.keeps_alive:
            self._is_deaf = True
            self.transport.close()
        elif queue:
            if queue[0].is_complete:
                self._start(queue[0])
        else:
            if not self._is_reading:
                self._is_reading = True
                self.transport.resume_reading()
            if self._deadline == math.inf:  # no next request has begun
                self._deadline = self._loop.time() + KEEP_ALIVE_S

    def _compose_head(self, request_id: str, response: HttpResponse, *, keeps_alive: bool) -> bytes:
        """All in front of the body."""
        head = b"%bx-amzn-requestid: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (
            self._door.head(response.status),
            request_id.encode(),
            response.content_type.encode(),
            len(response.body),
        )
        for name, value in response.headers.items():
            head += f"{name}: {value}\r\n".encode()
        return head + (b"\r\n" if keeps_alive else b"connection: close\r\n\r\n")

    async def _show_page(self, exchange: Exchange) -> None:
        assert self._settings.application is not None
        self._page = page = Page(
            exchange.request,
            client=self._peer,
            server=self.transport.get_extra_info("sockname"),
            head=self._door.head,
            write=self._write_page,
            keeps_alive=lambda: exchange.keeps_alive,
        )
        try:
            await self._settings.application(page.scope, page.receive, page.send)
        except Exception:
            if page.has_begun:
                raise
            log.exception("request %s: there is no page", exchange.request.id)
            self._answer_error(exchange, InternalServiceException("The page could not be made."))
            return
        finally:
            self._page = None
        if self.transport.is_closing():
            return
        if not page.is_complete:
            raise RuntimeError("the page has no end")
        self._end(exchange)

    async def _write_page(self, data: bytes) -> None:
        """And wait for a client that is slower than we are."""
        self.transport.write(data)
        if self._writable:
            await self._writable.wait()

    # What is not served.

    def _refuse(self, error: ServiceError) -> None:
        """Behind what is to be answered before it; what comes after it is not read."""
        if self._coming is not None and not self._coming.is_complete:
            self._queue.pop()
        self._coming = None
        refused = Exchange(HttpRequest("", b"", b"", []), keeps_alive=False)
        refused.error = error
        self._is_deaf = True
        self._queue.append(refused)
        self._complete(refused)

    def _answer_error(self, exchange: Exchange, error: ServiceError) -> None:
        """An error like any other: never HTML or plain text, which SDKs can't read (contract 1)."""
        counted.add_call(UNKNOWN, error.code, 0.0)
        self._end_call(exchange, write_error(error, JSON))

    def _look_at_deadline(self) -> None:
        """Close when it has passed; else look again when it will have, if it is not moved by then."""
        left_s = self._deadline - self._loop.time()
        if left_s <= 0:
            self.transport.close()
        else:
            soon_s = min(left_s, self._settings.request_s, KEEP_ALIVE_S)
            self._timer = self._loop.call_later(soon_s, self._look_at_deadline)
