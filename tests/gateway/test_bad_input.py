"""Bad input to the real process: for every member a typed error that names it, never a 500, and nothing written."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from harness.engine import Rows, open_beside
from harness.http_client import HttpAnswer, HttpClient
from harness.members import Bad, Member, bad_values, limits, members, sized, with_, without
from harness.process import ServiceProcess
from harness.scene import WIRES, Scene, fits_rest, send, set_scene
from readdress.api.catalogue import OPERATIONS
from readdress.api.operation import Kind, Operation

MEMBERS = [(operation, member) for operation in OPERATIONS for member in members(operation)]
MEMBER_IDS = [f"{operation.name}-{'.'.join(map(str, member.path))}" for operation, member in MEMBERS]
SHAPE_ERRORS = {"InvalidParameterException", "InvalidRequestException"}


@pytest.fixture(scope="module")
def scene(service: ServiceProcess) -> Scene:
    """For requests that are refused: nothing changes it."""
    with HttpClient(service.http_address) as client:
        return set_scene(client, service)


@pytest.fixture
def fresh(service: ServiceProcess, http: HttpClient) -> Scene:
    """For a request that may be let pass."""
    return set_scene(http, service)


@pytest.fixture(scope="module")
def beside(service: ServiceProcess) -> Iterator[Rows]:
    with open_beside(service.data / "readdress.db") as connection:
        yield connection


@pytest.fixture
def nothing_written(beside: Rows) -> Iterator[None]:
    """No commit of another connection changed a single page while the test ran, but for the service's sign of life."""

    def look() -> tuple[int, int]:
        (version,) = beside.execute("PRAGMA data_version").fetchone()
        (seen_ms,) = beside.execute("SELECT max(seen_ms) FROM node").fetchone()
        return version, seen_ms

    before, seen_before_ms = look()
    yield
    after, seen_after_ms = look()
    assert after - before == (seen_after_ms != seen_before_ms)


def shape_error_of(operation: Operation) -> str:
    """Contract 1, [dec]: the preferred error where the operation's model has it."""
    names = [error.__name__ for error in operation.errors]
    return "InvalidParameterException" if "InvalidParameterException" in names else "InvalidRequestException"


def mistake(answer: HttpAnswer, operation: Operation, bad: Bad) -> str | None:
    """What is wrong with the refusal, if anything."""
    if (answer.status, answer.code) != (400, shape_error_of(operation)):
        return f"{bad.label}: {answer}"
    message = answer.json["Message"]
    named = re.sub(r"\[[^]]*]", "[]", message.partition(":")[0])
    return None if named == bad.member.place else f"{bad.label}: does not begin with {bad.member.place}: {message}"


@pytest.mark.parametrize(("operation", "member"), MEMBERS, ids=MEMBER_IDS)
def test_a_member_of_the_wrong_shape_is_refused_by_name(
    http: HttpClient, scene: Scene, nothing_written: None, operation: Operation, member: Member
) -> None:
    """Missing, null, of another JSON type, empty, too long, of another pattern, with control characters."""
    mistakes = []
    for bad in bad_values(member):
        values = bad.put_into(scene.good_values(operation))
        for wire in WIRES:
            if wire == "JSON 1.1" or fits_rest(operation, values):
                answer = send(http, wire, operation, values)
                mistakes.append(mistake(answer, operation, bad))
    assert [found for found in mistakes if found] == []


def test_what_was_refused_left_the_scene_as_it_was(http: HttpClient, service: ServiceProcess) -> None:
    """By the API's own words: the same search, the same descriptions, the same tags before and after all of it."""
    scene = set_scene(http, service)

    def look() -> list[Any]:
        search = http.call("POST", "/search-email-addresses", {"InstanceId": scene.instance_id})
        one = http.call("GET", f"/email-addresses/{scene.instance_id}/{scene.primary_id}")
        return [search.json, one.json, http.call("GET", f"/instance/{scene.instance_id}").json]

    before = look()
    for operation, member in MEMBERS:
        if operation.kind is Kind.WRITE:
            for bad in list(bad_values(member))[:3]:
                answer = send(http, "JSON 1.1", operation, bad.put_into(scene.good_values(operation)))
                assert answer.status == 400
    assert look() == before


