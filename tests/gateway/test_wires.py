"""Both wires against the real process: what goes in, what comes out, byte for byte (contract 1)."""

import re
import uuid
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from harness.http_client import HttpAnswer, HttpClient
from harness.instance import Instance
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.signed_request import SignedRequest
from readdress.clock import Clock
from readdress.directory import addresses, aliases
from readdress.store.database import Transaction
from readdress.store.sqlite.database import SqliteDatabase

JSON = "application/json"
JSON_1_1 = "application/x-amz-json-1.1"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def instance(service: ServiceProcess, connect: Any, http: HttpClient) -> Instance:
    return Instance(service, connect, http)


@pytest.fixture(params=["REST", "JSON 1.1"])
def send(request: pytest.FixtureRequest, http: HttpClient) -> Callable[..., HttpAnswer]:
    """An operation on an address, over one of the two wires: `send("POST /associate-alias", operation, members)`."""

    def over_rest(suffix: str, operation: str, members: dict[str, Any]) -> HttpAnswer:
        rest = dict(members)
        path = "/".join(quote(rest.pop(name), safe="") for name in ("InstanceId", "EmailAddressId"))
        method, _, end = suffix.partition(" ")
        return http.call(method, f"/email-addresses/{path}{end}", rest if method == "POST" else None)

    def over_rpc(_: str, operation: str, members: dict[str, Any]) -> HttpAnswer:
        return http.rpc(operation, members)

    return over_rest if request.param == "REST" else over_rpc


def check_common_headers(answer: HttpAnswer) -> None:
    """Contract 1: always a request id and a date, whatever the answer."""
    assert uuid.UUID(answer.headers["x-amzn-requestid"])
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])
    assert parsedate_to_datetime(answer.headers["date"])
    assert answer.headers["content-length"] == str(len(answer.body))


def check_error(answer: HttpAnswer, status: int, code: str, content_type: str = JSON) -> str:
    """An error in its only form; gives the message."""
    check_common_headers(answer)
    assert (answer.status, answer.code, answer.headers["content-type"]) == (status, code, content_type), answer
    # No Reason: both `{}` and a string there crash botocore.
    assert set(answer.json) == {"__type", "Message"}
    assert answer.json["__type"] == code
    message = answer.json["Message"]
    assert isinstance(message, str)
    assert message
    return message


# The documentation's example.

EXAMPLE_TARGET = "AmazonConnectService.DisassociateEmailAddressAlias"
EXAMPLE_PRIMARY = "87654321-4321-4321-4321-210987654321"
EXAMPLE_ALIAS = "11111111-2222-3333-4444-555555555555"
EXAMPLE_BODY = (
    b'{ "InstanceId": "12345678-1234-1234-1234-123456789012", '
    b'"EmailAddressId": "87654321-4321-4321-4321-210987654321", '
    b'"AliasConfiguration": { "EmailAddressId": "11111111-2222-3333-4444-555555555555" } }'
)


def publish_the_examples_addresses(data: Path) -> None:
    """The API makes its own ids, so the two of the example are put in beside the running program."""

    def publish(tx: Transaction) -> None:
        for address_id, text in ((EXAMPLE_PRIMARY, "primary@example.com"), (EXAMPLE_ALIAS, "alias@example.com")):
            addresses.create(
                tx,
                address_id=address_id,
                instance_id=DEV_INSTANCE,
                address=text,
                display_name=None,
                description=None,
                addresses_max=None,
            )
        aliases.associate(
            tx, account="123456789012", instance_id=DEV_INSTANCE, primary_id=EXAMPLE_PRIMARY, alias_id=EXAMPLE_ALIAS
        )

    database = SqliteDatabase(data / "readdress.db", clock=Clock(), lock_wait_ms=5_000)
    try:
        database.run(publish)
    finally:
        database.close()


@pytest.fixture
def example(start_service: Callable[..., ServiceProcess]) -> Iterator[HttpClient]:
    """A program of its own, in the state before the documentation's example."""
    process = start_service()
    publish_the_examples_addresses(process.data)
    with HttpClient(process.http_address) as client:
        yield client


