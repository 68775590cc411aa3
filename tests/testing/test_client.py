"""The fixture's client: its calls skip the socket, and everything else is as a program's own client has it."""

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from readdress.testing import Readdress


@pytest.fixture
def by_http(readdress: Readdress) -> Any:
    client = boto3.client("connect", **readdress.client_options)
    yield client
    client.close()


def answer_of(client: Any, operation: str, **members: Any) -> dict[str, Any]:
    """The answer or the error, without what differs from call to call; the date is the HTTP server's own."""
    try:
        answer: dict[str, Any] = getattr(client, operation)(**members)
    except ClientError as error:
        answer = error.response
    metadata = answer["ResponseMetadata"]
    assert metadata.pop("RequestId")
    for name in ("x-amzn-requestid", "date"):
        metadata["HTTPHeaders"].pop(name, None)
    return answer


def test_its_answers_are_those_that_come_by_http(readdress: Readdress, by_http: Any) -> None:
    support = readdress.publish("support", DisplayName="Ünï ☎", Tags={"team": "a&b = c"})
    mine = {"InstanceId": readdress.instance_id}
    condition = {"StringCondition": {"FieldName": "EmailAddress", "Value": "supp", "ComparisonType": "STARTS_WITH"}}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("describe_email_address", {**mine, "EmailAddressId": support.id}),
        ("describe_email_address", {**mine, "EmailAddressId": support.arn}),
        ("describe_email_address", {**mine, "EmailAddressId": "none/such ?&%2F"}),
        ("search_email_addresses", {**mine, "SearchCriteria": condition}),
        ("create_email_address", {**mine, "EmailAddress": str(support)}),
        ("list_instances", {"MaxResults": 1}),
        ("update_email_address_metadata", {**mine, "EmailAddressId": support.id, "Description": "x\ny"}),
    ]
    for operation, members in calls:
        assert answer_of(readdress.connect, operation, **members) == answer_of(by_http, operation, **members)


def test_its_calls_use_no_connection(readdress: Readdress, by_http: Any) -> None:
    server = readdress._running.service._http
    readdress.connect.list_instances()
    assert server.connections == 0
    by_http.list_instances()
    assert server.connections == 1


def test_its_signatures_are_checked(readdress: Readdress, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = readdress.connect._request_signer._credentials
    monkeypatch.setattr(credentials, "secret_key", "another")
    with pytest.raises(ClientError) as refused:
        readdress.connect.list_instances()
    assert refused.value.response["Error"]["Code"] == "InvalidSignatureException"


def test_it_tries_again_as_it_is_told_to(readdress: Readdress) -> None:
    readdress.faults.fail("ListInstances", "ThrottlingException", times=2, retry_after_ms=1)
    answer = readdress.connect.list_instances()
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2
