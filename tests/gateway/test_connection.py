"""A connection of HTTP and what it carries: calls one behind the other, pages between them, bodies and their bounds."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness.process import DEV_INSTANCE, ServiceProcess
from harness.signed_request import SignedRequest
from harness.stored import wait_until

HEALTH = b"GET /_readdress/health HTTP/1.1\r\nHost: a\r\n\r\n"
FINE = b'{"Status":"OK"}'
PAGE = b"GET /_console/sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
BYTES_MAX = 1_048_576  # request_bytes_max as it is by default
DELAY_MS = 600


@contextmanager
def connected(service: ServiceProcess) -> Iterator[socket.socket]:
    with socket.create_connection(service.http_address, timeout=10) as connection:
        yield connection


class Answers:
    """What comes over a connection, answer by answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""

    def next(self, *, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        while len(self._received) < length:
            self._receive()
        body, self._received = self._received[:length], self._received[length:]
        return int(status.split()[1]), headers, body

    def is_over(self) -> bool:
        return not self._received and self._connection.recv(1) == b""

    def _receive(self) -> None:
        piece = self._connection.recv(65_536)
        assert piece, f"the connection ended behind {self._received!r}"
        self._received += piece


def signed(method: str, target: str, body: bytes = b"", *extra: str) -> bytes:
    request = SignedRequest(method, target, {}, body).sign()
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items()), *extra]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def slow(service: ServiceProcess, operation: str) -> None:
    """Let the next call of the operation take DELAY_MS."""
    fault = json.dumps({"Operation": operation, "DelayMs": DELAY_MS, "Times": 1}).encode()
    connection = http.client.HTTPConnection(*service.http_address)
    connection.request("POST", "/_readdress/faults", fault)
    assert connection.getresponse().status == 200
    connection.close()


def test_calls_that_are_sent_at_once_are_answered_in_their_order(service: ServiceProcess) -> None:
    slow(service, "DescribeInstance")
    with connected(service) as connection:
        calls = [signed("GET", f"/instance/{DEV_INSTANCE}"), signed("GET", "/instance/none"), HEALTH]
        connection.sendall(b"".join(calls))
        answers = Answers(connection)
        assert [answers.next()[0] for _ in calls] == [200, 404, 200]
        connection.sendall(HEALTH)
        assert answers.next()[::2] == (200, FINE)


def test_hundreds_of_calls_in_one_piece_are_all_answered(service: ServiceProcess) -> None:
    with connected(service) as connection:
        connection.sendall(HEALTH * 500)
        answers = Answers(connection)
        assert {answers.next()[::2] for _ in range(500)} == {(200, FINE)}


@pytest.mark.parametrize("order", ["page first", "call first"])
def test_one_connection_carries_pages_and_calls(service: ServiceProcess, order: str) -> None:
    with connected(service) as connection:
        answers = Answers(connection)
        for request in [PAGE, HEALTH, PAGE, HEALTH] if order == "page first" else [HEALTH, PAGE, HEALTH, PAGE]:
            connection.sendall(request)
            status, headers, _ = answers.next()
            assert (status, "x-amzn-requestid" in headers) == (200, request is HEALTH)


@pytest.mark.parametrize("order", ["page first", "call first"])
def test_pages_and_calls_that_are_sent_at_once_are_answered_in_their_order(service: ServiceProcess, order: str) -> None:
    requests = [PAGE, HEALTH, HEALTH, PAGE, PAGE, HEALTH] if order == "page first" else [HEALTH, PAGE, PAGE, HEALTH]
    with connected(service) as connection:
        connection.sendall(b"".join(requests))
        answers = Answers(connection)
        for request in requests:
            status, headers, _ = answers.next()
            assert (status, "x-amzn-requestid" in headers) == (200, request is HEALTH)


def test_what_is_no_http_is_refused_behind_the_answers_to_what_was(service: ServiceProcess) -> None:
    slow(service, "DescribeInstance")
    with connected(service) as connection:
        connection.sendall(signed("GET", f"/instance/{DEV_INSTANCE}") + HEALTH + b"NONSENSE\r\n\r\n" + HEALTH)
        answers = Answers(connection)
        assert [answers.next()[0] for _ in range(3)] == [200, 200, 400]
        assert answers.is_over()


@pytest.mark.parametrize("cut", [0, 1, 5])
def test_who_asks_for_another_protocol_is_answered_in_this_one(service: ServiceProcess, cut: int) -> None:
    """As Java's own client does with each call, its body behind it."""
    upgrade = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAoAAAAAIAAAAA")
    body = json.dumps({"EmailAddress": f"upgrade{cut}@example.com"}).encode()
    create = signed("PUT", f"/email-addresses/{DEV_INSTANCE}", body, *upgrade)
    look = signed("GET", f"/instance/{DEV_INSTANCE}", b"", *upgrade)
    with connected(service) as connection:
        answers = Answers(connection)
        connection.sendall(look + create[: len(create) - cut])
        if cut:
            time.sleep(0.05)
            connection.sendall(create[-cut:])
        connection.sendall(look + HEALTH)
        assert [answers.next()[0] for _ in range(4)] == [200, 200, 200, 200]