# What is just inside a limit, absent or surplus is let pass.


LIMITED = [
    (operation, member, size)
    for operation, member in MEMBERS
    for size in limits(member)
    if size and not (size == 1 and member.pattern_of == "EmailAddress")  # whose pattern needs five characters
]


@pytest.mark.parametrize(
    ("operation", "member", "size"),
    LIMITED,
    ids=[f"{operation.name}-{'.'.join(map(str, member.path))}-{size}" for operation, member, size in LIMITED],
)
def test_exactly_at_the_limit_is_no_mistake(
    http: HttpClient, scene: Scene, operation: Operation, member: Member, size: int
) -> None:
    """A limit counts characters, so the text is of two-byte ones where the pattern lets it."""
    values = with_(scene_values(scene, operation, member), member.path, sized(member, size))
    for wire in WIRES:
        if wire == "JSON 1.1" or fits_rest(operation, values):
            answer = send(http, wire, operation, values)
            words = answer.json["Message"] if answer.status >= 400 else ""
            assert answer.status < 500
            assert "has to have" not in words, words
            assert "has to be at" not in words, words
            assert "form or holds characters" not in words, words


def scene_values(scene: Scene, operation: Operation, member: Member) -> dict[str, Any]:
    """Good values whose success would not spoil the shared scene: what deletes or associates names nothing real."""
    values = scene.good_values(operation)
    if operation.name in {"DeleteInstance", "DeleteEmailAddress", "AssociateEmailAddressAlias"}:
        other = "InstanceId" if member.path[0] != "InstanceId" else "EmailAddressId"
        values |= {name: "nothing" for name in (other,) if name in values}
    return values


OPTIONAL = [
    (operation, member)
    for operation, member in MEMBERS
    if not member.required and isinstance(member.path[-1], str) and not member.path[-1].startswith("<")
]


@pytest.mark.parametrize(
    ("operation", "member"),
    OPTIONAL,
    ids=[f"{operation.name}-{'.'.join(map(str, member.path))}" for operation, member in OPTIONAL],
)
def test_null_for_an_optional_member_counts_as_absent(
    http: HttpClient, scene: Scene, operation: Operation, member: Member
) -> None:
    for wire in WIRES:
        null = with_(scene_values(scene, operation, member), member.path, None)
        absent = without(null, member.path)
        if wire == "REST" and member.path[0] in operation.binding.query.values():
            continue  # a query has no null
        if "EmailAddress" in absent:
            absent |= {"EmailAddress": scene.good_values(operation)["EmailAddress"]}
        answers = [send(http, wire, operation, values) for values in (absent, null)]
        assert (answers[0].status, answers[0].code) == (answers[1].status, answers[1].code)
        assert answers[0].status < 500
        if operation.kind is not Kind.WRITE:
            assert answers[0].json == answers[1].json


@pytest.mark.parametrize("operation", list(OPERATIONS), ids=lambda operation: operation.name)
@pytest.mark.parametrize("wire", WIRES)
def test_an_unknown_member_is_ignored(http: HttpClient, fresh: Scene, operation: Operation, wire: str) -> None:
    """As SDKs of a later day may send one: at the top, and inside a structure."""
    values = fresh.good_values(operation)
    if operation.name == "DisassociateEmailAddressAlias":
        assert send(http, wire, OPERATIONS["AssociateEmailAddressAlias"], values).status == 200
    if wire == "JSON 1.1" or operation.binding.method in {"PUT", "POST"}:
        values |= {"Surplus": {"a": [None]}, "instanceId": 1, "__class__": "x"}
    if "AliasConfiguration" in values:
        values["AliasConfiguration"] |= {"Surplus": 1}
    # What is in an inbox does not wait to go on, and the service has no transport to release it by.
    expected = 404 if "DeliveryId" in values else 400 if operation.name == "ReleaseMessage" else 200
    assert send(http, wire, operation, values).status == expected


# Queries and paths.


