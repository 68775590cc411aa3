"""What has come to an address, and each message: readable, safe, raw, and why it came."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from readdress.api.messages import ListMessagesAnswer, ListMessagesRequest
from readdress.console import mail_view
from readdress.console.addresses import describe, describe_all
from readdress.console.desk import Visit
from readdress.console.mail_view import MailView
from readdress.console.text import visible
from readdress.errors import InvalidParameterException, ResourceNotFoundException, ServiceError

PAGE: Final = 50
RAW_CHARS_MAX: Final = 100_000
STREAMS_MAX: Final = 200
STREAMS_OF_A_SESSION_MAX: Final = 3  # a browser has six connections to a host, and pages want some as well
_STREAM_LOOKS: Final = 40
_LOOK_MS: Final = 15_000
_EMPTY_ROUNDS_MAX: Final = 50

VIEWS = ("text", "html", "headers", "raw", "attachments")

# The message's own HTML: in a frame that is nobody's, where nothing is loaded and nothing runs; links open elsewhere.
_SANDBOX: Final = "allow-popups allow-popups-to-escape-sandbox"
_FRAME_HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox {_SANDBOX}"
    ),
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "no-referrer",
}


class _NewerRequest(ListMessagesRequest):
    """Waits until the newest delivery is another than the one that was seen."""

    seen: str = ""

    def is_met(self, answer: ListMessagesAnswer) -> bool:
        return _newest(answer) != self.seen


class Streams:
    """How many pages listen for mail, in all and by session."""

    def __init__(self) -> None:
        self._by_token: Counter[str] = Counter()

    def enter(self, token: str) -> bool:
        if self._by_token.total() >= STREAMS_MAX or self._by_token[token] >= STREAMS_OF_A_SESSION_MAX:
            return False
        self._by_token[token] += 1
        return True

    def leave(self, token: str) -> None:
        self._by_token[token] -= 1
        self._by_token += Counter()  # forgets who has none


async def show(visit: Visit) -> Response:
    """The inbox, newest first."""
    address = await describe(visit, visit.address_id)
    answer = await visit.call(
        "ListMessages", EmailAddressId=visit.address_id, MaxResults=PAGE, NextToken=visit.query.get("next") or None
    )
    return visit.render(
        "inbox.html",
        address=address,
        messages=answer.messages,
        aliases=await _aliases(visit, answer.messages),
        newest=_newest(answer),
        next_token=answer.next_token,
        is_first="next" not in visit.query,
        may_empty=bool(answer.messages) and visit.may("DeleteMessages", EmailAddressId=visit.address_id),
    )


class Listening:
    """Server-sent events: `mail` whenever something new is in the inbox."""

    def __init__(self) -> None:
        self._streams = Streams()

    async def listen(self, visit: Visit) -> Response:
        await visit.call("ListMessages", EmailAddressId=visit.address_id, MaxResults=1)  # refused here, if at all
        if not self._streams.enter(visit.token):
            return Response(status_code=204)  # which tells a browser not to ask again
        return _Stream(self._events(visit), partial(self._streams.leave, visit.token))

    async def _events(self, visit: Visit) -> AsyncIterator[str]:
        """The data of an event is what has come; it has none where only something has gone."""
        seen = visit.query.get("seen", "")
        yield "retry: 2000\n\n"
        for _ in range(_STREAM_LOOKS):
            client = await visit.desk.find_client(visit.token)  # who signed out, or may no longer, hears no more
            if client is None or client.is_closing:
                return
            request = _NewerRequest(
                instance_id=visit.instance_id, email_address_id=visit.address_id, max_results=1, wait_ms=_LOOK_MS,
                seen=seen,
            )  # fmt: skip
            try:
                newest = _newest(await client.send("ListMessages", request))
            except ServiceError:
                return
            come = newest if newest > seen else ""  # ids are in the order of time
            yield f"event: mail\ndata: {come}\n\n" if newest != seen else ": nothing new\n\n"
            seen = newest


class _Stream(StreamingResponse):
    """Tells when it is over, however it ends: a client may be gone before the first word."""

    def __init__(self, events: AsyncIterator[str], on_end: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


async def confirm_empty(visit: Visit) -> Response:
    return visit.render("inbox_empty.html", address=await describe(visit, visit.address_id))


async def empty(visit: Visit) -> Response:
    for _ in range(_EMPTY_ROUNDS_MAX):
        answer = await visit.call("DeleteMessages", EmailAddressId=visit.address_id)
        if not answer.more:
            break
    return visit.go(visit.link("addresses", visit.address_id, "inbox"))


async def show_message(visit: Visit) -> Response:
    message = await _get(visit)
    view, raw = await _read(visit)
    shown = visit.query.get("show", "") or ("html" if view and view.html and not view.text else "text")
    if shown not in VIEWS:
        raise InvalidParameterException(f"show: has to be one of {', '.join(VIEWS)}.")
    safe = await asyncio.to_thread(view.safe_html) if view and view.html is not None and shown == "html" else None
    return visit.render(
        "message.html",
        message=message,
        subject=visible(message.subject),
        view=view,
        raw=_readable(raw) if shown == "raw" else "",
        is_raw_whole=len(raw) <= RAW_CHARS_MAX,
        shown=shown,
        safe=safe,
        sandbox=_SANDBOX,
        verdicts=_verdicts(message.authentication or {}),
        aliases=await _aliases(visit, message.deliveries),
    )


def _readable(raw: bytes) -> str:
    return visible(raw[:RAW_CHARS_MAX].decode("utf-8", "replace").replace("\r\n", "\n"))


async def show_html(visit: Visit) -> Response:
    """What the frame shows."""
    view, _ = await _read(visit)
    if view is None or view.html is None:
        raise ResourceNotFoundException("The message has no HTML.")
    safe = await asyncio.to_thread(view.safe_html)
    response = visit.render("message_frame.html", markup=safe.markup)
    response.headers.update(_FRAME_HEADERS)
    return response


async def download(visit: Visit) -> Response:
    """The message as it was received."""
    answer = await visit.call("GetMessageContent", MessageId=_message_id(visit))
    return _file(answer.content, f"{_message_id(visit)}.eml")


async def download_attachment(visit: Visit) -> Response:
    answer = await visit.call("GetMessageContent", MessageId=_message_id(visit))
    number = int(visit.request.path_params["number"])
    found = await asyncio.to_thread(mail_view.read_part, answer.content, number)
    if found is None:
        raise ResourceNotFoundException("The message has no such attachment.")
    name, content = found
    return _file(content, name)


def file_name(name: str) -> str:
    """One that is no path, no hidden file, and nothing that a header or a shell could take for more."""
    cleaned = re.sub(r"[^\w.\- ()\[\]+,=@]", "_", name, flags=re.UNICODE).strip(". ")
    return cleaned[:100] or "attachment"


def _file(content: bytes, name: str) -> Response:
    """Bytes to keep, and never to be shown as a page of ours."""
    name = file_name(name)
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return Response(
        content,
        media_type="application/octet-stream",
        headers={
            "content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
            "content-security-policy": "default-src 'none'; sandbox",
        },
    )


def _message_id(visit: Visit) -> str:
    return str(visit.request.path_params["message_id"])


async def _get(visit: Visit) -> Any:
    return await visit.call("GetMessage", MessageId=_message_id(visit))


async def _read(visit: Visit) -> tuple[MailView | None, bytes]:
    """None where the content is not kept."""
    try:
        answer = await visit.call("GetMessageContent", MessageId=_message_id(visit))
    except ResourceNotFoundException:
        return None, b""
    return await asyncio.to_thread(mail_view.read_mail, answer.content), answer.content


async def _aliases(visit: Visit, entries: list[Any]) -> dict[str, str]:
    """The addresses of the aliases that forwarded something, by id."""
    alias_ids = {reason.alias_id for entry in entries for reason in entry.reasons if reason.alias_id}
    return {one.email_address_id: one.email_address for one in await describe_all(visit, sorted(alias_ids))}


def _newest(answer: ListMessagesAnswer) -> str:
    return answer.messages[0].delivery_id if answer.messages else ""


def _verdicts(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Method, result and what it is about, as a table has them."""
    rows: list[tuple[str, str, str]] = []
    for method in ("Spf", "Dkim", "Arc", "Dmarc"):
        entries = found.get(method)
        for entry in entries if isinstance(entries, list) else [entries] if entries else []:
            about = ", ".join(f"{name} {visible(str(value))}" for name, value in entry.items() if name != "Result")
            rows.append((method.upper(), visible(str(entry.get("Result", ""))), about))
    return rows
