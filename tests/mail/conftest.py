"""What the mail plane's tests want besides: a client that has said EHLO."""

from collections.abc import Iterator

import pytest

from harness.process import ServiceProcess
from harness.smtp_client import SmtpClient


@pytest.fixture
def smtp(service: ServiceProcess) -> Iterator[SmtpClient]:
    with SmtpClient(service.smtp_address) as client:
        assert client.say("EHLO client.example").startswith("250-")
        yield client
