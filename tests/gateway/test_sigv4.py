"""Signature Version 4: the third-party vectors, and everything that has to be refused (contract 4)."""

import hashlib
import hmac
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.access_keys import create_key, disable_key
from harness.http_client import HttpAnswer, HttpClient
from harness.process import ServiceProcess
from harness.signed_request import SignedRequest
from readdress.errors import InvalidSignatureException, ServiceError
from readdress.gateway import sigv4
from readdress.gateway.sigv4 import Authorization
from readdress.gateway.wire import HttpRequest

VECTORS = Path(__file__).parent.parent / "vectors" / "sigv4"
VECTOR_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
VECTOR_TIME = "20150830T123600Z"
VECTOR_TIME_MS = 1_440_938_160_000

# Its signature is that of get-vanilla, made without the token that its own canonical request and string to sign hold:
# a verifier that accepted it would be wrong.
INCONSISTENT = "get-vanilla-with-session-token"

CASES = sorted(VECTORS.rglob("*.sreq"))
CASE_IDS = [case.stem for case in CASES]


def read_signed_request(file: Path) -> HttpRequest:
    """A `.sreq` as an HTTP server would hand it on: names in lower case, folded lines joined."""
    head, _, body = file.read_bytes().partition(b"\n\n")
    request_line, *lines = head.split(b"\n")
    method, _, rest = request_line.partition(b" ")
    path, _, query = rest.rpartition(b" ")[0].partition(b"?")
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in b" \t":
            name, value = headers.pop()
            headers.append((name, value + b" " + line.strip()))
        else:
            name, _, value = line.partition(b":")
            headers.append((name.lower(), value))
    return HttpRequest(method.decode(), path, query, headers, body)


class Parsed(NamedTuple):
    request: HttpRequest
    authorization: Authorization
    canonical: str
    to_sign: str


def parse(file: Path) -> Parsed:
    request = read_signed_request(file)
    authorization = sigv4.read_authorization(request)
    body_hash = hashlib.sha256(request.body).hexdigest()
    canonical = sigv4.canonical_request(request, authorization.signed_headers, body_hash)
    return Parsed(request, authorization, canonical, sigv4.string_to_sign(canonical, authorization, VECTOR_TIME))


def sign(text: str, authorization: Authorization) -> str:
    key = sigv4.signing_key(VECTOR_SECRET, authorization.date, authorization.region, authorization.service)
    return hmac.digest(key, text.encode(), "sha256").hex()


def verify_vector(parsed: Parsed) -> None:
    sigv4.verify(
        parsed.request,
        parsed.authorization,
        secret=VECTOR_SECRET,
        region="us-east-1",
        service="service",
        now_ms=VECTOR_TIME_MS,
    )


def test_the_whole_suite_is_here() -> None:
    assert len(CASES) == 34
    assert [case.stem for case in sorted(VECTORS.rglob("*.req"))] == CASE_IDS


@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_canonical_request_and_string_to_sign_are_the_suites(case: Path) -> None:
    parsed = parse(case)
    assert parsed.canonical == case.with_suffix(".creq").read_text("utf-8")
    assert parsed.to_sign == case.with_suffix(".sts").read_text("utf-8")


@pytest.mark.parametrize("case", [case for case in CASES if case.stem != INCONSISTENT], ids=lambda case: case.stem)
def test_the_signature_is_the_suites_and_the_signed_request_is_accepted(case: Path) -> None:
    parsed = parse(case)
    header = case.with_suffix(".authz").read_text("utf-8")
    assert parsed.request.header(b"authorization") == header
    assert header.endswith(f"Signature={sign(parsed.to_sign, parsed.authorization)}")
    verify_vector(parsed)


def test_the_one_vector_whose_signature_is_anothers_is_refused() -> None:
    parsed = parse(VECTORS / INCONSISTENT / f"{INCONSISTENT}.sreq")
    vanilla = parse(VECTORS / "get-vanilla" / "get-vanilla.sreq")
    assert parsed.authorization.signature == vanilla.authorization.signature
    with pytest.raises(InvalidSignatureException):
        verify_vector(parsed)


