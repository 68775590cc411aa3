"""Fixtures of the operations' tests: the program with published limits."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.process import ServiceProcess


@pytest.fixture
def start_limited(start_service: Callable[..., ServiceProcess]) -> Callable[[Path], ServiceProcess]:
    """Start a program with Amazon Connect's quotas and rates, on data that may be there already (contract 5)."""
    return lambda data: start_service(data=data, environment={"READDRESS_AWS_LIMITS": "true"})