def test_the_documentations_example_is_answered_as_documented(example: HttpClient) -> None:
    """Examples 1 and 2 of the API page: the request as it stands there, signed with our own key and date."""
    request = SignedRequest("POST", "/", {"x-amz-target": EXAMPLE_TARGET, "content-type": JSON_1_1}, EXAMPLE_BODY)
    request.sign()
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-target" in request.headers["authorization"]

    answer = request.send(example)
    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["content-length"] == "2"
    assert answer.headers["content-type"] == JSON_1_1
    check_common_headers(answer)

    again = request.send(example)  # without a token there is no idempotency (contract 3), and the alias is gone
    message = check_error(again, 404, "ResourceNotFoundException", JSON_1_1)
    assert EXAMPLE_ALIAS in message
    path = f"/email-addresses/{DEV_INSTANCE}/{EXAMPLE_PRIMARY}"
    assert example.call("GET", path).json["AliasConfigurations"] == []


def test_the_documentations_rest_syntax_is_answered_with_an_empty_body(example: HttpClient) -> None:
    """The page's Request Syntax, and its words: an HTTP 200 response with an empty HTTP body."""
    body = f'{{ "AliasConfiguration": {{ "EmailAddressId": "{EXAMPLE_ALIAS}" }}, "ClientToken": "string" }}'.encode()
    answer = example.call("POST", f"/email-addresses/{DEV_INSTANCE}/{EXAMPLE_PRIMARY}/disassociate-alias", body)
    assert (answer.status, answer.body) == (200, b"")
    check_common_headers(answer)


# Answers.


def test_rest_operations_without_output_answer_with_an_empty_body(instance: Instance, http: HttpClient) -> None:
    primary, alias = instance.publish("primary"), instance.publish("alias")
    path = f"/email-addresses/{instance.id}/{primary.id}"
    tags = "/tags/" + quote(instance.arn(primary.id), safe="")
    body = {"AliasConfiguration": {"EmailAddressId": alias.id}}
    for method, target, members in (
        ("POST", f"{path}/associate-alias", body),
        ("POST", f"{path}/disassociate-alias", body),
        ("POST", tags, {"tags": {"a": "b"}}),
        ("DELETE", f"{tags}?tagKeys=a", None),
        ("DELETE", path, None),
        ("DELETE", f"/instance/{instance.id}", None),
    ):
        answer = http.call(method, target, members)
        assert (answer.status, answer.body) == (200, b""), target
        assert answer.headers["content-type"] == JSON
        check_common_headers(answer)


def test_json_1_1_operations_without_output_answer_with_an_empty_object(instance: Instance, http: HttpClient) -> None:
    primary, alias = instance.publish("primary"), instance.publish("alias")
    ids = {"InstanceId": instance.id, "EmailAddressId": primary.id}
    pair = ids | {"AliasConfiguration": {"EmailAddressId": alias.id}}
    arn = instance.arn(primary.id)
    for operation, members in (
        ("AssociateEmailAddressAlias", pair),
        ("DisassociateEmailAddressAlias", pair),
        ("TagResource", {"resourceArn": arn, "tags": {"a": "b"}}),
        ("UntagResource", {"resourceArn": arn, "tagKeys": ["a"]}),
        ("DeleteEmailAddress", ids),
        ("DeleteInstance", {"InstanceId": instance.id}),
    ):
        answer = http.rpc(operation, members)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"{}", JSON_1_1), operation
        check_common_headers(answer)


