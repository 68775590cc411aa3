"""What happened, on one line of time; and where a mail would go now."""

from starlette.responses import Response

from readdress.console.addresses import describe_all
from readdress.console.desk import Visit
from readdress.errors import ServiceError

PAGE = 50


async def show(visit: Visit) -> Response:
    """Asked with a `recipient`, its route is on top."""
    recipient = visit.query.get("recipient", "").strip()
    route, problem = None, ""
    if recipient:
        try:
            route = await visit.call("ResolveRecipient", Recipient=recipient)
        except ServiceError as error:
            problem = error.message
    answer = await visit.call("ListEvents", MaxResults=PAGE, NextToken=visit.query.get("next") or None)
    address_ids = {address_id for event in answer.events for address_id in event.email_address_ids or ()}
    return visit.render(
        "trace.html",
        recipient=recipient,
        route=route,
        problem=problem,
        events=answer.events,
        next_token=answer.next_token,
        addresses={one.email_address_id: one.email_address for one in await describe_all(visit, sorted(address_ids))},
    )
