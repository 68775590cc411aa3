"""One service in several processes: who serves, who dies, who stops, and that nobody notices."""

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from harness.certificates import write_certificate
from harness.engine import open_beside, where
from harness.http_client import HttpClient
from harness.load_on_nodes import Changes, Mails, check_nothing_lost, check_refusals, run_load
from harness.postgres import children_of
from harness.process import DEV_INSTANCE, ServiceProcess, split_address
from harness.smtp_client import SmtpClient, accepted_id
from harness.socketmap_client import SocketmapClient
from harness.stored import inbox, publish, wait_until

WORKERS = ("--workers", "2")
# A connection goes to one of two by chance: that so many go to one alone happens once in 32,000 times.
MANY = 16

StartService = Callable[..., ServiceProcess]


def workers_of(process: ServiceProcess) -> list[int]:
    return children_of(process.process.pid)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def try_to_start(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A start that ends by itself."""
    command = [sys.executable, "-m", "readdress", "serve", "--dev", *options]
    doors = [word for door in ("--http", "--smtp") if door not in options for word in (door, "127.0.0.1:0")]
    return subprocess.run(
        [*command, *doors], env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=30
    )


# Who serves.


def test_connections_spread_over_the_workers_and_each_says_who_it_is(start_service: StartService) -> None:
    process = start_service(*WORKERS)
    for _ in range(200):
        with SmtpClient(process.smtp_address) as client:
            client.say("QUIT")
    found: Counter[str] = Counter()

    def are_all_told() -> bool:
        nonlocal found
        found = Counter(re.findall(r"INFO worker (\d) readdress.smtp: session ", process.errors))
        return found.total() == 200

    wait_until(are_all_told)
    assert found.keys() == {"1", "2"}
    assert min(found.values()) >= 60  # by chance less happens once in 100 million times


def test_a_change_is_seen_by_every_worker_at_once(start_service: StartService) -> None:
    """Contract 2.8: mail after the 200 follows the new relation, whoever has answered and whoever takes the mail."""
    process = start_service(*WORKERS)
    (primary, _), (alias, text) = publish(process), publish(process)
    expected: list[str] = []
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(HttpClient(process.http_address)) for _ in range(MANY)]
        senders = [stack.enter_context(SmtpClient(process.smtp_address)) for _ in range(MANY)]
        for sender in senders:
            sender.say("EHLO sender.example")
        path = f"/email-addresses/{DEV_INSTANCE}/{primary}"
        for number, caller in enumerate(callers):
            verb = "disassociate" if number % 2 else "associate"
            body = {"AliasConfiguration": {"EmailAddressId": alias}, "ClientToken": str(uuid.uuid4())}
            assert caller.call("POST", f"{path}/{verb}-alias", body).status == 200
            for sender in senders:
                message_id = accepted_id(sender.mail("a@sender.example", text))
                if verb == "associate":
                    expected.append(message_id)
            again = callers[number - 1].call("POST", f"{path}/{verb}-alias", body)
            assert again.status == 200  # the token's stored answer: without it, a conflict
    assert sorted(inbox(process, primary)) == sorted(expected)
    assert len(inbox(process, alias)) == MANY * MANY


def test_doors_in_the_file_system_are_served_by_whoever_is_there(start_service: StartService, tmp_path: Path) -> None:
    lmtp, maps = tmp_path / "lmtp.sock", tmp_path / "maps.sock"
    process = start_service(*WORKERS, "--lmtp", f"unix:{lmtp}", "--socketmap", f"unix:{maps}")
    address_id, text = publish(process)
    for victim in [0, *workers_of(process)]:
        if victim:
            os.kill(victim, signal.SIGKILL)
        with SocketmapClient(maps) as client:
            assert client.ask(f"mailbox {text}") == f"OK {address_id}"
        with socket.socket(socket.AF_UNIX) as client_socket:
            client_socket.settimeout(10)
            client_socket.connect(str(lmtp))
            assert client_socket.recv(1_000).startswith(b"220 ")


# Who dies.


def test_a_worker_that_is_killed_is_replaced_and_nothing_answered_is_lost(start_service: StartService) -> None:
    process = start_service(*WORKERS)
    first = set(workers_of(process))

    def kill_workers(changes: list[Changes], mails: list[Mails]) -> None:
        for victim in (*first, None):
            counts = [len(each.answered) for each in (*changes, *mails)]
            wait_until(
                lambda counts=counts: all(  # type: ignore[misc]
                    len(each.answered) > count + 20 for each, count in zip((*changes, *mails), counts, strict=True)
                )
            )
            if victim:
                os.kill(victim, signal.SIGKILL)

    changes, mails = run_load([process] * 4, kill_workers, may_be_cut=True)
    assert sum(each.cuts for each in (*changes, *mails)) > 0
    check_refusals(changes, mails)
    with open_beside(process.data) as rows:
        check_nothing_lost(rows, changes, mails)
    assert len(workers_of(process)) == 2
    assert not first & set(workers_of(process))
    assert process.stop() == 0


def test_while_a_worker_is_replaced_no_connection_is_refused(start_service: StartService) -> None:
    process = start_service(*WORKERS)
    for victim in workers_of(process):
        os.kill(victim, signal.SIGKILL)
        for _ in range(100):
            with HttpClient(process.http_address) as client, contextlib.suppress(ConnectionResetError):
                # One that the dead worker had still taken may be reset; a refused one is another error.
                assert client.call("GET", "/_readdress/health", sign=False).status == 200


def test_when_the_parent_is_killed_the_workers_stop_at_once(start_service: StartService) -> None:
    process = start_service(*WORKERS, environment={"READDRESS_DRAIN_NOTICE_MS": "60000"})
    workers = workers_of(process)
    assert len(workers) == 2
    process.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in workers))
    start_service(*WORKERS, "--smtp", process.smtp)  # the port is free again


def test_workers_that_never_come_up_end_the_service_with_a_word(tmp_path: Path, start_service: StartService) -> None:
    (tmp_path / "sitecustomize.py").write_text("""
import os
from readdress.service import Service
begin, parent = Service.__init__, os.getpid()

def begin_badly(self, config):
    if os.getpid() != parent:
        raise OSError("no room for a worker")
    begin(self, config)

Service.__init__ = begin_badly
""")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = try_to_start(*WORKERS, *where(tmp_path / "data"), PYTHONPATH=path)
    assert done.returncode == 1
    assert "worker 1 readdress: cannot start: no room for a worker" in done.stderr
    assert "the service gives up" in done.stderr
    assert "is ready" not in done.stdout
    assert "Traceback" not in done.stderr


# Who stops.


def test_sigterm_drains_every_worker(start_service: StartService) -> None:
    process = start_service(*WORKERS)
    address_id, text = publish(process)
    workers = workers_of(process)
    with contextlib.ExitStack() as stack:
        writing = [stack.enter_context(SmtpClient(process.smtp_address)) for _ in range(MANY)]
        idle = [stack.enter_context(SmtpClient(process.smtp_address)) for _ in range(MANY)]
        for client in writing:
            client.say("EHLO sender.example")
            assert client.begin("a@sender.example", text).startswith("354")
            client.send(b"Subject: t\r\n\r\n")
        process.process.send_signal(signal.SIGTERM)
        for client in idle:
            assert client.read_reply().startswith("421 4.3.2 ")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(process.smtp_address, timeout=10)
        assert process.process.poll() is None
        accepted = []
        for client in writing:
            client.send(b"body\r\n.\r\n")
            accepted.append(accepted_id(client.read_reply()))
            assert client.read_reply().startswith("421 4.3.2 ")
    assert process.process.wait(20) == 0
    process.stop()
    assert not any(is_alive(pid) for pid in workers)
    again = start_service(data=process.data)
    assert sorted(inbox(again, address_id)) == sorted(accepted)


def test_a_load_balancer_hears_of_the_end_from_every_worker(start_service: StartService) -> None:
    process = start_service(*WORKERS, environment={"READDRESS_DRAIN_NOTICE_MS": "1500"})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(HttpClient(process.http_address)) for _ in range(MANY)]
        assert {client.call("GET", "/_readdress/health", sign=False).status for client in clients} == {200}
        process.process.terminate()
        wait_until(
            lambda: "503" in {str(each.call("GET", "/_readdress/health", sign=False).status) for each in clients}
        )
        time.sleep(0.2)
        assert {client.call("GET", "/_readdress/health", sign=False).status for client in clients} == {503}
        assert {client.call("GET", "/_readdress/live", sign=False).status for client in clients} == {200}
    assert process.stop() == 0


def test_a_hang_up_has_every_worker_read_the_certificate_again(start_service: StartService, tmp_path: Path) -> None:
    chain, key = write_certificate(tmp_path, serial_number=1)
    environment = {"READDRESS_TLS_CERTIFICATE": str(chain), "READDRESS_TLS_KEY": str(key)}
    process = start_service(*WORKERS, "--smtp-tls", "127.0.0.1:0", environment=environment)
    workers = workers_of(process)
    assert {serial_number(process) for _ in range(MANY)} == {1}
    write_certificate(tmp_path, serial_number=2)
    process.process.send_signal(signal.SIGHUP)
    wait_until(lambda: process.errors.count("was read again") == 2)
    assert set(re.findall(r"worker (\d) readdress.smtp: the certificate", process.errors)) == {"1", "2"}
    assert {serial_number(process) for _ in range(MANY)} == {2}
    assert workers_of(process) == workers


def serial_number(process: ServiceProcess) -> int:
    """Of the certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(split_address(process.smtps), timeout=10)) as connection:
        shown = connection.getpeercert(binary_form=True)
    assert shown
    return x509.load_der_x509_certificate(shown).serial_number


def test_without_a_certificate_a_hang_up_stops_the_service(start_service: StartService) -> None:
    process = start_service(*WORKERS)
    process.process.send_signal(signal.SIGHUP)
    assert process.process.wait(20) == 0
    process.stop()


# Who does not start.


@pytest.mark.parametrize("other", [(), WORKERS], ids=["by a single process", "by workers of the same user"])
def test_a_port_that_is_taken_is_one_clear_error(
    start_service: StartService, tmp_path: Path, other: tuple[str, ...]
) -> None:
    process = start_service(*other)
    done = try_to_start(*WORKERS, *where(tmp_path / "data"), "--smtp", process.smtp)
    assert done.returncode == 1
    *warnings, error = done.stderr.splitlines()
    assert error.startswith(f"Error: cannot listen on {process.smtp} (smtp): Address already in use")
    assert all("pg_trgm" in line for line in warnings)  # which the test's server may lack
    assert "is ready" not in done.stdout


@pytest.mark.postgres_only
def test_more_connections_than_the_server_has_are_told(start_service: StartService) -> None:
    process = start_service(*WORKERS, environment={"READDRESS_DATABASE_CONNECTIONS": "500"})
    assert "workers × database_connections is 1000, and the server takes 197 in all" in process.errors
