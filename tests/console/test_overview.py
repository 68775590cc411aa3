"""How an instance fares and what happened, as pages: charts, what waits, nodes; events, and where a mail would go."""

import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.access_keys import create_key
from harness.browser import Browser
from harness.house import QUICKLY, House
from harness.instance import Instance
from harness.process import ServiceProcess
from readdress.console.charts import Series, by_outcome, draw_bars

HOSTILE = "<script>alert(1)</script>"


def test_bars_stand_on_each_other_and_say_their_totals() -> None:
    picture = draw_bars("Mail", [Series("good <b>", "good", [1, 0, 3]), Series("bad", "fail", [1, 0, 0])])
    assert picture.count("<rect") == 3
    assert 'aria-label="Mail: good &lt;b&gt; 4, bad 1"' in picture
    assert "style=" not in picture  # which the pages' policy forbids
    assert draw_bars("Nothing", [Series("none", "good", [])]).count("<rect") == 0


def test_states_are_told_by_what_they_mean() -> None:
    series = by_outcome([{"DELIVERED": 2}, {"QUEUED": 1, "FAILED": 1}, {"DROPPED": 1, "DISCARDED": 1}])
    assert [(one.name, list(one.values)) for one in series] == [
        ("delivered", [2, 0, 0]),
        ("waiting", [0, 1, 0]),
        ("failed", [0, 1, 0]),
        ("dropped or discarded", [0, 0, 2]),
    ]


def test_mail_is_on_the_overview(person: Browser, instance: Instance, home: str) -> None:
    address = instance.publish()
    for _ in range(3):
        instance.send(address.text)
    page = person.get(f"{home}/overview")
    assert "delivered 3" in page.text
    assert "Nothing waits, and nothing has failed." in page.text
    assert "lives" in page.text
    flow = person.get(f"{home}/addresses/{address.id}")
    assert "directly 3" in flow.text


def test_events_are_told_and_lead_to_what_they_are_about(person: Browser, instance: Instance, home: str) -> None:
    primary, alias = instance.publish("support"), instance.publish("help")
    associated = instance.associate(primary=primary.id, alias=alias.id)
    instance.send(alias.text, subject=f"lost? {HOSTILE}")
    page = person.get(f"{home}/trace")
    assert f"request {associated['ResponseMetadata']['RequestId']}" in page.text
    assert f"lost? {HOSTILE} from <customer@sender.example>" in page.text
    assert page.has_link(primary.text)
    assert "Why it came here" in person.get(page.link("Mail")).text
    history = person.get(f"{home}/addresses/{primary.id}").text
    assert f"{alias.text} became an alias of {primary.text}" in history
    assert f"request {associated['ResponseMetadata']['RequestId']}" in history


def test_earlier_events_are_on_further_pages(person: Browser, instance: Instance, home: str) -> None:
    for number in range(60):
        instance.publish(f"n{number}")
    first = person.get(f"{home}/trace")
    assert "CreateInstance" not in first.text
    assert "CreateInstance" in person.get(first.link("Earlier")).text


def test_where_a_mail_would_go(person: Browser, instance: Instance, home: str) -> None:
    primary, alias = instance.publish("support"), instance.publish("help")
    instance.associate(primary=primary.id, alias=alias.id)
    page = person.get(f"{home}/trace?recipient={alias.text}")
    assert f"{primary.text} by an alias" in page.text
    assert f"{alias.text} directly" in page.text
    assert "250 2.1.5" in page.text
    refused = person.get(f"{home}/trace?recipient=nobody-{alias.text}")
    assert "550 5.1.1" in refused.text
    assert person.get(f"{home}/trace?recipient={'x' * 400}").status == 200


def test_only_as_far_as_the_key_may(service: ServiceProcess, browser: Browser, instance: Instance, home: str) -> None:
    address = instance.publish()
    statement = {"Effect": "Allow", "Action": ["connect:*", "readdress:GetStatus"], "Resource": "*"}
    browser.sign_in(*create_key(service, json.dumps({"Version": "2012-10-17", "Statement": [statement]})))
    page = browser.get(f"{home}/overview")
    assert page.status == 200
    assert page.has_link("Overview")
    assert not page.has_link("Trace")
    assert browser.get(f"{home}/trace").status == 403
    assert "Mail of the last hour" not in browser.get(f"{home}/addresses/{address.id}").text
    for action in ("retry", "drop"):
        assert browser.post(f"{home}/spool/any/{action}", page.forms[0].fields).status == 403


class _Grumpy(socketserver.StreamRequestHandler):
    """Refuses everybody for a while, in words that are not nice."""

    def handle(self) -> None:
        self.wfile.write(f"451 4.7.1 {HOSTILE} come back later\r\n".encode())
        self.rfile.readline()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Grumpy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        relay = {"type": "smtp", "host": "127.0.0.1", "port": server.server_address[1], "tls": "none"}
        settings = QUICKLY | {"retry_min_ms": 60_000, "retry_max_ms": 60_000}
        with House(tmp_path / "house", {"relay": relay}, "--dev", **settings) as house:
            yield house
        server.shutdown()


def test_what_waits_is_tried_again_or_dropped(house: House) -> None:
    message_id = house.send(house.publish("relay").text)
    house.wait_for_tries(message_id)
    home = f"/_console/instances/{house.instance.id}"
    with Browser(house.service.http_address) as person:
        person.sign_in()
        page = person.get(f"{home}/overview")
        assert "relay: 1 waiting" in page.text
        assert HOSTILE in page.text  # as text: it is parsed as such
        assert "451 4.7.1" in page.text
        person.submit(page, page.form("/retry"))
        house.wait_for_tries(message_id, 2)
        drop = next(href for href, text in page.links if text.startswith("Drop…"))
        confirm = person.get(drop)
        assert "at most 256" in person.submit(confirm, confirm.form(), reason="x" * 300).text
        assert "Nothing waits" in person.submit(confirm, confirm.form(), reason=f"spam {HOSTILE}").text
        assert f"by an operator: spam {HOSTILE}" in person.get(f"{home}/trace").text
    house.wait_for_state(message_id, "DROPPED")
