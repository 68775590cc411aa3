"""Fixtures of the mail plane's tests: a fresh instance of the shared program, and a client that has said EHLO."""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.http_client import HttpClient
from harness.instance import Instance
from harness.process import ServiceProcess
from harness.smtp_client import SmtpClient


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
def smtp(service: ServiceProcess) -> Iterator[SmtpClient]:
    with SmtpClient(service.smtp_address) as client:
        assert client.say("EHLO client.example").startswith("250-")
        yield client
