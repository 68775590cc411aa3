"""The examples work, as somebody finds them who copied them out, and the snippet in JavaScript does."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.programs import require, require_program

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PACKAGES = ROOT / "tests" / "clients" / "javascript"
NODE_MIN = 20


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_the_python_example_passes_its_tests(tmp_path: Path, options: list[str]) -> None:
    folder = shutil.copytree(EXAMPLES / "python", tmp_path / "example")
    command = [sys.executable, "-m", "pytest", "-W", "error", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.fixture
def javascript(tmp_path: Path) -> Path:
    """The example, beside the packages that `make test-deps` installs."""
    node = require_program("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().removeprefix("v").split(".")[0]) < NODE_MIN:
        require(f"the JavaScript SDK needs Node.js {NODE_MIN} or newer, and this is {version.strip()}")
    if not (PACKAGES / "node_modules" / "@smithy" / "signature-v4").is_dir():
        require("the JavaScript SDK is missing: `make test-deps` installs it")
    folder = shutil.copytree(
        EXAMPLES / "javascript", tmp_path / "example", ignore=shutil.ignore_patterns("node_modules")
    )
    (folder / "node_modules").symlink_to(PACKAGES / "node_modules")
    return folder


def javascript_snippets() -> list[str]:
    text = (ROOT / "docs" / "testing.md").read_text("utf-8")
    return re.findall(r"^```js\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run_node_test(folder: Path, file: str) -> str:
    environment = {**os.environ, "READDRESS": str(Path(sys.executable).with_name("readdress")), "NODE_NO_WARNINGS": "1"}
    done = subprocess.run(
        ["node", "--test", file], cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_javascript_example_passes_its_tests(javascript: Path) -> None:
    assert re.search(r"pass 5\b", run_node_test(javascript, "support-addresses.test.mjs"))


def test_the_snippet_of_the_document_passes(javascript: Path) -> None:
    snippet, _, _ = javascript_snippets()
    (javascript / "snippet.test.mjs").write_text(snippet)
    assert re.search(r"pass 1\b", run_node_test(javascript, "snippet.test.mjs"))


def test_the_snippets_for_vitest_pass(javascript: Path) -> None:
    vitest = PACKAGES / "node_modules" / "vitest" / "vitest.mjs"
    if not vitest.is_file():
        require("vitest is missing: `make test-deps` installs it")
    _, setup, snippet = javascript_snippets()
    (javascript / "readdress.setup.mjs").write_text(setup)
    (javascript / "published.test.mjs").write_text(snippet)
    config = 'export default { test: { globalSetup: "./readdress.setup.mjs", include: ["published.test.mjs"] } };'
    (javascript / "vitest.config.mjs").write_text(config)
    environment = {**os.environ, "READDRESS": str(Path(sys.executable).with_name("readdress")), "NO_COLOR": "1"}
    done = subprocess.run(
        ["node", vitest, "run"],
        cwd=javascript,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Tests +1 passed", done.stdout)


def test_a_program_that_is_missing_is_named(javascript: Path) -> None:
    script = 'import { Readdress } from "./readdress.mjs"; await Readdress.start();'
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script],
        cwd=javascript,
        env={**os.environ, "READDRESS": "no-such-program"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "no-such-program" in done.stderr


def test_the_javascript_packages_are_those_that_we_test() -> None:
    example = json.loads((EXAMPLES / "javascript" / "package.json").read_text())
    tested = json.loads((PACKAGES / "package.json").read_text())["dependencies"]
    assert (example["dependencies"] | example["devDependencies"]).items() <= tested.items()
    assert "package-lock=false" in (EXAMPLES / "javascript" / ".npmrc").read_text()
