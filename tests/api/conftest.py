"""Fixtures of the operations' tests: the program with published limits, and an address with its alias."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.instance import Instance, Published
from harness.process import ServiceProcess


@pytest.fixture
def start_limited(start_service: Callable[..., ServiceProcess]) -> Callable[[Path], ServiceProcess]:
    """Start a program with Amazon Connect's quotas and rates, on data that may be there already (contract 5)."""
    return lambda data: start_service(data=data, environment={"READDRESS_AWS_LIMITS": "true"})


@pytest.fixture
def primary(instance: Instance) -> Published:
    return instance.publish("primary")


@pytest.fixture
def alias(instance: Instance, primary: Published) -> Published:
    """An address that is associated with the primary."""
    made = instance.publish("alias")
    instance.associate(primary=primary.id, alias=made.id)
    return made
