"""Who may do what: IAM-style policies as they are evaluated, every resource of a call checked, every change audited."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import ManualClock
from harness.api_calls import ACCOUNT, REGION, ApiCaller, alias_members
from harness.spooled import put_in_spool
from harness.tables import dump
from readdress.api.catalogue import OPERATIONS
from readdress.api.policy import ALLOW_EVERYTHING, POLICY_BYTES_MAX, PolicyError, parse_policy
from readdress.errors import AccessDeniedException, ServiceError
from readdress.store.database import Database

ARN = f"arn:aws:connect:{REGION}:{ACCOUNT}:instance/"
ASSOCIATE = "connect:AssociateEmailAddressAlias"


def statement(effect: str = "Allow", action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def policy(*statements: dict[str, Any], **more: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **more})


# Evaluation, as the IAM User Guide describes it ("Policy evaluation logic", "IAM JSON policy elements").


@pytest.mark.parametrize(
    ("pattern", "action", "allowed"),
    [
        ("*", ASSOCIATE, True),
        ("connect:*", ASSOCIATE, True),
        ("connect:*", "readdress:ListMessages", False),
        (ASSOCIATE, ASSOCIATE, True),
        (ASSOCIATE.upper(), ASSOCIATE, True),  # actions have no letter case
        ("connect:Associate*", ASSOCIATE, True),
        ("connect:*Alias", ASSOCIATE, True),
        ("connect:*alias*", ASSOCIATE, True),
        ("connect:Associate", ASSOCIATE, False),
        ("ssociateEmailAddressAlias", ASSOCIATE, False),
        ("connect:?ssociateEmailAddressAlias", ASSOCIATE, True),
        ("connect:??ssociateEmailAddressAlias", ASSOCIATE, False),
        ("connect.Associate*", ASSOCIATE, False),  # a dot is a dot
        (["connect:Describe*", ASSOCIATE], ASSOCIATE, True),
        (["connect:Describe*", "connect:Search*"], ASSOCIATE, False),
        ("connect:Describe|*", ASSOCIATE, False),
        ("connect:[A]*", ASSOCIATE, False),
    ],
)
def test_an_action_matches_with_wildcards_and_without_letter_case(
    pattern: str | list[str], action: str, allowed: bool
) -> None:
    assert parse_policy(policy(statement(action=pattern))).allows(action, ARN + "1") is allowed


@pytest.mark.parametrize(
    ("pattern", "resource", "allowed"),
    [
        ("*", ARN + "1", True),
        (ARN + "1", ARN + "1", True),
        (ARN + "1", ARN + "12", False),
        (ARN + "1", ARN + "1/email-address/2", False),
        (ARN + "1/*", ARN + "1/email-address/2", True),
        (ARN + "1/*", ARN + "1", False),
        (ARN + "*", ARN + "1/email-address/2", True),
        (ARN + "?", ARN + "1", True),
        (ARN + "?", ARN + "12", False),
        (ARN + "A", ARN + "a", False),  # resources have letter case
        (ARN + "1\\*", ARN + "1", False),
        (f"arn:aws:connect:*:{ACCOUNT}:instance/1", ARN + "1", True),
        ("arn:aws:connect:eu-west-1:*", ARN + "1", False),
        ([ARN + "1", ARN + "2"], ARN + "2", True),
        ([ARN + "1", ARN + "2"], ARN + "3", False),
    ],
)
def test_a_resource_matches_with_wildcards_and_with_letter_case(
    pattern: str | list[str], resource: str, allowed: bool
) -> None:
    assert parse_policy(policy(statement(resource=pattern))).allows(ASSOCIATE, resource) is allowed


DENY_ALL = statement("Deny")
NOT_ACTION = {"Effect": "Allow", "NotAction": ["connect:Delete*", "readdress:*"], "Resource": "*"}
NOT_RESOURCE = {"Effect": "Allow", "Action": "*", "NotResource": [ARN + "1", ARN + "1/*"]}


@pytest.mark.parametrize(
    ("statements", "action", "resource", "allowed"),
    [
        ([], ASSOCIATE, ARN + "1", False),
        ([statement(action="connect:Describe*")], ASSOCIATE, ARN + "1", False),
        ([statement(), DENY_ALL], ASSOCIATE, ARN + "1", False),
        ([DENY_ALL, statement()], ASSOCIATE, ARN + "1", False),
        ([statement(), statement("Deny", "connect:Delete*")], ASSOCIATE, ARN + "1", True),
        ([statement(), statement("Deny", "connect:Delete*")], "connect:DeleteInstance", ARN + "1", False),
        ([statement(), statement("Deny", "*", ARN + "1/*")], ASSOCIATE, ARN + "1/email-address/2", False),
        ([statement(), statement("Deny", "*", ARN + "1/*")], ASSOCIATE, ARN + "2/email-address/2", True),
        ([statement("Deny", "connect:Delete*")], ASSOCIATE, ARN + "1", False),  # not denied is not allowed
        ([NOT_ACTION], ASSOCIATE, ARN + "1", True),
        ([NOT_ACTION], "connect:DeleteInstance", ARN + "1", False),
        ([NOT_ACTION], "readdress:GetMessage", ARN + "1", False),
        ([NOT_RESOURCE], ASSOCIATE, ARN + "2", True),
        ([NOT_RESOURCE], ASSOCIATE, ARN + "1/email-address/2", False),
        ([statement(), NOT_ACTION | {"Effect": "Deny"}], ASSOCIATE, ARN + "1", False),
        ([statement(), NOT_ACTION | {"Effect": "Deny"}], "connect:DeleteInstance", ARN + "1", True),
        ([statement(), NOT_RESOURCE | {"Effect": "Deny"}], ASSOCIATE, ARN + "2", False),
        ([statement(), NOT_RESOURCE | {"Effect": "Deny"}], ASSOCIATE, ARN + "1", True),
        ([statement(action=ASSOCIATE, resource=ARN + "1"), statement(action="connect:D*", resource=ARN + "2")],
         ASSOCIATE, ARN + "2", False),  # action and resource of one statement
    ],
)  # fmt: skip
def test_some_statement_has_to_allow_and_an_explicit_deny_wins(
    statements: list[dict[str, Any]], action: str, resource: str, allowed: bool
) -> None:
    assert parse_policy(policy(*statements)).allows(action, resource) is allowed


def test_one_statement_needs_no_list() -> None:
    assert parse_policy(json.dumps({"Statement": statement()})).allows(ASSOCIATE, ARN)
    assert parse_policy(ALLOW_EVERYTHING).allows(ASSOCIATE, "*")


@pytest.mark.parametrize(
    "text",
    [
        "", "no json", "[]", "null", "{}", '{"Statement": "all"}',
        policy(statement(Condition={"Bool": {"aws:SecureTransport": "true"}})),
        policy(statement(Principal="*")),
        policy(statement(NotPrincipal="*")),
        policy(statement(Whatever=1)),
        policy(statement(), Whatever=1),
        policy(statement(), Version="2030-01-01"),
        policy(statement("allow")),
        policy(statement("Permit")),
        policy(statement(action=[])),
        policy(statement(action="")),
        policy(statement(action=1)),
        policy(statement(resource=[])),
        policy(statement(NotAction="connect:*")),
        policy(statement(NotResource="*")),
        policy({"Effect": "Allow", "Action": "*"}),
        policy({"Effect": "Allow", "Resource": "*"}),
        policy({"Action": "*", "Resource": "*"}),
        policy(statement(Sid=1)),
        policy(statement(Sid="x" * POLICY_BYTES_MAX)),
    ],
    ids=lambda text: text[-60:] if len(text) < 1_000 else "too long",
)  # fmt: skip
def test_what_is_not_wholly_understood_is_refused_when_the_key_is_made(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_policy(text)


# Calls.


@pytest.fixture
def api(database: Database, clock: ManualClock) -> Iterator[ApiCaller]:
    with ApiCaller(database, transports=frozenset({"inbox", "relay"})) as caller:
        yield caller


@pytest.fixture
def instance_id(api: ApiCaller) -> str:
    return api.create_instance()


def denied(database: Database, text: str, operation: str, **members: Any) -> str:
    """The refusal's message; nothing may have happened."""
    before = dump(database)
    with ApiCaller(database, policy=text) as api, pytest.raises(AccessDeniedException) as caught:
        api(operation, **members)
    assert dump(database) == before
    return caught.value.message


