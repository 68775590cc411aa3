"""Programs of the system that only some tests want."""

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """The path of a program that `make test-deps` installs: without it a test is skipped, and in CI it fails."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        require(f"{name} is missing: `make test-deps` installs it")
    assert found
    return found


def require(reason: str) -> None:
    """Skip the test for the reason, or fail it in CI, where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
