"""The HTTP server around the gateway: uvicorn on sockets that listen already, started and stopped by the service."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from readdress.gateway.app import Gateway
from readdress.gateway.protocol import HttpProtocol


class HttpServer:
    """uvicorn in an event loop that is not its own, with the signals left to the service."""

    def __init__(self, gateway: Gateway, protocol: type[HttpProtocol], *, drain_s: float) -> None:
        config = uvicorn.Config(
            gateway,
            loop="none",
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, int(drain_s)),
            backlog=1024,
        )
        self._server = _QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve who comes to these, which listen already."""
        self._task = asyncio.create_task(self._server.serve(sockets=sockets))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.001)

    async def stop(self) -> None:
        if self._task:
            self._server.should_exit = True
            await self._task


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
