"""Doors that proxies come to: the header is required of them, believed of nobody else, and TLS may follow it."""

import contextlib
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.certificates import write_certificate
from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess, split_address
from harness.programs import require_program
from harness.proxy_header import proxy_header
from harness.smtp_client import SmtpClient, accepted_id
from harness.stored import publish, wait_until
from readdress.config import Config, ConfigError
from readdress.service import Service

V4, V6 = "198.51.100.7", "2001:db8::7"


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """SMTP, LMTP and implicit TLS, all of them behind proxies of loopback."""
    folder = tmp_path_factory.mktemp("proxied")
    chain, key = write_certificate(folder, serial_number=1)
    environment = {
        "READDRESS_TLS_CERTIFICATE": str(chain),
        "READDRESS_TLS_KEY": str(key),
        "READDRESS_PROXY_FROM": "127.0.0.1",
    }
    options = ("--smtp-tls", "127.0.0.1:0", "--lmtp", "127.0.0.1:0")
    process = ServiceProcess(folder / "data", *options, environment=environment)
    yield process
    process.stop()


def connect(address: str, header: bytes) -> SmtpClient:
    client = SmtpClient(split_address(address), greeting=False)
    client.send(header)
    client.greeting = client.read_reply()
    return client


def remote_of(process: ServiceProcess, message_id: str) -> Any:
    with HttpClient(process.http_address) as http:
        return http.call("GET", f"/_readdress/instances/{DEV_INSTANCE}/messages/{message_id}").json["Connection"]


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("source", [V4, V6])
@pytest.mark.parametrize("hello", ["EHLO", "LHLO"])
def test_the_source_of_the_header_is_the_peer(doors: ServiceProcess, source: str, hello: str) -> None:
    _, text = publish(doors)
    address = doors.smtp if hello == "EHLO" else doors.lmtp
    with connect(address, proxy_header(source, extra=b"\x04\x00\x02xx")) as client:
        assert client.greeting.startswith("220 ")
        assert client.say(f"{hello} client.example").startswith("250-")
        message_id = accepted_id(client.mail("a@sender.example", text))
        assert client.say("QUIT").startswith("221")
    assert source in str(remote_of(doors, message_id))
    said = f"session peer={source} proxy=127.0.0.1 door={'smtp' if hello == 'EHLO' else 'lmtp'} ehlo=client.example"
    wait_until(lambda: said in doors.errors)


def test_a_proxy_that_speaks_for_itself_is_the_peer(doors: ServiceProcess) -> None:
    _, text = publish(doors)
    with connect(doors.smtp, proxy_header(None)) as client:
        client.say("EHLO client.example")
        message_id = accepted_id(client.mail("a@sender.example", text))
    assert "127.0.0.1" in str(remote_of(doors, message_id))


def test_a_header_may_come_octet_by_octet(doors: ServiceProcess) -> None:
    with SmtpClient(doors.smtp_address, greeting=False) as client:
        for octet in proxy_header(V6, extra=b"\x04\x00\x02xx"):
            client.send(bytes([octet]))
        assert client.read_reply().startswith("220 ")
        assert client.say("EHLO client.example").startswith("250-")


def test_what_is_behind_a_header_is_the_peers_word(doors: ServiceProcess) -> None:
    """Which comes too early, as it would without a proxy (RFC 5321 §4.3.1)."""
    with connect(doors.smtp, proxy_header(V4) + b"EHLO client.example\r\n") as client:
        assert client.greeting.startswith("554 5.5.0 ")
        assert client.read_reply() == ""


def test_a_handshake_may_follow_the_header_at_once(doors: ServiceProcess) -> None:
    _, text = publish(doors)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting().wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with socket.create_connection(split_address(doors.smtps), timeout=10) as connection:

        def until_done(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    done = step()
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(65_536))
                else:
                    connection.sendall(outgoing.read())
                    return done

        connection.sendall(proxy_header(V4) + outgoing.read())  # header and ClientHello in one segment
        until_done(tls.do_handshake)
        assert until_done(lambda: tls.read(1_000)).startswith(b"220 ")
        for said in ("EHLO c.example", "MAIL FROM:<>", f"RCPT TO:<{text}>", "BDAT 3 LAST\r\nx"):
            until_done(partial(tls.write, said.encode() + b"\r\n"))
            assert until_done(lambda: tls.read(10_000)).startswith(b"250")
    wait_until(lambda: f"session peer={V4} proxy=127.0.0.1 door=smtp_tls ehlo=c.example tls=TLSv1" in doors.errors)


