"""uvicorn on sockets that listen already; whatever a request does, the program goes on."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import uvicorn

from readdress.gateway.protocol import HttpProtocol, HttpSettings

Application: TypeAlias = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class HttpServer:
    """uvicorn in an event loop that is not its own, with the signals left to the service."""

    def __init__(self, application: Application | None, settings: HttpSettings, *, drain_s: float) -> None:
        """The application is for what the settings leave to it."""
        config = uvicorn.Config(
            application or _nothing,
            loop="none",
            http=HttpProtocol.with_settings(settings),
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

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    async def stop(self) -> None:
        if self._task:
            self._server.should_exit = True
            await self._task


async def _nothing(_: dict[str, Any], __: Any, ___: Any) -> None:
    raise AssertionError("nothing is left to an application")


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
