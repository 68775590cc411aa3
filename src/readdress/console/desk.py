"""What all pages share: who asks, with which key's policy, what a form holds, and how a page or an error is rendered.

A page is a function `(visit) -> response`. Whatever fails in one is a page as well: what the API refuses with its own
words, anything else with the request's id and nothing more.
"""

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from readdress.api import access
from readdress.api.access import Keyring
from readdress.api.operation import Operations
from readdress.clock import Clock, new_id
from readdress.console import sessions
from readdress.console.client import Client, Settings
from readdress.console.guard import Origin
from readdress.console.mount import PREFIX
from readdress.console.text import visible
from readdress.errors import (
    InternalServiceException,
    InvalidParameterException,
    RequestEntityTooLargeException,
    ServiceError,
    ServiceUnavailableException,
    ThrottlingException,
)
from readdress.inbox.arrivals import Arrivals
from readdress.store.database import Database, StoreBusy, StoreError

log = logging.getLogger("readdress.console")

FORM_BYTES_MAX = 65_536
FORM_FIELDS_MAX = 200
FORM_TOKEN = "form_token"  # noqa: S105 - the name of a field


@dataclass(frozen=True)
class Visit:
    """One request of somebody who is signed in."""

    desk: "Desk"
    request: Request
    client: Client
    token: str
    form: Mapping[str, str] = field(default_factory=dict)
    request_id: str = field(default_factory=new_id)

    @property
    def instance_id(self) -> str:
        return str(self.request.path_params["instance_id"])

    @property
    def address_id(self) -> str:
        return str(self.request.path_params["address_id"])

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    def link(self, *parts: str, **query: str) -> str:
        """A path in the instance: `link("addresses", id, next="…")`."""
        return link(self.instance_id, *parts, **query)

    async def call(self, operation: str, **members: Any) -> Any:
        """An operation in the page's instance, under the id of this request. Raises ServiceError."""
        return await self.client.call(operation, self.request_id, InstanceId=self.instance_id, **members)

    def may(self, operation: str, **members: Any) -> bool:
        return self.client.may(operation, InstanceId=self.instance_id, **members)

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        instance_id = self.request.path_params.get("instance_id")
        return self.desk.render(
            template,
            status,
            visit=self,
            instance_id=instance_id,
            key_id=self.client.caller.access_key_id,
            form_token=sessions.form_token(self.token),
            **values,
        )

    def go(self, path: str) -> Response:
        """On to another page, after a change."""
        return RedirectResponse(path, 303)


Page: TypeAlias = Callable[[Visit], Awaitable[Response]]
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Desk:
    """Where pages are made; `dev_key` is the access key that anybody may sign in with, "" for none."""

    def __init__(
        self,
        *,
        database: Database,
        operations: Operations,
        keyring: Keyring,
        settings: Settings,
        clock: Clock,
        origin: Origin,
        dev_key: str = "",
        arrivals: Arrivals | None = None,
    ) -> None:
        self.database = database
        self.keyring = keyring
        self.clock = clock
        self.origin = origin
        self.dev_key = dev_key
        self._operations = operations
        self._settings = settings
        self._arrivals = arrivals

    @cached_property
    def _templates(self) -> Environment:
        templates = Environment(
            loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        templates.globals.update(link=link, prefix=PREFIX)
        templates.filters.update(visible=visible, when=partial(_when, digits=19), instant=partial(_when, digits=23))
        return templates

    @property
    def cookie(self) -> str:
        """The session's; a browser takes a `__Host-` cookie from this very host over TLS alone."""
        return "__Host-readdress" if self.origin.is_secure else "readdress"

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(values), status)

    def page(self, show: Page) -> Endpoint:
        """The page for who is signed in; all others are shown the door."""

        async def endpoint(request: Request) -> Response:
            request_id, visit = new_id(), None
            try:
                visit = await self._admit(request, request_id)
                return await show(visit) if visit else self._to_sign_in(request)
            except ServiceError as error:
                refusal = error
            except StoreBusy:
                refusal = ThrottlingException("Others are changing the same now. Try again.")
            except StoreError:
                log.exception("request %(request_id)s: the store failed", {"request_id": request_id})
                refusal = ServiceUnavailableException("Nothing can be stored or read now.")
            except Exception:
                log.exception("request %(request_id)s failed", {"request_id": request_id})
                refusal = InternalServiceException("The page could not be made.")
            return self.refuse(refusal, request_id, visit)

        return endpoint

    def refuse(self, error: ServiceError, request_id: str, visit: Visit | None = None) -> Response:
        """What was refused, with the ways on that somebody who is signed in has."""
        render = visit.render if visit else partial(self.render, key_id=None)
        return render("error.html", error.status, code=error.code, message=error.message, request_id=request_id)

    async def find_client(self, token: str) -> Client | None:
        """Who is signed in with that token now, with the policy that their key has now."""
        key_id = await sessions.find(self.database, token, now_ms=self.clock.now_ms()) if token else None
        key = await access.find_key(self.database, key_id) if key_id else None
        if key is None or key.disabled_ms is not None:
            return None
        settings = self._settings
        caller = access.caller_of(key, region=settings.region, quotas=settings.quotas, transports=settings.transports)
        return Client(self.database, self._operations, caller, settings, self._arrivals)

    async def _admit(self, request: Request, request_id: str) -> Visit | None:
        token = request.cookies.get(self.cookie, "")
        client = await self.find_client(token)
        if client is None:
            return None
        form = await read_form(request) if request.method == "POST" else {}
        expected = sessions.form_token(token)
        if request.method == "POST" and not hmac.compare_digest(form.get(FORM_TOKEN, "").encode(), expected.encode()):
            raise InvalidParameterException("This form is too old. Go back, reload the page and send it again.")
        return Visit(self, request, client, token, form, request_id)

    def _to_sign_in(self, request: Request) -> Response:
        back = request.url.path if request.method == "GET" else PREFIX + "/"
        if request.method == "GET" and request.url.query:
            back += f"?{request.url.query}"
        path = f"{PREFIX}/sign-in?{urlencode({'next': back})}"
        if "hx-request" in request.headers:  # the script goes there, rather than show the form inside of a page
            return Response(status_code=200, headers={"HX-Redirect": path})
        return RedirectResponse(path, 303)


async def read_form(request: Request) -> dict[str, str]:
    """Fields by name, the last of a name counting. Raises a ServiceError for what is too large or no form."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > FORM_BYTES_MAX:
            raise RequestEntityTooLargeException(f"The form is larger than {FORM_BYTES_MAX} bytes. Shorten its texts.")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS_MAX)
    except ValueError:
        raise InvalidParameterException("The form can't be read. Go back, reload the page and send it again.") from None
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


def _when(timestamp: str, *, digits: int) -> str:
    """`2024-05-03T02:41:28.172Z` as people write it, to the second or exactly."""
    return timestamp[:digits].replace("T", " ")


def link(instance_id: str, *parts: str, **query: str) -> str:
    """The path of a page in an instance; query members without a value are left out."""
    path = "/".join([f"{PREFIX}/instances", *(quote(part, safe="") for part in (instance_id, *parts))])
    given = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(given)}" if given else path
