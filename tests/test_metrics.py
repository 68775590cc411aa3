"""What a scrape shows: numbers after known actions, labels that no stranger chooses, nothing where none was asked."""

import asyncio
import http.client
import re
import socket
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.house import House
from harness.http_client import HttpClient
from harness.instance import UNKNOWN_ID, Instance
from harness.process import DEV_INSTANCE, ServiceProcess, free_port, split_address
from harness.smtp_client import SmtpClient
from harness.stored import wait_until
from readdress.clock import Clock
from readdress.gateway.exposition import Exposition
from readdress.metrics import SUCCESS, Counts, Histogram
from readdress.store.database import Database

StartService = Callable[..., ServiceProcess]
METRICS = ("--metrics", "127.0.0.1:0")


class Samples(dict[tuple[str, frozenset[str]], float]):
    """Values by name and the values of their labels."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.labels: set[tuple[str, str]] = set()
        for family in text_string_to_metric_families(text):
            assert family.documentation or family.name.startswith("process_")
            for sample in family.samples:
                self[sample.name, frozenset(sample.labels.values())] = sample.value
                self.labels |= set(sample.labels.items())

    def get_one(self, name: str, *labels: str) -> float:
        return self.get((f"readdress_{name}", frozenset(labels)), 0.0)


def places_of(process: ServiceProcess) -> list[str]:
    found = re.search(r"Stats\s+(.*)", process.output)
    return found[1].split() if found else []


def ask(place: str, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(*split_address(place), timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.getheader("content-type") or "", text


def scrape(process: ServiceProcess, worker: int = 0) -> Samples:
    status, content_type, text = ask(places_of(process)[worker])
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    return Samples(text)


# Numbers.


def test_calls_are_counted_by_operation_and_code(start_service: StartService) -> None:
    process = start_service(*METRICS)
    with HttpClient(process.http_address) as client:
        for _ in range(3):
            assert client.call("GET", f"/instance/{DEV_INSTANCE}").status == 200
        assert client.call("GET", f"/email-addresses/{DEV_INSTANCE}/{UNKNOWN_ID}").status == 404
        assert client.call("GET", f"/instance/{DEV_INSTANCE}", sign=False).status == 403
        made = client.call("PUT", f"/email-addresses/{DEV_INSTANCE}", {"EmailAddress": "help@example.com"})
        assert made.status == 200
        client.call("GET", "/_readdress/health", sign=False)  # is no call
    samples = scrape(process)
    found = {key[1]: value for key, value in samples.items() if key[0] == "readdress_requests_total"}
    assert found == {
        frozenset({"DescribeInstance", SUCCESS}): 3,
        frozenset({"DescribeEmailAddress", "ResourceNotFoundException"}): 1,
        frozenset({"unknown", "MissingAuthenticationTokenException"}): 1,
        frozenset({"CreateEmailAddress", SUCCESS}): 1,
    }
    assert samples.get_one("request_duration_seconds_count", "DescribeInstance") == 3
    assert samples.get_one("request_duration_seconds_bucket", "DescribeInstance", "+Inf") == 3
    assert 0 < samples.get_one("request_duration_seconds_sum", "DescribeInstance") < 10
    assert samples.get_one("works_total", "other", SUCCESS) >= 1
    assert samples.get_one("commit_works_sum") >= 1
    assert samples.get_one("commit_duration_seconds_count") == samples.get_one("commit_works_count") >= 1
    assert samples.get_one("database_up") == samples.get_one("workers") == 1
    assert samples["process_cpu_seconds_total", frozenset()] > 0


def test_mail_is_counted_by_what_became_of_it(start_service: StartService) -> None:
    process = start_service(*METRICS, environment={"READDRESS_MESSAGE_BYTES_MAX": "65536"})
    with HttpClient(process.http_address) as client:
        client.call("PUT", f"/email-addresses/{DEV_INSTANCE}", {"EmailAddress": "help@example.com"})
    with SmtpClient(process.smtp_address) as smtp:
        smtp.say("EHLO sender.example")
        for _ in range(2):
            assert smtp.mail("a@sender.example", "help@example.com").startswith("250")
        assert smtp.say("MAIL FROM:<a@sender.example>").startswith("250")
        assert smtp.say("RCPT TO:<nobody@example.com>").startswith("550")
        smtp.say("RSET")
        assert smtp.mail("a@sender.example", "help@example.com", content=b"x\r\n" * 30_000).startswith("552")
        samples = scrape(process)
        assert samples.get_one("connections", "smtp") == 1
        assert samples.get_one("connections", "http") == 0
        smtp.say("QUIT")
    assert samples.get_one("messages_total", "smtp", "accepted", "250") == 2
    assert samples.get_one("messages_total", "smtp", "refused", "552") == 1
    assert samples.get_one("recipients_total", "smtp", "accepted", "250") == 3
    assert samples.get_one("recipients_total", "smtp", "refused", "550") == 1
    assert samples.get_one("deliveries_total", "inbox", "delivered") == 2
    assert 90_000 < samples.get_one("received_bytes_total", "smtp") < 92_000
    assert samples.get_one("works_total", "mail", SUCCESS) == 2
    wait_until(lambda: scrape(process).get_one("sessions_total", "smtp", "quit") == 1)


def test_deliveries_are_counted_and_the_spool_is_shown(engine: object, tmp_path: Path) -> None:
    nowhere = {"type": "lmtp", "address": f"127.0.0.1:{free_port()}"}
    there = {"type": "maildir", "path": str(tmp_path / "maildir")}
    with House(tmp_path / "house", {"nowhere": nowhere, "there": there}, *METRICS, log_format="json") as house:
        house.wait_for_state(house.send(house.publish("there").text), "DELIVERED")
        house.wait_for_tries(house.send(house.publish("nowhere").text))

        def is_shown() -> bool:  # looked at every few seconds
            return scrape(house.service).get_one("spool_deliveries", "nowhere", "waiting") == 1

        wait_until(is_shown)
        samples = scrape(house.service)
        assert samples.get_one("spool_oldest_timestamp_seconds", "nowhere", "waiting") > 1_700_000_000
        assert samples.get_one("deliveries_total", "there", "delivered") == 1
        assert samples.get_one("deliveries_total", "nowhere", "temporary") == 1


# Strangers.


def test_no_stranger_chooses_a_label(start_service: StartService) -> None:
    process = start_service(*METRICS)

    def annoy() -> None:
        marker = f"zz{uuid.uuid4().hex}"
        with HttpClient(process.http_address) as client:
            client.call("GET", f"/{marker}")
            client.call("GET", f"/instance/{marker}", sign=False)
            client.rpc(marker, {})
            client.call("PUT", f"/email-addresses/{DEV_INSTANCE}", {"EmailAddress": f"{marker}@example.com"})
        with HttpClient(process.http_address, access_key_id=marker) as client:
            client.call("GET", f"/instance/{DEV_INSTANCE}")
        with socket.create_connection(process.http_address) as raw:
            raw.sendall(f"{marker} / HTTP/9\r\n\r\n".encode())
            raw.recv(1_000)
        with SmtpClient(process.smtp_address) as smtp:
            smtp.say(f"EHLO {marker}.example")
            smtp.mail(f"{marker}@sender.example", f"{marker}@example.com")
            smtp.mail(f"{marker}@sender.example", f"nobody-{marker}@example.com")
            smtp.say(marker)
            smtp.say("QUIT")

    def is_counted(times: int) -> bool:
        return scrape(process).get_one("sessions_total", "smtp", "quit") == times

    annoy()
    wait_until(lambda: is_counted(1))
    before = scrape(process)
    for _ in range(5):
        annoy()
    wait_until(lambda: is_counted(6))
    after = scrape(process)
    assert after.keys() == before.keys()
    assert not [value for _, value in after.labels if "zz" in value]
    names = {name for name, _ in after.labels}
    assert names <= {"operation", "code", "kind", "outcome", "door", "end", "transport", "state", "le"}


def test_transports_that_this_node_does_not_know_are_one(database: Database) -> None:
    from readdress.spool import queue

    for number in range(20):
        database.run(
            lambda tx, number=number: queue.enqueue(  # type: ignore[misc]
                tx, delivery_id=f"{number:02d}", address_id="a", message_id="m", transport=f"old-{number % 7}"
            )
        )
    database.run(lambda tx: queue.fail(tx, "00"))

    async def answer() -> str:
        return (await exposition(database).show()).body.decode()

    samples = Samples(asyncio.run(answer()))
    assert samples.get_one("spool_deliveries", "unknown", "due") == 19
    assert samples.get_one("spool_deliveries", "unknown", "failed") == 1


def test_a_large_spool_is_not_counted_to_its_end(database: Database) -> None:
    from readdress.spool import queue

    for number in range(5):
        database.run(
            lambda tx, number=number: queue.enqueue(  # type: ignore[misc]
                tx, delivery_id=f"{number:02d}", address_id="a", message_id="m", transport="t"
            )
        )
    (group,) = database.run(lambda tx: queue.count_entries(tx, limit=3))
    assert (group.transport, group.state, group.entries) == ("t", "due", 3)


def exposition(database: Database) -> Exposition:
    return Exposition(Counts(), database, connections=dict, transports={"t"}, workers=1)


def test_without_a_database_everything_else_is_shown(database: Database) -> None:
    database.close()

    async def answer() -> str:
        return (await exposition(database).show()).body.decode()

    samples = Samples(asyncio.run(answer()))
    assert samples.get_one("database_up") == 0
    assert samples["readdress_lock_waits_total", frozenset()] == 0
    assert not any(name.startswith("readdress_spool") for name, _ in samples)


def test_a_histogram_counts_what_is_at_or_below_a_bound() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (0, 1, 1.5, 4, 5):
        histogram.add(value)
    assert (histogram.numbers, histogram.sum) == ([2, 1, 1, 1], 11.5)


# Who may ask.


def test_nobody_is_told_anything_by_default(start_service: StartService) -> None:
    process = start_service(dev=False)
    assert places_of(process) == []
    with HttpClient(process.http_address) as client:
        for path in ("/metrics", "/_readdress/metrics"):
            answer = client.call("GET", path, sign=False)
            assert (answer.status, answer.code) == (403, "MissingAuthenticationTokenException")


def test_in_development_the_api_shows_them_too(service: ServiceProcess, instance: Instance) -> None:
    with HttpClient(service.http_address) as client:
        answer = client.call("GET", "/_readdress/metrics", sign=False)
    assert answer.status == 200
    assert Samples(answer.body.decode()).get_one("requests_total", "CreateInstance", SUCCESS) >= 1


def test_development_shows_them_to_this_machine_alone(tmp_path: Path) -> None:
    from readdress.config import Config, ConfigError
    from readdress.service import Service

    with pytest.raises(ConfigError, match="metrics"):
        Service(Config(data=str(tmp_path), dev=True, metrics="0.0.0.0:9464"), Clock())


def test_the_port_shows_nothing_else(start_service: StartService) -> None:
    (place,) = places_of(start_service(*METRICS))
    for path in ("/", "/_readdress/health", f"/instance/{DEV_INSTANCE}", "/metrics/"):
        assert ask(place, path)[0] == 404
    assert ask(place, method="POST")[0] == 404
    assert ask(place, method="HEAD")[::2] == (200, "")


def test_each_worker_has_a_port_of_its_own(start_service: StartService) -> None:
    process = start_service("--workers", "2", *METRICS)
    assert len(set(places_of(process))) == 2
    for _ in range(60):
        with SmtpClient(process.smtp_address) as client:
            client.say("QUIT")

    def sessions() -> Counter[int]:
        return Counter(
            {worker: int(scrape(process, worker).get_one("sessions_total", "smtp", "quit")) for worker in range(2)}
        )

    wait_until(lambda: sessions().total() == 60)
    assert min(sessions().values()) > 0
    assert scrape(process).get_one("workers") == 2


def test_workers_take_ports_in_a_row(start_service: StartService) -> None:
    port = free_port(in_a_row=2)
    process = start_service("--workers", "2", "--metrics", f"127.0.0.1:{port}")
    assert places_of(process) == [f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"]
