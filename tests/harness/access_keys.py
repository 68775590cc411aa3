"""Access keys of a running program, made and disabled by its own command line."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.engine import where
from harness.process import ServiceProcess


def create_key(service: ServiceProcess, policy: str | None = None) -> tuple[str, str]:
    """A new key's id and secret; `policy` is the JSON text of one."""
    with tempfile.TemporaryDirectory() as directory:
        options: list[str] = []
        if policy is not None:
            file = Path(directory, "policy.json")
            file.write_text(policy, "utf-8")
            options = ["--policy", str(file)]
        printed = _run("key", "create", *options, *where(service.data))
    found = re.search(r"AWS_ACCESS_KEY_ID=(\S+)\nAWS_SECRET_ACCESS_KEY=(\S+)", printed)
    assert found, printed
    return found[1], found[2]


def disable_key(service: ServiceProcess, access_key_id: str) -> None:
    _run("key", "disable", access_key_id, *where(service.data))


def _run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "readdress", *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
