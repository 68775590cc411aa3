"""Create, describe, list and delete instances: the scopes that email addresses live in."""

from typing import Annotated, Literal

from msgspec import Meta

from readdress.api import paging
from readdress.api.access import Caller
from readdress.api.operation import Kind, Operations
from readdress.api.shapes import (
    Answer,
    ClientToken,
    Empty,
    InstanceId,
    Request,
    Shape,
    TagMap,
    model_pattern,
)
from readdress.clock import new_id
from readdress.directory import instances, settings, tags
from readdress.errors import (
    InternalServiceException,
    InvalidParameterException,
    InvalidRequestException,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
    ThrottlingException,
)
from readdress.store.database import Transaction

operations = Operations()

LIST_PAGE_DEFAULT = 10

DirectoryType = Literal["SAML", "CONNECT_MANAGED", "EXISTING_DIRECTORY"]


class CreateInstanceRequest(Request):
    identity_management_type: DirectoryType
    inbound_calls_enabled: bool
    outbound_calls_enabled: bool
    client_token: ClientToken | None = None
    instance_alias: (
        Annotated[
            str,
            Meta(min_length=1, max_length=45),
            model_pattern(r"^(?!d-)([\da-zA-Z]+)([-]*[\da-zA-Z])*$"),
        ]
        | None
    ) = None
    directory_id: Annotated[str, Meta(min_length=12, max_length=12), model_pattern(r"^d-[0-9a-f]{10}$")] | None = None
    tags: TagMap | None = None


class CreateInstanceAnswer(Answer):
    id: str
    arn: str


class InstanceRequest(Request):
    instance_id: InstanceId


class DeleteInstanceRequest(InstanceRequest):
    client_token: ClientToken | None = None


class InstanceSummary(Shape):
    id: str
    arn: str
    identity_management_type: str
    created_time: float
    service_role: str
    instance_status: str
    inbound_calls_enabled: bool
    outbound_calls_enabled: bool
    instance_alias: str | None = None


class Instance(InstanceSummary, kw_only=True):
    tags: dict[str, str]


class DescribeInstanceAnswer(Answer):
    instance: Instance


class ListInstancesRequest(Request):
    next_token: Annotated[str, Meta(max_length=2500)] | None = None
    max_results: Annotated[int, Meta(ge=1, le=10)] | None = None


class ListInstancesAnswer(Answer):
    instance_summary_list: list[InstanceSummary]
    next_token: str | None = None


@operations.declare(
    "PUT /instance",
    InvalidRequestException,
    ServiceQuotaExceededException,
    ThrottlingException,
    ResourceNotFoundException,
    InternalServiceException,
    common=(),
    kind=Kind.WRITE,
    resources=["*"],
)
def create_instance(tx: Transaction, caller: Caller, request: CreateInstanceRequest) -> CreateInstanceAnswer:
    """A new scope for email addresses, active at once."""
    instances_max = caller.quotas.instances_max
    if instances_max is not None:
        present = instances.list_page(tx, account=caller.scope.account, after="", limit=instances_max)
        if len(present) >= instances_max:
            raise ServiceQuotaExceededException(
                f"The account has {instances_max} instances, its quota. Delete one, or raise the quota."
            )
    instance_id = new_id()
    instances.create(
        tx,
        instances.Instance(
            id=instance_id,
            account=caller.scope.account,
            alias=request.instance_alias,
            identity_management_type=request.identity_management_type,
            directory_id=request.directory_id,
            inbound_calls=int(request.inbound_calls_enabled),
            outbound_calls=int(request.outbound_calls_enabled),
            created_ms=tx.now_ms,
        ),
    )
    if request.tags:
        settings.tag_instance(tx, instance_id, request.tags, transports=caller.transports)
    return CreateInstanceAnswer(id=instance_id, arn=caller.scope.instance_arn(instance_id))


@operations.declare(
    "GET /instance/{InstanceId}",
    InvalidRequestException,
    ResourceNotFoundException,
    InternalServiceException,
    common=(),
    kind=Kind.READ,
    resources=["instance/{instance_id}"],
)
def describe_instance(tx: Transaction, caller: Caller, request: InstanceRequest) -> DescribeInstanceAnswer:
    """The instance and its tags."""
    instance = instances.get(tx, account=caller.scope.account, instance_id=request.instance_id)
    summary = _summary(caller, instance)
    members = {name: getattr(summary, name) for name in summary.__struct_fields__}
    return DescribeInstanceAnswer(instance=Instance(**members, tags=tags.of(tx, instance.id)))


@operations.declare(
    "GET /instance?nextToken={NextToken}&maxResults={MaxResults}",
    InvalidRequestException,
    InternalServiceException,
    common=(),
    kind=Kind.READ,
    resources=["*"],
)
def list_instances(tx: Transaction, caller: Caller, request: ListInstancesRequest) -> ListInstancesAnswer:
    """The account's instances."""
    account, page = caller.scope.account, request.max_results or LIST_PAGE_DEFAULT
    try:
        after = paging.decode_token(request.next_token, "instances", account) or ""
    except InvalidParameterException as error:  # which this operation's model lacks
        raise InvalidRequestException(error.message) from None
    found = instances.list_page(tx, account=account, after=after, limit=page + 1)
    return ListInstancesAnswer(
        instance_summary_list=[_summary(caller, instance) for instance in found[:page]],
        next_token=(paging.encode_token(found[page - 1].id, "instances", account) if len(found) > page else None),
    )


@operations.declare(
    "DELETE /instance/{InstanceId}?clientToken={ClientToken}",
    ResourceNotFoundException,
    InternalServiceException,
    InvalidRequestException,
    common=(),
    kind=Kind.WRITE,
    resources=["instance/{instance_id}"],
)
def delete_instance(tx: Transaction, caller: Caller, request: DeleteInstanceRequest) -> Empty:
    """The instance with its addresses, their relations and tags: mail for them is refused from the answer on."""
    instance = instances.get(tx, account=caller.scope.account, instance_id=request.instance_id)
    instances.delete(tx, instance.id)
    return Empty()


def _summary(caller: Caller, instance: instances.Instance) -> InstanceSummary:
    role = f"arn:aws:iam::{instance.account}:role/aws-service-role/connect.amazonaws.com/AWSServiceRoleForAmazonConnect"
    return InstanceSummary(
        id=instance.id,
        arn=caller.scope.instance_arn(instance.id),
        identity_management_type=instance.identity_management_type,
        instance_alias=instance.alias,
        created_time=instance.created_ms / 1000,
        service_role=role,
        instance_status="ACTIVE",
        inbound_calls_enabled=bool(instance.inbound_calls),
        outbound_calls_enabled=bool(instance.outbound_calls),
    )
