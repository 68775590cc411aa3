"""What is no HTTP, or more than a head may be: a typed 400 like any other error (contract 1), then the end."""

import json
import socket

import pytest

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
