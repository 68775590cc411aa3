"""DescribeEmailAddress: what an address is, and the alias that forwards to it."""

import re
import time
from datetime import UTC, datetime

import pytest

from harness.instance import UNKNOWN_ID, Instance
from harness.process import DEV_INSTANCE
from harness.refusal import refused

# Contract 5: ISO-8601 with milliseconds and Z.
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


# Shape.


def test_the_answer_has_the_members_that_there_is_something_to_say_of(instance: Instance) -> None:
    address = instance.publish()
    described = instance.describe(address.id)
    del described["ResponseMetadata"]
    created = described["CreateTimestamp"]
    assert described == {
        "EmailAddressId": address.id,
        "EmailAddressArn": instance.arn(address.id),
        "EmailAddress": address.text,
        "CreateTimestamp": created,
        "ModifiedTimestamp": created,
        "AliasConfigurations": [],
        "Tags": {},
    }


def test_timestamps_are_iso_8601_in_utc(instance: Instance) -> None:
    before_ms = time.time_ns() // 1_000_000
    described = instance.describe(instance.publish().id)
    after_ms = time.time_ns() // 1_000_000
    for member in ("CreateTimestamp", "ModifiedTimestamp"):
        assert TIMESTAMP.fullmatch(described[member])
        at = datetime.strptime(described[member], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        assert before_ms <= round(at.timestamp() * 1000) <= after_ms


@pytest.mark.parametrize("instance_by_arn", [False, True])
@pytest.mark.parametrize("address_by_arn", [False, True])
def test_both_ids_may_be_arns(instance: Instance, *, instance_by_arn: bool, address_by_arn: bool) -> None:
    address = instance.publish()
    described = instance.connect.describe_email_address(
        InstanceId=instance.arn() if instance_by_arn else instance.id,
        EmailAddressId=instance.arn(address.id) if address_by_arn else address.id,
    )
    assert described["EmailAddress"] == address.text


# Behaviour.


def test_the_primary_lists_its_alias_and_the_alias_lists_none(instance: Instance) -> None:
    primary, alias = instance.publish("primary"), instance.publish("alias")
    instance.associate(primary=primary.id, alias=alias.id)
    assert instance.describe(primary.id)["AliasConfigurations"] == [{"EmailAddressId": alias.id}]
    assert instance.describe(alias.id)["AliasConfigurations"] == []


def test_an_empty_text_is_described_as_such(instance: Instance) -> None:
    described = instance.describe(instance.publish(DisplayName="", Description="").id)
    assert (described["DisplayName"], described["Description"]) == ("", "")


# Errors.


def test_an_unknown_address_is_not_found(instance: Instance) -> None:
    with refused("ResourceNotFoundException", UNKNOWN_ID, instance.id):
        instance.describe(UNKNOWN_ID)


def test_an_unknown_instance_is_not_found(instance: Instance) -> None:
    with refused("ResourceNotFoundException", UNKNOWN_ID):
        instance.connect.describe_email_address(InstanceId=UNKNOWN_ID, EmailAddressId=instance.publish().id)


def test_an_address_is_found_in_its_own_instance_only(instance: Instance) -> None:
    address = instance.publish()
    for address_id in (address.id, instance.arn(address.id)):
        with refused("ResourceNotFoundException", address_id, DEV_INSTANCE):
            instance.connect.describe_email_address(InstanceId=DEV_INSTANCE, EmailAddressId=address_id)


def test_a_foreign_arn_is_not_found(instance: Instance) -> None:
    address = instance.publish()
    for arn in (
        instance.arn(address.id, account="999999999999"),
        instance.arn(address.id, region="eu-west-1"),
        instance.arn(),
        "arn:aws:s3:::bucket",
    ):
        with refused("ResourceNotFoundException", arn):
            instance.describe(arn)


def test_an_id_longer_than_the_model_allows_is_refused(instance: Instance) -> None:
    with refused("ResourceNotFoundException"):
        instance.describe("i" * 500)
    with refused("InvalidParameterException", "EmailAddressId"):
        instance.describe("i" * 501)
    with refused("InvalidParameterException", "InstanceId"):
        instance.connect.describe_email_address(InstanceId="i" * 101, EmailAddressId=UNKNOWN_ID)
