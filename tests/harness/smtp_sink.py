"""Postfix' own smtp-sink as the next host: it takes mail, or fails at the command it is told to."""

import os
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from harness.process import free_port
from harness.programs import require_program

READY_SECONDS_MAX = 10


@dataclass(frozen=True)
class SunkMail:
    """A mail as it was dumped: what MAIL and RCPT said, and the content with LF."""

    sender: str
    recipients: list[str]
    content: bytes


class SmtpSink:
    """`options` are its own: `-f`, `-r`, `-q` or `-Q` and a command refuse, defer, hang up or say 421, `-L` is LMTP."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.port = port or free_port()
        user = ["-u", "root"] if os.getuid() == 0 else []
        self.process = subprocess.Popen(
            [
                require_program("smtp-sink"),
                *user,
                *("-d", f"{folder}/mail."),
                *options,
                f"127.0.0.1:{self.port}",
                "100",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait_until_ready()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def mails(self) -> list[SunkMail]:
        """What has come, whole or not, in the order of the files' times."""
        files = sorted(self.folder.glob("mail.*"), key=lambda file: file.stat().st_mtime_ns)
        return [_parse(file.read_bytes()) for file in files]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        self.stop()
        raise AssertionError("smtp-sink did not start")


def _parse(dumped: bytes) -> SunkMail:
    """Its own fields come first; the last of them is the Received field that it adds."""
    head = dumped.decode("utf-8", "replace")
    sender = re.search(r"^X-Mail-Args: <(.*?)>", head, re.MULTILINE)
    content = re.sub(rb"\A(?:X-[A-Za-z]+-[A-Za-z]+:[^\n]*\n)*Received: [^\n]*\n(?:[ \t][^\n]*\n)*", b"", dumped)
    return SunkMail(
        sender[1] if sender else "",
        re.findall(r"^X-Rcpt-Args: <(.*?)>", head, re.MULTILINE),
        content,
    )