# Tampering: a request that was good, changed in one place after it was signed.


def good_request() -> SignedRequest:
    """Every part that a signature covers: an encoded path, a query, headers with meaning, a body."""
    return SignedRequest(
        target="/email-addresses/arn%3Aaws%2Fx/b?nextToken=a%20b&maxResults=5",
        headers={
            "content-type": "application/json",
            "x-amz-target": "AmazonConnectService.ListInstances",
            "x-note": "caf\u00e9 \ufffd",
        },
        body=b'{"InstanceId": "i"}',
    ).sign()


def time_of(request: SignedRequest) -> int:
    signed_at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return int(signed_at.timestamp() * 1000)


def check(request: SignedRequest, *, secret: str = "test", now_ms: int | None = None) -> None:
    received = request.received()
    sigv4.verify(
        received,
        sigv4.read_authorization(received),
        secret=secret,
        region="us-east-1",
        service="connect",
        now_ms=time_of(request) if now_ms is None else now_ms,
    )


def refusal(request: SignedRequest, *, now_ms: int | None = None) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        check(request, now_ms=now_ms)
    assert caught.value.status == 403
    return caught.value


def test_an_untouched_request_is_accepted() -> None:
    check(good_request())


Change = Callable[[SignedRequest], None]


def set_(name: str, value: object) -> Change:
    return lambda request: setattr(request, name, value)


def header(name: str, value: str) -> Change:
    return lambda request: request.headers.update({name: value})


def drop(name: str) -> Change:
    return lambda request: request.headers.__delitem__(name)


def authorization(old: str, new: str) -> Change:
    return lambda request: request.replace_header("authorization", old, new)


def signature(change: Callable[[str], str]) -> Change:
    def apply(request: SignedRequest) -> None:
        start, _, value = request.headers["authorization"].rpartition("=")
        request.headers["authorization"] = f"{start}={change(value)}"

    return apply


def _later(request: SignedRequest) -> None:
    """One second on, the same day: inside the window."""
    date = request.headers["x-amz-date"]
    second = (int(date[13:15]) + 1) % 60
    request.headers["x-amz-date"] = f"{date[:13]}{second:02d}Z"


def _other_day(request: SignedRequest) -> None:
    day = request.headers["x-amz-date"][:8]
    request.replace_header("authorization", f"/{day}/", "/20000101/")


