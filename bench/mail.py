"""Mail to an alias until it is durable in both inboxes, driven by smtp-source: Readdress and other mail servers.

Each message is one mail transaction, on a connection of its own or on one that is used again. Postfix answers when it
has queued the mail and delivers afterwards, so its clock stops when both Maildirs have all of it; the others answer
when they are done. Raises Missing without smtp-source, which comes with Postfix.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import servers
from harness.postfix import ALIAS_TO_MAILDIRS, Postfix
from harness.process import DEV_INSTANCE, free_port, split_address
from measure import HERE, OUT, Figure, Measure, Missing, Say, Scale, cpu_seconds

POSTFIX, HARAKA, AIOSMTPD, SINK = "Postfix to Maildir", "Haraka to Maildir", "aiosmtpd to Maildir", "smtp-sink"
REUSED, EACH = "reused", "one connection each"
KIB = (4, 64)


class Receiver(NamedTuple):
    """Where mail goes; `settle(count)` returns when so many messages have arrived, and `empty` makes room."""

    who: str
    address: str
    pid: int
    pids: list[int]
    settle: Callable[[int], None] = lambda _: None
    empty: Callable[[], None] = lambda: None


def work_name(kib: int, connection: str) -> str:
    return f"mail of {kib} KiB, {connection}"


@contextmanager
def measures(scale: Scale, folder: Path, say: Say) -> Iterator[list[Measure]]:
    """4 and 64 KiB, on new connections and on used ones."""
    if not shutil.which("smtp-source"):
        raise Missing("smtp-source, which sends the mail: `make bench-deps` installs it with Postfix")
    with contextlib.ExitStack() as stack:
        receivers = [_readdress(service) for service in stack.enter_context(servers.readdress(folder))]
        for start in (postfix, haraka, aiosmtpd, sink):
            try:
                receivers.append(stack.enter_context(start(folder)))
            except Missing as missing:
                say(f"left out: {missing}")
        yield [
            _measure(receiver, kib, connection, scale)
            for kib in KIB
            for connection in (REUSED, EACH)
            for receiver in receivers
        ]


def _measure(receiver: Receiver, kib: int, connection: str, scale: Scale) -> Measure:
    """As many messages as take about `scale.seconds`, judged by the run before; the very first is not counted."""
    count, is_warm = scale.messages_min, scale.rounds == 1

    def measure() -> list[Figure]:
        nonlocal count, is_warm
        receiver.empty()
        used, started = cpu_seconds(*receiver.pids), time.perf_counter()
        send(receiver.address, count=count, kib=kib, connections=scale.mail_connections, reuse=connection == REUSED)
        receiver.settle(count)
        seconds = time.perf_counter() - started
        cpu_us = (cpu_seconds(*receiver.pids) - used) / count * 1e6
        figure = Figure(work_name(kib, connection), receiver.who, count / seconds, "messages/s", cpu_us)
        count = max(scale.messages_min, int(figure.value * scale.seconds))
        if is_warm:
            return [figure]
        is_warm = True
        return measure()

    return measure


def send(address: str, *, count: int, kib: int, connections: int, reuse: bool) -> None:
    """Returns when smtp-source has its last 250; raises AssertionError when one is refused."""
    command = ["smtp-source", *(["-d"] if reuse else []), "-s", str(connections), "-m", str(count), "-l"]
    command += [str(kib * 1024), "-f", "sender@example.org", "-t", "alias@example.com", f"inet:{address}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert not done.returncode, f"smtp-source to {address}: {done.stderr}"
    assert not done.stderr, f"smtp-source to {address}: {done.stderr}"


def publish_alias(service: servers.Service) -> None:
    connect = service.process.connect()
    primary, alias = (
        connect.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=f"{name}@example.com")["EmailAddressId"]
        for name in ("primary", "alias")
    )
    connect.associate_email_address_alias(
        InstanceId=DEV_INSTANCE, EmailAddressId=primary, AliasConfiguration={"EmailAddressId": alias}
    )


def _readdress(service: servers.Service) -> Receiver:
    publish_alias(service)
    return Receiver(service.who, service.process.smtp, service.process.process.pid, service.pids)


@contextmanager
def postfix(folder: Path) -> Iterator[Receiver]:
    if os.geteuid() != 0 or not shutil.which("postfix"):
        raise Missing("Postfix, which wants root: `make bench-deps` installs it")
    running = Postfix(folder / "postfix", free_port(), ALIAS_TO_MAILDIRS)
    try:
        master = int((running.folder / "queue" / "pid" / "master.pid").read_text())
        address = f"127.0.0.1:{running.port}"
        yield Receiver(POSTFIX, address, master, [master], running.wait_delivered, running.empty)
    finally:
        running.stop()


@contextmanager
def haraka(folder: Path) -> Iterator[Receiver]:
    """With our plugin alone; see peers/maildir.js."""
    program, node = OUT / "haraka" / "node_modules" / "Haraka" / "haraka.js", shutil.which("node")
    if node is None or not program.exists():
        raise Missing("Haraka: `make bench-deps` installs it where there is npm")
    port, home = free_port(), folder / "haraka"
    (home / "config").mkdir(parents=True)
    (home / "plugins").mkdir()
    shutil.copy(HERE / "peers" / "maildir.js", home / "plugins")
    shutil.copy(program.parent / "config" / "connection.ini", home / "config")  # it can't do without
    settings = {"smtp.ini": f"listen=127.0.0.1:{port}\nnodes=0\n", "plugins": "maildir\n", "me": "haraka.example.net\n"}
    settings |= {"loglevel": "ERROR\n"}
    for name, text in settings.items():
        (home / "config" / name).write_text(text)
    yield from _maildirs(HARAKA, [node, str(program)], port, folder / "haraka-mail", home / "log")


@contextmanager
def aiosmtpd(folder: Path) -> Iterator[Receiver]:
    """With a handler of ours; see peers/maildir.py."""
    servers.peer_program("aiosmtpd")
    port, root = free_port(), folder / "aiosmtpd-mail"
    command = [servers.peer_program("python"), str(HERE / "peers" / "maildir.py"), str(port), str(root)]
    yield from _maildirs(AIOSMTPD, command, port, root, folder / "aiosmtpd.log")


def _maildirs(who: str, command: list[str], port: int, root: Path, log: Path) -> Iterator[Receiver]:
    address = f"127.0.0.1:{port}"
    environment = {"MAILDIR_ROOT": str(root), "HARAKA": str(root.with_name("haraka"))}
    with servers.started(command, partial(greets, address), environment=environment, log=log) as process:
        yield Receiver(who, address, process.pid, [process.pid], partial(_check, root), partial(_empty, root))


def _check(root: Path, count: int) -> None:
    """Nothing to wait for, but all of it has to be there."""
    for name in ("alias", "primary"):
        found = sum(1 for _ in (root / name / "new").iterdir())
        assert found == count, f"{found} of {count} messages in {root / name}"


def _empty(root: Path) -> None:
    for file in root.glob("*/new/*"):
        file.unlink()


@contextmanager
def sink(folder: Path) -> Iterator[Receiver]:
    address = f"127.0.0.1:{free_port()}"
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = ["smtp-sink", *user, "-c", address, "1000"]
    with servers.started(command, partial(greets, address), log=folder / "sink.log") as process:
        yield Receiver(SINK, address, process.pid, [process.pid])


def greets(address: str) -> bool:
    """Whether an SMTP server says 220 there."""
    import socket

    try:
        with socket.create_connection(split_address(address), timeout=5) as connection:
            return connection.recv(3) == b"220"
    except OSError:
        return False
