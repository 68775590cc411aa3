"""The seven operations on email addresses and aliases, as Amazon Connect documents them."""

from typing import Annotated

from msgspec import Meta

from readdress.address import fold_domain, split_address
from readdress.api import paging
from readdress.api.access import Caller
from readdress.api.criteria import SearchCriteria, SearchFilter, to_condition
from readdress.api.operation import Kind, Operations
from readdress.api.shapes import (
    AliasConfiguration,
    Answer,
    ClientToken,
    Description,
    DisplayName,
    EmailAddressId,
    EmailAddressText,
    Empty,
    InstanceId,
    Request,
    Shape,
    TagMap,
)
from readdress.clock import iso_8601, new_id
from readdress.directory import addresses, aliases, instances, search, settings
from readdress.errors import (
    DuplicateResourceException,
    IdempotencyException,
    ResourceConflictException,
    ServiceQuotaExceededException,
)
from readdress.store.database import Transaction

operations = Operations()

_PATH = "/email-addresses/{InstanceId}/{EmailAddressId}"
_ADDRESS = "instance/{instance_id}/email-address/{email_address_id}"
_ALIAS = "instance/{instance_id}/email-address/{alias_configuration.email_address_id}"
_ANY_ADDRESS = "instance/{instance_id}/email-address/*"

SEARCH_PAGE_DEFAULT = 100


class CreateEmailAddressRequest(Request):
    instance_id: InstanceId
    email_address: EmailAddressText
    description: Description | None = None
    display_name: DisplayName | None = None
    tags: TagMap | None = None
    client_token: ClientToken | None = None


class EmailAddressName(Answer):
    """Which address it was: the answer to Create and UpdateMetadata."""

    email_address_id: str
    email_address_arn: str


class EmailAddressRequest(Request):
    instance_id: InstanceId
    email_address_id: EmailAddressId


class DescribeEmailAddressAnswer(Answer):
    email_address_id: str
    email_address_arn: str
    email_address: str
    create_timestamp: str
    modified_timestamp: str
    alias_configurations: list[AliasConfiguration]
    tags: dict[str, str]
    display_name: str | None = None
    description: str | None = None


class UpdateEmailAddressMetadataRequest(EmailAddressRequest):
    description: Description | None = None
    display_name: DisplayName | None = None
    client_token: ClientToken | None = None


class AliasRequest(Request):
    """The id in the path is the primary's; the alias is in the configuration (contract 2.1)."""

    email_address_id: EmailAddressId
    instance_id: InstanceId
    alias_configuration: AliasConfiguration
    client_token: ClientToken | None = None


class SearchEmailAddressesRequest(Request):
    instance_id: InstanceId
    max_results: Annotated[int, Meta(ge=1, le=100)] | None = None
    next_token: Annotated[str, Meta(min_length=1, max_length=2500)] | None = None
    search_criteria: SearchCriteria | None = None
    search_filter: SearchFilter | None = None


class EmailAddressMetadata(Shape):
    email_address_id: str
    email_address_arn: str
    email_address: str
    alias_configurations: list[AliasConfiguration]
    description: str | None = None
    display_name: str | None = None


class SearchEmailAddressesAnswer(Answer):
    email_addresses: list[EmailAddressMetadata]
    approximate_total_count: int
    next_token: str | None = None


@operations.declare(
    "PUT /email-addresses/{InstanceId}",
    ServiceQuotaExceededException,
    IdempotencyException,
    DuplicateResourceException,
    ResourceConflictException,
    kind=Kind.WRITE,
    resources=[_ANY_ADDRESS],
)
def create_email_address(tx: Transaction, caller: Caller, request: CreateEmailAddressRequest) -> EmailAddressName:
    """Publish an address: from the answer on, mail for it is accepted into its inbox."""
    instances.get(tx, account=caller.scope.account, instance_id=request.instance_id)
    address_id = new_id()
    addresses.create(
        tx,
        address_id=address_id,
        instance_id=request.instance_id,
        address=request.email_address,
        display_name=request.display_name,
        description=request.description,
        addresses_max=caller.quotas.addresses_max,
    )
    if request.tags:
        domain = fold_domain(split_address(request.email_address).domain)
        settings.tag_address(tx, address_id, domain, request.tags, transports=caller.transports)
    return EmailAddressName(
        email_address_id=address_id,
        email_address_arn=caller.scope.address_arn(request.instance_id, address_id),
    )