def test_another_protocol_and_a_body_in_chunks_is_refused(service: ServiceProcess) -> None:
    with connected(service) as connection:
        fields = b"Host: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(b"POST / HTTP/1.1\r\n" + fields + b"2\r\n{}\r\n0\r\n\r\n")
        answers = Answers(connection)
        assert answers.next()[0] == 400
        assert answers.is_over()


def test_who_waits_to_be_told_may_go_on(service: ServiceProcess) -> None:
    body = json.dumps({"EmailAddress": "told@example.com"}).encode()
    request = signed("PUT", f"/email-addresses/{DEV_INSTANCE}", body, "expect: 100-continue")
    with connected(service) as connection:
        connection.sendall(request.removesuffix(body))
        assert connection.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert Answers(connection).next()[0] == 200


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(service: ServiceProcess) -> None:
    head = f"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {BYTES_MAX + 1}\r\n\r\n"
    with connected(service) as connection:
        connection.sendall(head.encode())
        answers = Answers(connection)
        status, headers, _ = answers.next()
        assert (status, headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")
        connection.sendall(b"x" * (BYTES_MAX + 1))  # whoever sends it all the same is in step afterwards
        connection.sendall(HEALTH)
        assert answers.next()[::2] == (200, FINE)


def test_a_body_in_chunks_is_refused_once_it_is_too_large(service: ServiceProcess) -> None:
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    with connected(service) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(BYTES_MAX // 65_536):
            connection.sendall(chunk)
        connection.sendall(b"1\r\nx\r\n")
        answers = Answers(connection)
        assert answers.next()[0] == 413
        connection.sendall(chunk + b"0\r\n\r\n" + HEALTH)
        assert answers.next()[::2] == (200, FINE)


def test_head_is_told_the_length_alone(service: ServiceProcess) -> None:
    with connected(service) as connection:
        connection.sendall(HEALTH.replace(b"GET", b"HEAD") + HEALTH)
        answers = Answers(connection)
        status, headers, _ = answers.next(method="HEAD")
        assert (status, headers["content-length"]) == (200, str(len(FINE)))
        assert answers.next()[::2] == (200, FINE)


@pytest.mark.parametrize(
    ("request_line", "field"),
    [(b"HTTP/1.0", b"X: y"), (b"HTTP/1.0", b"Connection: keep-alive"), (b"HTTP/1.1", b"Connection: close")],
)
def test_who_wants_one_answer_gets_one(service: ServiceProcess, request_line: bytes, field: bytes) -> None:
    request = HEALTH.replace(b"HTTP/1.1", request_line).replace(b"Host: a", b"Host: a\r\n" + field)
    with connected(service) as connection:
        connection.sendall(request + HEALTH)
        answers = Answers(connection)
        status, headers, body = answers.next()
        assert (status, headers["connection"], body) == (200, "close", FINE)
        assert answers.is_over()


def test_a_call_whose_client_has_gone_is_done(service: ServiceProcess) -> None:
    slow(service, "CreateEmailAddress")
    body = json.dumps({"EmailAddress": "gone@example.com"}).encode()
    with connected(service) as connection:
        connection.sendall(signed("PUT", f"/email-addresses/{DEV_INSTANCE}", body))
        time.sleep(DELAY_MS / 3_000)
    condition = {"FieldName": "EmailAddress", "Value": "gone@example.com", "ComparisonType": "EXACT"}
    search = {"InstanceId": DEV_INSTANCE, "SearchCriteria": {"StringCondition": condition}}

    def is_there() -> bool:
        with connected(service) as connection:
            connection.sendall(signed("POST", "/search-email-addresses", json.dumps(search).encode()))
            return b"gone@example.com" in Answers(connection).next()[2]

    wait_until(is_there)


def test_what_is_under_way_is_answered_before_the_service_stops(start_service: Callable[..., ServiceProcess]) -> None:
    service = start_service()
    slow(service, "DescribeInstance")
    with connected(service) as busy, connected(service) as idle:
        busy.sendall(signed("GET", f"/instance/{DEV_INSTANCE}"))
        time.sleep(DELAY_MS / 3_000)
        service.process.send_signal(signal.SIGTERM)
        answers = Answers(busy)
        status, headers, _ = answers.next()
        assert (status, headers["connection"]) == (200, "close")
        assert answers.is_over()
        assert idle.recv(1) == b""
    assert service.stop() == 0
