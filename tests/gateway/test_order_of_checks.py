"""The order of the checks is contract: size → signature → operation → shape → access → rate → token → state.

For each two that stand side by side, a request that offends both gets the answer of the earlier.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from harness.access_keys import create_key
from harness.http_client import HttpAnswer, HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess

ACCOUNT_ARN = "arn:aws:connect:us-east-1:123456789012"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
CALLS_MAX = 40
ADDRESS_PATH = f"/email-addresses/{DEV_INSTANCE}"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A program with Connect's own rates: 2 calls a second and 5 at once, per account and operation (contract 5)."""
    process = ServiceProcess(
        tmp_path_factory.mktemp("limited"), environment={"READDRESS_AWS_LIMITS": "true", "READDRESS_DRAIN_MS": "1000"}
    )
    yield process
    process.stop()


@pytest.fixture
def client(limited: ServiceProcess) -> Iterator[HttpClient]:
    with HttpClient(limited.http_address) as opened:
        yield opened


@pytest.fixture(scope="module")
def denied_key(limited: ServiceProcess) -> tuple[str, str]:
    """A key that may do everything but change aliases, read this instance and search."""
    statements = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {
            "Effect": "Deny",
            "Action": ["connect:*Alias", "connect:SearchEmailAddresses", "connect:*Instances"],
            "Resource": "*",
        },
        {"Effect": "Deny", "Action": "*", "Resource": f"{ACCOUNT_ARN}:instance/{DEV_INSTANCE}"},
    ]
    return create_key(limited, json.dumps({"Version": "2012-10-17", "Statement": statements}))


@pytest.fixture
def denied(limited: ServiceProcess, denied_key: tuple[str, str]) -> Iterator[HttpClient]:
    access_key_id, secret = denied_key
    with HttpClient(limited.http_address, access_key_id=access_key_id, secret=secret) as opened:
        yield opened


Call = Callable[[], HttpAnswer]


def patiently(call: Call) -> HttpAnswer:
    """For what prepares a test: as SDKs do, wait out a 429."""
    answer = call()
    while answer.status == 429:
        time.sleep(int(answer.headers["x-amz-retry-after"]) / 1000)
        answer = call()
    return answer


def call_until_limited(call: Call) -> tuple[set[str | None], HttpAnswer]:
    """The same call again and again: the codes before the first 429, and that answer."""
    codes: set[str | None] = set()
    for _ in range(CALLS_MAX):
        answer = call()
        if answer.status == 429:
            return codes, answer
        codes.add(answer.code)
    raise AssertionError(f"{CALLS_MAX} calls at once were not limited: {codes}")


def check(answer: HttpAnswer, status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code), answer
    assert answer.json["__type"] == code


def publish(client: HttpClient) -> str:
    body = {"EmailAddress": f"{uuid.uuid4().hex}@example.com"}
    answer = patiently(lambda: client.call("PUT", ADDRESS_PATH, body))
    return str(answer.json["EmailAddressId"])


def alias_call(
    client: HttpClient, primary: str, alias: str, token: str | None = None, *, verb: str = "associate"
) -> HttpAnswer:
    body: dict[str, Any] = {"AliasConfiguration": {"EmailAddressId": alias}}
    if token:
        body["ClientToken"] = token
    return client.call("POST", f"{ADDRESS_PATH}/{primary}/{verb}-alias", body)


@pytest.fixture
def used_token(client: HttpClient) -> tuple[str, str, str]:
    """A token that an Associate has used, with the primary and the alias it was for."""
    primary, alias, token = publish(client), publish(client), uuid.uuid4().hex
    assert patiently(lambda: alias_call(client, primary, alias, token)).status == 200
    return primary, alias, token


# Size, signature, operation.

TOO_LARGE = b"{" + b" " * 1_048_576 + b"}"


