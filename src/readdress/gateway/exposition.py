"""What was counted, as metrics in Prometheus' text format: made anew for each scrape, on a port of its own.

Only this module knows the library, which takes longer to import than all else here: so it is imported when somebody
wants metrics. When the database can't be read, a scrape shows all but the spool, and `readdress_database_up` is 0.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from time import monotonic
from typing import TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from readdress.directory import settings
from readdress.gateway.wire import JSON, HttpRequest, HttpResponse
from readdress.metrics import UNKNOWN, Counts, Histogram
from readdress.spool import queue
from readdress.store.database import Database, StoreError

log = logging.getLogger("readdress.metrics")

PATH = b"/metrics"
SPOOL_ENTRIES_MAX = 100_000
SPOOL_INTERVAL_S = 5.0
SPOOL_WAIT_S = 2.0

Key = TypeVar("Key", bound=tuple[str, ...])


class Exposition(Collector):
    """The metrics of one process, shown at /metrics."""

    def __init__(
        self,
        counts: Counts,
        database: Database,
        *,
        connections: Callable[[], Mapping[str, int]],
        transports: Collection[str],
        workers: int,
    ) -> None:
        """`connections` says how many are open, by door; `transports` are the names that a label may have."""
        self._counts = counts
        self._database = database
        self._connections = connections
        self._transports = transports
        self._workers = workers
        self._spool: list[queue.Group] = []
        self._spool_due = 0.0
        self._is_database_up = False
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """On a door where nothing else is."""
        if request.path == PATH and request.method in {"GET", "HEAD"}:
            return await self.show()
        return HttpResponse(404, JSON, b'{"Message":"Ask for GET /metrics."}')

    async def show(self) -> HttpResponse:
        if monotonic() >= self._spool_due:
            await self._look_at_spool()
        return HttpResponse(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry))

    async def _look_at_spool(self) -> None:
        """At most once in a while, however many ask."""
        self._spool_due = monotonic() + SPOOL_INTERVAL_S
        try:
            async with asyncio.timeout(SPOOL_WAIT_S):
                self._spool = await self._database.scan(lambda tx: queue.count_entries(tx, limit=SPOOL_ENTRIES_MAX))
        except (StoreError, TimeoutError) as error:
            log.warning("cannot count what is in the spool: %s", type(error).__name__)
            self._spool, self._is_database_up = [], False
        else:
            self._is_database_up = True

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: `collect` says all."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._store()
        yield from self._mail()
        yield from self._gauges()

    def _requests(self) -> Iterator[Metric]:
        counts = self._counts
        yield _counter("requests", "API calls by operation and error code.", ("operation", "code"), counts.requests)
        seconds = HistogramMetricFamily(
            "readdress_request_duration_seconds",
            "From the head of an API call to its answer, its commit included.",
            labels=["operation"],
        )
        for operation, histogram in list(counts.request_seconds.items()):
            seconds.add_metric([operation], *_buckets(histogram))
        yield seconds

    def _store(self) -> Iterator[Metric]:
        counts = self._counts
        yield _counter(
            "works", "What was asked of the database, and what came of it.", ("kind", "outcome"), counts.works
        )
        works = HistogramMetricFamily("readdress_commit_works", "Changes that one commit made durable.")
        works.add_metric([], *_buckets(counts.commit_works))
        yield works
        seconds = HistogramMetricFamily("readdress_commit_duration_seconds", "The commit itself, to its answer.")
        seconds.add_metric([], *_buckets(counts.commit_seconds))
        yield seconds
        for name, text, number in (
            ("commit_failures", "Commits that failed, of which nothing was kept.", counts.commit_failures),
            ("lock_waits", "Times that a change had to wait for others' locks.", counts.lock_waits),
            ("repeats", "Changes that ran again, since others had changed what they had read.", counts.repeats),
        ):
            yield CounterMetricFamily(f"readdress_{name}", text, value=number)

    def _mail(self) -> Iterator[Metric]:
        doors = self._counts.doors.items()
        replies = ("door", "outcome", "code")
        messages = {(door, *_read(code)): each for door, at in doors for code, each in at.messages.items()}
        yield _counter("messages", "Messages by the reply to their content.", replies, messages)
        recipients = {(door, *_read(code)): each for door, at in doors for code, each in at.recipients.items()}
        yield _counter("recipients", "Recipients by the reply to RCPT.", replies, recipients)
        received_bytes = {(door,): at.received_bytes for door, at in doors}
        yield _counter("received_bytes", "Bytes that came in through a mail door.", ("door",), received_bytes)
        sessions = {(door, end): each for door, at in doors for end, each in at.sessions.items()}
        yield _counter("sessions", "Mail sessions by how they ended.", ("door", "end"), sessions)
        outcomes = {settings.INBOX: "delivered", settings.DISCARD: "discarded"}
        stored = {(transport, outcomes[transport]): each for transport, each in self._counts.stored.items()}
        deliveries = {**stored, **self._counts.deliveries}
        yield _counter("deliveries", "Tries to deliver, and mail for inboxes.", ("transport", "outcome"), deliveries)

    def _gauges(self) -> Iterator[Metric]:
        connections = GaugeMetricFamily("readdress_connections", "Connections that are open.", labels=["door"])
        for door, number in self._connections().items():
            connections.add_metric([door], number)
        yield connections
        yield GaugeMetricFamily("readdress_workers", "How many processes the service is to have.", value=self._workers)
        yield GaugeMetricFamily("readdress_database_up", "Whether the database could be read.", self._is_database_up)
        labels = ["transport", "state"]
        entries = GaugeMetricFamily(
            "readdress_spool_deliveries", "Deliveries in the spool of all nodes.", labels=labels
        )
        oldest = GaugeMetricFamily(
            "readdress_spool_oldest_timestamp_seconds", "When the oldest of them came into the spool.", labels=labels
        )
        for (transport, state), (number, oldest_ms) in self._spool_by_name().items():
            entries.add_metric([transport, state], number)
            oldest.add_metric([transport, state], oldest_ms / 1000)
        yield entries
        yield oldest

    def _spool_by_name(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Transports that this node does not know are one."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for group in self._spool:
            key = (group.transport if group.transport in self._transports else UNKNOWN, group.state)
            number, oldest_ms = found.get(key, (0, group.oldest_ms))
            found[key] = (number + group.entries, min(oldest_ms, group.oldest_ms))
        return found


def _counter(name: str, text: str, labels: tuple[str, ...], numbers: Mapping[Key, int]) -> Metric:
    family = CounterMetricFamily(f"readdress_{name}", text, labels=labels)
    for values, number in list(numbers.items()):
        family.add_metric(values, number)
    return family


def _read(code: int) -> tuple[str, str]:
    """A reply's first digit says what it is (RFC 5321 §4.2.1)."""
    return {2: "accepted", 4: "deferred", 5: "refused"}[code // 100], str(code)


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Prometheus wants for each bound how many values are at or below it."""
    total, buckets = 0, []
    for bound, number in zip((*map(str, histogram.bounds), "+Inf"), histogram.numbers, strict=True):
        total += number
        buckets.append((bound, float(total)))
    return buckets, histogram.sum
