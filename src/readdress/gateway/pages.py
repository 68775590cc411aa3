"""A page: one request and its answer in the words of ASGI 3.0, which the pages' framework speaks.

https://asgi.readthedocs.io/en/latest/specs/www.html; bodies come in one piece, answers go out as they are made.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import unquote

from readdress.gateway.wire import HttpRequest

Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_WITHOUT_BODY = frozenset({204, 304})


class Page:
    """What an application is given for a request: `scope`, `receive` and `send`."""

    def __init__(
        self,
        request: HttpRequest,
        *,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        head: Callable[[int], bytes],
        write: Callable[[bytes], Awaitable[None]],
        keeps_alive: Callable[[], bool],
    ) -> None:
        """`head` gives the status line and the server's own fields, `write` waits for a slow client."""
        path = request.path.decode("latin-1")
        self.scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": request.path,
            "query_string": request.query,
            "root_path": "",
            "headers": list(request.headers),
            "client": client and client[:2],
            "server": server and server[:2],
        }
        self.has_begun = False
        self.is_complete = False
        self._request = request
        self._head = head
        self._write = write
        self._keeps_alive = keeps_alive
        self._is_read = False
        self._is_over = asyncio.Event()
        self._start: Message | None = None
        self._is_chunked = False

    def lose_client(self) -> None:
        self._is_over.set()

    async def receive(self) -> Message:
        """The body, and then, as late as it comes, that the client has gone or has all of the answer."""
        if not self._is_read:
            self._is_read = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._is_over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """A client that has gone is told nothing, which is no failure of the application's."""
        if self._is_over.is_set():
            return
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, is_last = message.get("body", b""), not message.get("more_body", False)
        data = b""
        if not self.has_begun:
            data = self._begin(length=len(body) if is_last else None)
        if self._request.method != "HEAD":
            data += self._frame(body, is_last=is_last)
        if is_last:
            self.is_complete = True
            self._is_over.set()
        await self._write(data)

    def _begin(self, *, length: int | None) -> bytes:
        """The head; with a body of unknown length in chunks, which all browsers of this century take."""
        assert self._start is not None, "http.response.start comes first"
        self.has_begun = True
        status, headers = self._start["status"], list(self._start.get("headers", ()))
        if status not in _WITHOUT_BODY and not any(name.lower() == b"content-length" for name, _ in headers):
            self._is_chunked = length is None
            framing = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length)
            headers.append(framing)
        if not self._keeps_alive():
            headers.append((b"connection", b"close"))
        return self._head(status) + b"".join(b"%b: %b\r\n" % field for field in headers) + b"\r\n"

    def _frame(self, body: bytes, *, is_last: bool) -> bytes:
        if not self._is_chunked:
            return body
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return chunk + b"0\r\n\r\n" if is_last else chunk
