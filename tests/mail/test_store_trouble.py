"""When the store can't: the sender hears 4xx, learns nothing, comes again, and nothing is half-stored (contract 6)."""

import contextlib
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.smtp_client import SmtpClient, accepted_id

pytestmark = pytest.mark.sqlite_only

SENDER = "customer@sender.example"
RECIPIENT = "help@example.com"
SHORT = b"Subject: short\r\n\r\nbody\r\n"
LONG = b"Subject: long\r\n\r\n" + b"0123456789abcdef\r\n" * 50_000
# What a reply must not tell: the engine, its words, paths, Python.
INSIDE = re.compile(r"sqlite|sql|database|locked|table|disk i/o|error|exception|traceback|/|\.py", re.IGNORECASE)


def check_temporary(reply: str, *beginnings: str) -> None:
    assert reply.startswith(beginnings), reply
    assert not INSIDE.search(reply), reply


@pytest.fixture
def process(start_service: Callable[..., ServiceProcess]) -> ServiceProcess:
    started = start_service(environment={"READDRESS_LOCK_WAIT_MS": "300"})
    publish(started)
    return started


@pytest.fixture
def smtp(process: ServiceProcess) -> Iterator[SmtpClient]:
    with greet(process) as client:
        yield client


def publish(process: ServiceProcess) -> None:
    client = process.connect()
    client.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=RECIPIENT)
    client.close()


def greet(process: ServiceProcess) -> SmtpClient:
    client = SmtpClient(process.smtp_address, timeout_s=30)
    assert client.say("EHLO client.example").startswith("250-")
    return client


def stored(process: ServiceProcess, *, may_wait_for_sweep: bool = False) -> list[str]:
    """The ids of all messages in the inbox, oldest first; and no table has a row that belongs to none of them.

    Parts of a refused message may wait to be swept where there was no room even to drop them.
    """
    with HttpClient(process.http_address) as http:
        search = http.call("POST", "/search-email-addresses", {"InstanceId": DEV_INSTANCE}).json
        (address,) = search["EmailAddresses"]
        ids = [entry["MessageId"] for entry in http.inbox(DEV_INSTANCE, address["EmailAddressId"])]
    with open_database(process) as database:
        staged = {row[0] for row in database.execute("SELECT message_id FROM staged_content")}
        assert may_wait_for_sweep or not staged
        for table, column in (("message", "id"), ("content", "message_id"), ("delivery", "message_id")):
            rows = database.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall()
            assert {row[0] for row in rows} - staged == set(ids), table
    return ids[::-1]


@contextlib.contextmanager
def open_database(process: ServiceProcess) -> Iterator[sqlite3.Connection]:
    """The program's own file, as another program would open it."""
    database = sqlite3.connect(process.data / "readdress.db", isolation_level=None, timeout=10)
    with contextlib.closing(database):
        yield database


@pytest.mark.parametrize("content", [SHORT, LONG], ids=["short", "long"])
def test_a_lock_that_is_held_too_long_is_451(process: ServiceProcess, smtp: SmtpClient, content: bytes) -> None:
    with open_database(process) as other:
        other.execute("BEGIN IMMEDIATE")
        check_temporary(smtp.mail(SENDER, RECIPIENT, content=content), "451 4.3.0 ")
        assert smtp.say("NOOP").startswith("250")
        check_temporary(smtp.mail(SENDER, RECIPIENT, content=content), "451 4.3.0 ")
        other.execute("ROLLBACK")
    message_id = accepted_id(smtp.mail(SENDER, RECIPIENT, content=content))
    assert stored(process) == [message_id]


