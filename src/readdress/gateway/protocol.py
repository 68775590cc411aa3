"""HTTP on the socket: uvicorn's, with a bound on a request's head, one send an answer, typed errors for no HTTP."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from readdress.clock import new_id
from readdress.errors import SerializationException
from readdress.gateway.wire import JSON, write_error

HEAD_BYTES_MAX = 65_536


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    _head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", _OneWrite(cast("asyncio.Transport", transport))))

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(name, value)
        super().on_header(name, value)

    def send_400_response(self, msg: str) -> None:
        """An error like any other: never HTML or plain text, which SDKs can't read (contract 1)."""
        response = write_error(SerializationException(msg), JSON)
        headers = {
            "x-amzn-requestid": new_id(),
            "content-type": response.content_type,
            "content-length": str(len(response.body)),
            "connection": "close",
            **response.headers,
        }
        lines = [b"HTTP/1.1 400 Bad Request"]
        lines += [name + b": " + value for name, value in self.server_state.default_headers]
        lines += [f"{name}: {value}".encode() for name, value in headers.items()]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + response.body)
        self.transport.close()

    def _count(self, *parts: bytes) -> None:
        self._head_bytes += sum(map(len, parts)) + 4  # the punctuation around them
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
