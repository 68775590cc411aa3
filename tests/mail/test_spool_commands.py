"""What an operator sees and does while mail waits: trace, and spool list, retry and drop, beside the service."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.engine import Engine
from harness.house import QUICKLY, SENDER, House, tries_of
from harness.instance import UNKNOWN_ID
from harness.process import ServiceProcess, free_port
from harness.smtp_sink import SmtpSink

pytestmark = pytest.mark.usefixtures("engine")


class Waiting(NamedTuple):
    """A service whose next host is away; `open_sink` is its return."""

    house: House
    open_sink: Callable[[], SmtpSink]


@pytest.fixture(scope="module")
def waiting(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    yield from away(tmp_path_factory.mktemp("away"), retry_min_ms=3_600_000)


@pytest.fixture
def soon(tmp_path: Path) -> Iterator[Waiting]:
    """The same for one test, which tries again soon."""
    yield from away(tmp_path / "soon", retry_min_ms=50)


def away(folder: Path, *, retry_min_ms: int) -> Iterator[Waiting]:
    folder.mkdir(exist_ok=True)
    port = free_port()
    sinks: list[SmtpSink] = []

    def open_sink() -> SmtpSink:
        sinks.append(SmtpSink(folder / f"sink-{len(sinks)}", port=port))
        return sinks[-1]

    transports = {"away": {"type": "smtp", "host": "127.0.0.1", "port": port, "tls": "none"}}
    settings = QUICKLY | {"retry_min_ms": retry_min_ms}
    with House(folder / "house", transports, **settings) as house:
        yield Waiting(house, open_sink)
        house.check()
    for sink in sinks:
        sink.stop()


def delivery_id(house: House, message_id: str) -> str:
    (delivery,) = house.message(message_id)["Deliveries"]
    return str(delivery["DeliveryId"])


def send_in_vain(house: House) -> tuple[str, str]:
    """A mail that waits; gives its id and the delivery's."""
    message_id = house.send(house.publish("away").text)
    house.wait_for_tries(message_id)
    return message_id, delivery_id(house, message_id)


def test_what_waits_is_listed_with_its_last_reply(waiting: Waiting) -> None:
    house = waiting.house
    message_id, waits = send_in_vain(house)
    goal = house.message(message_id)["Deliveries"][0]["EmailAddress"]
    done = house.run("spool", "list")
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(waits))
    columns = line.split("\t")
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(time, columns[1])
    assert re.fullmatch(f"due {time}", columns[2])
    assert columns[3:6] == ["1 tries", "away", goal]
    assert re.match(r"4\.\d\.\d .", columns[6])
    assert done.returncode == 0
    assert len(house.run("spool", "list", "--limit", "1").stdout.splitlines()) == 1


def test_a_retry_is_tried_at_once_by_the_running_service(waiting: Waiting) -> None:
    house = waiting.house  # which would wait for an hour
    message_id, waits = send_in_vain(house)
    with waiting.open_sink() as sink:
        done = house.run("spool", "retry", waits)
        assert (done.returncode, done.stdout) == (0, f"{waits} is due now\n")
        house.wait_for_state(message_id, "DELIVERED")
        assert len(sink.mails()) == 1
    assert waits not in house.run("spool", "list").stdout


def test_what_is_dropped_is_tried_no_more_and_its_content_is_gone(waiting: Waiting) -> None:
    house = waiting.house
    message_id, waits = send_in_vain(house)
    assert house.content_status(message_id) == 200
    done = house.run("spool", "drop", waits)
    assert (done.returncode, done.stdout) == (0, f"{waits} is dropped\n")
    message = house.message(message_id)
    assert message["Deliveries"][0]["State"] == "DROPPED"
    assert tries_of(message)[-1].endswith(": DROPPED: by an operator")
    assert house.content_status(message_id) == 404
    assert waits not in house.run("spool", "list").stdout


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_of_ids_that_do_not_exist_nothing_happens_to_any(waiting: Waiting, command: str) -> None:
    house = waiting.house
    message_id, waits = send_in_vain(house)
    before = house.message(message_id)
    for given in (["nonsense"], [waits, UNKNOWN_ID], [message_id]):
        done = house.run("spool", command, *given)
        assert done.returncode == 1
        assert f"the spool has no delivery {given[-1]}" in done.stderr
        assert "Traceback" not in done.stderr
    assert house.message(message_id) == before
    assert house.run("spool", command).returncode == 2  # a delivery has to be named


def test_trace_tells_of_a_message_of_an_address_and_of_all_since(waiting: Waiting) -> None:
    house = waiting.house
    alias, primary = house.publish(), house.publish("away")
    house.instance.associate(primary=primary.id, alias=alias.id)
    message_id = house.send(alias.text)
    house.wait_for_tries(message_id)
    done = house.run("trace", message_id)
    head, *events = done.stdout.splitlines()
    assert head == f"{message_id}\t<{SENDER}>\tonward"
    assert [event.split("\t")[1] for event in events] == ["ALIAS_CHANGED", "RECEIVED", "ROUTED", "ROUTED", "ATTEMPTED"]
    assert f"{alias.id} as alias of {primary.id}: " in events[0]
    assert f"{alias.text} to {primary.text} (ALIAS of {alias.id}) by away: QUEUED" in events[3]
    assert re.search(r"\ttry 1\b.*: TEMPORARY: 4\.", events[4])
    assert house.run("trace", primary.text).stdout == done.stdout
    assert done.stdout in house.run("trace", "--since", "2026-01-01").stdout
    assert house.run("trace", alias.text, "--since", "2999-01-01").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([UNKNOWN_ID], 1, f"nothing is known of {UNKNOWN_ID}"),
        (["nobody@nowhere.example"], 1, "nothing is known of nobody@nowhere.example"),
        ([], 2, "say what to trace"),
        (["--since", "yesterday"], 2, "'yesterday' is no time"),
    ],
)
def test_what_cannot_be_traced_is_said(waiting: Waiting, arguments: list[str], status: int, said: str) -> None:
    done = waiting.house.run("trace", *arguments)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr


@pytest.mark.parametrize("end", [ServiceProcess.stop, ServiceProcess.kill], ids=["stopped", "killed"])
def test_what_waits_outlives_the_program(soon: Waiting, end: Callable[[ServiceProcess], object]) -> None:
    house = soon.house
    message_id, waits = send_in_vain(house)
    house.restart(end)
    assert waits in house.run("spool", "list").stdout
    with soon.open_sink() as sink:
        house.run("spool", "retry", waits)
        message = house.wait_for_state(message_id, "DELIVERED")
        assert len(sink.mails()) == 1
    assert tries_of(message)[-1].startswith(f"try {len(tries_of(message))} at 127.0.0.1 ")


def test_mail_of_an_address_that_is_deleted_meanwhile_still_goes_out(soon: Waiting) -> None:
    house = soon.house
    address = house.publish("away")
    message_id = house.send(address.text)
    house.wait_for_tries(message_id)
    house.instance.delete(address.id)
    with soon.open_sink() as sink:
        house.run("spool", "retry", delivery_id(house, message_id))
        house.wait_for_state(message_id, "DELIVERED")
        assert [mail.recipients for mail in sink.mails()] == [[address.text]]
