"""Tag, untag and list the tags of an instance or an email address, named by its ARN."""

from readdress.address import fold_domain, split_address
from readdress.api.access import Caller
from readdress.api.arn import parse_arn
from readdress.api.operation import Kind, Operations
from readdress.api.shapes import Answer, Empty, Request, ResourceArn, TagKeyList, TagMap
from readdress.directory import addresses, instances, settings, tags
from readdress.errors import (
    InternalServiceException,
    InvalidParameterException,
    InvalidRequestException,
    ResourceNotFoundException,
    ServiceError,
    ThrottlingException,
)
from readdress.store.database import Transaction

operations = Operations()

_ERRORS: tuple[type[ServiceError], ...] = (
    InvalidRequestException,
    InvalidParameterException,
    InternalServiceException,
    ResourceNotFoundException,
    ThrottlingException,
)
_RESOURCES = ["{resource_arn}"]


class ListTagsForResourceRequest(Request, rename="camel"):
    resource_arn: ResourceArn


class TagResourceRequest(ListTagsForResourceRequest, rename="camel"):
    tags: TagMap


class UntagResourceRequest(ListTagsForResourceRequest, rename="camel"):
    tag_keys: TagKeyList


class ListTagsForResourceAnswer(Answer, rename="camel"):
    tags: dict[str, str]


@operations.declare("POST /tags/{resourceArn}", common=_ERRORS, kind=Kind.WRITE, resources=_RESOURCES)
def tag_resource(tx: Transaction, caller: Caller, request: TagResourceRequest) -> Empty:
    """Add tags, or give present ones a new value."""
    resource = _get(tx, caller, request.resource_arn, locks=True)
    if isinstance(resource, addresses.EmailAddress):
        domain = fold_domain(split_address(resource.address).domain)
        settings.tag_address(tx, resource.id, domain, request.tags, transports=caller.transports)
    else:
        settings.tag_instance(tx, resource.id, request.tags, transports=caller.transports)
    return Empty()


@operations.declare(
    "DELETE /tags/{resourceArn}?tagKeys={tagKeys}", common=_ERRORS, kind=Kind.WRITE, resources=_RESOURCES
)
def untag_resource(tx: Transaction, caller: Caller, request: UntagResourceRequest) -> Empty:
    """Remove tags; keys that are not there are no error."""
    tags.remove(tx, _get(tx, caller, request.resource_arn, locks=True).id, request.tag_keys)
    return Empty()


@operations.declare("GET /tags/{resourceArn}", common=_ERRORS, kind=Kind.READ, resources=_RESOURCES)
def list_tags_for_resource(
    tx: Transaction, caller: Caller, request: ListTagsForResourceRequest
) -> ListTagsForResourceAnswer:
    """Every tag of the resource."""
    return ListTagsForResourceAnswer(tags=tags.of(tx, _get(tx, caller, request.resource_arn).id))


def _get(
    tx: Transaction, caller: Caller, arn: str, *, locks: bool = False
) -> addresses.EmailAddress | instances.Instance:
    """`locks` holds it still, so that no tag is left of what goes away meanwhile."""
    name = parse_arn(arn)
    if name is None:
        raise InvalidParameterException("resourceArn: has to be the ARN of an instance or of an email address in one.")
    if name.scope == caller.scope:
        account, instance_id = caller.scope.account, name.instance_id
        if name.address_id:
            if locks:
                addresses.lock(tx, instance_id=instance_id, address_id=name.address_id)
            return addresses.get(tx, account=account, instance_id=instance_id, address_id=name.address_id)
        if locks:
            instances.lock(tx, instance_id)
        return instances.get(tx, account=account, instance_id=instance_id)
    raise ResourceNotFoundException(f"The resource {arn} does not exist.")