@pytest.mark.parametrize("operation", ["AssociateEmailAddressAlias", "DisassociateEmailAddressAlias"])
@pytest.mark.parametrize("missing", ["primary", "alias"])
def test_an_alias_operation_needs_both_addresses(
    api: ApiCaller, database: Database, instance_id: str, operation: str, missing: str
) -> None:
    # contract 4
    ids = {name: api.create_address(instance_id, f"{name}@example.com") for name in ("primary", "alias")}
    arns = {name: f"{ARN}{instance_id}/email-address/{address_id}" for name, address_id in ids.items()}
    members = alias_members(instance_id, primary_id=ids["primary"], alias_id=ids["alias"])
    if operation.startswith("Dis"):
        api("AssociateEmailAddressAlias", **members)
    others = [arn for name, arn in arns.items() if name != missing]
    for text in (
        policy(statement(resource=others)),
        policy(statement(), statement("Deny", f"connect:{operation}", arns[missing])),
    ):
        message = denied(database, text, operation, **members)
        assert f"connect:{operation}" in message
        assert arns[missing] in message
    with ApiCaller(database, policy=policy(statement(resource=list(arns.values())))) as both:
        assert both(operation, **members) == {}


@pytest.mark.parametrize("spelling", ["id", "arn"])
def test_the_spelling_of_an_id_makes_no_way_around_a_deny(
    api: ApiCaller, database: Database, instance_id: str, spelling: str
) -> None:
    address_id = api.create_address(instance_id, "help@example.com")
    arn = f"{ARN}{instance_id}/email-address/{address_id}"
    text = policy(statement(), statement("Deny", "*", arn))
    named = {"id": (instance_id, address_id), "arn": (ARN + instance_id, arn)}[spelling]
    members = {"InstanceId": named[0], "EmailAddressId": named[1]}
    for operation in ("DescribeEmailAddress", "UpdateEmailAddressMetadata", "DeleteEmailAddress"):
        assert arn in denied(database, text, operation, **members)


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov", "AWS"])
@pytest.mark.parametrize("operation", ["TagResource", "UntagResource", "ListTagsForResource"])
def test_the_spelling_of_an_arn_makes_no_way_around_a_deny(
    api: ApiCaller, database: Database, instance_id: str, operation: str, partition: str
) -> None:
    # contract 4: an explicit deny wins. contract 5: an ARN begins with arn:aws:connect:
    address_id = api.create_address(instance_id, "help@example.com", Tags={"team": "support"})
    arn = f"{ARN}{instance_id}/email-address/{address_id}"
    more: dict[str, dict[str, Any]] = {
        "TagResource": {"tags": {"team": "stolen"}},
        "UntagResource": {"tagKeys": ["team"]},
        "ListTagsForResource": {},
    }
    members = {"resourceArn": arn.replace("arn:aws:", f"arn:{partition}:"), **more[operation]}
    before = dump(database)
    text = policy(statement(), statement("Deny", "*", arn))
    with ApiCaller(database, policy=text) as limited, pytest.raises(ServiceError) as caught:
        limited(operation, **members)
    assert caught.value.status in {400, 403, 404}
    assert dump(database) == before