@pytest.mark.parametrize("path", ["/instance", "/nothing", "/search-email-addresses"])
def test_size_comes_before_signature(client: HttpClient, path: str) -> None:
    check(client.call("POST", path, TOO_LARGE, sign=False), 413, "RequestEntityTooLargeException")


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("PATCH", "/instance"), ("POST", "/")])
def test_signature_comes_before_operation(limited: ServiceProcess, method: str, path: str) -> None:
    with HttpClient(limited.http_address, secret="wrong") as wrong:
        check(wrong.call(method, path), 403, "InvalidSignatureException")
        check(wrong.call(method, path, sign=False), 403, "MissingAuthenticationTokenException")
        check(wrong.rpc("Nothing", {}), 403, "InvalidSignatureException")
    with HttpClient(limited.http_address, access_key_id="AKIAUNKNOWN") as unknown:
        check(unknown.call(method, path), 403, "UnrecognizedClientException")


@pytest.mark.parametrize("body", [b"not json", b"[]", b"\xff"])
def test_operation_comes_before_shape(client: HttpClient, body: bytes) -> None:
    check(client.call("POST", "/nothing", body), 404, "UnknownOperationException")
    headers = {"X-Amz-Target": "AmazonConnectService.Nothing", "Content-Type": "application/x-amz-json-1.1"}
    check(client.call("POST", "/", body, headers=headers), 404, "UnknownOperationException")


def test_signature_comes_before_shape(limited: ServiceProcess) -> None:
    with HttpClient(limited.http_address, secret="wrong") as wrong:
        check(wrong.call("POST", "/search-email-addresses", b"not json"), 403, "InvalidSignatureException")


# Shape, access, rate.


def test_shape_comes_before_access(denied: HttpClient) -> None:
    check(alias_call(denied, "x", ""), 400, "InvalidParameterException")
    check(denied.call("POST", "/search-email-addresses", b"not json"), 400, "SerializationException")
    check(denied.call("GET", "/instance?maxResults=11"), 400, "InvalidRequestException")
    check(denied.rpc("DescribeInstance", {"InstanceId": None}), 400, "InvalidRequestException")


def test_shape_comes_before_rate(client: HttpClient) -> None:
    call_until_limited(lambda: client.call("GET", "/instance"))
    for _ in range(10):
        check(client.call("GET", "/instance?maxResults=11"), 400, "InvalidRequestException")


def test_access_comes_before_rate_and_costs_no_call(client: HttpClient, denied: HttpClient) -> None:
    def search(caller: HttpClient) -> HttpAnswer:
        return caller.call("POST", "/search-email-addresses", {"InstanceId": DEV_INSTANCE})

    call_until_limited(lambda: search(client))
    for _ in range(10):
        check(search(denied), 403, "AccessDeniedException")
    patiently(lambda: search(client))


def test_a_refusal_names_action_and_resource(denied: HttpClient) -> None:
    """Contract 4."""
    answer = denied.call("GET", f"/instance/{DEV_INSTANCE}")
    check(answer, 403, "AccessDeniedException")
    assert "connect:DescribeInstance" in answer.json["Message"]
    assert f"{ACCOUNT_ARN}:instance/{DEV_INSTANCE}" in answer.json["Message"]


@pytest.mark.parametrize(
    "arn",
    [
        f"{ACCOUNT_ARN}:instance/{DEV_INSTANCE}",
        f"arn:aws-cn:connect:us-east-1:123456789012:instance/{DEV_INSTANCE}",
        f"arn:aws-us-gov:connect:us-east-1:123456789012:instance/{DEV_INSTANCE}",
        f"ARN:aws:connect:us-east-1:123456789012:instance/{DEV_INSTANCE}",
        f"{ACCOUNT_ARN}:instance/{DEV_INSTANCE}/",
        f"{ACCOUNT_ARN}:instance//{DEV_INSTANCE}",
        f" {ACCOUNT_ARN}:instance/{DEV_INSTANCE}",
        f"{ACCOUNT_ARN}:instance/{DEV_INSTANCE} ",
        f"{ACCOUNT_ARN}:instance/%31{DEV_INSTANCE[1:]}",
    ],
)
def test_a_denied_resource_is_denied_in_every_spelling(denied: HttpClient, client: HttpClient, arn: str) -> None:
    """Contract 4: an explicit deny wins, so no other way to write the ARN may reach the resource."""
    path = f"/tags/{quote(arn, safe='')}"
    answer = patiently(lambda: denied.call("POST", path, {"tags": {"reached": "yes"}}))
    assert answer.status in {400, 403, 404}
    plain = quote(f"{ACCOUNT_ARN}:instance/{DEV_INSTANCE}", safe="")
    assert "reached" not in patiently(lambda: client.call("GET", f"/tags/{plain}")).json["tags"]


