"""The addresses of an instance: found as one types, published, described, changed and retired."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from readdress.api.activity import ActivityAnswer
from readdress.api.email_addresses import DescribeEmailAddressAnswer
from readdress.clock import new_id
from readdress.console.charts import Series, draw_bars
from readdress.console.desk import Visit
from readdress.errors import AccessDeniedException, InvalidParameterException, ResourceNotFoundException, ServiceError

PAGE: Final = 50
_PART_MIN = 3  # characters; shorter parts of a text are in almost all of them
_SEARCHED = ("EmailAddress", "DisplayName", "Description")


class Relation(NamedTuple):
    """What an address takes part in: the alias that forwards to it, or the primary that it forwards to."""

    alias: DescribeEmailAddressAnswer | None = None
    primary: DescribeEmailAddressAnswer | None = None


async def search(visit: Visit) -> Response:
    """A page of hits; with neither text nor tag, of all addresses."""
    text, tag = visit.query.get("q", "").strip(), visit.query.get("tag", "").strip()
    answer = await visit.call(
        "SearchEmailAddresses",
        MaxResults=PAGE,
        NextToken=visit.query.get("next") or None,
        SearchCriteria=_criteria(text),
        SearchFilter=_filter(tag),
    )
    alias_ids = [alias.email_address_id for hit in answer.email_addresses for alias in hit.alias_configurations]
    return visit.render(
        "addresses.html",
        text=text,
        tag=tag,
        hits=answer.email_addresses,
        aliases={alias.email_address_id: alias for alias in await describe_all(visit, alias_ids)},
        total=answer.approximate_total_count,
        next_token=answer.next_token,
        may_create=visit.may("CreateEmailAddress", EmailAddress="any@example.com"),
    )


async def show(visit: Visit) -> Response:
    address = await describe(visit, visit.address_id)
    activity = await _find_activity(visit)
    flow = _flow(activity)
    return visit.render(
        "address.html",
        address=address,
        activity=activity,
        flow=flow,
        chart=draw_bars("Mail of the last hour by the minute", flow) if activity else "",
        others=await _others(visit, activity),
        relation=await find_relation(visit, address),
        may_trace=visit.may("ListEvents"),
        may_read=visit.may("ListMessages", EmailAddressId=address.email_address_id),
        may_change=visit.may("UpdateEmailAddressMetadata", EmailAddressId=address.email_address_id),
        may_delete=visit.may("DeleteEmailAddress", EmailAddressId=address.email_address_id),
        may_associate=_may_alter(visit, "AssociateEmailAddressAlias", address),
        may_disassociate=_may_alter(visit, "DisassociateEmailAddressAlias", address),
    )


async def new(visit: Visit) -> Response:
    return visit.render("address_new.html", values={"client_token": new_id()}, problem=None)


async def create(visit: Visit) -> Response:
    form = visit.form
    try:
        made = await visit.call(
            "CreateEmailAddress",
            EmailAddress=form.get("EmailAddress", "").strip(),
            DisplayName=form.get("DisplayName") or None,
            Description=form.get("Description") or None,
            Tags=parse_tags(form.get("Tags", "")) or None,
            ClientToken=form.get("client_token") or None,
        )
    except AccessDeniedException:
        raise
    except ServiceError as error:
        # Another try is another call: a token stands for one set of values.
        values = dict(form) | {"client_token": new_id()}
        return visit.render("address_new.html", error.status, values=values, problem=Problem.of(error))
    return visit.go(visit.link("addresses", made.email_address_id))


async def edit(visit: Visit) -> Response:
    address = await describe(visit, visit.address_id)
    values = {
        "DisplayName": address.display_name or "",
        "Description": address.description or "",
        "Tags": "\n".join(f"{key}={value}" for key, value in sorted(address.tags.items())),
    }
    return visit.render("address_edit.html", address=address, values=values, problem=None)


async def update(visit: Visit) -> Response:
    """Metadata first, then what changed of the tags: each is an operation of its own."""
    address, form = await describe(visit, visit.address_id), visit.form
    try:
        tags = parse_tags(form.get("Tags", ""))
        await _update_metadata(visit, address)
        await _update_tags(visit, address, tags)
    except AccessDeniedException:
        raise
    except ServiceError as error:
        problem = Problem.of(error)
        return visit.render("address_edit.html", error.status, address=address, values=form, problem=problem)
    return visit.go(visit.link("addresses", address.email_address_id))


async def confirm_delete(visit: Visit) -> Response:
    address = await describe(visit, visit.address_id)
    return visit.render("address_delete.html", address=address, relation=await find_relation(visit, address))


async def delete(visit: Visit) -> Response:
    await visit.call("DeleteEmailAddress", EmailAddressId=visit.address_id)
    return visit.go(visit.link("addresses"))


class Problem(NamedTuple):
    """What the API refused, and the field of the form that it names, "" for none."""

    field: str
    message: str

    @classmethod
    def of(cls, error: ServiceError) -> "Problem":
        """A message about a member begins with its name (`Tags.a: has to be …`)."""
        name, colon, _ = error.message.partition(":")
        known = name.partition(".")[0].partition("[")[0] if colon and " " not in name else ""
        return cls({"tags": "Tags", "tagKeys": "Tags"}.get(known, known), error.message)


def parse_tags(text: str) -> dict[str, str]:
    """A tag a line, `key=value`. Raises InvalidParameterException."""
    tags: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            raise InvalidParameterException(f"Tags: {line!r} has to be key=value, one tag a line.")
        tags[key.strip()] = value.strip()
    return tags


async def describe(visit: Visit, address_id: str) -> DescribeEmailAddressAnswer:
    answer: DescribeEmailAddressAnswer = await visit.call("DescribeEmailAddress", EmailAddressId=address_id)
    return answer


async def describe_all(visit: Visit, address_ids: Iterable[str]) -> list[DescribeEmailAddressAnswer]:
    """Those that are there and that the key may see."""
    found = await asyncio.gather(*(_find(visit, address_id) for address_id in address_ids))
    return [address for address in found if address is not None]


async def find_relation(visit: Visit, address: DescribeEmailAddressAnswer) -> Relation:
    for configuration in address.alias_configurations:
        return Relation(alias=await _find(visit, configuration.email_address_id))
    try:
        route = await visit.call("ResolveRecipient", Recipient=address.email_address)
    except AccessDeniedException:
        return Relation()
    for destination in route.destinations:
        if destination.alias_id == address.email_address_id:
            return Relation(primary=await _find(visit, destination.email_address_id))
    return Relation()


async def _find(visit: Visit, address_id: str) -> DescribeEmailAddressAnswer | None:
    try:
        return await describe(visit, address_id)
    except (AccessDeniedException, ResourceNotFoundException):
        return None


async def _find_activity(visit: Visit) -> ActivityAnswer | None:
    """None where the key may not see it."""
    try:
        answer: ActivityAnswer = await visit.call("GetEmailAddressActivity", EmailAddressId=visit.address_id)
    except AccessDeniedException:
        return None
    return answer


def _flow(activity: ActivityAnswer | None) -> list[Series]:
    if activity is None:
        return []
    return [Series("directly", "good", activity.direct), Series("by its alias", "wait", activity.forwarded)]


async def _others(visit: Visit, activity: ActivityAnswer | None) -> dict[str, str]:
    """The addresses that its history names, as far as they are there."""
    named = {one for change in (activity.history if activity else ()) for one in (change.alias_id, change.primary_id)}
    return {one.email_address_id: one.email_address for one in await describe_all(visit, sorted(named))}


def _may_alter(visit: Visit, operation: str, address: DescribeEmailAddressAnswer) -> bool:
    """For some other address, at least."""
    own_id = address.email_address_id
    return visit.may(operation, EmailAddressId=own_id, AliasConfiguration={"EmailAddressId": own_id})


def _criteria(text: str) -> dict[str, Any] | None:
    """Wherever the text is, or for the start of an address."""
    if not text:
        return None
    fields = _SEARCHED if len(text) >= _PART_MIN else _SEARCHED[:1]
    comparison = "CONTAINS" if len(text) >= _PART_MIN else "STARTS_WITH"
    conditions = [{"FieldName": name, "Value": text, "ComparisonType": comparison} for name in fields]
    return {"OrConditions": [{"StringCondition": condition} for condition in conditions]}


def _filter(tag: str) -> dict[str, Any] | None:
    """`key`, or `key=value`."""
    if not tag:
        return None
    key, equals, value = tag.partition("=")
    condition = {"TagKey": key.strip()} | ({"TagValue": value.strip()} if equals else {})
    return {"TagFilter": {"TagCondition": condition}}


async def _update_metadata(visit: Visit, address: DescribeEmailAddressAnswer) -> None:
    before = {"DisplayName": address.display_name or "", "Description": address.description or ""}
    changed = {name: visit.form[name] for name in before if visit.form.get(name, before[name]) != before[name]}
    if changed:
        await visit.call("UpdateEmailAddressMetadata", EmailAddressId=address.email_address_id, **changed)


async def _update_tags(visit: Visit, address: DescribeEmailAddressAnswer, tags: dict[str, str]) -> None:
    arn, gone = address.email_address_arn, address.tags.keys() - tags.keys()
    changed = {key: value for key, value in tags.items() if address.tags.get(key) != value}
    if changed:
        await visit.client.call("TagResource", resourceArn=arn, tags=changed)
    if gone:
        await visit.client.call("UntagResource", resourceArn=arn, tagKeys=sorted(gone))
