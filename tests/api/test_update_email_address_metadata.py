"""UpdateEmailAddressMetadata: display name and description change, and nothing else does."""

import time
import uuid
from typing import Any

import pytest

from harness.instance import UNKNOWN_ID, Instance
from harness.process import DEV_INSTANCE
from harness.refusal import refused


def update(instance: Instance, address_id: str, **members: Any) -> dict[str, Any]:
    answer: dict[str, Any] = instance.connect.update_email_address_metadata(
        **{"InstanceId": instance.id, "EmailAddressId": address_id} | members
    )
    del answer["ResponseMetadata"]
    return answer


# Shape.


def test_the_answer_is_the_id_and_its_arn_whichever_named_it(instance: Instance) -> None:
    address = instance.publish()
    for named in (address.id, instance.arn(address.id)):
        answer = update(instance, named, DisplayName="Help", InstanceId=instance.arn())
        assert answer == {"EmailAddressId": address.id, "EmailAddressArn": instance.arn(address.id)}


@pytest.mark.parametrize(
    ("member", "accepted", "too_long"),
    [("DisplayName", "ü" * 256, "ü" * 257), ("Description", "d" * 4096, "d" * 4097), ("ClientToken", "", "t" * 501)],
)
def test_text_has_the_length_of_the_model_at_most(
    instance: Instance, member: str, accepted: str, too_long: str
) -> None:
    address = instance.publish()
    update(instance, address.id, **{member: accepted})
    with refused("InvalidParameterException", member):
        update(instance, address.id, **{member: too_long})


# Behaviour.


def test_what_is_given_changes_and_the_rest_stays(instance: Instance) -> None:
    address = instance.publish(DisplayName="Help", Description="old", Tags={"a": "1"})
    before = instance.describe(address.id)
    update(instance, address.id, Description="new")
    after = instance.describe(address.id)
    assert (after["DisplayName"], after["Description"], after["Tags"]) == ("Help", "new", {"a": "1"})
    update(instance, address.id, DisplayName="")
    after = instance.describe(address.id)
    assert (after["DisplayName"], after["Description"]) == ("", "new")
    for member in ("EmailAddress", "EmailAddressArn", "CreateTimestamp"):
        assert after[member] == before[member]


def test_the_modified_timestamp_moves_forward(instance: Instance) -> None:
    address = instance.publish()
    before = instance.describe(address.id)
    while instance.describe(address.id)["ModifiedTimestamp"] == before["ModifiedTimestamp"]:
        time.sleep(0.002)  # the clock ticks in milliseconds
        update(instance, address.id, DisplayName="Help")
    after = instance.describe(address.id)
    assert after["ModifiedTimestamp"] > before["ModifiedTimestamp"]
    assert after["CreateTimestamp"] == before["CreateTimestamp"]


def test_the_relation_stays_as_it_is(instance: Instance) -> None:
    primary, alias = instance.publish("primary"), instance.publish("alias")
    instance.associate(primary=primary.id, alias=alias.id)
    for address in (primary, alias):  # contract 2.7
        update(instance, address.id, DisplayName="renamed", Description="")
    assert instance.aliases_of(primary.id) == [alias.id]
    instance.send(alias.text, subject="still forwarded")
    assert instance.subjects(primary.id) == ["still forwarded"]


def test_a_search_finds_the_new_text_and_not_the_old(instance: Instance) -> None:
    address = instance.publish(DisplayName="Old Name")
    update(instance, address.id, DisplayName="Neuer Name")

    def found(value: str) -> int:
        condition = {"FieldName": "DisplayName", "Value": value, "ComparisonType": "EXACT"}
        answer = instance.connect.search_email_addresses(
            InstanceId=instance.id, SearchCriteria={"StringCondition": condition}
        )
        return int(answer["ApproximateTotalCount"])

    assert (found("neuer name"), found("old name")) == (1, 0)


# Errors.


def test_what_is_unknown_is_not_found(instance: Instance) -> None:
    with refused("ResourceNotFoundException", UNKNOWN_ID):
        update(instance, UNKNOWN_ID, DisplayName="x")
    for instance_id in (UNKNOWN_ID, DEV_INSTANCE):
        with refused("ResourceNotFoundException", instance_id):
            update(instance, instance.publish().id, DisplayName="x", InstanceId=instance_id)


# Idempotency.


def test_a_late_retry_does_not_bring_the_old_text_back(instance: Instance) -> None:
    address, token = instance.publish(), uuid.uuid4().hex
    first = update(instance, address.id, DisplayName="one", ClientToken=token)
    update(instance, address.id, DisplayName="two")
    assert update(instance, address.id, DisplayName="one", ClientToken=token) == first
    assert instance.describe(address.id)["DisplayName"] == "two"


def test_the_same_token_with_other_parameters_is_refused(instance: Instance) -> None:
    address, other, token = instance.publish(), instance.publish(), uuid.uuid4().hex
    update(instance, address.id, DisplayName="one", ClientToken=token)
    with refused("IdempotencyException", "ClientToken"):
        update(instance, address.id, DisplayName="two", ClientToken=token)
    with refused("IdempotencyException", "ClientToken"):
        update(instance, other.id, DisplayName="one", ClientToken=token)


def test_a_failed_call_keeps_no_token(instance: Instance) -> None:
    token = uuid.uuid4().hex
    with refused("ResourceNotFoundException"):
        update(instance, UNKNOWN_ID, DisplayName="one", ClientToken=token)
    address = instance.publish()
    update(instance, address.id, DisplayName="two", ClientToken=token)
    assert instance.describe(address.id)["DisplayName"] == "two"
