"""The program as a person starts it: what it prints, what it refuses, how it stops."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import readdress
from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess


def test_dev_mode_prints_where_it_listens_and_how_to_use_it(service: ServiceProcess) -> None:
    assert f"export AWS_ENDPOINT_URL_CONNECT={service.url}" in service.output
    assert "AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test" in service.output
    assert service.connect().describe_instance(InstanceId=DEV_INSTANCE)["Instance"]["InstanceStatus"] == "ACTIVE"


def test_health_needs_no_signature(service: ServiceProcess) -> None:
    with HttpClient(service.http_address) as client:
        answer = client.call("GET", "/_readdress/health", sign=False)
    assert (answer.status, answer.json) == (200, {"Status": "OK"})


def test_sigterm_stops_cleanly(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service()
    assert process.stop() == 0


def test_a_copy_that_keeps_its_bytecode_starts_again(
    start_service: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    """Python writes beside the modules what it has compiled: among files of ours that we list, too."""
    shutil.copytree(
        Path(readdress.__file__).parent, tmp_path / "copy" / "readdress", ignore=shutil.ignore_patterns("__pycache__")
    )
    environment = {"PYTHONPATH": str(tmp_path / "copy"), "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": ""}
    for _ in range(2):
        assert start_service(environment=environment).stop() == 0
    assert list(tmp_path.glob("copy/readdress/store/migrations/__pycache__/*.pyc"))


def test_it_is_alive_as_soon_as_it_listens_and_that_costs_no_database(service: ServiceProcess) -> None:
    with HttpClient(service.http_address) as client:
        answer = client.call("GET", "/_readdress/live", sign=False)
    assert (answer.status, answer.json) == (200, {"Status": "OK"})


def test_before_it_stops_a_load_balancer_has_time_to_see_it(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service(environment={"READDRESS_DRAIN_NOTICE_MS": "1500"})
    with HttpClient(process.http_address) as client:
        process.process.terminate()
        deadline = time.monotonic() + 10
        while client.call("GET", "/_readdress/health", sign=False).status == 200:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert client.call("GET", "/_readdress/health", sign=False).status == 503
        assert client.call("GET", f"/instance/{DEV_INSTANCE}").status == 200  # calls are served meanwhile
    assert process.stop() == 0
