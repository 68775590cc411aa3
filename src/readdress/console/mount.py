"""The console beside the API, on one port: built when somebody first comes, for it takes a while to import."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

PREFIX = "/_console"

Application: TypeAlias = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Mount:
    """An ASGI application of two."""

    def __init__(self, gateway: Application, build_console: Callable[[], Application]) -> None:
        self._gateway = gateway
        self._build_console = build_console
        self._console: Application | None = None

    def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Awaitable[None]:
        if not scope["path"].startswith(PREFIX):
            return self._gateway(scope, receive, send)
        if self._console is None:
            self._console = self._build_console()
        return self._console(scope, receive, send)
