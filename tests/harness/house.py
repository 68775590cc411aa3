"""The real program with transports: addresses that use them, mail for these, and what became of it."""

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from harness.engine import engine_in_use, using, where
from harness.http_client import HttpClient
from harness.instance import Instance, Published
from harness.process import ServiceProcess
from harness.settings_file import write_settings
from harness.smtp_client import SmtpClient, accepted_id
from harness.tables import check_promises

WAIT_S_MAX = 30.0
SENDER = "bob@sender.example"
CONTENT = b"Subject: onward\r\n\r\nbody\r\n"
# So that a second try comes within the time of a test.
QUICKLY: dict[str, Any] = {"retry_min_ms": 50, "retry_max_ms": 100, "lease_ms": 1_000, "hostname": "mx.example.com"}


class House:
    """A service of its own, and one instance of it."""

    def __init__(
        self,
        folder: Path,
        transports: Mapping[str, Mapping[str, Any]],
        *options: str,
        environment: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        """`environment` is for the first start."""
        folder.mkdir(exist_ok=True)
        self.data = folder / "data"
        self._engine = engine_in_use()
        self._options = [
            *options,
            "--config",
            str(write_settings(folder / "readdress.toml", transports=transports, **settings)),
        ]
        self._open(environment)
        self.instance = Instance(self.service, self.connect, self.http)

    def _open(self, environment: dict[str, str] | None = None) -> None:
        self.service = ServiceProcess(self.data, *self._options, environment=environment)
        self.connect = self.service.connect()
        self.http = HttpClient(self.service.http_address)

    def restart(self, end: Callable[[ServiceProcess], Any]) -> None:
        """`end` is how the program is ended before."""
        self._disconnect()
        end(self.service)
        self._open()
        self.instance.service, self.instance.connect, self.instance.http = self.service, self.connect, self.http

    def publish(self, transport: str = "", text: str = "") -> Published:
        text = text or f"help-{uuid.uuid4().hex[:12]}@example.com"
        address = self.instance.publish(EmailAddress=text)
        if transport:
            self.tag(address, transport)
        return address

    def tag(self, address: Published, transport: str) -> None:
        arn = self.instance.arn(address.id)
        self.connect.tag_resource(resourceArn=arn, tags={"readdress:transport": transport})

    def untag(self, address: Published) -> None:
        self.connect.untag_resource(resourceArn=self.instance.arn(address.id), tagKeys=["readdress:transport"])

    def try_to_send(self, *recipients: str, content: bytes = CONTENT, sender: str = SENDER) -> str:
        """SMTP's last reply."""
        with SmtpClient(self.service.smtp_address) as smtp:
            smtp.say("EHLO sender.example")
            reply = smtp.mail(sender, *recipients, content=content)
            smtp.say("QUIT")
        return reply

    def send(self, *recipients: str, content: bytes = CONTENT, sender: str = SENDER) -> str:
        """The message's id."""
        return accepted_id(self.try_to_send(*recipients, content=content, sender=sender))

    def message(self, message_id: str) -> dict[str, Any]:
        answer = self.http.call("GET", f"/_readdress/instances/{self.instance.id}/messages/{message_id}")
        assert answer.status == 200, answer
        message: dict[str, Any] = answer.json
        return message

    def content_status(self, message_id: str) -> int:
        path = f"/_readdress/instances/{self.instance.id}/messages/{message_id}/content"
        return self.http.call("GET", path).status

    def wait_for_state(self, message_id: str, state: str) -> dict[str, Any]:
        """The message, once all its deliveries are in the state."""
        return self._wait(message_id, lambda message: {each["State"] for each in message["Deliveries"]} == {state})

    def wait_for_tries(self, message_id: str, tries: int = 1) -> dict[str, Any]:
        """The message, once it was tried so often."""
        return self._wait(message_id, lambda message: len(tries_of(message)) >= tries)

    def _wait(self, message_id: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_S_MAX
        while time.monotonic() < deadline:
            message = self.message(message_id)
            if is_so(message):
                return message
            time.sleep(0.01)
        raise AssertionError(f"{message}\n{self.service.errors}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command beside the service."""
        command = [sys.executable, "-m", "readdress", *arguments, *where(self.data)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    def check(self) -> None:
        """What the data of a sound database never shows."""
        with using(self._engine):
            check_promises(self.data)

    def _disconnect(self) -> None:
        self.http.close()
        self.connect.close()

    def close(self) -> None:
        self._disconnect()
        if self.service.process.poll() is None:
            self.service.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tries_of(message: Mapping[str, Any]) -> list[str]:
    """What the timeline says of each try."""
    return [event["Detail"] for event in message["Timeline"] if event["Event"] == "ATTEMPTED"]
