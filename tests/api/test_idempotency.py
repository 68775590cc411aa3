"""Tokens: a retry gets the stored answer without running again, for seven days to the millisecond (contract 3)."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import ManualClock
from harness.api_calls import ApiCaller, alias_members
from harness.tables import dump
from readdress.api import idempotency
from readdress.errors import ServiceError
from readdress.store.database import Database

SEVEN_DAYS_MS = 7 * 24 * 60 * 60 * 1_000
RETENTION_DAYS = 7


@pytest.fixture
def api(database: Database, clock: ManualClock) -> Iterator[ApiCaller]:
    with ApiCaller(database) as caller:
        yield caller


@pytest.fixture
def instance_id(api: ApiCaller) -> str:
    return api.create_instance()


@pytest.fixture
def pair(api: ApiCaller, instance_id: str) -> dict[str, str]:
    return {
        "primary_id": api.create_address(instance_id, "primary@example.com"),
        "alias_id": api.create_address(instance_id, "alias@example.com"),
    }


def refusal(api: ApiCaller, operation: str, **members: Any) -> str:
    with pytest.raises(ServiceError) as caught:
        api(operation, **members)
    return caught.value.code


def aliases_of(api: ApiCaller, instance_id: str, primary_id: str) -> list[str]:
    described = api("DescribeEmailAddress", InstanceId=instance_id, EmailAddressId=primary_id)
    return [alias["EmailAddressId"] for alias in described["AliasConfigurations"]]


def tokens(database: Database) -> list[tuple[Any, ...]]:
    return dump(database)["idempotency_token"]


@pytest.mark.parametrize("later_ms", [0, 1, SEVEN_DAYS_MS - 1])
def test_the_same_call_gets_the_stored_answer_within_seven_days(
    api: ApiCaller, clock: ManualClock, instance_id: str, later_ms: int
) -> None:
    members = {"InstanceId": instance_id, "EmailAddress": "help@example.com", "ClientToken": "token"}
    first = api("CreateEmailAddress", **members)
    clock.advance(later_ms)
    assert api("CreateEmailAddress", **members) == first


@pytest.mark.parametrize("later_ms", [SEVEN_DAYS_MS, SEVEN_DAYS_MS + 1, 2 * SEVEN_DAYS_MS])
def test_an_expired_token_may_be_claimed_again(
    api: ApiCaller, clock: ManualClock, instance_id: str, later_ms: int
) -> None:
    members = {"InstanceId": instance_id, "EmailAddress": "help@example.com", "ClientToken": "token"}
    first = api("CreateEmailAddress", **members)
    clock.advance(later_ms)
    assert refusal(api, "CreateEmailAddress", **members) == "DuplicateResourceException"  # it ran
    second = api("CreateEmailAddress", **members | {"EmailAddress": "other@example.com"})
    assert second["EmailAddressId"] != first["EmailAddressId"]
    assert api("CreateEmailAddress", **members | {"EmailAddress": "other@example.com"}) == second


def test_a_replay_does_not_prolong_the_seven_days(api: ApiCaller, clock: ManualClock, instance_id: str) -> None:
    members = {"InstanceId": instance_id, "EmailAddress": "help@example.com", "ClientToken": "token"}
    first = api("CreateEmailAddress", **members)
    clock.advance(SEVEN_DAYS_MS - 1)
    assert api("CreateEmailAddress", **members) == first
    clock.advance(1)
    assert refusal(api, "CreateEmailAddress", **members) == "DuplicateResourceException"


def test_a_late_retry_of_an_associate_does_not_associate_again(
    api: ApiCaller, clock: ManualClock, instance_id: str, pair: dict[str, str]
) -> None:
    associate = alias_members(instance_id, **pair, ClientToken="associate")
    api("AssociateEmailAddressAlias", **associate)
    api("DisassociateEmailAddressAlias", **alias_members(instance_id, **pair, ClientToken="disassociate"))
    clock.advance(SEVEN_DAYS_MS - 1)
    assert api("AssociateEmailAddressAlias", **associate) == {}
    assert aliases_of(api, instance_id, pair["primary_id"]) == []


def test_a_late_retry_of_a_disassociate_does_not_disassociate_again(
    api: ApiCaller, instance_id: str, pair: dict[str, str]
) -> None:
    disassociate = alias_members(instance_id, **pair, ClientToken="disassociate")
    api("AssociateEmailAddressAlias", **alias_members(instance_id, **pair))
    api("DisassociateEmailAddressAlias", **disassociate)
    api("AssociateEmailAddressAlias", **alias_members(instance_id, **pair))
    assert api("DisassociateEmailAddressAlias", **disassociate) == {}
    assert aliases_of(api, instance_id, pair["primary_id"]) == [pair["alias_id"]]


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("CreateEmailAddress", "IdempotencyException"),
        ("UpdateEmailAddressMetadata", "IdempotencyException"),
        ("AssociateEmailAddressAlias", "IdempotencyException"),
        ("DisassociateEmailAddressAlias", "InvalidRequestException"),  # whose model lacks it
        ("CreateInstance", "InvalidRequestException"),
        ("DeleteInstance", "InvalidRequestException"),
    ],
)
def test_a_token_with_other_parameters_is_refused_and_nothing_happens(
    api: ApiCaller, database: Database, instance_id: str, pair: dict[str, str], operation: str, code: str
) -> None:
    named = {"InstanceId": instance_id, "EmailAddressId": pair["primary_id"]}
    calls: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "CreateEmailAddress": (
            {"InstanceId": instance_id, "EmailAddress": "a@example.com"},
            {"EmailAddress": "b@example.com"},
        ),
        "UpdateEmailAddressMetadata": (named | {"DisplayName": "one"}, {"Description": "one"}),
        "AssociateEmailAddressAlias": (
            alias_members(instance_id, **pair),
            alias_members(instance_id, primary_id=pair["alias_id"], alias_id=pair["primary_id"]),
        ),
        "DisassociateEmailAddressAlias": (
            alias_members(instance_id, **pair),
            alias_members(instance_id, primary_id=pair["alias_id"], alias_id=pair["primary_id"]),
        ),
        "CreateInstance": (
            {"IdentityManagementType": "SAML", "InboundCallsEnabled": True, "OutboundCallsEnabled": True},
            {"InboundCallsEnabled": False},
        ),
        "DeleteInstance": ({"InstanceId": api.create_instance()}, {"InstanceId": instance_id}),
    }
    members, other = calls[operation]
    if operation == "DisassociateEmailAddressAlias":
        api("AssociateEmailAddressAlias", **alias_members(instance_id, **pair))
    api(operation, **members, ClientToken="token")
    before = dump(database)
    assert refusal(api, operation, **members | other, ClientToken="token") == code
    assert dump(database) == before
    api(operation, **members, ClientToken="token")
    assert dump(database) == before


def test_a_failed_call_keeps_no_token_and_may_be_repeated_when_the_state_allows_it(
    api: ApiCaller, database: Database, instance_id: str, pair: dict[str, str]
) -> None:
    disassociate = alias_members(instance_id, **pair, ClientToken="token")
    assert refusal(api, "DisassociateEmailAddressAlias", **disassociate) == "ResourceNotFoundException"
    assert tokens(database) == []
    api("AssociateEmailAddressAlias", **alias_members(instance_id, **pair))
    assert api("DisassociateEmailAddressAlias", **disassociate) == {}
    assert aliases_of(api, instance_id, pair["primary_id"]) == []


def test_a_failed_call_with_an_expired_token_leaves_the_old_row(
    api: ApiCaller, clock: ManualClock, database: Database, instance_id: str
) -> None:
    members = {"InstanceId": instance_id, "EmailAddress": "help@example.com", "ClientToken": "token"}
    api("CreateEmailAddress", **members)
    clock.advance(SEVEN_DAYS_MS)
    before = tokens(database)
    assert refusal(api, "CreateEmailAddress", **members) == "DuplicateResourceException"
    assert tokens(database) == before


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_there_is_no_idempotency(
    api: ApiCaller, database: Database, instance_id: str, token: str | None
) -> None:
    members = {"InstanceId": instance_id, "EmailAddress": "help@example.com", "ClientToken": token}
    api("CreateEmailAddress", **members)
    assert refusal(api, "CreateEmailAddress", **members) == "DuplicateResourceException"
    assert tokens(database) == []


def test_a_token_belongs_to_one_operation(api: ApiCaller, instance_id: str, pair: dict[str, str]) -> None:
    members = alias_members(instance_id, **pair, ClientToken="shared")
    api("AssociateEmailAddressAlias", **members)
    api("DisassociateEmailAddressAlias", **members)
    assert aliases_of(api, instance_id, pair["primary_id"]) == []


def test_a_token_belongs_to_one_account(api: ApiCaller, database: Database, clock: ManualClock) -> None:
    members = {"IdentityManagementType": "SAML", "InboundCallsEnabled": True, "OutboundCallsEnabled": True}
    with ApiCaller(database, account="210987654321") as other:
        one = api("CreateInstance", **members, ClientToken="shared")
        two = other("CreateInstance", **members, ClientToken="shared")
    assert one["Id"] != two["Id"]


def test_a_replay_outlives_what_it_speaks_of(api: ApiCaller, instance_id: str) -> None:
    members = {"InstanceId": instance_id, "EmailAddress": "help@example.com", "ClientToken": "token"}
    made = api("CreateEmailAddress", **members)
    api("DeleteEmailAddress", InstanceId=instance_id, EmailAddressId=made["EmailAddressId"])
    assert api("CreateEmailAddress", **members) == made
    assert api("SearchEmailAddresses", InstanceId=instance_id)["EmailAddresses"] == []


def test_an_arn_and_its_id_are_the_same_parameter(api: ApiCaller, instance_id: str, pair: dict[str, str]) -> None:
    # contract 5: wherever an id is taken, its ARN is too
    scope = api.caller.scope
    by_id = alias_members(instance_id, **pair, ClientToken="token")
    by_arn = alias_members(
        scope.instance_arn(instance_id),
        primary_id=scope.address_arn(instance_id, pair["primary_id"]),
        alias_id=scope.address_arn(instance_id, pair["alias_id"]),
        ClientToken="token",
    )
    api("AssociateEmailAddressAlias", **by_id)
    assert api("AssociateEmailAddressAlias", **by_arn) == {}


def test_a_row_holds_the_answer_that_was_given(api: ApiCaller, database: Database, instance_id: str) -> None:
    members = {"InstanceId": instance_id, "EmailAddress": "help@example.com", "ClientToken": "token"}
    made = api("CreateEmailAddress", **members)
    ((account, operation, token, _, answer, _),) = tokens(database)
    assert (account, operation, token) == (api.caller.scope.account, "CreateEmailAddress", "token")
    assert json.loads(answer) == made


@pytest.mark.parametrize(("age_ms", "left"), [(SEVEN_DAYS_MS - 1, 1), (SEVEN_DAYS_MS, 0), (SEVEN_DAYS_MS + 1, 0)])
def test_the_purge_forgets_what_is_seven_days_old_and_nothing_younger(
    api: ApiCaller, database: Database, clock: ManualClock, instance_id: str, age_ms: int, left: int
) -> None:
    api("CreateEmailAddress", InstanceId=instance_id, EmailAddress="help@example.com", ClientToken="token")
    clock.advance(age_ms)
    gone = database.run(lambda tx: idempotency.delete_expired(tx, retention_days=RETENTION_DAYS))
    assert (gone, len(tokens(database))) == (1 - left, left)


def test_the_purge_goes_a_little_at_a_time_and_the_oldest_first(
    api: ApiCaller, database: Database, clock: ManualClock, instance_id: str
) -> None:
    for number in range(5):
        api("CreateEmailAddress", InstanceId=instance_id, EmailAddress=f"{number}@x.example", ClientToken=f"{number}")
        clock.advance(1_000)
    clock.advance(SEVEN_DAYS_MS)
    gone = [
        database.run(lambda tx: idempotency.delete_expired(tx, retention_days=RETENTION_DAYS, limit=2))
        for _ in range(2)
    ]
    assert gone == [2, 2]
    assert [row[2] for row in tokens(database)] == ["4"]
