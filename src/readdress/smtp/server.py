"""SMTP and LMTP on sockets: who may connect, and when they have to go; connections and storage are others' matter.

A door that proxies come to reads a PROXY header from each of them before anything else, TLS included. A connection that
has none is closed, for nothing else can be said of who is at its other end.
"""

import asyncio
import logging
import socket
import ssl
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from readdress.smtp.backend import UNIX_PEER, Backend, IncomingMessage, Peer
from readdress.smtp.connection import Connection, Door, Timeouts
from readdress.smtp.peers import Network, is_within, parse_ip_address
from readdress.smtp.proxy import ProxyHeaderError, ProxyReader

__all__ = ["UNIX_PEER", "Backend", "Door", "IncomingMessage", "Peer", "SmtpServer", "Timeouts"]

log = logging.getLogger("readdress.smtp")

SWEEP_INTERVAL_S = 1.0
PROXY_HEADER_S = 15.0
BACKLOG = 1_024  # as it was, when a loop listens once more
_ACCEPT_PAUSE_S = 1.0
# One door of several must not take the path away from the others.
UNIX_OPTIONS: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


class SmtpServer:
    """One door, and who stands at it."""

    def __init__(
        self, door: Door, *, proxy_from: tuple[Network, ...] = (), proxy_header_s: float = PROXY_HEADER_S
    ) -> None:
        """Connections from `proxy_from` begin with a PROXY header, within so many seconds."""
        self.door = door
        self._proxy_from = proxy_from
        self._proxy_header_s = proxy_header_s
        self._listeners: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._arriving = 0
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve who comes to these, which listen already."""
        loop = asyncio.get_running_loop()
        tls = self._tls()
        for listening in sockets:
            if listening.family == socket.AF_UNIX:
                server = await loop.create_unix_server(
                    lambda: Connection(self.door), sock=listening, backlog=BACKLOG, **UNIX_OPTIONS
                )
                self._listeners.append(server)
            elif self._proxy_from:
                listening.setblocking(False)
                self._sockets.append(listening)
                self._begin(self._accept_from(listening, tls))
            else:
                server = await loop.create_server(
                    lambda: Connection(self.door), sock=listening, backlog=BACKLOG, ssl=tls
                )
                self._listeners.append(server)
        self._sweep()

    async def stop(self) -> None:
        """No new connections; what is idle hears 421, a message in hand is finished, `drain_s` at most."""
        door = self.door
        door.is_draining = True
        for listener in self._listeners:
            listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        for connection in list(door.connections):
            connection.drain()
        tasks = [connection.task for connection in door.connections if connection.task]
        if tasks:
            await asyncio.wait(tasks, timeout=door.timeouts.drain_s)
        for connection in list(door.connections):
            connection.abort()
        if self._sweeper:
            self._sweeper.cancel()

    def _tls(self) -> ssl.SSLContext | None:
        door = self.door
        return door.certificate.listening_context() if door.certificate and door.implicit_tls else None

    def _sweep(self) -> None:
        """One timer looks at all connections: cheaper than a timer for every command."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.door.connections):
            if now > connection.deadline:
                connection.time_out()
        self._sweeper = loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    # Proxies. The loop's own listener would read on behind the header, where a TLS handshake may follow.

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept_from(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except ConnectionError:  # the peer was gone before we came
                continue
            except OSError as error:  # out of descriptors, say
                log.warning("cannot accept a connection: %s", error)
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            if self._arriving >= self.door.connections_max:
                accepted.close()
                continue
            self._begin(self._welcome(accepted, str(address[0]), tls))

    async def _welcome(self, accepted: socket.socket, address: str, tls: ssl.SSLContext | None) -> None:
        """Hear from a proxy who is there, and hand the socket on."""
        loop = asyncio.get_running_loop()
        ip_address = parse_ip_address(address)
        is_proxy = ip_address is not None and is_within(ip_address, self._proxy_from)
        self._arriving += 1
        try:
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            source = await self._read_header(accepted) if is_proxy else None
            proxy = address if source else None
            connection = Connection(self.door, source=source, proxy=proxy)
            await loop.connect_accepted_socket(lambda: connection, accepted, ssl=tls)
        except ProxyHeaderError as error:
            log.warning("the proxy %s gave no PROXY header: %s", address, error)
            accepted.close()
        except OSError as error:  # ssl.SSLError and TimeoutError are OSErrors
            log.info("no connection with %s: %s", address, error)
            accepted.close()
        except asyncio.CancelledError:
            accepted.close()
            raise
        finally:
            self._arriving -= 1

    async def _read_header(self, accepted: socket.socket) -> str | None:
        """Exactly the header and not an octet more. Raises ProxyHeaderError."""
        reader = ProxyReader()
        try:
            async with asyncio.timeout(self._proxy_header_s):
                while reader.wanted_bytes:
                    octets = await asyncio.get_running_loop().sock_recv(accepted, reader.wanted_bytes)
                    if not octets:
                        raise ProxyHeaderError("the connection ended before it")
                    reader.feed(octets)
        except TimeoutError:
            raise ProxyHeaderError("it did not come in time") from None
        return reader.source