# Access, rate, token, state.


def test_access_comes_before_token(denied: HttpClient, used_token: tuple[str, str, str]) -> None:
    """Neither the stored answer nor the mismatch is for whom the call is denied."""
    primary, alias, token = used_token
    check(alias_call(denied, primary, alias, token), 403, "AccessDeniedException")
    check(alias_call(denied, alias, primary, token), 403, "AccessDeniedException")


def test_access_comes_before_state(denied: HttpClient) -> None:
    """A stranger learns nothing of what exists."""
    check(alias_call(denied, UNKNOWN, DEV_INSTANCE), 403, "AccessDeniedException")
    unknown = denied.call("POST", "/search-email-addresses", {"InstanceId": UNKNOWN})
    check(unknown, 403, "AccessDeniedException")


def test_rate_comes_before_token(client: HttpClient, used_token: tuple[str, str, str]) -> None:
    primary, alias, token = used_token
    codes, answer = call_until_limited(lambda: alias_call(client, alias, primary, token))
    check(answer, 429, "ThrottlingException")
    assert codes <= {"IdempotencyException"}
    codes, answer = call_until_limited(lambda: alias_call(client, primary, alias, token))
    check(answer, 429, "ThrottlingException")
    assert codes <= {None}


def test_rate_comes_before_state_and_tells_when_to_come_back(client: HttpClient) -> None:
    codes, answer = call_until_limited(lambda: client.call("GET", f"/instance/{UNKNOWN}"))
    check(answer, 429, "ThrottlingException")
    assert codes <= {"ResourceNotFoundException"}
    wait_ms = int(answer.headers["x-amz-retry-after"])
    assert 0 < wait_ms <= 500
    assert answer.headers["retry-after"] == "1"
    check(patiently(lambda: client.call("GET", f"/instance/{UNKNOWN}")), 404, "ResourceNotFoundException")


def test_rates_are_per_operation(client: HttpClient) -> None:
    """Contract 5: per account and operation."""
    call_until_limited(lambda: client.rpc("ResolveRecipient", {"InstanceId": UNKNOWN, "Recipient": "a@example.com"}))
    assert (
        patiently(lambda: client.call("GET", f"/tags/{quote(f'{ACCOUNT_ARN}:instance/{UNKNOWN}', safe='')}")).status
        == 404
    )


def test_token_comes_before_state(client: HttpClient, used_token: tuple[str, str, str]) -> None:
    """Contract 3: the same token with other parameters is told so, though nothing of them exists."""
    primary, alias, token = used_token
    for other_primary, other_alias in ((UNKNOWN, alias), (primary, UNKNOWN), (primary, primary), (alias, primary)):
        answer = patiently(lambda one=other_primary, two=other_alias: alias_call(client, one, two, token))  # type: ignore[misc]
        check(answer, 409, "IdempotencyException")


def test_a_used_token_is_answered_whatever_the_state_is_now(
    client: HttpClient, used_token: tuple[str, str, str]
) -> None:
    """Contract 3: the pair is associated, then it is not, and the late retry neither fails nor changes that."""
    primary, alias, token = used_token
    assert patiently(lambda: alias_call(client, primary, alias, token)).status == 200
    assert patiently(lambda: alias_call(client, primary, alias, verb="disassociate")).status == 200
    assert patiently(lambda: alias_call(client, primary, alias, token)).status == 200
    described = patiently(lambda: client.call("GET", f"{ADDRESS_PATH}/{primary}"))
    assert described.json["AliasConfigurations"] == []
