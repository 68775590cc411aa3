"""boto3 as it is installed, with nothing but an endpoint: answers, typed exceptions, retries, credentials, threads."""

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import botocore.auth
import pytest
from botocore.config import Config

from harness.access_keys import create_key
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.refusal import refused

CALLS_MAX = 100


def address(name: str = "help") -> str:
    return f"{name}-{uuid.uuid4().hex[:12]}@example.com"


def test_every_operation_succeeds(connect: Any) -> None:
    instance = connect.create_instance(
        IdentityManagementType="CONNECT_MANAGED", InboundCallsEnabled=True, OutboundCallsEnabled=True
    )
    scope = {"InstanceId": instance["Id"]}
    assert connect.describe_instance(**scope)["Instance"]["Arn"] == instance["Arn"]
    assert connect.list_instances(MaxResults=1)["InstanceSummaryList"]
    primary = connect.create_email_address(**scope, EmailAddress=address("primary"), Tags={"team": "blue"})
    alias = connect.create_email_address(**scope, EmailAddress=address("alias"))
    pair = {
        **scope,
        "EmailAddressId": primary["EmailAddressId"],
        "AliasConfiguration": {"EmailAddressId": alias["EmailAddressId"]},
    }
    name = {**scope, "EmailAddressId": primary["EmailAddressId"]}
    connect.associate_email_address_alias(**pair)
    described = connect.describe_email_address(**name)
    assert described["AliasConfigurations"] == [pair["AliasConfiguration"]]
    found = connect.search_email_addresses(**scope, SearchFilter={"TagFilter": {"TagCondition": {"TagKey": "team"}}})
    assert [hit["EmailAddressId"] for hit in found["EmailAddresses"]] == [primary["EmailAddressId"]]
    assert connect.update_email_address_metadata(**name, DisplayName="Help")["EmailAddressArn"]
    connect.disassociate_email_address_alias(**pair)
    arn = primary["EmailAddressArn"]
    connect.tag_resource(resourceArn=arn, tags={"level": "1"})
    connect.untag_resource(resourceArn=arn, tagKeys=["team"])
    assert connect.list_tags_for_resource(resourceArn=arn)["tags"] == {"level": "1"}
    connect.delete_email_address(**name)
    connect.delete_instance(**scope)
    with pytest.raises(connect.exceptions.ResourceNotFoundException):
        connect.describe_instance(**scope)


def test_an_operation_without_output_answers_its_metadata_alone(connect: Any, create: Any, instance_id: str) -> None:
    address_id, _ = create()
    answer = connect.delete_email_address(InstanceId=instance_id, EmailAddressId=address_id)
    assert set(answer) == {"ResponseMetadata"}
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0
    assert answer["ResponseMetadata"]["RequestId"] == answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert answer["ResponseMetadata"]["HTTPHeaders"]["date"]


# Typed exceptions.


def provoke(connect: Any, name: str) -> None:
    """One call that has to be refused with the named exception."""
    scope = {"InstanceId": DEV_INSTANCE}
    ids = [
        connect.create_email_address(**scope, EmailAddress=address(), ClientToken=f"{name}{number}{uuid.uuid4()}")
        for number in range(3)
    ]
    a, b, c = (made["EmailAddressId"] for made in ids)
    pair = {**scope, "EmailAddressId": a, "AliasConfiguration": {"EmailAddressId": b}}
    match name:
        case "InvalidParameterException":
            connect.create_email_address(**scope, EmailAddress="nobody")
        case "InvalidRequestException":
            connect.associate_email_address_alias(**pair | {"EmailAddressId": b})
        case "ResourceNotFoundException":
            connect.disassociate_email_address_alias(**pair)
        case "DuplicateResourceException":
            text = connect.describe_email_address(**scope, EmailAddressId=a)["EmailAddress"]
            connect.create_email_address(**scope, EmailAddress=text)
        case "ResourceConflictException":
            connect.associate_email_address_alias(**pair)
            connect.associate_email_address_alias(**pair | {"EmailAddressId": c})
        case "IdempotencyException":
            token = str(uuid.uuid4())
            connect.associate_email_address_alias(**pair, ClientToken=token)
            connect.associate_email_address_alias(**pair | {"EmailAddressId": c}, ClientToken=token)


@pytest.mark.parametrize(
    "name",
    [
        "InvalidParameterException",
        "InvalidRequestException",
        "ResourceNotFoundException",
        "DuplicateResourceException",
        "ResourceConflictException",
        "IdempotencyException",
    ],
)
def test_a_refusal_is_its_typed_exception_and_is_not_retried(connect: Any, name: str) -> None:
    with pytest.raises(getattr(connect.exceptions, name)) as caught:
        provoke(connect, name)
    assert caught.value.response["Error"]["Code"] == name
    assert caught.value.response["Error"]["Message"]
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 0  # contract 1: the status is the advice


# Retries.


