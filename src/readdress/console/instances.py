"""The instances of the account, and where a person begins in one."""

from starlette.responses import Response

from readdress.console.desk import Visit, link
from readdress.errors import AccessDeniedException


async def choose(visit: Visit) -> Response:
    """All instances that the key may list; of one alone, its pages at once."""
    wanted = visit.query.get("instance_id", "").strip()
    if wanted:
        return visit.go(link(wanted))
    try:
        listed = await visit.client.call("ListInstances", NextToken=visit.query.get("next") or None)
    except AccessDeniedException:  # who knows the id of theirs may go there all the same
        return visit.render("instances.html", instances=[], next_token=None, may_list=False)
    found = listed.instance_summary_list
    if len(found) == 1 and listed.next_token is None and "next" not in visit.query:
        return visit.go(link(found[0].id))
    return visit.render("instances.html", instances=found, next_token=listed.next_token, may_list=True)


async def show(visit: Visit) -> Response:
    return visit.go(visit.link("addresses"))