def test_swaks_speaks_as_a_proxy_with_it(doors: ServiceProcess) -> None:
    _, text = publish(doors)
    host, port = doors.smtp_address
    command = [require_program("swaks"), "--server", host, "--port", str(port), "--from", "a@sender.example"]
    command += ["--to", text, "--proxy-version", "2", "--proxy-command", "PROXY", "--proxy-family", "AF_INET"]
    command += ["--proxy-protocol", "STREAM", "--proxy-source", "203.0.113.9", "--proxy-source-port", "1234"]
    command += ["--proxy-dest", "192.0.2.25", "--proxy-dest-port", "25", "--ehlo", "swaks.example", "--tls"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout
    wait_until(lambda: "peer=203.0.113.9 proxy=127.0.0.1 door=smtp ehlo=swaks.example tls=TLSv1" in doors.errors)


@pytest.mark.parametrize(
    "data", [b"EHLO client.example\r\n", b"PROXY TCP4 198.51.100.7 192.0.2.25 1 25\r\n", proxy_header(V4)[:20], b"\x16"]
)
def test_a_proxy_without_a_good_header_is_closed_without_a_word(doors: ServiceProcess, data: bytes) -> None:
    for address in (doors.smtp, doors.smtps):
        before = doors.errors.count("gave no PROXY header")
        with SmtpClient(split_address(address), greeting=False) as client:
            client.send(data)
            with contextlib.suppress(OSError):  # a reset, where it had not read everything
                client.socket.shutdown(socket.SHUT_WR)
                assert client.file.read() == b""
        wait_until(lambda before=before: doors.errors.count("gave no PROXY header") == before + 1)  # type: ignore[misc]
    with connect(doors.smtp, proxy_header(V4)) as client:
        assert client.greeting.startswith("220 ")


def test_what_is_no_handshake_ends_an_implicit_tls_connection(doors: ServiceProcess) -> None:
    with SmtpClient(split_address(doors.smtps), greeting=False) as client:
        client.send(proxy_header(V4) + b"EHLO client.example\r\n")
        assert b"220" not in client.file.read()
    wait_until(lambda: "no connection with 127.0.0.1" in doors.errors)


@pytest.mark.parametrize("networks", ["", "192.0.2.0/24"])
def test_nobody_elses_header_is_believed(start_service: Callable[..., ServiceProcess], networks: str) -> None:
    process = start_service(environment={"READDRESS_PROXY_FROM": networks})
    with SmtpClient(process.smtp_address) as client:
        assert client.greeting.startswith("220 ")
        client.send(proxy_header(V4))
        assert client.read_reply()[:3] in {"500", "501"}
    wait_until(lambda: "end=lost" in process.errors)
    assert V4 not in process.errors
    with smtplib.SMTP(*process.smtp_address, timeout=10) as smtp:
        assert smtp.ehlo("client.example")[0] == 250


def test_stopping_does_not_wait_for_headers(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service(environment={"READDRESS_PROXY_FROM": "127.0.0.1"})
    with SmtpClient(process.smtp_address, greeting=False) as client:
        client.send(proxy_header(V4)[:10])
        with connect(process.smtp, proxy_header(V4)) as other:
            assert other.greeting.startswith("220 ")
        process.process.send_signal(signal.SIGTERM)
        assert client.file.read() == b""
    assert process.process.wait(10) == 0
    assert "Traceback" not in process.errors
    process.stop()


def test_a_port_that_is_taken_stops_the_start(start_service: Callable[..., ServiceProcess], tmp_path: Path) -> None:
    process = start_service(environment={"READDRESS_PROXY_FROM": "127.0.0.1"})
    command = [sys.executable, "-m", "readdress", "serve", "--data", str(tmp_path / "other"), "--http", "127.0.0.1:0"]
    done = subprocess.run(
        [*command, "--smtp", process.smtp],
        env={**os.environ, "READDRESS_PROXY_FROM": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("setting", ["proxy_from", "unlimited_peers"])
def test_networks_that_are_none_stop_the_start(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=setting):
        Service(Config(data=str(tmp_path), **{setting: "10.0.0.0/8, example.com"}))  # type: ignore[arg-type]
