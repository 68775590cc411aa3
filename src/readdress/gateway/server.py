"""The HTTP server of one door, on sockets that listen already; whatever a request does, the program goes on."""

import asyncio
import socket

from readdress.gateway.protocol import Door, HttpProtocol, HttpSettings

_BACKLOG = 1_024


class HttpServer:
    def __init__(self, settings: HttpSettings, *, drain_s: float) -> None:
        self._door = Door(settings)
        self._drain_s = drain_s
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve who comes to these."""
        loop = asyncio.get_running_loop()
        for each in sockets:
            self._servers.append(
                await loop.create_server(lambda: HttpProtocol(self._door), sock=each, backlog=_BACKLOG)
            )

    @property
    def connections(self) -> int:
        return len(self._door.connections)

    async def stop(self) -> None:
        """Take nobody new, answer what has come, and close; what takes longer than `drain_s` is cut."""
        for server in self._servers:
            server.close()
        for connection in list(self._door.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self._drain_s):
                while self._door.connections or self._door.tasks:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            for task in list(self._door.tasks):
                task.cancel()
            for connection in list(self._door.connections):
                connection.transport.abort()
