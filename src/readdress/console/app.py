"""The console's pages by their paths, behind the guard."""

from pathlib import Path
from typing import cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from readdress.console import addresses, aliases, inbox, instances, overview, sign_in, trace
from readdress.console.desk import Desk
from readdress.console.guard import Guard
from readdress.console.mount import PREFIX, Application
from readdress.errors import ResourceNotFoundException

_STATIC = Path(__file__).with_name("static")


def build_console(desk: Desk) -> Application:
    """The ASGI application under PREFIX."""
    pages = Starlette(
        routes=[Mount(PREFIX, routes=_routes(desk))],
        exception_handlers={404: _Missing(desk), 405: _Missing(desk)},
    )
    return cast("Application", Guard(pages, desk.origin))


def _routes(desk: Desk) -> list[BaseRoute]:
    page, door = desk.page, sign_in.SignIn(desk)
    address = "/instances/{instance_id}/addresses/{address_id}"
    spooled = "/instances/{instance_id}/spool/{delivery_id}"
    message = "/instances/{instance_id}/messages/{message_id}"
    return [
        Route("/", page(instances.choose)),
        Route("/sign-in", door.show),
        Route("/sign-in", door.sign_in, methods=["POST"]),
        Route("/sign-out", page(sign_in.sign_out), methods=["POST"]),
        Mount("/static", _Static(directory=_STATIC)),
        Route("/instances/{instance_id}", page(instances.show)),
        Route("/instances/{instance_id}/addresses", page(addresses.search)),
        Route("/instances/{instance_id}/addresses", page(addresses.create), methods=["POST"]),
        Route("/instances/{instance_id}/addresses/new", page(addresses.new)),
        Route("/instances/{instance_id}/alias", page(aliases.preview)),
        Route("/instances/{instance_id}/alias", page(aliases.change), methods=["POST"]),
        Route("/instances/{instance_id}/trace", page(trace.show)),
        Route("/instances/{instance_id}/overview", page(overview.show)),
        Route(f"{spooled}/retry", page(overview.retry), methods=["POST"]),
        Route(f"{spooled}/drop", page(overview.confirm_drop)),
        Route(f"{spooled}/drop", page(overview.drop), methods=["POST"]),
        Route(address, page(addresses.show)),
        Route(f"{address}/edit", page(addresses.edit)),
        Route(f"{address}/edit", page(addresses.update), methods=["POST"]),
        Route(f"{address}/delete", page(addresses.confirm_delete)),
        Route(f"{address}/delete", page(addresses.delete), methods=["POST"]),
        Route(f"{address}/inbox", page(inbox.show)),
        Route(f"{address}/inbox/events", page(inbox.Listening().listen)),
        Route(f"{address}/inbox/empty", page(inbox.confirm_empty)),
        Route(f"{address}/inbox/empty", page(inbox.empty), methods=["POST"]),
        Route(message, page(inbox.show_message)),
        Route(f"{message}/html", page(inbox.show_html)),
        Route(f"{message}/raw", page(inbox.download)),
        Route(f"{message}/attachments/{{number:int}}", page(inbox.download_attachment)),
    ]


class _Static(StaticFiles):
    """Files of the package, which a browser may keep a while."""

    def file_response(self, *args: object, **keywords: object) -> Response:
        response = super().file_response(*args, **keywords)  # type: ignore[arg-type]
        response.headers["cache-control"] = "public, max-age=3600"
        return response


class _Missing:
    """A path without a page."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, request: Request, _: Exception) -> Response:
        if request.url.path == PREFIX:
            return RedirectResponse(f"{PREFIX}/")
        return self._desk.refuse(ResourceNotFoundException("There is no such page. Go back to the start."), "")