@operations.declare(f"GET {_PATH}", kind=Kind.READ, resources=[_ADDRESS])
def describe_email_address(tx: Transaction, caller: Caller, request: EmailAddressRequest) -> DescribeEmailAddressAnswer:
    """The address, its tags, and the alias that forwards to it, if one does."""
    address, found_tags = addresses.describe(
        tx,
        account=caller.scope.account,
        instance_id=request.instance_id,
        address_id=request.email_address_id,
    )
    return DescribeEmailAddressAnswer(
        email_address_id=address.id,
        email_address_arn=caller.scope.address_arn(address.instance_id, address.id),
        email_address=address.address,
        display_name=address.display_name,
        description=address.description,
        create_timestamp=iso_8601(address.created_ms),
        modified_timestamp=iso_8601(address.modified_ms),
        alias_configurations=_configurations(address),
        tags=found_tags,
    )


@operations.declare("POST /search-email-addresses", kind=Kind.SCAN, resources=["instance/{instance_id}"])
def search_email_addresses(
    tx: Transaction, caller: Caller, request: SearchEmailAddressesRequest
) -> SearchEmailAddressesAnswer:
    """The instance's addresses that meet the criteria and the filter, in order of creation."""
    instances.get(tx, account=caller.scope.account, instance_id=request.instance_id)
    query = (request.instance_id, request.search_criteria, request.search_filter)
    page = search.search(
        tx,
        instance_id=request.instance_id,
        condition=to_condition(request.search_criteria, request.search_filter),
        after=paging.decode_token(request.next_token, *query),
        limit=request.max_results or SEARCH_PAGE_DEFAULT,
    )
    return SearchEmailAddressesAnswer(
        email_addresses=[_metadata(caller, hit) for hit in page.hits],
        approximate_total_count=page.total,
        next_token=paging.encode_token(page.next_after, *query) if page.next_after else None,
    )


@operations.declare(f"POST {_PATH}", IdempotencyException, kind=Kind.WRITE, resources=[_ADDRESS])
def update_email_address_metadata(
    tx: Transaction, caller: Caller, request: UpdateEmailAddressMetadataRequest
) -> EmailAddressName:
    """Change display name and description; the relation stays as it is (contract 2.7)."""
    address = _get(tx, caller, request)
    addresses.update(tx, address.id, display_name=request.display_name, description=request.description)
    return EmailAddressName(
        email_address_id=address.id,
        email_address_arn=caller.scope.address_arn(address.instance_id, address.id),
    )


@operations.declare(f"DELETE {_PATH}", ResourceConflictException, kind=Kind.WRITE, resources=[_ADDRESS])
def delete_email_address(tx: Transaction, caller: Caller, request: EmailAddressRequest) -> Empty:
    """Retire an address with its relation: from the answer on, mail for it is refused."""
    address = _get(tx, caller, request)
    addresses.delete(tx, instance_id=address.instance_id, address_id=address.id, request_id=caller.request_id)
    return Empty()


@operations.declare(
    f"POST {_PATH}/associate-alias",
    ResourceConflictException,
    IdempotencyException,
    kind=Kind.WRITE,
    resources=[_ADDRESS, _ALIAS],
    touches=["{email_address_id}", "{alias_configuration.email_address_id}"],
)
def associate_email_address_alias(tx: Transaction, caller: Caller, request: AliasRequest) -> Empty:
    """Mail for the alias goes to the primary as well."""
    aliases.associate(
        tx,
        account=caller.scope.account,
        instance_id=request.instance_id,
        primary_id=request.email_address_id,
        alias_id=request.alias_configuration.email_address_id,
        request_id=caller.request_id,
    )
    return Empty()


@operations.declare(
    f"POST {_PATH}/disassociate-alias",
    ResourceConflictException,
    kind=Kind.WRITE,
    resources=[_ADDRESS, _ALIAS],
    touches=["{email_address_id}", "{alias_configuration.email_address_id}"],
)
def disassociate_email_address_alias(tx: Transaction, caller: Caller, request: AliasRequest) -> Empty:
    """Mail for the former alias reaches its own inbox alone; both addresses stay."""
    aliases.disassociate(
        tx,
        account=caller.scope.account,
        instance_id=request.instance_id,
        primary_id=request.email_address_id,
        alias_id=request.alias_configuration.email_address_id,
        request_id=caller.request_id,
    )
    return Empty()


def _get(tx: Transaction, caller: Caller, request: EmailAddressRequest) -> addresses.EmailAddress:
    return addresses.get(
        tx,
        account=caller.scope.account,
        instance_id=request.instance_id,
        address_id=request.email_address_id,
    )


def _configurations(address: addresses.EmailAddress) -> list[AliasConfiguration]:
    return [AliasConfiguration(email_address_id=address.alias_id)] if address.alias_id else []


def _metadata(caller: Caller, address: addresses.EmailAddress) -> EmailAddressMetadata:
    return EmailAddressMetadata(
        email_address_id=address.id,
        email_address_arn=caller.scope.address_arn(address.instance_id, address.id),
        email_address=address.address,
        description=address.description,
        display_name=address.display_name,
        alias_configurations=_configurations(address),
    )
