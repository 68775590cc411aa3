"""What holds for every page: the host it may be asked for under, whence a form may come, and what browsers may do.

A request for another host is refused (a name that was made to point here could read what a browser sees), and so is a
form from another site, before any page is asked.
"""

import ipaddress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# What a page does not say otherwise.
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-dns-prefetch-control": "off",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
}


class Origin(NamedTuple):
    """Where browsers find the console; without a `netloc`, at any name and port of this machine's own."""

    scheme: str
    netloc: str

    @property
    def is_secure(self) -> bool:
        return self.scheme == "https"

    def has(self, host: str) -> bool:
        """Whether a request's Host names it."""
        return host == self.netloc if self.netloc else _is_loopback(host)


DEVELOPMENT = Origin("http", "")


def parse_origin(text: str) -> Origin:
    """`https://HOST[:PORT]`; without TLS of this machine alone. Raises ValueError with what it has to be."""
    parts = urlsplit(text)
    is_bare = parts.netloc and not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    if is_bare and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.netloc))):
        return Origin(parts.scheme, parts.netloc.lower())
    raise ValueError(
        f"has to be the https://HOST[:PORT] at which browsers reach it, or http://127.0.0.1:PORT, and not {text!r}: "
        "a secret is typed in there, so put TLS in front of it"
    )


class Guard:
    """In front of the pages."""

    def __init__(self, application: ASGIApp, origin: Origin) -> None:
        self._application = application
        self._origin = origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if not self._origin.has(host):
            refusal = "This host is not the console's. Ask for it at the address that the setting `console` names.\n"
            await _refuse(421, refusal)(scope, receive, send_guarded)
        elif scope["method"] not in ("GET", "HEAD") and not self._is_own(headers, host):
            await _refuse(403, "This form comes from another site.\n")(scope, receive, send_guarded)
        else:
            await self._application(scope, receive, send_guarded)

    def _is_own(self, headers: Headers, host: str) -> bool:
        """Browsers say where a form comes from; what says nothing is no browser and has no cookie to be misused."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        return origin in (None, f"{self._origin.scheme}://{host}") and site in (None, "same-origin")


def _refuse(status: int, text: str) -> Any:
    return PlainTextResponse(text, status)


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
