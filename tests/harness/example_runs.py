"""The examples of the API's pages, run as their reader would run them, but many in one process where starting costs."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.programs import require, require_program

CLIENTS = Path(__file__).parents[1] / "clients"
SECONDS_MAX = 100


class Call(NamedTuple):
    """An example with the variables that it takes from the environment."""

    text: str
    environment: dict[str, str]


class Run(NamedTuple):
    output: str
    error: str  # "" where all went well


def run_examples(language: str, calls: Sequence[Call], folder: Path) -> list[Run]:
    """What each call has printed, in order; `folder` is for what a run needs to write."""
    match language:
        case "Python":
            return _run_python("python", calls)
        case "AWS CLI":
            return _run_python("aws", calls)
        case "JavaScript":
            return _run_javascript(calls, folder)
        case "HTTP":
            require_program("curl")
            return [_run_shell(call) for call in calls]
    raise AssertionError(f"nothing runs examples in {language}")


def _run_python(kind: str, calls: Sequence[Call]) -> list[Run]:
    jobs = [call._asdict() for call in calls]
    return _run_all([sys.executable, str(CLIENTS / "run_examples.py"), kind], jobs)


def _run_javascript(calls: Sequence[Call], folder: Path) -> list[Run]:
    node = require_program("node")
    packages = CLIENTS / "javascript" / "node_modules"
    if not (packages / "@smithy" / "signature-v4").is_dir():
        require("the JavaScript SDK is missing: `make test-deps` installs it")
    (folder / "node_modules").symlink_to(packages)
    jobs = []
    for number, call in enumerate(calls):
        file = folder / f"example-{number}.mjs"
        file.write_text(call.text, "utf-8")
        jobs.append({"environment": call.environment, "file": str(file)})
    return _run_all([node, str(CLIENTS / "javascript" / "run_examples.mjs")], jobs)


def _run_all(command: Sequence[str], jobs: Sequence[dict[str, Any]]) -> list[Run]:
    environment = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true", "NODE_NO_WARNINGS": "1"}
    done = subprocess.run(
        command,
        input=json.dumps(jobs),
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs = [Run(**json.loads(line)) for line in done.stdout.splitlines()]
    assert len(runs) == len(jobs), done.stderr
    return runs


def _run_shell(call: Call) -> Run:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", call.text],
        env={**os.environ, **call.environment},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    return Run(done.stdout, f"exit status {done.returncode}: {done.stderr}" if done.returncode else "")
