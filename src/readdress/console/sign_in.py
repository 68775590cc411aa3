"""Sign-in with an access key, in development with one click; and sign-out, which ends the session everywhere."""

import hmac
import re
import secrets
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from readdress.api import access
from readdress.clock import new_id
from readdress.console import sessions
from readdress.console.attempts import Attempts
from readdress.console.desk import FORM_TOKEN, Desk, Visit, read_form
from readdress.console.mount import PREFIX
from readdress.errors import ServiceError
from readdress.store.database import StoreError

# Before there is a session, a form is told from another site's by a token that its cookie holds as well.
_FORM_COOKIE: Final = "readdress-form"
# A path of ours, and nothing that a browser could take for another host.
_OWN_PATH = re.compile(rf"{PREFIX}/(?!/|.*\.\.)[\w\-./?=&%+]*")

WRONG = "There is no such access key, or it is disabled, or its secret is another."
TOO_OLD = "This form is too old. Sign in again."


class SignIn:
    """The pages for who is not signed in."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._attempts = Attempts()

    async def show(self, request: Request) -> Response:
        return self._form(request.query_params.get("next", ""))

    async def sign_in(self, request: Request) -> Response:
        try:
            return await self._try(request)
        except ServiceError as error:
            return self._desk.refuse(error, new_id())
        except StoreError:
            return self._form("", "Nobody can sign in now. Try again in a while.", 503)

    async def _try(self, request: Request) -> Response:
        desk, form = self._desk, await read_form(request)
        following = form.get("next", "")
        given = request.cookies.get(_FORM_COOKIE, "")
        if not given or not hmac.compare_digest(form.get(FORM_TOKEN, "").encode(), given.encode()):
            return self._form(following, TOO_OLD, 403)
        if desk.dev_key and "development" in form:
            return await self._welcome(desk.dev_key, following)
        key_id, secret = form.get("access_key_id", "").strip(), form.get("secret", "").strip()
        peer = request.client.host if request.client else ""
        wait_s = self._attempts.wait_s(access_key_id=key_id, peer=peer)
        if wait_s:
            return self._form(following, f"Too many tries. Try again in {wait_s} seconds.", 429)
        key = await access.find_key(desk.database, key_id)
        if not sessions.is_secret(desk.keyring, key, secret) or key is None or key.disabled_ms is not None:
            self._attempts.add(access_key_id=key_id, peer=peer)
            return self._form(following, WRONG, 403)
        return await self._welcome(key.id, following)

    async def _welcome(self, access_key_id: str, following: str) -> Response:
        desk = self._desk
        token = await sessions.begin(desk.database, access_key_id)
        response = RedirectResponse(following if _OWN_PATH.fullmatch(following) else f"{PREFIX}/", 303)
        response.set_cookie(
            desk.cookie, token, max_age=sessions.LIFETIME_MS // 1_000, httponly=True, samesite="lax",
            secure=desk.origin.is_secure, path="/",
        )  # fmt: skip
        response.delete_cookie(_FORM_COOKIE, path=PREFIX)
        return response

    def _form(self, following: str, message: str = "", status: int = 200) -> Response:
        desk, token = self._desk, secrets.token_urlsafe(32)
        response = desk.render(
            "sign_in.html", status, following=following, message=message, dev_key=desk.dev_key, form_token=token,
            key_id=None,
        )  # fmt: skip
        response.set_cookie(
            _FORM_COOKIE, token, max_age=3_600, httponly=True, samesite="strict", secure=desk.origin.is_secure,
            path=PREFIX,
        )  # fmt: skip
        return response


async def sign_out(visit: Visit) -> Response:
    await sessions.end(visit.desk.database, visit.token)
    response = visit.go(f"{PREFIX}/sign-in")
    response.delete_cookie(visit.desk.cookie, path="/", secure=visit.desk.origin.is_secure)
    return response
