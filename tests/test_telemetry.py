"""Traces: a span for each call, message and try, in the caller's trace, and nothing in them that others sent."""

import logging
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from harness.http_client import HttpClient
from harness.instance import UNKNOWN_ID
from harness.process import split_address
from harness.smtp_client import SmtpClient, accepted_id
from harness.stored import wait_until
from readdress.telemetry import Part, Traces, traces
from readdress.testing.running import RunningService

# The example of W3C Trace Context §3.2.
TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}

SECRET_WORDS = ("example.com", "outside.example", "sender.example", "confidential", "AKIA", "127.0.0.1")


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def service(tmp_path: Path, exporter: InMemorySpanExporter) -> Iterator[RunningService]:
    settings = {"transports": {"files": {"type": "maildir", "path": str(tmp_path / "mail")}}}
    running = RunningService(tmp_path / "data", settings)
    traces.open(exporter)
    try:
        yield running
    finally:
        traces.close()
        running.stop()


@pytest.fixture
def finished(exporter: InMemorySpanExporter) -> Callable[[], list[ReadableSpan]]:
    """Gives the spans, after which there are no more."""

    def finish() -> list[ReadableSpan]:
        traces.close()
        return list(exporter.get_finished_spans())

    return finish


def attributes(span: ReadableSpan) -> dict[str, object]:
    return {name.removeprefix("readdress."): value for name, value in (span.attributes or {}).items()}


def test_a_call_is_a_part_of_its_callers_trace(
    service: RunningService, finished: Callable[[], list[ReadableSpan]]
) -> None:
    with HttpClient(split_address(service.http)) as http:
        path = f"/instance/{UNKNOWN_ID}"
        assert http.call("GET", path, headers=TRACEPARENT).status == 404
        assert http.call("GET", path, headers=TRACEPARENT, sign=False).status == 403
        assert http.call("GET", "/instance").status == 200
    known, stranger, without = finished()
    assert known.name == "DescribeInstance"
    assert known.kind is SpanKind.SERVER
    assert known.context is not None
    assert known.parent is not None
    assert f"{known.context.trace_id:032x}" == TRACE_ID
    assert f"{known.parent.span_id:016x}" == PARENT_ID
    assert attributes(known)["code"] == "ResourceNotFoundException"
    assert known.status.status_code is StatusCode.ERROR
    assert (stranger.name, stranger.parent) == ("unknown", None)
    assert (without.name, without.parent) == ("ListInstances", None)
    assert attributes(without)["code"] == "OK"
    assert without.status.status_code is StatusCode.UNSET
    assert without.start_time is not None
    assert without.end_time is not None
    assert 0 < without.end_time - without.start_time < 30e9


def test_a_message_and_its_try_say_which_and_nothing_of_what_is_in_it(
    service: RunningService, exporter: InMemorySpanExporter, finished: Callable[[], list[ReadableSpan]]
) -> None:
    connect = service.connect
    (instance,) = connect.list_instances()["InstanceSummaryList"]
    text = f"help-{uuid.uuid4().hex[:8]}@example.com"
    connect.create_email_address(InstanceId=instance["Id"], EmailAddress=text, Tags={"readdress:transport": "files"})
    with SmtpClient(split_address(service.smtp)) as smtp:
        smtp.say("EHLO sender.example")
        content = b"Subject: confidential\r\n\r\nconfidential\r\n"
        message_id = accepted_id(smtp.mail("bob@sender.example", text, content=content))
        smtp.say("QUIT")

    def was_tried() -> bool:
        traces._provider.force_flush()
        return any(span.name == "delivery" for span in exporter.get_finished_spans())

    wait_until(was_tried)
    spans = finished()
    (message,) = [span for span in spans if span.name == "message"]
    (delivery,) = [span for span in spans if span.name == "delivery"]
    assert attributes(message) == {
        "message_id": message_id, "protocol": "ESMTP", "code": 250, "size_bytes": len(content), "recipients": 1,
    }  # fmt: skip
    assert (message.kind, delivery.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    said = attributes(delivery)
    assert (said["message_id"], said["transport"], said["attempt"]) == (message_id, "files", 1)
    assert said["outcome"] == "DELIVERED"
    everything = "".join(span.to_json() for span in spans)
    assert [word for word in SECRET_WORDS if word in everything] == []


def test_without_a_destination_nothing_of_it_is_imported() -> None:
    program = (
        "import os, sys; import readdress.service; from readdress.telemetry import traces; traces.start({});"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules) or traces.is_on)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("environment", "is_on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
    ],
)
def test_the_variables_are_those_of_opentelemetry(environment: dict[str, str], is_on: bool) -> None:
    opened = Traces()
    opened.start(environment)
    try:
        assert opened.is_on is is_on
    finally:
        opened.close()


def test_a_wrong_exporter_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    opened = Traces()
    with caplog.at_level(logging.WARNING):
        opened.start({"OTEL_TRACES_EXPORTER": "jaeger"})
    assert not opened.is_on
    assert "OTEL_TRACES_EXPORTER has to be none or one of console, otlp" in caplog.text


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("OTEL_SERVICE_NAME", "mail", "mail"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=post", "post"),
        ("OTEL_RESOURCE_ATTRIBUTES", "zone=a", "readdress"),
    ],
)
def test_the_service_has_a_name(
    monkeypatch: pytest.MonkeyPatch, exporter: InMemorySpanExporter, variable: str, value: str, name: str
) -> None:
    monkeypatch.setenv(variable, value)
    opened = Traces()
    opened.open(exporter)
    opened.add("message", Part.SERVER, 0.001, {})
    opened.close()
    (span,) = exporter.get_finished_spans()
    assert span.resource.attributes["service.name"] == name