def test_both_wires_give_the_same_answer(instance: Instance, http: HttpClient) -> None:
    address = instance.publish(Tags={"team": "a"}, DisplayName="Help", Description="first\nsecond")
    ids = {"InstanceId": instance.id, "EmailAddressId": address.id}
    rest = http.call("GET", f"/email-addresses/{instance.id}/{address.id}")
    rpc = http.rpc("DescribeEmailAddress", ids)
    assert rest.json == rpc.json
    assert (rest.headers["content-type"], rpc.headers["content-type"]) == (JSON, JSON_1_1)
    assert rest.headers["x-amzn-requestid"] != rpc.headers["x-amzn-requestid"]
    search = {"InstanceId": instance.id, "MaxResults": 1}
    assert http.call("POST", "/search-email-addresses", search).json == http.rpc("SearchEmailAddresses", search).json


# Errors.


def test_an_error_has_one_form(send: Callable[..., HttpAnswer], request: pytest.FixtureRequest) -> None:
    content_type = JSON if "REST" in request.node.name else JSON_1_1
    for status, code, members in (
        (404, "ResourceNotFoundException", {"InstanceId": UNKNOWN, "EmailAddressId": UNKNOWN}),
        (400, "InvalidParameterException", {"InstanceId": "x" * 101, "EmailAddressId": UNKNOWN}),
    ):
        answer = send("GET", "DescribeEmailAddress", members)
        check_error(answer, status, code, content_type)
    conflict = {
        "InstanceId": DEV_INSTANCE,
        "EmailAddressId": UNKNOWN,
        "AliasConfiguration": {"EmailAddressId": UNKNOWN},
    }
    answer = send("POST /associate-alias", "AssociateEmailAddressAlias", conflict)
    check_error(answer, 400, "InvalidRequestException", content_type)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("POST", "/"), ("GET", "/instances"), ("GET", "//instance"),
        ("GET", "/Instance"), ("GET", "/instance/a/b"), ("GET", "/%69nstance"), ("GET", "/instance%2Fa"),
        ("PATCH", "/instance"), ("POST", "/instance"), ("DELETE", "/instance"), ("PUT", "/email-addresses"),
        ("PUT", "/email-addresses/a/b"), ("GET", "/email-addresses/a/b/associate-alias"),
        ("POST", "/email-addresses/a/b/associate-alias/"), ("POST", "/email-addresses/a/b/Associate-Alias"),
        ("GET", "/search-email-addresses"), ("GET", "/_readdress"), ("GET", "/favicon.ico"), ("OPTIONS", "/instance"),
        ("QUERY", "/instance"), ("GET", "/../instance"), ("GET", "/index.html"),
    ],
)  # fmt: skip
def test_an_unknown_path_or_method_is_an_unknown_operation(http: HttpClient, method: str, path: str) -> None:
    check_error(http.call(method, path), 404, "UnknownOperationException")


@pytest.mark.parametrize(
    "target",
    [
        "", "AmazonConnectService", "AmazonConnectService.", "AmazonConnectService.Nothing", "DescribeInstance",
        "AmazonConnectService.describeInstance", "amazonconnectservice.DescribeInstance", "Other.DescribeInstance",
        "AmazonConnectService.AmazonConnectService.DescribeInstance", "AmazonConnectService.DescribeInstance.x",
        "AmazonConnectService.__class__", "AmazonConnectService. ListInstances",
    ],
)  # fmt: skip
def test_an_unknown_target_is_an_unknown_operation(http: HttpClient, target: str) -> None:
    answer = http.call("POST", "/", {}, headers={"X-Amz-Target": target, "Content-Type": JSON_1_1})
    check_error(answer, 404, "UnknownOperationException", JSON_1_1)


def test_a_head_request_has_no_body_and_names_its_error(http: HttpClient) -> None:
    answer = http.call("HEAD", "/instance")
    assert (answer.status, answer.code, answer.body) == (404, "UnknownOperationException", b"")


# Identifiers.


