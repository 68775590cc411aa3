"""Traces by OpenTelemetry, where its SDK is installed and its own variables (OTEL_…) say where spans go.

A span is written once its work is over, from numbers that are there anyway, so without a destination it costs one look
at a flag. Attributes are names, codes, sizes and ids of our own: no address, no secret, nothing that a stranger wrote.
What an exporter can't send is lost and logged by the SDK; no call and no mail waits for it.
"""

import logging
import os
import time
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger("readdress.telemetry")

_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_EXPORTERS: Final = ("console", "otlp")
# W3C Trace Context: the fields of a request that say which trace it is a part of.
_FIELDS: Final = (b"traceparent", b"tracestate")

Value = str | int | float | bool


class Part(Enum):
    """Which side of a conversation a span is: who was asked, or who asks."""

    SERVER = "SERVER"
    CLIENT = "CLIENT"


class Traces:
    """Where this process' spans go: nowhere until `open`, and again from `close` on."""

    def __init__(self) -> None:
        self.is_on = False

    def start(self, environment: Mapping[str, str]) -> None:
        """Open what the environment asks for; a mistake there is logged, and the service works without traces."""
        wanted = _wanted(environment)
        if not wanted:
            return
        try:
            self.open(_exporter(wanted))
        except ImportError:
            log.warning("traces are asked for, and OpenTelemetry is not installed: install readdress[telemetry]")
        except ValueError as error:
            log.warning("there are no traces: %s", error)

    def open(self, exporter: "SpanExporter") -> None:
        """The SDK reads the variables for the service's name, sampling and batches by itself. Raises ImportError."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # A name that is given counts before those in the environment, so it must not be given beside one.
        is_named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        resource = Resource.create({} if is_named else {"service.name": "readdress"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("readdress")
        self.is_on = True

    def close(self) -> None:
        """Send what is still here, for OTEL_EXPORTER_OTLP_TIMEOUT at most; nothing else may be waiting by then."""
        if self.is_on:
            self.is_on = False
            self._provider.shutdown()

    def add(
        self,
        name: str,
        part: Part,
        seconds: float,
        attributes: Mapping[str, Value],
        *,
        failure: str = "",
        fields: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """A span that ends now and took so long; `fields` of a request may say which trace it belongs to."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {name.decode(): value.decode("latin-1") for name, value in fields if name in _FIELDS}
        ended_ns = time.time_ns()
        span = self._tracer.start_span(
            name,
            context=TraceContextTextMapPropagator().extract(carrier, Context()),
            kind=SpanKind[part.value],
            attributes={f"readdress.{key}": value for key, value in attributes.items()},
            start_time=ended_ns - round(seconds * 1e9),
        )
        if failure:
            span.set_status(Status(StatusCode.ERROR, failure))
        span.end(ended_ns)


def _wanted(environment: Mapping[str, str]) -> str:
    """The exporter's name, or "" where no traces are asked for."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ""
    name = environment.get(_EXPORTER, "")
    if name == "none":
        return ""
    return name or ("otlp" if any(environment.get(endpoint) for endpoint in _ENDPOINTS) else "")


def _exporter(name: str) -> "SpanExporter":
    """Raises ImportError, and ValueError for a name that is none of ours."""
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if name == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    raise ValueError(f"{_EXPORTER} has to be none or one of {', '.join(_EXPORTERS)}")


traces = Traces()
