"""What pytest loads: fixtures and a marker, and nothing that costs anything before a test asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from readdress.testing.running import RunningServices
    from readdress.testing.scope import Readdress

_MARKER = "readdress(**settings): settings of the service that the test gets, as in a configuration file"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture(scope="session")
def _readdress_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServices]:
    from readdress.testing.running import RunningServices

    services = RunningServices(lambda: tmp_path_factory.mktemp("readdress"))
    yield services
    services.stop()


@pytest.fixture
def readdress(request: pytest.FixtureRequest, _readdress_services: RunningServices) -> Iterator[Readdress]:
    """An instance and an account of the test's own, in a service that all tests of the process share."""
    from readdress.testing.scope import Readdress

    settings: dict[str, object] = {}
    for marker in request.node.iter_markers("readdress"):
        settings = {**marker.kwargs, **settings}  # the closest comes first, and wins
    scope = Readdress(_readdress_services.get(settings))
    yield scope
    scope.close()


@pytest.fixture
def readdress_environment(readdress: Readdress, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables by which AWS SDKs find the service, set for the test: programs make their clients as ever."""
    for name, value in readdress.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    return readdress.environment
