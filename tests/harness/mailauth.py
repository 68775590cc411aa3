"""mailauth, an implementation in JavaScript that shares nothing with ours: a second opinion on what we found."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from harness.programs import require, require_program

FOLDER = Path(__file__).parents[1] / "clients" / "javascript"
NODE_MIN = 20

# Of a name: texts by record type; the type SERVFAIL makes trouble.
JsonZone = dict[str, dict[str, list[str]]]


def message_case(content: bytes, zone: JsonZone) -> dict[str, Any]:
    return {"zone": zone, "content": base64.b64encode(content).decode()}


def dmarc_case(zone: JsonZone, *, author: str, spf: list[str], dkim: list[str]) -> dict[str, Any]:
    """Domains that passed SPF and DKIM."""
    return {"zone": zone, "dmarc": {"from": author, "spf": spf, "dkim": dkim}}


def judge(cases: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """A verdict for each case; without Node.js or the package the test is skipped, and in CI it fails."""
    node = require_program("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().removeprefix("v").split(".")[0]) < NODE_MIN:
        require(f"mailauth needs Node.js {NODE_MIN} or newer, and this is {version.strip()}")
    if not (FOLDER / "node_modules" / "mailauth").is_dir():
        require("mailauth is missing: `make test-deps` installs it")
    file = folder / "cases.json"
    file.write_text(json.dumps(cases))
    environment = {"PATH": os.environ.get("PATH", ""), "NODE_NO_WARNINGS": "1"}
    done = subprocess.run(
        [node, "mailauth.mjs", str(file)],
        cwd=FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdicts: list[dict[str, Any]] = json.loads(done.stdout)
    return verdicts