def test_access_to_one_address_is_no_access_to_another(api: ApiCaller, database: Database, instance_id: str) -> None:
    mine, other = (api.create_address(instance_id, f"{name}@example.com") for name in ("mine", "other"))
    text = policy(statement(resource=f"{ARN}{instance_id}/email-address/{mine}"))
    with ApiCaller(database, policy=text) as limited:
        limited("DescribeEmailAddress", InstanceId=instance_id, EmailAddressId=mine)
    denied(database, text, "DescribeEmailAddress", InstanceId=instance_id, EmailAddressId=other)
    denied(database, text, "SearchEmailAddresses", InstanceId=instance_id)
    denied(database, text, "CreateEmailAddress", InstanceId=instance_id, EmailAddress="new@example.com")
    denied(database, text, "CreateInstance", **CREATE_INSTANCE)


def test_access_is_checked_before_existence(database: Database, api: ApiCaller) -> None:
    # Nobody learns by a 404 what a policy hides.
    denied(database, policy(DENY_ALL), "DescribeEmailAddress", InstanceId="none", EmailAddressId="none")


def test_a_replay_needs_the_access_of_its_call(database: Database, api: ApiCaller, instance_id: str) -> None:
    members = {"InstanceId": instance_id, "EmailAddress": "help@example.com", "ClientToken": "token"}
    api("CreateEmailAddress", **members)
    denied(database, policy(DENY_ALL), "CreateEmailAddress", **members)


def test_another_account_sees_nothing_of_this_one(database: Database, api: ApiCaller, instance_id: str) -> None:
    address_id = api.create_address(instance_id, "help@example.com")
    members = {"InstanceId": instance_id, "EmailAddressId": address_id}
    with ApiCaller(database, account="210987654321") as other:
        for operation in ("DescribeEmailAddress", "UpdateEmailAddressMetadata", "DeleteEmailAddress"):
            with pytest.raises(ServiceError) as caught:
                other(operation, **members)
            assert caught.value.code == "ResourceNotFoundException"
        assert other("ListInstances")["InstanceSummaryList"] == []