@pytest.mark.parametrize(
    "text",
    ["", "x", "1.5", "--5", "-", "-1", "0", "11", "%2B1", "0x1", "1e1", "%EF%BC%91", "%D9%A3", "9" * 30, "%00", "1%20"],
)
def test_a_number_in_a_query_that_is_none_is_refused(http: HttpClient, nothing_written: None, text: str) -> None:
    answer = http.call("GET", f"/instance?maxResults={text}")
    assert (answer.status, answer.code) == (400, "InvalidRequestException")
    assert answer.json["Message"].startswith("MaxResults: ")


@pytest.mark.parametrize("text", ["%FF", "%C3", "%ED%A0%80", "%C0%AF", "a%80b", "%F5%80%80%80"])
def test_a_path_or_query_that_is_not_utf_8_is_refused(
    http: HttpClient, scene: Scene, nothing_written: None, text: str
) -> None:
    path = f"/email-addresses/{scene.instance_id}/{text}"
    for method, target, code in (
        ("GET", path, "InvalidParameterException"),
        ("DELETE", path, "InvalidParameterException"),
        ("GET", f"/instance/{text}", "InvalidRequestException"),
        ("GET", f"/instance?nextToken={text}", "InvalidRequestException"),
        ("DELETE", f"/tags/arn%3Ax?tagKeys={text}", "InvalidParameterException"),
    ):
        answer = http.call(method, target)
        assert (answer.status, answer.code) == (400, code)
        assert "UTF-8" in answer.json["Message"]


def test_a_query_of_very_many_fields_is_refused(http: HttpClient, scene: Scene, nothing_written: None) -> None:
    arn = f"/tags/{scene.good_values(OPERATIONS['TagResource'])['resourceArn'].replace('/', '%2F')}"
    for count, words in ((51, "tagKeys"), (5_000, "fields")):
        answer = http.call("DELETE", f"{arn}?" + "&".join(["tagKeys=a"] * count))
        assert (answer.status, answer.code) == (400, "InvalidParameterException")
        assert words in answer.json["Message"]


