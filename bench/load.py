"""Raw load: prepared HTTP requests over keep-alive connections, answers counted; as little client as possible."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from readdress.gateway.sigv4 import (
    ALGORITHM,
    Authorization,
    HttpRequest,
    canonical_request,
    signing_key,
    string_to_sign,
)

REGION, SERVICE = "us-east-1", "connect"


@dataclass
class Load:
    """What a run did: answers with status 200 and others, in how many seconds."""

    answered: int
    refused: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds


def sign(method: str, path: str, host: str, body: bytes = b"", *, key: str = "test", secret: str = "test") -> bytes:
    """A signed request as bytes on the wire."""
    timestamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = [(b"host", host.encode()), (b"x-amz-date", timestamp.encode())]
    target, _, query = path.partition("?")
    names = ("host", "x-amz-date")
    request = HttpRequest(method, target.encode(), query.encode(), headers, body)
    scope = Authorization(key, timestamp[:8], REGION, SERVICE, names, "")
    canonical = canonical_request(request, names, hashlib.sha256(body).hexdigest())
    text = string_to_sign(canonical, scope, timestamp)
    signature = hmac.digest(signing_key(secret, scope.date, REGION, SERVICE), text.encode(), "sha256").hex()
    authorization = (
        f"{ALGORITHM} Credential={key}/{scope.scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-Amz-Date: {timestamp}\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Client(asyncio.Protocol):
    """One connection that always has one request under way."""

    def __init__(self, address: tuple[str, int], requests: Iterator[bytes], load: Load) -> None:
        self._address = address
        self._requests = requests
        self._load = load
        self._received = b""
        self._transport: asyncio.Transport
        self._reconnecting: asyncio.Task[None] | None = None
        self._is_over = False
        self.is_stopping = False
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""
        self._next()

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head = received.find(b"\r\n\r\n")
        length = _content_length(received[:head]) if head >= 0 else 0
        if head < 0 or len(received) < head + 4 + length:
            self._received = received
            return
        self._received = b""
        if b"Connection: close" in received[:head]:
            self._transport.close()
        if received[9:12] == b"200":
            self._load.answered += 1
        else:
            self._load.refused += 1
        if not self._transport.is_closing() or self.is_stopping:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._is_over and not self.done.done():
            self.done.set_result(None)
        elif not self._is_over:  # a server without keep-alive
            self._reconnecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, *self._address)

    def _next(self) -> None:
        request = None if self.is_stopping else next(self._requests, None)
        if request is None:
            self._is_over = True
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.write(request)


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def _stop(clients: list[_Client]) -> None:
    for client in clients:
        client.is_stopping = True


async def run(
    address: tuple[str, int], requests: Callable[[int], Iterator[bytes]], *, connections: int, seconds: float
) -> Load:
    """`requests(n)` gives what the n-th connection sends, one after the other, for so many seconds."""
    load = Load(0, 0, 0)
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    clients = []
    for number in range(connections):
        feed = requests(number)
        _, client = await loop.create_connection(lambda feed=feed: _Client(address, feed, load), *address)  # type: ignore[misc]
        clients.append(client)
    loop.call_later(seconds, _stop, clients)
    await asyncio.gather(*(client.done for client in clients))
    load.seconds = time.perf_counter() - started
    return load