def test_an_arn_is_taken_wherever_an_id_is(instance: Instance, send: Callable[..., HttpAnswer]) -> None:
    """Contract 5, on both wires; in REST the whole ARN is one percent-encoded segment."""
    primary, alias = instance.publish("primary"), instance.publish("alias")
    arns = {"InstanceId": instance.arn(), "EmailAddressId": instance.arn(primary.id)}
    pair = arns | {"AliasConfiguration": {"EmailAddressId": instance.arn(alias.id)}}

    described = send("GET", "DescribeEmailAddress", arns)
    assert (described.status, described.json["EmailAddressId"]) == (200, primary.id)
    assert send("POST", "UpdateEmailAddressMetadata", {**arns, "DisplayName": "New"}).status == 200
    assert instance.describe(primary.id)["DisplayName"] == "New"
    assert send("POST /associate-alias", "AssociateEmailAddressAlias", pair).status == 200
    assert instance.aliases_of(primary.id) == [alias.id]
    assert send("POST /disassociate-alias", "DisassociateEmailAddressAlias", pair).status == 200
    assert instance.aliases_of(primary.id) == []
    assert send("DELETE", "DeleteEmailAddress", arns).status == 200
    assert send("GET", "DescribeEmailAddress", arns).status == 404


def test_an_instances_arn_is_taken_by_the_other_operations(instance: Instance, http: HttpClient) -> None:
    arn, encoded = instance.arn(), quote(instance.arn(), safe="")
    made = http.call("PUT", f"/email-addresses/{encoded}", {"EmailAddress": f"{uuid.uuid4().hex}@example.com"})
    assert made.status == 200
    assert made.json["EmailAddressArn"] == instance.arn(made.json["EmailAddressId"])
    assert http.call("POST", "/search-email-addresses", {"InstanceId": arn}).json["ApproximateTotalCount"] == 1
    for answer in (http.call("GET", f"/instance/{encoded}"), http.rpc("DescribeInstance", {"InstanceId": arn})):
        assert answer.json["Instance"]["Id"] == instance.id
    own = f"/_readdress/instances/{encoded}/email-addresses/{quote(made.json['EmailAddressArn'], safe='')}/messages"
    assert http.call("GET", own).json == {"Messages": []}
    assert http.call("DELETE", f"/instance/{encoded}").status == 200


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:connect:eu-west-1:{account}:instance/{id}",
        "arn:aws:connect:{region}:210987654321:instance/{id}",
        "arn:aws:ses:{region}:{account}:instance/{id}",
        "arn:aws:connect:{region}:{account}:instance/",
        "arn:aws:connect:{region}:{account}:instance/{id}/",
        "arn:aws:connect:{region}:{account}:instance/{id}/email-address/x",
        "arn:",
    ],
)
def test_a_foreign_arn_is_not_found(instance: Instance, http: HttpClient, arn: str) -> None:
    """Contract 2.4: unknown is 404, and so is what belongs to somebody else."""
    filled = arn.format(account="123456789012", region="us-east-1", id=instance.id)
    too_long = len(filled) > 100
    expected = (400, "InvalidRequestException") if too_long else (404, "ResourceNotFoundException")
    for answer in (
        http.call("GET", f"/instance/{quote(filled, safe='')}"),
        http.rpc("DescribeInstance", {"InstanceId": filled}),
    ):
        assert (answer.status, answer.code) == expected


def test_an_address_of_another_instance_is_not_found_by_its_arn(
    instance: Instance, send: Callable[..., HttpAnswer], http: HttpClient
) -> None:
    address = instance.publish()
    members = {"InstanceId": DEV_INSTANCE, "EmailAddressId": instance.arn(address.id)}
    assert send("GET", "DescribeEmailAddress", members).code == "ResourceNotFoundException"


# The raw path is decoded once, after it was cut into segments.


@pytest.mark.parametrize(
    ("segment", "meant"),
    [("a%2Fb", "a/b"), ("a%252Fb", "a%2Fb"), ("a%25b", "a%b"), ("%25", "%"), ("a%20b", "a b"), ("a+b", "a+b"),
     ("%3F", "?"), ("%23", "#"), ("a%3Fx%3D1", "a?x=1"), ("%", "%"), ("%zz", "%zz"), ("%C3%A9", "\u00e9"),
     ("%E2%98%83", "\u2603"), ("%F0%9F%93%A7", "\U0001f4e7"), ("a;b", "a;b"), ("a%2F..%2Fb", "a/../b")],
)  # fmt: skip
def test_a_segment_is_decoded_exactly_once(http: HttpClient, segment: str, meant: str) -> None:
    message = check_error(http.call("GET", f"/instance/{segment}"), 404, "ResourceNotFoundException")
    assert f"The instance {meant} does not exist" in message


