"""How an instance fares: mail by the minute, what waits to go on, transports and nodes; and another try, or none."""

from starlette.responses import Response

from readdress.console.charts import by_outcome, draw_bars
from readdress.console.desk import Visit
from readdress.errors import AccessDeniedException, InvalidParameterException

WAITING_SHOWN = 50


async def show(visit: Visit) -> Response:
    fares = await visit.call("GetStatus")
    series = by_outcome([minute.states for minute in fares.mail])
    try:
        spool = await visit.call("ListSpool", MaxResults=WAITING_SHOWN, NextToken=visit.query.get("next") or None)
        deliveries, next_token = spool.deliveries, spool.next_token
    except AccessDeniedException:
        deliveries, next_token = None, None
    return visit.render(
        "overview.html",
        fares=fares,
        series=series,
        rows=[
            (minute.minute, [one.values[at] for one in series]) for at, minute in enumerate(fares.mail) if minute.states
        ],
        chart=draw_bars("Mail of the last hour by the minute", series),
        deliveries=deliveries,
        next_token=next_token,
        may_retry=visit.may("RetryDelivery", DeliveryId="any"),
        may_drop=visit.may("DropDelivery", DeliveryId="any"),
    )


async def retry(visit: Visit) -> Response:
    await visit.call("RetryDelivery", DeliveryId=visit.request.path_params["delivery_id"])
    return visit.go(visit.link("overview"))


async def confirm_drop(visit: Visit) -> Response:
    return visit.render("drop.html", delivery_id=visit.request.path_params["delivery_id"], reason="", problem="")


async def drop(visit: Visit) -> Response:
    delivery_id, reason = visit.request.path_params["delivery_id"], visit.form.get("reason", "").strip()
    try:
        await visit.call("DropDelivery", DeliveryId=delivery_id, Reason=reason or None)
    except InvalidParameterException as error:
        return visit.render("drop.html", error.status, delivery_id=delivery_id, reason=reason, problem=error.message)
    return visit.go(visit.link("overview"))
