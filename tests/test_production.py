"""docs/production.md, played from top to bottom on one machine: its settings, its commands, and what they say comes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.certificates import write_certificate
from harness.process import free_port
from harness.programs import require_program
from harness.stored import wait_until

ROOT = Path(__file__).parents[1]
SERVE = "readdress serve --config readdress.toml"
READY_S_MAX = 20
# What only the test can't have: names are not looked up, since there is no DNS.
ENVIRONMENT = {"READDRESS_SENDER_CHECKS": "off", "READDRESS_DRAIN_MS": "1000"}


class Machine:
    """A folder in the machine's place, and the service in it once it is started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        certificate, key = write_certificate(folder, serial_number=1)
        self._own = {
            "/var/lib/readdress": f"{folder}/data",
            "/var/mail/readdress": f"{folder}/mail",
            "/etc/readdress/mx.pem": str(certificate),
            "/etc/readdress/mx.key": str(key),
            "0.0.0.0:25": f"127.0.0.1:{(smtp := free_port())}",
            "127.0.0.1:25 ": f"127.0.0.1:{smtp} ",
            "127.0.0.1:4780": f"127.0.0.1:{free_port()}",
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, **ENVIRONMENT, "PATH": path, "HOME": str(folder), "AWS_PAGER": ""}
        self._service: subprocess.Popen[bytes] | None = None
        self.printed: dict[str, str] = {}

    def here(self, text: str) -> str:
        for place, own in self._own.items():
            text = text.replace(place, own)
        return text

    def start(self) -> None:
        """The service, which says where it listens and, the first time, with which key it is to be called."""
        printed = self.folder / "printed"
        with printed.open("wb") as out, (self.folder / "log").open("wb") as log:
            self._service = subprocess.Popen(
                SERVE.split(), cwd=self.folder, env=self._environment, stdout=out, stderr=log
            )
        deadline = time.monotonic() + READY_S_MAX
        while "AWS_SECRET_ACCESS_KEY=" not in printed.read_text():
            assert self._service.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.printed = dict(re.findall(r"(AWS_\w+)=(\S+)", printed.read_text()))
        self._environment |= self.printed

    def run(self, commands: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", self.here(commands)],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (commands, done.stdout, done.stderr)
        return done.stdout

    def stop(self) -> None:
        if self._service:
            self._service.send_signal(signal.SIGTERM)
            self._service.wait(READY_S_MAX)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    for program in ("aws", "swaks", "bash"):
        require_program(program)
    made = Machine(tmp_path)
    yield made
    made.stop()


def test_the_page_is_true_from_top_to_bottom(machine: Machine) -> None:
    page = (ROOT / "docs" / "production.md").read_text("utf-8")
    (settings,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    serve, exported, instance, addresses, mail, backup = re.findall(
        r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
    )
    (machine.folder / "readdress.toml").write_text(machine.here(settings))
    assert serve.strip() == SERVE
    machine.start()
    assert machine.printed.keys() == set(re.findall(r"AWS_\w+", exported))
    assert "instance/" in machine.run(instance)
    assert machine.run(addresses).endswith("\n3 created, 0 updated, 1 associated, 0 as they were, 0 refused\n")
    said = machine.run(mail)
    assert "support@example.com\tALIAS" in said
    wait_until(lambda: len(list((machine.folder / "mail").glob("*/new/*"))) == 1)
    machine.run(backup)
    machine.run("readdress restore backup.db --data again")
    restored = machine.run("readdress resolve help@example.com --data again")
    assert "support@example.com\tALIAS" in restored