@pytest.mark.parametrize("operation", list(OPERATIONS), ids=lambda operation: operation.name)
def test_every_operation_has_an_action_and_a_resource_to_name_in_a_policy(operation: Any) -> None:
    assert operation.action.split(":")[0] in {"connect", "readdress"}
    assert operation.resources


# Audit.

CREATE_INSTANCE = {"IdentityManagementType": "SAML", "InboundCallsEnabled": True, "OutboundCallsEnabled": True}


def audited(database: Database) -> list[dict[str, Any]]:
    columns = ("request_id", "at_ms", "account", "access_key_id", "operation", "detail")
    return [dict(zip(columns, row, strict=True)) for row in dump(database)["audit"]]


def test_every_change_leaves_one_row_that_says_who_did_what_and_when(
    api: ApiCaller, database: Database, clock: ManualClock, instance_id: str
) -> None:
    primary, alias = (api.create_address(instance_id, f"{name}@example.com") for name in ("primary", "alias"))
    clock.advance(1_000)
    pair = alias_members(instance_id, primary_id=primary, alias_id=alias)
    arn = f"{ARN}{instance_id}/email-address/{primary}"
    database.run(lambda tx: put_in_spool(tx, instance_id=instance_id, address_id=primary, delivery_id="delivery"))
    changes: list[tuple[str, dict[str, Any]]] = [
        ("RetryDelivery", {"InstanceId": instance_id, "DeliveryId": "delivery"}),
        (
            "ReleaseMessage",
            {"InstanceId": instance_id, "MessageId": "delivery", "Recipient": "somebody@elsewhere.example"},
        ),
        ("DropDelivery", {"InstanceId": instance_id, "DeliveryId": "delivery", "Reason": "moved"}),
        ("AssociateEmailAddressAlias", pair),
        ("DisassociateEmailAddressAlias", pair),
        ("UpdateEmailAddressMetadata", {"InstanceId": instance_id, "EmailAddressId": primary, "DisplayName": "x"}),
        ("TagResource", {"resourceArn": arn, "tags": {"team": "support"}}),
        ("UntagResource", {"resourceArn": arn, "tagKeys": ["team"]}),
        ("DeleteMessages", {"InstanceId": instance_id, "EmailAddressId": primary}),
        ("DeleteEmailAddress", {"InstanceId": instance_id, "EmailAddressId": primary}),
        ("DeleteInstance", {"InstanceId": instance_id}),
    ]
    for operation, members in changes:
        before = len(audited(database))
        api(operation, **members)
        rows = audited(database)
        assert len(rows) == before + 1
        row = next(row for row in rows if row["request_id"] == api.request_id)
        assert (row["operation"], row["account"], row["access_key_id"]) == (operation, ACCOUNT, "AKIATEST")
        assert row["at_ms"] == clock.now_ms()
        assert json.loads(row["detail"])["Request"] == members
    covered = {operation for operation, _ in changes} | {"CreateInstance", "CreateEmailAddress"}
    assert covered == {operation.name for operation in OPERATIONS if operation.kind.name == "WRITE"}


def test_a_replay_leaves_no_row(api: ApiCaller, database: Database, instance_id: str) -> None:
    members = {"InstanceId": instance_id, "EmailAddress": "help@example.com", "ClientToken": "token"}
    api("CreateEmailAddress", **members)
    before = audited(database)
    for _ in range(3):
        api("CreateEmailAddress", **members)
    assert audited(database) == before


def test_a_refused_call_leaves_no_row(api: ApiCaller, database: Database, instance_id: str) -> None:
    before = audited(database)
    members = alias_members(instance_id, primary_id="none", alias_id="nobody")
    for operation in ("AssociateEmailAddressAlias", "DisassociateEmailAddressAlias"):
        with pytest.raises(ServiceError):
            api(operation, **members)
    assert audited(database) == before


def test_looking_leaves_no_row(api: ApiCaller, database: Database, instance_id: str) -> None:
    address_id = api.create_address(instance_id, "help@example.com")
    before = audited(database)
    api("DescribeEmailAddress", InstanceId=instance_id, EmailAddressId=address_id)
    api("SearchEmailAddresses", InstanceId=instance_id)
    api("ListInstances")
    assert audited(database) == before
