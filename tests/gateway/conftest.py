"""One boto3 client for all tests of the door: making one takes longer than most of them."""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.process import ServiceProcess


@pytest.fixture(scope="session")
def connect(service: ServiceProcess) -> Iterator[Any]:
    client = service.connect()
    yield client
    client.close()
