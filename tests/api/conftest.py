"""Fixtures of the operations' tests: a fresh instance of the shared program, and one with published limits."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.http_client import HttpClient
from harness.instance import Instance
from harness.process import ServiceProcess


@pytest.fixture(scope="session")
def connect(service: ServiceProcess) -> Iterator[Any]:
    """One client for all: making one takes longer than most tests."""
    client = service.connect()
    yield client
    client.close()


@pytest.fixture
def instance(service: ServiceProcess, connect: Any, http: HttpClient) -> Instance:
    return Instance(service, connect, http)


@pytest.fixture
def start_limited(start_service: Callable[..., ServiceProcess]) -> Callable[[Path], ServiceProcess]:
    """Start a program with Amazon Connect's quotas and rates, on data that may be there already (contract 5)."""
    return lambda data: start_service(data=data, environment={"READDRESS_AWS_LIMITS": "true"})
