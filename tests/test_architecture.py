"""The house holds: layers, sizes, a sentence on top of every module, and a test for every rule that documents state."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts)

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_or_function_is_too_long(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= FILE_LINES_MAX
    long = {node.name: _lines(node) for node in _functions(path) if _lines(node) > FUNCTION_LINES_MAX}
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_opens_with_a_sentence(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert docstring, f"{path} has no opening sentence"
    assert docstring.rstrip().endswith("."), docstring


def test_most_functions_are_short() -> None:
    lengths = sorted(_lines(node) for path in SOURCES for node in _functions(path))
    assert lengths[len(lengths) * 9 // 10] <= 27


def test_imports_run_one_way() -> None:
    """The contracts in pyproject.toml: doors know rooms, and rooms never know doors."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_program_starts_without_what_it_does_not_need() -> None:
    """An AWS SDK in the server costs 0.2 s and 70 MiB."""
    heavy = {"boto3", "botocore", "jinja2", "nh3", "prometheus_client", "pytest", "rich", "starlette", "hypothesis"}
    code = "import readdress.service, sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())


def test_every_rule_of_the_compatibility_table_names_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "compatibility.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "[" in line and "Mark" not in line]
    assert rows
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert named, f"no test named in: {row}"
        for file, function in named:
            assert (ROOT / file).is_file(), row
            assert not function or any(node.name == function for node in _functions(ROOT / file)), row


def test_documents_and_sources_name_no_index_and_no_machine() -> None:
    """Installing needs whatever index is configured; nothing names one."""
    pattern = re.compile(r"pypi\.org|pythonhosted|registry\.npmjs|deb\.debian", re.IGNORECASE)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout
    for name in filter(None, listed.decode().split("\0")):
        path = ROOT / name
        if name.startswith("tests/vectors/") or name == "tests/test_architecture.py" or not path.is_file():
            continue
        assert not pattern.search(path.read_text("utf-8", "replace")), name