@pytest.mark.parametrize("raw", [b"/instance/\xff", b"/instance?nextToken=\xff", b"/a b", b"/\x00"])
def test_what_is_not_http_is_refused_and_the_next_request_is_served(
    http: HttpClient, nothing_written: None, raw: bytes
) -> None:
    http.connection.connect()
    http.connection.sock.sendall(b"GET " + raw + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    with http.connection.sock.makefile("rb") as file:
        assert file.readline().split(b" ")[1] in {b"400", b"403"}
    http.connection.close()
    assert http.call("GET", "/instance").status == 200


# Bodies.

NOT_JSON = {
    "word": b"hello",
    "form": b"InstanceId=x&EmailAddressId=y",
    "xml": b"<InstanceId>x</InstanceId>",
    "half": b'{"InstanceId": "x"',
    "twice": b'{"InstanceId": "x"} {}',
    "trailing comma": b'{"InstanceId": "x",}',
    "single quotes": b"{'InstanceId': 'x'}",
    "comment": b'{"InstanceId": "x" /* */}',
    "bare key": b'{InstanceId: "x"}',
    "space": b" ",
    "nul": b"\x00",
    "nul after": b'{"InstanceId": "x"}\x00',
    "list": b"[]",
    "string": b'"x"',
    "null": b"null",
    "number": b"1",
    "true": b"true",
    "NaN": b'{"InstanceId": "x", "MaxResults": NaN}',
    "Infinity": b'{"InstanceId": "x", "MaxResults": Infinity}',
    "-Infinity": b'{"InstanceId": "x", "MaxResults": -Infinity}',
    "huge exponent": b'{"InstanceId": "x", "Surplus": 1e400}',
    "leading zero": b'{"InstanceId": "x", "MaxResults": 01}',
    "5,000 digits": b'{"InstanceId": "x", "Surplus": ' + b"9" * 5_000 + b"}",
    "control character in text": b'{"InstanceId": "a\nb"}',
    "bad escape": b'{"InstanceId": "\\x41"}',
    "duplicate": b'{"InstanceId": "x", "InstanceId": "y"}',
    "duplicate inside": b'{"InstanceId": "x", "SearchCriteria": {"StringCondition": {"Value": "a", "Value": "b"}}}',
    "duplicate by escape": b'{"InstanceId": "x", "Instance\\u0049d": "y"}',
    "BOM": b'\xef\xbb\xbf{"InstanceId": "x"}',
    "UTF-16": '{"InstanceId": "x"}'.encode("utf-16"),
    "UTF-16 without BOM": '{"InstanceId": "x"}'.encode("utf-16-le"),
    "Latin-1": '{"InstanceId": "caf\u00e9"}'.encode("latin-1"),
    "overlong UTF-8": b'{"InstanceId": "\xc0\xaf"}',
    "UTF-8 of a surrogate": b'{"InstanceId": "\xed\xa0\x80"}',
    "not UTF-8 in a key": b'{"\xff": "x"}',
    "lone high surrogate": b'{"InstanceId": "\\ud83d"}',
    "lone low surrogate": b'{"InstanceId": "\\udce7"}',
    "surrogates swapped": b'{"InstanceId": "\\udce7\\ud83d"}',
    "lone surrogate in a key": b'{"\\ud83d": "x"}',
    "100,000 lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100,000 open brackets": b"[" * 100_000,
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
@pytest.mark.parametrize("wire", WIRES)
def test_a_body_that_is_no_json_object_is_a_serialization_error(
    http: HttpClient, nothing_written: None, wire: str, body: bytes
) -> None:
    """Contract 1: bad JSON is SerializationException, whatever the wire."""
    target = {"X-Amz-Target": "AmazonConnectService.SearchEmailAddresses", "Content-Type": "application/x-amz-json-1.1"}
    if wire == "JSON 1.1":
        answer = http.call("POST", "/", body, headers=target)
    else:
        answer = http.call("POST", "/search-email-addresses", body)
    assert (answer.status, answer.code) == (400, "SerializationException")
    assert len(answer.json["Message"]) < 1_000
    assert http.call("GET", "/instance").status == 200


def test_an_integer_beyond_every_size_is_refused_by_name(http: HttpClient, scene: Scene, nothing_written: None) -> None:
    for digits in ("9" * 19, "9" * 20, "9" * 400, "-" + "9" * 400):
        body = f'{{"InstanceId": "{scene.instance_id}", "MaxResults": {digits}}}'.encode()
        answer = http.call("POST", "/search-email-addresses", body)
        assert (answer.status, answer.code) == (400, "InvalidParameterException")
        assert answer.json["Message"].startswith("MaxResults: ")


# Searches.


def search(http: HttpClient, scene: Scene, criteria: bytes, name: bytes = b"SearchCriteria") -> HttpAnswer:
    body = b'{"InstanceId": "%s", "%s": %s}' % (scene.instance_id.encode(), name, criteria)
    return http.call("POST", "/search-email-addresses", body)


CONDITION = b'{"StringCondition": {"FieldName": "DisplayName", "Value": "x", "ComparisonType": "EXACT"}}'


@pytest.mark.parametrize("kind", [b"AndConditions", b"OrConditions"])
@pytest.mark.parametrize("leaf", [b"{}", CONDITION], ids=["empty", "condition"])
def test_conditions_nest_to_a_bound_and_past_it_is_refused(
    http: HttpClient, scene: Scene, nothing_written: None, kind: bytes, leaf: bytes
) -> None:
    def nested(depth: int) -> HttpAnswer:
        return search(http, scene, (b'{"%s": [' % kind) * depth + leaf + b"]}" * depth)

    statuses = [nested(depth).status for depth in range(40)]
    bound = statuses.index(400)
    assert bound >= 5  # deeper than any search that a person writes
    assert statuses == [200] * bound + [400] * (40 - bound)
    answer = nested(bound)
    assert answer.code == "InvalidParameterException"
    assert answer.json["Message"].startswith("SearchCriteria.")
    for depth in [100, 200, 300, 400, *range(440, 520, 3), 1_000, 10_000, 40_000]:
        answer = nested(depth)
        assert (answer.status, answer.code in SHAPE_ERRORS | {"SerializationException"}) == (400, True)


@pytest.mark.parametrize(
    ("name", "start", "item", "end"),
    [
        (b"SearchCriteria", b'{"AndConditions": [', CONDITION, b"]}"),
        (b"SearchCriteria", b'{"OrConditions": [', CONDITION, b"]}"),
        (b"SearchCriteria", b'{"AndConditions": [', b"{}", b"]}"),
        (b"SearchCriteria", b'{"OrConditions": [', b'{"AndConditions": []}', b"]}"),
        (b"SearchFilter", b'{"TagFilter": {"AndConditions": [', b'{"TagKey": "a"}', b"]}}"),
        (b"SearchFilter", b'{"TagFilter": {"OrConditions": [', b'[{"TagKey": "a", "TagValue": "b"}]', b"]}}"),
        (b"SearchFilter", b'{"TagFilter": {"OrConditions": [', b"[]", b"]}}"),
    ],
)
@pytest.mark.parametrize("count", [500, 5_000])
def test_very_many_conditions_are_refused(
    http: HttpClient,
    scene: Scene,
    nothing_written: None,
    name: bytes,
    start: bytes,
    item: bytes,
    end: bytes,
    count: int,
) -> None:
    answer = search(http, scene, start + b",".join([item] * count) + end, name)
    assert (answer.status, answer.code) == (400, "InvalidParameterException")
    assert answer.json["Message"].startswith(name.decode())


@pytest.mark.parametrize(
    "token", ["x", "====", "e30", "bnVsbA", "WzEsMiwzXQ", "_w", "W1tbW1tbW1s", "\u00e9", "a" * 2_500, "WzEsImEiLCJiIl0"]
)
def test_a_page_token_that_is_none_of_ours_is_refused(
    http: HttpClient, scene: Scene, nothing_written: None, token: str
) -> None:
    """Contract 5: it is bound to its query."""
    path = f"/_readdress/instances/{scene.instance_id}/email-addresses/{scene.primary_id}/messages"
    for answer in (
        search(http, scene, f'"{token}"'.encode(), b"NextToken"),
        send(http, "JSON 1.1", OPERATIONS["ListInstances"], {"NextToken": token}),
        http.call("GET", f"{path}?nextToken={token.encode().hex()}"),
    ):
        assert (answer.status, answer.code in SHAPE_ERRORS) == (400, True)
        assert answer.json["Message"].startswith("NextToken: ")


# Size.


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with a length", "in chunks"])
def test_a_body_of_8_mib_is_too_large_and_the_service_lives(
    service: ServiceProcess, nothing_written: None, is_chunked: bool
) -> None:
    body = b'{"a": "' + b"x" * (8 * 1024 * 1024) + b'"}'
    headers = {"Content-Type": "application/json"}
    with HttpClient(service.http_address) as client:
        pieces = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
        try:
            client.connection.request("POST", "/", body=pieces if is_chunked else body, headers=headers)
        except (BrokenPipeError, ConnectionResetError):
            return  # closed before all was sent, which is clean too
        response = client.connection.getresponse()
        answer = HttpAnswer(response.status, {n.lower(): v for n, v in response.getheaders()}, response.read())
        assert (answer.status, answer.code) == (413, "RequestEntityTooLargeException")
        assert answer.json["__type"] == answer.code
        assert client.call("GET", "/instance").status == 200


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with a length", "in chunks"])
def test_the_size_is_checked_to_the_byte(start_service: Any, is_chunked: bool) -> None:
    """`request_bytes_max` bounds a body however it is framed, and one of just that size passes."""
    process = start_service(environment={"READDRESS_REQUEST_BYTES_MAX": "1024"})
    with HttpClient(process.http_address) as client:
        for size, status in ((1_024, 403), (1_025, 413), (2_000, 413)):
            body = b"x" * size
            client.connection.request("POST", "/", body=iter([body]) if is_chunked else body)
            response = client.connection.getresponse()
            response.read()
            assert response.status == status, size