def test_a_lock_that_comes_within_a_long_message_is_451(process: ServiceProcess, smtp: SmtpClient) -> None:
    """The parts that are on disk already are dropped, at once or when their time is over, and are never a message."""
    assert smtp.begin(SENDER, RECIPIENT).startswith("354")
    smtp.send(LONG)
    with open_database(process) as other:
        wait_for_staged(other)
        other.execute("BEGIN IMMEDIATE")
        smtp.send(LONG + b".\r\n")
        check_temporary(smtp.read_reply(), "451 4.3.0 ")
        other.execute("ROLLBACK")
        assert other.execute("SELECT count(*) FROM message").fetchone() == (0,)
        assert other.execute("SELECT count(*) FROM delivery").fetchone() == (0,)
    accepted_id(smtp.mail(SENDER, RECIPIENT, content=LONG))


def wait_for_staged(database: sqlite3.Connection) -> None:
    while database.execute("SELECT count(*) FROM staged_content").fetchone() == (0,):
        pass


@pytest.mark.parametrize("content", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("table", ["message", "content", "delivery"])
def test_a_store_that_cannot_write_is_451(
    process: ServiceProcess, smtp: SmtpClient, table: str, content: bytes
) -> None:
    with open_database(process) as other:
        other.execute(f"ALTER TABLE {table} RENAME TO broken")
        check_temporary(smtp.mail(SENDER, RECIPIENT, content=content), "451 4.3.0 ")
        other.execute(f"ALTER TABLE broken RENAME TO {table}")
    message_id = accepted_id(smtp.mail(SENDER, RECIPIENT, content=content))
    assert stored(process) == [message_id]


def test_a_store_that_cannot_look_up_guesses_nothing(process: ServiceProcess, smtp: SmtpClient) -> None:
    """Neither "unknown user" nor "not our domain", which would bounce good mail; and it is no offence of the client."""
    with open_database(process) as other:
        other.execute("ALTER TABLE email_address RENAME TO broken")
        assert smtp.say(f"MAIL FROM:<{SENDER}>").startswith("250")
        for _ in range(30):
            check_temporary(smtp.say(f"RCPT TO:<{RECIPIENT}>"), "451 4.3.0 ")
            check_temporary(smtp.say("RCPT TO:<b@elsewhere.example>"), "451 4.3.0 ")
        other.execute("ALTER TABLE broken RENAME TO email_address")
    assert smtp.say(f"RCPT TO:<{RECIPIENT}>").startswith("250")
    assert smtp.say("RSET").startswith("250")
    message_id = accepted_id(smtp.mail(SENDER, RECIPIENT))
    assert stored(process) == [message_id]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
@pytest.mark.parametrize("content", [SHORT, LONG], ids=["short", "long"])
def test_a_file_that_may_not_grow_is_4xx(process: ServiceProcess, smtp: SmtpClient, content: bytes) -> None:
    """The kernel refuses the write, and lets it pass later: the program goes on without a restart."""
    first = accepted_id(smtp.mail(SENDER, RECIPIENT))
    pid, unlimited = process.process.pid, resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1_024, unlimited))
    check_temporary(smtp.mail(SENDER, RECIPIENT, content=content), "451 4.3.", "452 4.3.1 ")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    second = accepted_id(smtp.mail(SENDER, RECIPIENT, content=content))
    assert stored(process) == [first, second]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("content", [SHORT + b"x" * 20_000 + b"\r\n", LONG], ids=["short", "long"])
def test_a_full_disk_is_452_and_what_was_accepted_is_there(
    small_disk: Path, start_service: Callable[..., ServiceProcess], content: bytes
) -> None:
    # contract 6: disk full 452 4.3.1
    process = start_service(data=small_disk / "data")
    publish(process)
    accepted = []
    with greet(process) as smtp:
        while (reply := smtp.mail(SENDER, RECIPIENT, content=content)).startswith("250 "):
            accepted.append(accepted_id(reply))
        check_temporary(reply, "452 4.3.1 ")
        assert accepted
        check_temporary(smtp.mail(SENDER, RECIPIENT, content=content), "452 4.3.1 ")
        subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
        accepted.append(accepted_id(smtp.mail(SENDER, RECIPIENT, content=content)))
    process.stop()
    again = start_service(data=small_disk / "data")
    assert stored(again, may_wait_for_sweep=True) == accepted
    again.stop()
