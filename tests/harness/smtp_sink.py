"""Postfix' smtp-sink on a free port of loopback: a host that takes any mail, or refuses at the command it is told."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from harness.process import free_port
from harness.programs import require_program

READY_SECONDS_MAX = 10


@contextlib.contextmanager
def smtp_sink(folder: Path, *options: str) -> Iterator[int]:
    """Gives the port. What it takes is dumped to files `mail.*` in the folder, which anybody may write to."""
    port = free_port()
    command = [require_program("smtp-sink"), *options, "-d", f"{folder}/mail.", f"127.0.0.1:{port}", "16"]
    if os.geteuid() == 0:
        command[1:1] = ["-u", "nobody"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_it_listens(process, port)
            yield port
        finally:
            process.kill()
            process.wait()


def _wait_until_it_listens(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise AssertionError(f"smtp-sink did not start: {process.returncode}")