def test_throttling_is_retried_by_the_sdk_itself(start_service: Callable[..., ServiceProcess]) -> None:
    connect = start_service(environment={"READDRESS_AWS_LIMITS": "true"}).connect()
    seen: list[tuple[int, str | None]] = []

    def see(response: Any, **_: Any) -> None:
        if response:
            seen.append((response[0].status_code, response[0].headers.get("x-amz-retry-after")))

    connect.meta.events.register_first("needs-retry.connect", see)
    for _ in range(CALLS_MAX):  # as fast as they go, until the bucket of five is empty
        seen.clear()
        answer = connect.describe_instance(InstanceId=DEV_INSTANCE)
        if answer["ResponseMetadata"]["RetryAttempts"]:
            break
    assert answer["Instance"]["Id"] == DEV_INSTANCE
    assert [status for status, _ in seen[:-1]] == [429] * answer["ResponseMetadata"]["RetryAttempts"]
    assert all(hint is not None and 0 < int(hint) <= 500 for _, hint in seen[:-1])  # two a second, in milliseconds
    assert seen[-1] == (200, None)
    connect.close()


# Credentials and clocks (contract 4).


def test_session_credentials_are_signed_and_accepted(service: ServiceProcess) -> None:
    connect = service.connect(aws_session_token="a session's token")
    assert connect.describe_instance(InstanceId=DEV_INSTANCE)["Instance"]["Id"] == DEV_INSTANCE
    connect.close()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"aws_secret_access_key": "wrong"}, "InvalidSignatureException"),
        ({"aws_access_key_id": "AKIAUNKNOWN"}, "UnrecognizedClientException"),
        ({"region_name": "eu-west-1"}, "InvalidSignatureException"),
    ],
)
def test_wrong_credentials_are_refused(service: ServiceProcess, options: dict[str, str], code: str) -> None:
    connect = service.connect(**options)
    with refused(code):
        connect.describe_instance(InstanceId=DEV_INSTANCE)
    connect.close()


def test_what_the_policy_does_not_allow_is_access_denied(service: ServiceProcess) -> None:
    action = "connect:DescribeInstance"
    allowed = f"arn:aws:connect:us-east-1:123456789012:instance/{DEV_INSTANCE}"
    statement = {"Effect": "Allow", "Action": action, "Resource": allowed}
    key, secret = create_key(service, json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    connect = service.connect(aws_access_key_id=key, aws_secret_access_key=secret)
    assert connect.describe_instance(InstanceId=DEV_INSTANCE)["Instance"]["Arn"] == allowed
    with pytest.raises(connect.exceptions.AccessDeniedException, match="connect:CreateEmailAddress") as caught:
        connect.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=address())
    assert f"{allowed}/email-address/*" in str(caught.value)  # contract 4: action and resource
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    connect.close()


@pytest.mark.parametrize(("minutes", "accepted"), [(-6, False), (-4, True), (4, True), (6, False)])
def test_a_clock_may_be_off_by_less_than_five_minutes(
    connect: Any, monkeypatch: pytest.MonkeyPatch, minutes: int, *, accepted: bool
) -> None:
    real: Callable[..., datetime] = botocore.auth.get_current_datetime
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda *args, **named: real(*args, **named) + timedelta(minutes=minutes)
    )
    if accepted:
        assert connect.describe_instance(InstanceId=DEV_INSTANCE)["Instance"]["Id"] == DEV_INSTANCE
        return
    with refused("InvalidSignatureException", "Signature expired" if minutes < 0 else "Signature not yet current"):
        connect.describe_instance(InstanceId=DEV_INSTANCE)


# Threads.


def test_sixteen_threads_share_one_client(service: ServiceProcess, instance_id: str) -> None:
    connect = service.connect(config=Config(max_pool_connections=16))

    def live(number: int) -> str:
        """The life of a pair, which no other thread touches; gives the primary's id."""
        texts = address(f"p{number}"), address(f"a{number}")
        primary, alias = (
            connect.create_email_address(InstanceId=instance_id, EmailAddress=text)["EmailAddressId"] for text in texts
        )
        pair = {
            "InstanceId": instance_id,
            "EmailAddressId": primary,
            "AliasConfiguration": {"EmailAddressId": alias},
        }
        for _ in range(3):
            connect.associate_email_address_alias(**pair)
            described = connect.describe_email_address(InstanceId=instance_id, EmailAddressId=primary)
            assert described["EmailAddress"] == texts[0]
            assert described["AliasConfigurations"] == [{"EmailAddressId": alias}]
            connect.disassociate_email_address_alias(**pair)
        connect.delete_email_address(InstanceId=instance_id, EmailAddressId=alias)
        return str(primary)

    with ThreadPoolExecutor(16) as pool:
        primaries = list(pool.map(live, range(32)))
    found = connect.search_email_addresses(InstanceId=instance_id)["EmailAddresses"]
    assert {hit["EmailAddressId"] for hit in found} == set(primaries)
    assert not any(hit["AliasConfigurations"] for hit in found)
    connect.close()
