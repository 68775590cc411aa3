"""What is no HTTP, or more than a head may be: a typed 400 like any other error (contract 1), then the end."""

import json
import socket
import time
from collections.abc import Callable

import pytest

from harness.http_client import HttpClient
from harness.process import ServiceProcess


def exchange(service: ServiceProcess, data: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Everything the service says to the bytes: status line, headers, body."""
    with socket.create_connection(service.http_address, timeout=10) as connection:
        connection.sendall(data)
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return (
        status,
        {name.decode().lower(): value.decode() for name, value in (line.split(b": ", 1) for line in lines)},
        body,
    )


@pytest.mark.parametrize(
    "data",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Filler: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: b\r\n" % n for n in range(8_000)) + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["nonsense", "nul in the path", "nul in a header", "bad length", "long header", "many headers", "long path"],
)
def test_what_is_no_http_gets_a_typed_400(service: ServiceProcess, data: bytes) -> None:
    status, headers, body = exchange(service, data)
    assert status == b"HTTP/1.1 400 Bad Request"
    assert headers["x-amzn-errortype"] == "SerializationException"
    assert headers["content-type"] == "application/json"
    assert headers["x-amzn-requestid"]
    assert headers["date"]
    assert json.loads(body)["__type"] == "SerializationException"


def test_a_head_within_the_limit_is_read(service: ServiceProcess) -> None:
    filler = b"X-Filler: " + b"a" * 60_000 + b"\r\n"
    data = b"GET /_readdress/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + filler + b"\r\n"
    status, _, body = exchange(service, data)
    assert (status, body) == (b"HTTP/1.1 200 OK", b'{"Status":"OK"}')


def test_a_request_that_drips_has_one_deadline(start_service: Callable[..., ServiceProcess]) -> None:
    service = start_service(environment={"READDRESS_REQUEST_TIMEOUT_MS": "1000"})
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
    for beginning in (b"", request[:20], request):  # silent, in the head, in the body
        with socket.create_connection(service.http_address, timeout=10) as connection:
            connection.sendall(beginning)
            assert hangs_up(connection, [b"x"] * 60)


def hangs_up(connection: socket.socket, drips: list[bytes]) -> bool:
    for drip in drips:
        time.sleep(0.2)
        try:
            connection.sendall(drip)
            connection.settimeout(0.01)
            if connection.recv(1) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_a_connection_that_is_used_in_time_stays(start_service: Callable[..., ServiceProcess]) -> None:
    service = start_service(environment={"READDRESS_REQUEST_TIMEOUT_MS": "1500"})
    with HttpClient(service.http_address) as client:
        for _ in range(4):  # longer in all than one deadline, and idle longer than that between two of them
            assert client.call("GET", "/_readdress/health", sign=False).status == 200
            time.sleep(0.8)
        own = client.connection.sock
        time.sleep(1.7)
        assert client.call("GET", "/_readdress/health", sign=False).status == 200
        assert client.connection.sock is own


def test_one_connection_too_many_hears_a_typed_503(start_service: Callable[..., ServiceProcess]) -> None:
    service = start_service(environment={"READDRESS_HTTP_CONNECTIONS_MAX": "2"})
    with HttpClient(service.http_address) as one, HttpClient(service.http_address) as other:
        for client in (one, other):
            assert client.call("GET", "/_readdress/health", sign=False).status == 200
        status, headers, body = exchange(service, b"")
        assert status == b"HTTP/1.1 503 Service Unavailable"
        assert headers["x-amzn-errortype"] == "ServiceUnavailableException"
        assert headers["x-amz-retry-after"] == "1000"
        assert json.loads(body)["__type"] == "ServiceUnavailableException"
        assert one.call("GET", "/_readdress/health", sign=False).status == 200
