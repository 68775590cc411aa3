"""Where the console is, and its pages: built when somebody first comes, for they take a while to import."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

PREFIX = "/_console"

Application: TypeAlias = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Mount:
    """The ASGI application that serves the pages."""

    def __init__(self, build_console: Callable[[], Application]) -> None:
        self._build_console = build_console
        self._console: Application | None = None

    def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Awaitable[None]:
        if self._console is None:
            self._console = self._build_console()
        return self._console(scope, receive, send)
