"""Start the real program, wait until it says where it listens, and end it by its own process id."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

READY_SECONDS_MAX = 20
DEV_INSTANCE = "12345678-1234-1234-1234-123456789012"


class ServiceProcess:
    """`readdress serve` on free ports of loopback."""

    def __init__(
        self,
        data: Path,
        *options: str,
        dev: bool = True,
        environment: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "readdress"),
    ) -> None:
        self.data = data
        from harness.engine import where

        arguments = ["serve", *where(data), "--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0", *options]
        if dev:
            arguments.append("--dev")
        self.log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - lives as long as the process
        self.printed = tempfile.TemporaryFile("w+b")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            stdout=self.printed,
            stderr=self.log,
            env={**os.environ, **(environment or {})},
        )
        self.output = self._wait_until_ready(dev)
        self.http = self._find(r"API\s+http://(\S+)")
        self.smtp = self._find(r"SMTP\s+(\S+)")

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    @property
    def lmtp(self) -> str:
        return self._find(r"LMTP\s+(\S+)")

    @property
    def smtps(self) -> str:
        return self._find(r"SMTPS\s+(\S+)")

    @property
    def socketmap(self) -> str:
        return self._find(r"Maps\s+(\S+)")

    @property
    def http_address(self) -> tuple[str, int]:
        return split_address(self.http)

    @property
    def smtp_address(self) -> tuple[str, int]:
        return split_address(self.smtp)

    @property
    def errors(self) -> str:
        """What the program has logged so far."""
        return _read(self.log)

    def connect(self, **options: Any) -> Any:
        """A boto3 client of the service, with the development key unless told otherwise."""
        import boto3

        settings: dict[str, Any] = {
            "region_name": "us-east-1",
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
        }
        return boto3.session.Session().client("connect", endpoint_url=self.url, **(settings | options))

    def kill(self) -> None:
        """As a power cut would: no chance to finish anything."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._close()

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM, and the exit status; SIGKILL when it doesn't obey."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._close()

    def _close(self) -> None:
        self.printed.close()
        self.log.close()

    def _wait_until_ready(self, dev: bool) -> str:
        """Everything that is printed at the start, which is printed at once."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        last = "INSTANCE_ID" if dev else "Data"
        while time.monotonic() < deadline and self.process.poll() is None:
            text = _read(self.printed)
            if last in text and text.endswith("\n"):
                return text
            time.sleep(0.01)
        self.process.kill()
        self.process.wait()
        message = f"the service did not start:\n{_read(self.printed)}{self.errors}"
        self._close()
        raise AssertionError(message)

    def _find(self, pattern: str) -> str:
        match = re.search(pattern, self.output)
        assert match, self.output
        return match[1]


def split_address(text: str) -> tuple[str, int]:
    """`host:port` as a socket wants it."""
    host, port = text.rsplit(":", 1)
    return host, int(port)


def free_port(in_a_row: int = 1) -> int:
    """The first of so many free ports, which no system gives out by itself: none is gone before it is used."""
    while True:
        first = 10_000 + secrets.randbelow(22_000)
        try:
            for port in range(first, first + in_a_row):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def _read(file: IO[bytes]) -> str:
    """What the process has written so far; its own position in the file is shared, so it is left at the end."""
    return os.pread(file.fileno(), 10_000_000, 0).decode()
