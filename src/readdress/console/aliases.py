"""A change of an alias, told in words before it is made: what mail will do from then on, or what stands against it.

The preview asks the operation itself, which is made and taken back, so it can't promise what the change would not keep.
"""

from typing import Final, NamedTuple

from starlette.responses import Response

from readdress.api.email_addresses import DescribeEmailAddressAnswer
from readdress.clock import new_id
from readdress.console.addresses import describe
from readdress.console.desk import Visit
from readdress.errors import AccessDeniedException, InvalidParameterException, ServiceError

OPERATIONS: Final = {
    "associate": "AssociateEmailAddressAlias",
    "disassociate": "DisassociateEmailAddressAlias",
}


class Change(NamedTuple):
    """What is to be done with which two addresses; `name` is a key of OPERATIONS."""

    name: str
    primary: DescribeEmailAddressAnswer
    alias: DescribeEmailAddressAnswer

    @property
    def members(self) -> dict[str, object]:
        return {
            "EmailAddressId": self.primary.email_address_id,
            "AliasConfiguration": {"EmailAddressId": self.alias.email_address_id},
        }

    def in_words(self, message: str) -> str:
        """An error of the API, which names addresses by their ids, for people."""
        for address in (self.primary, self.alias):
            message = message.replace(address.email_address_id, address.email_address)
        return message


async def preview(visit: Visit) -> Response:
    """Asked with `primary` and `alias`, each an address or its id."""
    query = visit.query
    name = _name(query.get("change", "associate"))
    try:
        change = Change(
            name,
            await find_named(visit, "primary", query.get("primary", "")),
            await find_named(visit, "alias", query.get("alias", "")),
        )
    except InvalidParameterException as error:
        return visit.render(
            "alias_choose.html", name=name, primary=query.get("primary", ""), alias=query.get("alias", ""),
            message=error.message if "alias" in query and "primary" in query else "",
        )  # fmt: skip
    conflict: ServiceError | None = None
    try:
        await visit.client.rehearse(OPERATIONS[name], InstanceId=visit.instance_id, **change.members)
    except AccessDeniedException:
        raise
    except ServiceError as error:
        conflict = error
    return visit.render(
        "alias_preview.html",
        change=change,
        conflict=conflict and change.in_words(conflict.message),
        code=conflict and conflict.code,
        client_token=new_id(),
    )


async def change(visit: Visit) -> Response:
    """The change; sent twice, the same one, for its token is the form's."""
    form = visit.form
    wanted = Change(
        _name(form.get("change", "")),
        await describe(visit, form.get("primary", "")),
        await describe(visit, form.get("alias", "")),
    )
    try:
        members = {**wanted.members, "ClientToken": form.get("client_token") or new_id()}
        await visit.call(OPERATIONS[wanted.name], **members)
    except AccessDeniedException:
        raise
    except ServiceError as error:
        conflict = wanted.in_words(error.message)
        return visit.render(
            "alias_preview.html", error.status, change=wanted, conflict=conflict, code=error.code, client_token=new_id()
        )
    return visit.render(
        "alias_done.html", change=wanted, request_id=visit.request_id, instant=await _find_instant(visit, wanted)
    )


async def _find_instant(visit: Visit, change: Change) -> str:
    """From when on mail follows, "" where the key may not know."""
    try:
        activity = await visit.call("GetEmailAddressActivity", EmailAddressId=change.alias.email_address_id)
    except AccessDeniedException:
        return ""
    done = {"associate": "ASSOCIATED", "disassociate": "DISASSOCIATED"}[change.name]
    found = [one for one in activity.history if one.change == done]
    own = [one for one in found if one.request_id == visit.request_id]  # none where the form was sent twice
    return next((str(one.timestamp) for one in own or found), "")


def _name(text: str) -> str:
    if text not in OPERATIONS:
        raise InvalidParameterException(f"change: has to be one of {', '.join(OPERATIONS)}.")
    return text


async def find_named(visit: Visit, role: str, text: str) -> DescribeEmailAddressAnswer:
    """By its id, or by the whole address. Raises InvalidParameterException in words for a form."""
    text = text.strip()
    if not text:
        raise InvalidParameterException(f"Name the {role}.")
    if "@" not in text:
        return await describe(visit, text)
    condition = {"FieldName": "EmailAddress", "Value": text, "ComparisonType": "EXACT"}
    found = await visit.call("SearchEmailAddresses", SearchCriteria={"StringCondition": condition}, MaxResults=1)
    if not found.email_addresses:
        raise InvalidParameterException(f"There is no address {text} in this instance: publish it first.")
    return await describe(visit, found.email_addresses[0].email_address_id)
