"""Somebody at the console of the shared service."""

from collections.abc import Iterator

import pytest

from harness.browser import Browser
from harness.instance import Instance
from harness.process import ServiceProcess


@pytest.fixture
def browser(service: ServiceProcess) -> Iterator[Browser]:
    """Not signed in yet."""
    with Browser(service.http_address) as opened:
        yield opened


@pytest.fixture
def person(browser: Browser) -> Browser:
    """Signed in with the development key, which may do everything."""
    assert browser.sign_in().status == 200
    return browser


@pytest.fixture
def instance_id(instance: Instance) -> str:
    """The one fresh instance of a test, in whichever words."""
    return instance.id


@pytest.fixture
def home(instance_id: str) -> str:
    """The pages of the fresh instance."""
    return f"/_console/instances/{instance_id}"
