"""`/_readdress/faults`: asked for, listed and cleared by HTTP, in development alone."""

import smtplib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess
from readdress.errors import AccessDeniedException, UnknownOperationException
from readdress.faults import Faults
from readdress.gateway import faulty
from readdress.gateway.wire import HttpRequest

PATH = "/_readdress/faults"


@pytest.fixture(scope="module")
def faulty_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    process = ServiceProcess(tmp_path_factory.mktemp("faulty"))
    yield process
    process.stop()


@pytest.fixture
def client(faulty_service: ServiceProcess) -> Iterator[HttpClient]:
    made = HttpClient(faulty_service.http_address)
    made.call("DELETE", PATH)
    yield made
    made.close()


def describe(client: HttpClient) -> Any:
    return client.call("GET", f"/instance/{DEV_INSTANCE}")


def test_an_operation_fails_so_often_and_the_list_says_what_is_left(client: HttpClient) -> None:
    fault = {"Operation": "DescribeInstance", "Error": "ThrottlingException", "Times": 2, "RetryAfterMs": 10}
    added = client.call("POST", PATH, fault)
    assert (added.status, added.json) == (200, fault)
    answer = describe(client)
    assert (answer.status, answer.code) == (429, "ThrottlingException")
    assert client.call("GET", PATH).json == {"Faults": [fault | {"Times": 1}]}
    assert describe(client).status == 429
    assert describe(client).status == 200
    assert client.call("GET", PATH).json == {"Faults": []}


def test_they_are_cleared(client: HttpClient) -> None:
    client.call("POST", PATH, {"Operation": "DescribeInstance", "Error": "InternalServiceException"})
    assert describe(client).status == 500
    assert client.call("DELETE", PATH).status == 200
    assert describe(client).status == 200


def test_a_connection_is_lost_without_a_word(faulty_service: ServiceProcess, client: HttpClient) -> None:
    client.call("POST", PATH, {"Operation": "DescribeInstance", "ConnectionLost": True, "Times": 1})
    with pytest.raises(OSError, match=r"(?i)reset|closed|without"):
        describe(client)
    again = HttpClient(faulty_service.http_address)
    assert describe(again).status == 200
    again.close()
    assert "Traceback" not in faulty_service.errors


def test_smtp_has_faults_as_well(faulty_service: ServiceProcess, client: HttpClient) -> None:
    client.call("PUT", f"/email-addresses/{DEV_INSTANCE}", {"EmailAddress": "support@faults.example"})
    client.call("POST", PATH, {"Verb": "RCPT", "Reply": 451, "Times": 1})
    with smtplib.SMTP(*faulty_service.smtp_address, local_hostname="client.test") as smtp:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.sendmail("a@example.org", ["support@faults.example"], "Subject: x\r\n\r\n")
        smtp.sendmail("a@example.org", ["support@faults.example"], "Subject: x\r\n\r\n")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"Operation": "DescribeInstance"}, "say what happens"),
        ({"Operation": "DescribeInstance", "Error": "ThrottlingException", "Colour": "red"}, "Colour"),
        ({"Verb": "VRFY", "Reply": 451}, "VRFY"),
        ({"Operation": "DescribeInstance", "DelayMs": 60_001}, "DelayMs"),
        (b"not json", "No such fault"),
        (b"", "No such fault"),
    ],
)
def test_what_cannot_be_meant_is_refused(client: HttpClient, body: Any, words: str) -> None:
    answer = client.call("POST", PATH, body)
    assert (answer.status, answer.code) == (400, "InvalidParameterException")
    assert words in answer.json["Message"]
    assert client.call("GET", PATH).json == {"Faults": []}


def test_there_is_no_other_method(client: HttpClient) -> None:
    assert client.call("PUT", PATH, {}).status == 404


def test_without_dev_there_is_no_such_path(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service(dev=False)
    made = HttpClient(process.http_address)
    for method in ("GET", "POST", "DELETE"):
        answer = made.call(method, PATH, {"Verb": "RCPT", "Reply": 451} if method == "POST" else None)
        assert (answer.status, answer.code) == (404, "UnknownOperationException")
    made.close()


@pytest.mark.parametrize(
    ("client_address", "is_let_in"), [("127.0.0.1", True), ("::1", True), ("192.0.2.1", False), ("-", False)]
)
def test_another_machine_is_refused(client_address: str, is_let_in: bool) -> None:
    request = HttpRequest("GET", faulty.PATH, b"", [], peer=client_address)
    faults = Faults(operations=(), errors=())
    if is_let_in:
        assert faulty.answer(faults, request).status == 200
    else:
        with pytest.raises(AccessDeniedException):
            faulty.answer(faults, request)
    with pytest.raises(UnknownOperationException):
        faulty.answer(None, request)
