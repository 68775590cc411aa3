"""The wire is that of the published `connect` 2017-08-08 service model, member by member (contract, opening)."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from harness.service_model import differences
from readdress.api.catalogue import OPERATIONS
from readdress.api.operation import Operation

CONNECT = [operation for operation in OPERATIONS if operation.action.startswith("connect:")]

# Where we differ on purpose, one by one, and why.
_NOTHING_LONGER_EXISTS = "the model sets no limit; every limit is named here, and no stored value is longer"
_NO_ACCESS_URL = "there is no agent workspace to link to"
EXCEPTIONS = {
    "SearchEmailAddresses: input SearchCriteria.StringCondition.FieldName max: 4096, and in the model None": (
        _NOTHING_LONGER_EXISTS
    ),
    "SearchEmailAddresses: input SearchCriteria.StringCondition.Value max: 4096, and in the model None": (
        _NOTHING_LONGER_EXISTS
    ),
    "SearchEmailAddresses: input SearchFilter.TagFilter.AndConditions[].TagKey max: 4096, and in the model None": (
        _NOTHING_LONGER_EXISTS
    ),
    "SearchEmailAddresses: input SearchFilter.TagFilter.AndConditions[].TagValue max: 4096, and in the model None": (
        _NOTHING_LONGER_EXISTS
    ),
    "SearchEmailAddresses: input SearchFilter.TagFilter.OrConditions[][].TagKey max: 4096, and in the model None": (
        _NOTHING_LONGER_EXISTS
    ),
    "SearchEmailAddresses: input SearchFilter.TagFilter.OrConditions[][].TagValue max: 4096, and in the model None": (
        _NOTHING_LONGER_EXISTS
    ),
    "SearchEmailAddresses: input SearchFilter.TagFilter.TagCondition.TagKey max: 4096, and in the model None": (
        _NOTHING_LONGER_EXISTS
    ),
    "SearchEmailAddresses: input SearchFilter.TagFilter.TagCondition.TagValue max: 4096, and in the model None": (
        _NOTHING_LONGER_EXISTS
    ),
    "ListInstances: input NextToken max: 2500, and in the model None": "no page token of ours is longer",
    "TagResource: input resourceArn max: 2048, and in the model None": _NOTHING_LONGER_EXISTS,
    "UntagResource: input resourceArn max: 2048, and in the model None": _NOTHING_LONGER_EXISTS,
    "ListTagsForResource: input resourceArn max: 2048, and in the model None": _NOTHING_LONGER_EXISTS,
    "DescribeInstance: output ReplicationConfiguration: missing": "no instance is replicated to another Region",
    "DescribeInstance: output Instance.StatusReason: missing": "it explains a failed creation, and none fails halfway",
    "DescribeInstance: output Instance.InstanceAccessUrl: missing": _NO_ACCESS_URL,
    "ListInstances: output InstanceSummaryList[].InstanceAccessUrl: missing": _NO_ACCESS_URL,
}

Model = dict[str, Any]
Mutation = Callable[[Model], None]


def load_model() -> Model:
    """The published model, cut down to what our operations reach, so that copies are cheap."""
    published = Loader().load_service_model("connect", "service-2", api_version="2017-08-08")
    operations = {operation.name: published["operations"][operation.name] for operation in CONNECT}
    shapes: dict[str, Any] = {}
    waiting = [
        reference["shape"]
        for operation in operations.values()
        for reference in (operation["input"], operation.get("output"), *operation["errors"])
        if reference
    ]
    while waiting:
        name = waiting.pop()
        if name not in shapes:
            shape = shapes[name] = published["shapes"][name]
            inner = [
                *shape.get("members", {}).values(),
                *(shape[key] for key in ("member", "key", "value") if key in shape),
            ]
            waiting += [reference["shape"] for reference in inner]
    return {"metadata": published["metadata"], "operations": operations, "shapes": shapes}


MODEL = load_model()


def test_every_operation_of_the_contract_is_declared() -> None:
    """Contract 1: the seven on addresses and aliases, four on instances, three on tags."""
    assert {operation.name for operation in CONNECT} == {
        "CreateEmailAddress", "DescribeEmailAddress", "SearchEmailAddresses", "UpdateEmailAddressMetadata",
        "DeleteEmailAddress", "AssociateEmailAddressAlias", "DisassociateEmailAddressAlias",
        "CreateInstance", "DescribeInstance", "ListInstances", "DeleteInstance",
        "TagResource", "UntagResource", "ListTagsForResource",
    }  # fmt: skip


@pytest.mark.parametrize("operation", CONNECT, ids=lambda operation: operation.name)
def test_the_declaration_is_the_models(operation: Operation) -> None:
    expected = {text for text in EXCEPTIONS if text.startswith(f"{operation.name}:")}
    assert set(differences(operation, ServiceModel(MODEL, "connect"))) == expected


def test_every_exception_has_a_reason_and_names_an_operation() -> None:
    assert all(EXCEPTIONS.values())
    assert {text.partition(":")[0] for text in EXCEPTIONS} <= {operation.name for operation in CONNECT}


# Each kind of drift, planted in a copy of the model, has to be seen.


def _put(*path: str, value: Any) -> Mutation:
    def mutate(model: Model) -> None:
        *parents, last = path
        for name in parents:
            model = model[name]
        model[last] = value

    return mutate


def _drop(*path: str) -> Mutation:
    def mutate(model: Model) -> None:
        *parents, last = path
        for name in parents:
            model = model[name]
        del model[last]

    return mutate


def _rename(shape: str, old: str, new: str) -> Mutation:
    def mutate(model: Model) -> None:
        members = model["shapes"][shape]["members"]
        members[new] = members.pop(old)

    return mutate


def _require(shape: str, *names: str) -> Mutation:
    return _put("shapes", shape, "required", value=list(names))


def _errors(operation: str, *names: str) -> Mutation:
    return _put("operations", operation, "errors", value=[{"shape": name} for name in names])


_CREATE = "CreateEmailAddressRequest"
_OPERATIONS = {operation.name: operation for operation in CONNECT}
_LIST_ERRORS = ("InvalidRequestException", "InternalServiceException")
_MUTATIONS: dict[str, tuple[str, str, Mutation]] = {
    "no such operation": ("ListInstances", "no such operation", _drop("operations", "ListInstances")),
    "method": (
        "CreateEmailAddress",
        "method",
        _put("operations", "CreateEmailAddress", "http", "method", value="POST"),
    ),
    "path": (
        "TagResource",
        "path",
        _put("operations", "TagResource", "http", "requestUri", value="/tag/{resourceArn}"),
    ),
    "query name": (
        "ListInstances",
        "query",
        _put("shapes", "ListInstancesRequest", "members", "MaxResults", "locationName", value="max-results"),
    ),
    "query to body": (
        "DeleteInstance",
        "query",
        _drop("shapes", "DeleteInstanceRequest", "members", "ClientToken", "location"),
    ),
    "body to query": (
        "CreateEmailAddress",
        "query",
        _put("shapes", _CREATE, "members", "ClientToken", "location", value="querystring"),
    ),
    "body to header": (
        "CreateEmailAddress",
        "header",
        _put("shapes", _CREATE, "members", "ClientToken", "location", value="header"),
    ),
    "path member": (
        "DescribeInstance",
        "path members",
        _drop("shapes", "DescribeInstanceRequest", "members", "InstanceId", "location"),
    ),
    "input member more": (
        "CreateEmailAddress",
        "input Surplus: missing",
        _put("shapes", _CREATE, "members", "Surplus", value={"shape": "Description"}),
    ),
    "input member less": (
        "CreateEmailAddress",
        "input DisplayName: not in the model",
        _drop("shapes", _CREATE, "members", "DisplayName"),
    ),
    "input member renamed": (
        "CreateEmailAddress",
        "input Display: missing",
        _rename(_CREATE, "DisplayName", "Display"),
    ),
    "letter case of a member": ("TagResource", "input Tags: missing", _rename("TagResourceRequest", "tags", "Tags")),
    "nested member less": (
        "SearchEmailAddresses",
        "StringCondition.Value: not in the model",
        _drop("shapes", "StringCondition", "members", "Value"),
    ),
    "nested member more": (
        "AssociateEmailAddressAlias",
        "AliasConfiguration.Surplus: missing",
        _put("shapes", "AliasConfiguration", "members", "Surplus", value={"shape": "Description"}),
    ),
    "required becomes optional": ("CreateEmailAddress", "input EmailAddress required", _require(_CREATE, "InstanceId")),
    "optional becomes required": (
        "CreateEmailAddress",
        "input DisplayName required",
        _require(_CREATE, "InstanceId", "EmailAddress", "DisplayName"),
    ),
    "nested required": ("AssociateEmailAddressAlias", "EmailAddressId required", _require("AliasConfiguration")),
    "output required": (
        "DescribeEmailAddress",
        "output DisplayName required",
        _require("DescribeEmailAddressResponse", "DisplayName"),
    ),
    "type": (
        "CreateInstance",
        "input InboundCallsEnabled type",
        _put("shapes", "InboundCallsEnabled", "type", value="string"),
    ),
    "type of a list's member": (
        "UntagResource",
        "input tagKeys[] type",
        _put("shapes", "TagKey", "type", value="integer"),
    ),
    "longest": ("CreateEmailAddress", "input EmailAddress max", _put("shapes", "EmailAddress", "max", value=254)),
    "shortest": ("CreateEmailAddress", "input EmailAddress min", _put("shapes", "EmailAddress", "min", value=3)),
    "limit goes": ("CreateEmailAddress", "input ClientToken max", _drop("shapes", "ClientToken", "max")),
    "limit comes": (
        "SearchEmailAddresses",
        "AndConditions max",
        _put("shapes", "EmailAddressSearchConditionList", "max", value=9),
    ),
    "entries of a map": ("TagResource", "input tags max", _put("shapes", "TagMap", "max", value=200)),
    "key of a map": ("TagResource", "input tags key max", _put("shapes", "TagKey", "max", value=64)),
    "value of a map": ("TagResource", "input tags value max", _put("shapes", "TagValue", "max", value=255)),
    "entries of a list": ("UntagResource", "input tagKeys max", _put("shapes", "TagKeyList", "max", value=49)),
    "highest": ("SearchEmailAddresses", "input MaxResults max", _put("shapes", "MaxResult100", "max", value=500)),
    "lowest": ("SearchEmailAddresses", "input MaxResults min", _put("shapes", "MaxResult100", "min", value=0)),
    "pattern": (
        "CreateEmailAddress",
        "input EmailAddress pattern",
        _put("shapes", "EmailAddress", "pattern", value=".+@.+"),
    ),
    "pattern goes": ("CreateInstance", "input DirectoryId pattern", _drop("shapes", "DirectoryId", "pattern")),
    "pattern comes": (
        "CreateEmailAddress",
        "input DisplayName pattern",
        _put("shapes", "EmailAddressDisplayName", "pattern", value=".*"),
    ),
    "enum value more": (
        "CreateInstance",
        "input IdentityManagementType enum",
        _put("shapes", "DirectoryType", "enum", value=["SAML", "CONNECT_MANAGED", "EXISTING_DIRECTORY", "OIDC"]),
    ),
    "enum value less": (
        "SearchEmailAddresses",
        "ComparisonType enum",
        _put("shapes", "StringComparisonType", "enum", value=["EXACT", "CONTAINS"]),
    ),
    "output member more": (
        "DescribeEmailAddress",
        "output Surplus: missing",
        _put("shapes", "DescribeEmailAddressResponse", "members", "Surplus", value={"shape": "Description"}),
    ),
    "output member less": (
        "DescribeEmailAddress",
        "output ModifiedTimestamp: not in the model",
        _drop("shapes", "DescribeEmailAddressResponse", "members", "ModifiedTimestamp"),
    ),
    "output member renamed": (
        "SearchEmailAddresses",
        "output EmailAddresses[].Alias: missing",
        _rename("EmailAddressMetadata", "AliasConfigurations", "Alias"),
    ),
    "output type": (
        "DescribeEmailAddress",
        "output CreateTimestamp type",
        _put("shapes", "ISO8601Datetime", "type", value="timestamp"),
    ),
    "output where there was none": (
        "DeleteInstance",
        "output Id: missing",
        _put("operations", "DeleteInstance", "output", value={"shape": "CreateInstanceResponse"}),
    ),
    "error more": (
        "ListInstances",
        "error ThrottlingException: None",
        _errors("ListInstances", *_LIST_ERRORS, "ThrottlingException"),
    ),
    "error less": ("ListInstances", "error InternalServiceException: 500", _errors("ListInstances", _LIST_ERRORS[0])),
    "status": (
        "CreateEmailAddress",
        "error ServiceQuotaExceededException: 402",
        _put("shapes", "ServiceQuotaExceededException", "error", "httpStatusCode", value=400),
    ),
}


@pytest.mark.parametrize(("name", "expected", "mutate"), _MUTATIONS.values(), ids=_MUTATIONS)
def test_a_planted_difference_is_found(name: str, expected: str, mutate: Mutation) -> None:
    mutated = copy.deepcopy(MODEL)
    mutate(mutated)
    found = set(differences(_OPERATIONS[name], ServiceModel(mutated, "connect"))) - EXCEPTIONS.keys()
    assert any(expected in difference for difference in found), found
