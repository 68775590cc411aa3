"""The program as a person starts it: what it prints, what it refuses, how it stops."""

from collections.abc import Callable

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
