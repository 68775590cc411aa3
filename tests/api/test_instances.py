"""CreateInstance, DescribeInstance, ListInstances, DeleteInstance: the scopes that addresses live in."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness.instance import UNKNOWN_ID, Instance
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.refusal import refused

REQUIRED = {"IdentityManagementType": "CONNECT_MANAGED", "InboundCallsEnabled": True, "OutboundCallsEnabled": False}


def token() -> str:
    return uuid.uuid4().hex


def create(connect: Any, **members: Any) -> dict[str, Any]:
    answer: dict[str, Any] = connect.create_instance(**REQUIRED | members)
    del answer["ResponseMetadata"]
    return answer


def describe(connect: Any, instance_id: str) -> dict[str, Any]:
    described: dict[str, Any] = connect.describe_instance(InstanceId=instance_id)["Instance"]
    return described


def list_all(connect: Any, **members: Any) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    while True:
        answer = connect.list_instances(**members)
        listed += answer["InstanceSummaryList"]
        if "NextToken" not in answer:
            return listed
        members["NextToken"] = answer["NextToken"]


# Shape.


def test_create_answers_the_id_and_the_arn(connect: Any) -> None:
    made = create(connect)
    assert str(uuid.UUID(made["Id"])) == made["Id"]
    assert made == {"Id": made["Id"], "Arn": f"arn:aws:connect:us-east-1:123456789012:instance/{made['Id']}"}


def test_describe_answers_what_was_given(connect: Any) -> None:
    alias = f"shop-{token()[:8]}"
    made = create(connect, InstanceAlias=alias, Tags={"team": "blue"})
    described = describe(connect, made["Id"])
    assert described["Id"] == made["Id"]
    assert described["Arn"] == made["Arn"]
    assert described["InstanceAlias"] == alias
    assert described["Tags"] == {"team": "blue"}
    assert described["IdentityManagementType"] == "CONNECT_MANAGED"
    assert (described["InboundCallsEnabled"], described["OutboundCallsEnabled"]) == (True, False)
    assert described["InstanceStatus"] == "ACTIVE"
    assert abs((datetime.now(UTC) - described["CreatedTime"]).total_seconds()) < 3600
    assert describe(connect, made["Arn"]) == described


def test_delete_answers_200_with_an_empty_body(instance: Instance) -> None:
    answer = instance.http.call("DELETE", f"/instance/{instance.id}")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("IdentityManagementType", "PAPER"),
        ("InstanceAlias", "d-shop"),
        ("InstanceAlias", "shop!"),
        ("InstanceAlias", "s" * 46),
        ("DirectoryId", "d-12345678901"),
        ("DirectoryId", "d-12345678ZZ"),
        ("Tags", {"aws:team": "blue"}),
        ("Tags", {f"key-{number}": "" for number in range(51)}),
        ("ClientToken", "t" * 501),
    ],
)
def test_create_refuses_what_the_model_refuses(connect: Any, member: str, value: Any) -> None:
    with refused("InvalidRequestException", member):  # the model of CreateInstance lacks InvalidParameterException
        create(connect, **{member: value})


@pytest.mark.parametrize("missing", REQUIRED)
def test_create_needs_its_required_members(instance: Instance, missing: str) -> None:
    answer = instance.http.call("PUT", "/instance", {name: REQUIRED[name] for name in REQUIRED if name != missing})
    assert (answer.status, answer.code) == (400, "InvalidRequestException")
    assert missing in answer.json["Message"]


# Behaviour.


def test_every_instance_is_listed_once_page_by_page(connect: Any) -> None:
    made = [create(connect)["Id"] for _ in range(12)]
    listed = [found["Id"] for found in list_all(connect, MaxResults=5)]
    assert len(listed) == len(set(listed))
    assert {*made, DEV_INSTANCE} <= {*listed}
    assert [found["Id"] for found in list_all(connect)] == listed


def test_a_page_of_instances_has_the_size_asked_for(connect: Any) -> None:
    made = {create(connect)["Id"] for _ in range(3)}
    first = connect.list_instances(MaxResults=2)
    assert len(first["InstanceSummaryList"]) == 2
    for found in list_all(connect):
        if found["Id"] in made:
            assert found["InstanceStatus"] == "ACTIVE"
            assert found["Arn"].endswith(found["Id"])


def test_delete_takes_the_addresses_along(instance: Instance) -> None:
    domain = f"{token()}.example"
    primary, alias = (instance.publish(EmailAddress=f"{name}@{domain}", Tags={"a": "1"}) for name in ("p", "a"))
    instance.associate(primary=primary.id, alias=alias.id)
    instance.connect.tag_resource(resourceArn=instance.arn(), tags={"b": "2"})
    instance.connect.delete_instance(InstanceId=instance.arn())
    with refused("ResourceNotFoundException", instance.id):
        instance.describe(primary.id)
    assert [instance.tag_rows(resource) for resource in (instance.id, primary.id, alias.id)] == [0, 0, 0]
    assert instance.refusal_of(alias.text) == b"550 5.7.1"
    other = Instance(instance.service, instance.connect, instance.http)
    assert other.publish(EmailAddress=alias.text).id != alias.id
    assert instance.id not in [found["Id"] for found in list_all(instance.connect)]


def test_delete_leaves_other_instances_alone(instance: Instance) -> None:
    other = Instance(instance.service, instance.connect, instance.http)
    kept = other.publish()
    instance.connect.delete_instance(InstanceId=instance.id)
    assert other.describe(kept.id)["EmailAddress"] == kept.text


# Errors.


@pytest.mark.parametrize("operation", ["describe_instance", "delete_instance"])
@pytest.mark.parametrize(
    "instance_id", [UNKNOWN_ID, "x", f"arn:aws:connect:us-east-1:999999999999:instance/{DEV_INSTANCE}"]
)
def test_an_unknown_instance_is_not_found(connect: Any, operation: str, instance_id: str) -> None:
    with refused("ResourceNotFoundException", instance_id):
        getattr(connect, operation)(InstanceId=instance_id)


def test_an_instance_alias_is_taken_once(connect: Any) -> None:
    alias = f"shop-{token()[:8]}"
    create(connect, InstanceAlias=alias)
    with refused("InvalidRequestException", alias):
        create(connect, InstanceAlias=alias)


@pytest.mark.parametrize("page_token", ["x", "é", "t" * 2500, "t" * 2501])
def test_a_page_token_that_nobody_gave_is_refused(connect: Any, page_token: str) -> None:
    with refused("InvalidRequestException", "NextToken"):  # the model of ListInstances lacks InvalidParameterException
        connect.list_instances(NextToken=page_token)


@pytest.mark.parametrize("size", ["0", "11", "-1", "x", "1.5", "", "99999999999999999999"])
def test_a_page_has_one_to_ten_instances(instance: Instance, size: str) -> None:
    answer = instance.http.call("GET", f"/instance?maxResults={size}")
    assert (answer.status, answer.code) == (400, "InvalidRequestException")
    assert "MaxResults" in answer.json["Message"]


def test_a_third_instance_exceeds_the_published_quota(
    tmp_path: Path, start_limited: Callable[[Path], ServiceProcess]
) -> None:
    connect = start_limited(tmp_path / "data").connect()
    second = create(connect)["Id"]  # the first is the development instance
    with refused("ServiceQuotaExceededException", "2 instances"):
        create(connect)
    connect.delete_instance(InstanceId=second)
    assert create(connect)["Id"] != second


# Idempotency.


def test_the_same_token_creates_one_instance(connect: Any) -> None:
    used = token()
    made = create(connect, ClientToken=used)
    assert create(connect, ClientToken=used) == made
    assert create(connect, ClientToken=token()) != made
    connect.delete_instance(InstanceId=made["Id"])
    assert create(connect, ClientToken=used) == made  # however late, and it does not come back
    with refused("ResourceNotFoundException"):
        describe(connect, made["Id"])


def test_the_same_token_with_other_parameters_is_an_invalid_request(connect: Any) -> None:
    used = token()
    create(connect, ClientToken=used)
    with refused("InvalidRequestException", "ClientToken"):  # the model lacks IdempotencyException
        create(connect, ClientToken=used, Tags={"a": "1"})


def test_a_failed_call_keeps_no_token(connect: Any) -> None:
    used, alias = token(), f"shop-{token()[:8]}"
    blocking = create(connect, InstanceAlias=alias)
    with refused("InvalidRequestException", alias):
        create(connect, InstanceAlias=alias, ClientToken=used)
    connect.delete_instance(InstanceId=blocking["Id"])
    assert create(connect, InstanceAlias=alias, ClientToken=used) != blocking


def test_delete_with_the_same_token_succeeds_again(instance: Instance) -> None:
    used = token()
    instance.connect.delete_instance(InstanceId=instance.id, ClientToken=used)
    instance.connect.delete_instance(InstanceId=instance.arn(), ClientToken=used)
    with refused("ResourceNotFoundException", instance.id):
        instance.connect.delete_instance(InstanceId=instance.id, ClientToken=token())
    with refused("InvalidRequestException", "ClientToken"):
        instance.connect.delete_instance(InstanceId=DEV_INSTANCE, ClientToken=used)
