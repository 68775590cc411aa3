"""What happened, on one line of time; and where a mail would go now."""

from typing import Any, Final

from starlette.responses import Response

from readdress.api.activity import ListEventsAnswer
from readdress.console.addresses import describe_all
from readdress.console.aliases import find_named
from readdress.console.desk import Visit
from readdress.errors import AccessDeniedException, ServiceError

PAGE = 50
KINDS: Final = {"": "Everything", "CHANGED": "Changes", "RECEIVED": "Mail", "ATTEMPTED": "Tries to pass it on"}
_FILTERS: Final = ("address", "message", "event", "since", "until")
_MINUTES_DIGITS: Final = 16  # of `2024-05-03T02:41`, as browsers send a time


async def show(visit: Visit) -> Response:
    """Asked with a `recipient`, its route is on top."""
    recipient = visit.query.get("recipient", "").strip()
    asked = {name: visit.query.get(name, "").strip() for name in _FILTERS}
    route, problem = None, ""
    if recipient:
        try:
            route = await visit.call("ResolveRecipient", Recipient=recipient)
        except ServiceError as error:
            problem = error.message
    answer, status, refusal = ListEventsAnswer(events=[]), 200, ""
    try:
        answer = await _list_events(visit, asked)
    except AccessDeniedException:
        raise
    except ServiceError as error:
        status, refusal = error.status, error.message
    address_ids = {address_id for event in answer.events for address_id in event.email_address_ids or ()}
    return visit.render(
        "trace.html",
        status,
        recipient=recipient,
        route=route,
        problem=problem,
        asked=asked,
        kinds=KINDS,
        is_filtered=any(asked.values()),
        refusal=refusal,
        events=answer.events,
        next_token=answer.next_token,
        addresses={one.email_address_id: one.email_address for one in await describe_all(visit, sorted(address_ids))},
    )


async def _list_events(visit: Visit, asked: dict[str, str]) -> ListEventsAnswer:
    """Raises ServiceError, with words for the form."""
    members: dict[str, Any] = {
        "MessageId": asked["message"],
        "Event": asked["event"],
        "Since": _utc(asked["since"]),
        "Until": _utc(asked["until"]),
        "NextToken": visit.query.get("next"),
    }
    if asked["address"]:
        members["EmailAddressId"] = (await find_named(visit, "address", asked["address"])).email_address_id
    given = {name: value for name, value in members.items() if value}
    answer: ListEventsAnswer = await visit.call("ListEvents", MaxResults=PAGE, **given)
    return answer


def _utc(text: str) -> str:
    """A time of a form, which has no zone and may have no seconds, as the API has it."""
    if not text:
        return ""
    return f"{text}:00Z" if len(text) == _MINUTES_DIGITS else f"{text}Z"
