"""Chromium, driven by Playwright: through scenes of the console, and over the pages of the site."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from harness.process import ServiceProcess
from harness.programs import require, require_program

FOLDER = Path(__file__).parents[1] / "clients" / "javascript"


def play(service: ServiceProcess, scene: str, **given: Any) -> dict[str, Any]:
    """What the scene of `console.mjs` has seen."""
    return _drive("console.mjs", given | {"url": service.url, "smtp": service.smtp_address}, scene)


def judge(url: str, **given: Any) -> dict[str, Any]:
    """What `site.mjs` has found in the pages of a site."""
    return _drive("site.mjs", given | {"url": url})


def _drive(script: str, given: dict[str, Any], *words: str) -> dict[str, Any]:
    """What the script has seen; what no page may ever do is under `wrong`, and must not have been.

    Without Chromium, Node.js or Playwright the test is skipped, and in CI it fails.
    """
    node, chromium = require_program("node"), require_program("chromium")
    for package in ("playwright-core", "axe-core"):
        if not (FOLDER / "node_modules" / package).is_dir():
            require(f"{package} is missing: `make test-deps` installs it")
    done = subprocess.run(
        [node, script, *words, json.dumps(given | {"chromium": chromium})],
        cwd=FOLDER,
        env={"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/"), "NODE_NO_WARNINGS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert seen["wrong"] == []
    return seen