def test_a_query_is_decoded_exactly_once(http: HttpClient) -> None:
    """The tag's key comes back as it was meant, so what was removed is what was named."""
    made = http.call(
        "PUT",
        "/instance",
        {"IdentityManagementType": "SAML", "InboundCallsEnabled": True, "OutboundCallsEnabled": False,
         "Tags": {"a/b": "1", "a+b": "2", "a b": "3", "\u00e9": "4", "x": "5"}},
    ).json  # fmt: skip
    path = "/tags/" + quote(made["Arn"], safe="")
    assert http.call("DELETE", f"{path}?tagKeys=a%2Fb&tagKeys=a%2Bb&tagKeys=%C3%A9").status == 200
    assert http.call("GET", path).json == {"tags": {"a b": "3", "x": "5"}}
    assert http.call("DELETE", f"{path}?tagKeys=a%20b&other=x").status == 200
    assert http.call("GET", path).json == {"tags": {"x": "5"}}


# Text.


@pytest.mark.parametrize(
    "text",
    ["\u00e9", "e\u0301", "\u2603 \U0001f4e7", "\u05e9\u05dc\u05d5\u05dd \u200f", "\ufeffx", "\uffff", "'\";--",
     "</script>", "\u2028", "%s{0}\\u0041", "\u0130\u00df\ufb03"],
)  # fmt: skip
def test_text_comes_back_as_it_was_given(instance: Instance, send: Callable[..., HttpAnswer], text: str) -> None:
    """Contract 5: the typed form is kept, to the code point."""
    address = instance.publish()
    ids = {"InstanceId": instance.id, "EmailAddressId": address.id}
    updated = send("POST", "UpdateEmailAddressMetadata", {**ids, "DisplayName": text, "Description": text})
    assert updated.status == 200, updated
    described = send("GET", "DescribeEmailAddress", ids)
    assert (described.json["DisplayName"], described.json["Description"]) == (text, text)
    assert text.encode() in described.body or text in {"'\";--", "%s{0}\\u0041"}


def test_escaped_and_literal_json_text_mean_the_same(instance: Instance, http: HttpClient) -> None:
    address = instance.publish()
    path = f"/email-addresses/{instance.id}/{address.id}"
    for body in (b'{"DisplayName": "\\u00e9\\ud83d\\udce7\\/"}', '{"DisplayName": "\u00e9\U0001f4e7/"}'.encode()):
        assert http.call("POST", path, body).status == 200
        assert instance.describe(address.id)["DisplayName"] == "\u00e9\U0001f4e7/"
        instance.connect.update_email_address_metadata(
            InstanceId=instance.id, EmailAddressId=address.id, DisplayName=""
        )


def test_no_body_is_an_empty_object(instance: Instance, http: HttpClient) -> None:
    """An update of nothing, and an operation without members in JSON 1.1."""
    address = instance.publish()
    assert http.call("POST", f"/email-addresses/{instance.id}/{address.id}").status == 200
    headers = {"X-Amz-Target": "AmazonConnectService.ListInstances", "Content-Type": JSON_1_1}
    assert http.call("POST", "/", headers=headers).status == 200


def test_a_path_member_in_the_body_does_not_count(instance: Instance, http: HttpClient) -> None:
    address, other = instance.publish("address"), instance.publish("other")
    body = {"EmailAddressId": other.id, "InstanceId": UNKNOWN, "DisplayName": "New"}
    answer = http.call("POST", f"/email-addresses/{instance.id}/{address.id}", body)
    assert answer.json["EmailAddressId"] == address.id
    assert "DisplayName" not in instance.describe(other.id)