_PATH, _QUERY = "/email-addresses/arn%3Aaws%2Fx/b", "nextToken=a%20b&maxResults=5"
TAMPERED: dict[str, Change] = {
    "method": set_("method", "PUT"),
    "path": set_("target", f"{_PATH}b?{_QUERY}"),
    "path decoded": set_("target", f"/email-addresses/arn:aws/x/b?{_QUERY}"),
    "path encoded twice": set_("target", f"/email-addresses/arn%253Aaws%252Fx/b?{_QUERY}"),
    "path in other letter case": set_("target", f"/email-addresses/arn%3aaws%2fx/b?{_QUERY}"),
    "query value": set_("target", f"{_PATH}?nextToken=a%20b&maxResults=6"),
    "query name": set_("target", f"{_PATH}?nextToken=a%20b&maxresults=5"),
    "query field added": set_("target", f"{_PATH}?{_QUERY}&x=1"),
    "query field doubled": set_("target", f"{_PATH}?{_QUERY}&maxResults=5"),
    "query field gone": set_("target", f"{_PATH}?maxResults=5"),
    "query gone": set_("target", _PATH),
    "query in the path": set_("target", f"{_PATH}%3F{_QUERY}"),
    "host": header("host", "127.0.0.2"),
    "content type": header("content-type", "application/x-amz-json-1.1"),
    "operation": header("x-amz-target", "AmazonConnectService.DeleteInstance"),
    "signed header gone": drop("x-note"),
    "signed header in another letter case": header("x-note", "Caf\u00e9 \ufffd"),
    "signed header's byte beyond UTF-8": header("x-note", "caf\u00e9 \udcff"),
    "body": set_("body", b'{"InstanceId": "j"}'),
    "body longer": set_("body", b'{"InstanceId": "i"} '),
    "body gone": set_("body", b""),
    "date": _later,
    "scope's date": _other_day,
    "scope's region": authorization("/us-east-1/", "/eu-west-1/"),
    "scope's service": authorization("/connect/", "/s3/"),
    "signed headers fewer": authorization(";x-note", ""),
    "signed headers more": authorization(";x-note", ";x-note;x-other"),
    "signed headers in another order": authorization("content-type;host", "host;content-type"),
    "signature's digit": signature(lambda value: value[:-1] + ("0" if value[-1] != "0" else "1")),
    "signature in upper case": signature(lambda value: "A" * 64 if value.upper() == value else value.upper()),
    "signature cut": signature(lambda value: value[:-1]),
    "signature longer": signature(lambda value: value + "0"),
    "signature beyond ASCII": signature(lambda value: "\u00e9" * 64),
    "signature of another": signature(lambda value: value[::-1]),
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_a_request_changed_after_it_was_signed_is_refused(change: Change) -> None:
    request = good_request()
    before = (request.method, request.target, dict(request.headers), request.body)
    now_ms = time_of(request)
    change(request)
    assert before != (request.method, request.target, request.headers, request.body)
    assert refusal(request, now_ms=now_ms).code == "InvalidSignatureException"


UNTOUCHED: dict[str, Change] = {
    "a header that is not signed": header("x-trace", "1"),
    "the order of the query": set_("target", f"{_PATH}?maxResults=5&nextToken=a%20b"),
    "runs of spaces around a value": header("x-note", "  caf\u00e9    \ufffd "),
}


@pytest.mark.parametrize("change", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_a_signature_does_not_cover_may_change(change: Change) -> None:
    request = good_request()
    change(request)
    check(request)


def test_another_secret_is_refused() -> None:
    with pytest.raises(InvalidSignatureException):
        check(good_request(), secret="tset")


# The window is ±5 minutes, both edges inside.


@pytest.mark.parametrize("skew_ms", [-300_000, -1, 0, 1, 300_000])
def test_inside_the_window_is_accepted(skew_ms: int) -> None:
    request = good_request()
    check(request, now_ms=time_of(request) + skew_ms)


@pytest.mark.parametrize(
    ("skew_ms", "words"),
    [
        (300_001, "Signature expired"),
        (900_000, "Signature expired"),
        (-300_001, "Signature not yet current"),
        (-86_400_000, "Signature not yet current"),
    ],
)
def test_outside_the_window_is_refused(skew_ms: int, words: str) -> None:
    request = good_request()
    error = refusal(request, now_ms=time_of(request) + skew_ms)
    assert error.code == "InvalidSignatureException"
    assert error.message.startswith(words)


@pytest.mark.parametrize(
    "date",
    [
        "", "20150830", "20150830T123600", "2015-08-30T12:36:00Z", "20150230T123600Z", "20150830T246000Z",
        "20150830T123660Z", "00000000T000000Z", "99999999T999999Z", "99991231T235959Z", "00010101T000000Z",
        "20150830T123600Z, 20150830T123600Z", "\u0662\u0660150830T123600Z", "+0150830T123600Z", " ",
    ],
)  # fmt: skip
def test_a_date_that_is_none_is_refused(date: str) -> None:
    request = good_request()
    day = request.headers["x-amz-date"][:8]
    request.replace_header("authorization", f"/{day}/", f"/{date[:8]}/")
    now_ms = time_of(request)
    request.headers["x-amz-date"] = date
    refusal(request, now_ms=now_ms)


# The body's hash is checked, not trusted.

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("claim", [EMPTY_SHA256, "UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "x"])
def test_a_signature_over_a_claimed_hash_is_refused(claim: str) -> None:
    request = SignedRequest(headers={"x-amz-content-sha256": claim}, body=b"{}").sign()
    assert refusal(request).code == "InvalidSignatureException"


@pytest.mark.parametrize("claim", [EMPTY_SHA256, "UNSIGNED-PAYLOAD", ""])
def test_a_claimed_hash_that_is_not_the_bodys_is_refused_though_nobody_signed_it(claim: str) -> None:
    request = SignedRequest(body=b"{}").sign()
    request.headers["x-amz-content-sha256"] = claim
    error = refusal(request)
    assert (error.code, "x-amz-content-sha256" in error.message) == ("InvalidSignatureException", True)


@pytest.mark.parametrize("is_signed", [True, False])
def test_the_bodys_own_hash_is_accepted(is_signed: bool) -> None:
    claim = {"x-amz-content-sha256": hashlib.sha256(b"{}").hexdigest()}
    request = SignedRequest(headers=claim if is_signed else {}, body=b"{}").sign()
    request.headers |= claim
    check(request)


# What decides the meaning has to be signed.


def test_an_operation_added_after_signing_is_refused() -> None:
    request = SignedRequest(body=b"{}").sign()
    request.headers["x-amz-target"] = "AmazonConnectService.ListInstances"
    error = refusal(request)
    assert "x-amz-target" in error.message


@pytest.mark.parametrize("name", ["host", "x-amz-date"])
def test_host_and_date_have_to_be_signed(name: str) -> None:
    request = SignedRequest(body=b"{}").sign()
    request.replace_header("authorization", "host;x-amz-date", "host;x-amz-date".replace(name, "content-length"))
    assert name in refusal(request).message


# The real process: every shape of bad header is a typed 403.


@pytest.fixture
def connection(service: ServiceProcess) -> Iterator[HttpClient]:
    with HttpClient(service.http_address) as client:
        yield client


def check_403(answer: HttpAnswer, code: str) -> None:
    assert (answer.status, answer.code) == (403, code), answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {"__type": code, "Message": answer.json["Message"]}
    assert answer.headers["x-amzn-requestid"]
    assert answer.headers["date"]


_SCOPE = "20150830/us-east-1/connect/aws4_request"
_CREDENTIAL = f"Credential=test/{_SCOPE}"
_SIGNED, _SIGNATURE = "SignedHeaders=host;x-amz-date", f"Signature={'0' * 64}"
_REST = f"{_SIGNED}, {_SIGNATURE}"
_ALL = f"{_CREDENTIAL}, {_REST}"
MALFORMED = [
    "", " ", ",", "=", "====", ";;;;", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256,",
    "Basic dGVzdDp0ZXN0", "Bearer token", "AWS test:c2ln", "x" * 20_000, "\u00ff\u00fe\u0080", f"\\ {_CREDENTIAL}",
    f"AWS4-HMAC-SHA1 {_ALL}", f"aws4-hmac-sha256 {_ALL}", f"AWS4-ECDSA-P256-SHA256 {_ALL}",
    f"AWS4-HMAC-SHA256\t{_ALL}", f"AWS4-HMAC-SHA256 {_ALL}, {'x' * 5_000}",
    f"AWS4-HMAC-SHA256 {_CREDENTIAL}", f"AWS4-HMAC-SHA256 {_SIGNED}", f"AWS4-HMAC-SHA256 {_SIGNATURE}",
    f"AWS4-HMAC-SHA256 {_REST}", f"AWS4-HMAC-SHA256 {_CREDENTIAL}, {_SIGNATURE}",
    f"AWS4-HMAC-SHA256 {_CREDENTIAL}, {_SIGNED}", f"AWS4-HMAC-SHA256 {_CREDENTIAL}, {_SIGNED}, Signature=",
    f"AWS4-HMAC-SHA256 {_CREDENTIAL}, SignedHeaders=, {_SIGNATURE}",
    f"AWS4-HMAC-SHA256 {_CREDENTIAL}, SignedHeaders=;;, {_SIGNATURE}",
    f"AWS4-HMAC-SHA256 {_CREDENTIAL} {_SIGNED} {_SIGNATURE}", f"AWS4-HMAC-SHA256 Credential=, {_REST}",
    f"AWS4-HMAC-SHA256 Credential=test, {_REST}", f"AWS4-HMAC-SHA256 Credential=////, {_REST}",
    f"AWS4-HMAC-SHA256 Credential=test/20150830/us-east-1/connect/aws4, {_REST}",
    f"AWS4-HMAC-SHA256 Credential=a/test/{_SCOPE}, {_REST}", f"AWS4-HMAC-SHA256 Credential={_SCOPE}, {_REST}",
]  # fmt: skip


@pytest.mark.parametrize("value", MALFORMED)
def test_a_malformed_authorization_header_is_incomplete(connection: HttpClient, value: str) -> None:
    answer = SignedRequest("GET", "/instance", {"authorization": value}).send(connection)
    check_403(answer, "IncompleteSignatureException")


WRONG = [
    (_ALL, "InvalidSignatureException"),
    (f"{_CREDENTIAL}, SignedHeaders=\u00e9;host;x-amz-date, Signature=\u00e9", "InvalidSignatureException"),
    (f"{_CREDENTIAL}, {_SIGNED}, Signature={'0' * 3_000}", "InvalidSignatureException"),
    (f"Credential=test/\u00b2\u00b3/us-east-1/connect/aws4_request, {_REST}", "InvalidSignatureException"),
    (f"Credential=/{_SCOPE}, {_REST}", "UnrecognizedClientException"),
    (f"Credential=\u00ff/{_SCOPE}, {_REST}", "UnrecognizedClientException"),
    (f"Credential=' OR 1=1 --/{_SCOPE}, {_REST}", "UnrecognizedClientException"),
]


@pytest.mark.parametrize(("value", "code"), WRONG)
def test_a_well_formed_header_that_is_wrong_is_refused(connection: HttpClient, value: str, code: str) -> None:
    headers = {"authorization": f"AWS4-HMAC-SHA256 {value}"}
    check_403(SignedRequest("GET", "/instance", headers).send(connection), code)


def test_without_a_signature_it_is_missing(connection: HttpClient) -> None:
    check_403(SignedRequest("GET", "/instance").send(connection), "MissingAuthenticationTokenException")
    presigned = "/instance?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00"
    check_403(SignedRequest("GET", presigned).send(connection), "MissingAuthenticationTokenException")


def test_an_unknown_key_is_not_recognized(connection: HttpClient) -> None:
    request = SignedRequest("GET", "/instance").sign(access_key_id="AKIAUNKNOWN")
    check_403(request.send(connection), "UnrecognizedClientException")


def test_a_wrong_secret_region_or_service_is_an_invalid_signature(connection: HttpClient) -> None:
    for wrong in ({"secret": "tset"}, {"region": "eu-west-1"}, {"service": "s3"}):
        request = SignedRequest("GET", "/instance").sign(**wrong)
        check_403(request.send(connection), "InvalidSignatureException")


def test_a_changed_body_is_refused_by_the_real_door(connection: HttpClient) -> None:
    request = SignedRequest("POST", "/search-email-addresses", body=b'{"InstanceId": "a"}').sign()
    request.body = b'{"InstanceId": "b"}'
    check_403(request.send(connection), "InvalidSignatureException")


def test_a_disabled_key_is_refused_from_then_on(service: ServiceProcess, connection: HttpClient) -> None:
    """Contract 4; the running process looks the key up for every request."""
    access_key_id, secret = create_key(service)
    request = SignedRequest("GET", "/instance").sign(access_key_id=access_key_id, secret=secret)
    assert request.send(connection).status == 200
    disable_key(service, access_key_id)
    check_403(request.send(connection), "UnrecognizedClientException")
