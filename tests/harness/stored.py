"""Addresses of a running service, and what is stored for them, as its API and its database tell."""

import time
import uuid
from collections.abc import Callable
from pathlib import Path

from harness.engine import open_beside
from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess

WAIT_SECONDS_MAX = 20


def publish(process: ServiceProcess) -> tuple[str, str]:
    """A fresh address in the development instance: its id and its text."""
    text = f"help-{uuid.uuid4().hex[:12]}@example.com"
    client = process.connect()
    made = client.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=text)
    client.close()
    return made["EmailAddressId"], text


def inbox(process: ServiceProcess, address_id: str) -> list[str]:
    with HttpClient(process.http_address) as client:
        return [message["MessageId"] for message in client.inbox(DEV_INSTANCE, address_id)]


def content_of(process: ServiceProcess, message_id: str) -> bytes:
    """The message below our Received field, whose form tests/mail checks."""
    with HttpClient(process.http_address) as client:
        answer = client.call("GET", f"/_readdress/instances/{DEV_INSTANCE}/messages/{message_id}/content")
    assert answer.status == 200
    trace, _, content = answer.body.partition(b"+0000\r\n")
    assert trace.startswith(b"Received: ")
    return content


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def count_rows(data: Path) -> dict[str, int]:
    tables = ("message", "content", "staged_content", "delivery")
    with open_beside(data) as rows:
        return {table: rows.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
