"""The documents are true: their snippets run, their commands exist, their links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api_pages import path
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.programs import require_program
from readdress.api.catalogue import OPERATIONS
from readdress.config import Config, load_config

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*/*.md")]
)
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(*languages: str) -> list[Any]:
    found: list[Any] = []
    for document in DOCUMENTS:
        if document.name == "production.md" and "sh" in languages:
            continue  # one machine's story, which `test_production.py` plays
        for number, (language, text) in enumerate(_FENCE.findall(document.read_text("utf-8"))):
            if language in languages:
                found.append(pytest.param(text, id=f"{document.relative_to(ROOT)}-{number}"))
    return found


@pytest.fixture(scope="module")
def fresh_service(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A process that no other test has put addresses into."""
    process = ServiceProcess(tmp_path_factory.mktemp("documents"))
    yield process
    process.stop()


def _environment(service: ServiceProcess, home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL_CONNECT": service.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "INSTANCE_ID": DEV_INSTANCE,
        "READDRESS_DATA": str(service.data),
    }


@pytest.mark.parametrize("text", snippets("python"))
def test_python_snippets_run(text: str, fresh_service: ServiceProcess, tmp_path: Path) -> None:
    """As a program, or as tests where it has some."""
    (tmp_path / "test_snippet.py").write_text(text)
    runner = ["-m", "pytest", "-p", "no:cacheprovider"] if "def test_" in text else []
    done = subprocess.run(
        [sys.executable, *runner, "test_snippet.py"],
        cwd=tmp_path,
        env=_environment(fresh_service, tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", snippets("toml"))
def test_toml_snippets_are_settings(text: str, tmp_path: Path) -> None:
    (tmp_path / "readdress.toml").write_text(text)
    assert load_config(tmp_path / "readdress.toml", {}, {}) != Config()


def _commands(text: str) -> list[str]:
    """The command lines of a snippet, without comments."""
    joined = text.replace("\\\n", " ")
    lines = (re.sub(r"\s+#.*$", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("text", snippets("sh"))
def test_shell_snippets_run(text: str, fresh_service: ServiceProcess, tmp_path: Path) -> None:
    environment = _environment(fresh_service, tmp_path)
    (tmp_path / "policy.json").write_text(_policy())
    connect = fresh_service.connect()
    if not connect.search_email_addresses(InstanceId=DEV_INSTANCE)["EmailAddresses"]:
        connect.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress="help@example.com")
    for command in _commands(text):
        program = command.split()[0]
        if program == "export" or command.startswith("readdress serve"):
            continue  # the environment is set as exported; the service runs already
        if program == "make":
            assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
            continue
        if program in {"curl", "swaks"}:
            require_program(program)
        runnable = command.replace(".venv/bin/", "").replace("127.0.0.1:2525", fresh_service.smtp)
        runnable = runnable.replace("127.0.0.1:4780", fresh_service.http)
        runnable = runnable.replace("AKIA...", _some_key(environment))
        done = subprocess.run(
            runnable, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def _policy() -> str:
    (policy,) = (match[1] for match in _FENCE.findall((ROOT / "docs/operations.md").read_text()) if match[0] == "json")
    return str(policy)


def _some_key(environment: dict[str, str]) -> str:
    """A key that may be disabled."""
    made = subprocess.run(
        [sys.executable, "-m", "readdress", "key", "create"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.split()[0].partition("=")[2]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    made = {ROOT / "docs" / path(operation) for operation in OPERATIONS}  # with the site, by `make docs`
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text("utf-8")):
        there = document.parent / target
        assert there.exists() or there in made, target


@pytest.mark.parametrize("document", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_fits_on_a_page(document: Path) -> None:
    text = document.read_text("utf-8")
    assert len(text.splitlines()) <= 50
    assert "**Decision.**" in text
    assert "**Consequence.**" in text
