"""What waits to go on, by the API: seen, tried again, given up; and how transports fare (docs/onward.md)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from harness.house import QUICKLY, House
from harness.http_client import HttpAnswer
from harness.instance import UNKNOWN_ID
from harness.smtp_sink import SmtpSink

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Its relay puts everything off."""
    with SmtpSink(tmp_path / "sink", "-r", "rcpt") as sink:
        transports = {"relay": {"type": "smtp", "host": "127.0.0.1", "port": sink.port, "tls": "none"}}
        settings = QUICKLY | {"retry_min_ms": 60_000, "retry_max_ms": 60_000}
        with House(tmp_path / "house", transports, **settings) as house:
            yield house


def ask(house: House, path: str, method: str = "GET") -> HttpAnswer:
    return house.http.call(method, f"/_readdress/instances/{house.instance.id}/{path}")


def spool(house: House) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(house, "spool").json["Deliveries"]
    return found


def test_seen_tried_again_and_given_up(house: House) -> None:
    address = house.publish("relay")
    message_id = house.send(address.text)
    house.wait_for_tries(message_id)
    (waiting,) = spool(house)
    assert (waiting["MessageId"], waiting["EmailAddressId"]) == (message_id, address.id)
    assert (waiting["Transport"], waiting["State"], waiting["Attempts"]) == ("relay", "WAITING", 1)
    assert waiting["EmailAddress"] == address.text
    assert waiting["LastReply"].startswith("4")

    status = ask(house, "status").json
    assert [(one["Transport"], one["State"], one["Deliveries"]) for one in status["Spool"]] == [("relay", "WAITING", 1)]
    (transport,) = status["Transports"]
    assert (transport["Transport"], transport["Tries"], transport["Failures"]) == ("relay", 1, 1)
    assert transport["LastFailure"].startswith("4")
    tried, received = [event for event in ask(house, "events").json["Events"] if "MessageId" in event]
    assert (tried["Event"], received["Event"]) == ("ATTEMPTED", "RECEIVED")
    assert tried["Detail"].startswith("try 1 by relay at ")

    assert ask(house, f"spool/{waiting['DeliveryId']}/retry", "POST").status == 200
    house.wait_for_tries(message_id, 2)
    assert ask(house, f"spool/{waiting['DeliveryId']}?reason=it%20was%20spam", "DELETE").status == 200
    assert spool(house) == []
    house.wait_for_state(message_id, "DROPPED")
    dropped = next(event for event in ask(house, "events").json["Events"] if "MessageId" in event)
    assert dropped["Detail"].endswith("DROPPED: by an operator: it was spam")
    for method, path in (("DELETE", ""), ("POST", "/retry")):
        answer = ask(house, f"spool/{waiting['DeliveryId']}{path}", method)
        assert (answer.status, answer.code) == (404, "ResourceNotFoundException")


def test_another_instances_deliveries_are_nobodys_business(house: House) -> None:
    message_id = house.send(house.publish("relay").text)
    house.wait_for_tries(message_id)
    (waiting,) = spool(house)
    made = house.connect.create_instance(
        IdentityManagementType="CONNECT_MANAGED", InboundCallsEnabled=True, OutboundCallsEnabled=True
    )
    others = f"/_readdress/instances/{made['Id']}/spool"
    assert house.http.call("GET", others).json == {"Deliveries": []}
    assert house.http.call("DELETE", f"{others}/{waiting['DeliveryId']}").status == 404
    assert len(spool(house)) == 1


def test_pages_of_the_spool(house: House) -> None:
    sent = [house.send(house.publish("relay").text) for _ in range(5)]
    for message_id in sent:
        house.wait_for_tries(message_id)
    found: list[str] = []
    path = "spool?maxResults=2"
    while True:
        answer = ask(house, path).json
        found += [one["MessageId"] for one in answer["Deliveries"]]
        if "NextToken" not in answer:
            break
        path = f"spool?maxResults=2&nextToken={answer['NextToken']}"
    assert found == sent


@pytest.mark.parametrize("reason", ["", "x" * 257, "a%0Ab"], ids=["empty", "long", "a line's end"])
def test_a_reason_is_a_line_of_text(house: House, reason: str) -> None:
    answer = ask(house, f"spool/any?reason={reason}", "DELETE")
    assert (answer.status, answer.code) == (400, "InvalidParameterException")


@pytest.fixture
def open_house(tmp_path: Path) -> Iterator[tuple[House, SmtpSink]]:
    """Its relay takes everything."""
    with SmtpSink(tmp_path / "sink") as sink:
        transports = {"relay": {"type": "smtp", "host": "127.0.0.1", "port": sink.port, "tls": "none"}}
        with House(tmp_path / "house", transports, **QUICKLY) as house:
            yield house, sink


def release(house: House, message_id: str, **query: str) -> HttpAnswer:
    return ask(house, f"messages/{message_id}/release?{urlencode(query, quote_via=quote)}", "POST")


def test_a_message_is_released_to_a_real_address_and_stays(open_house: tuple[House, SmtpSink]) -> None:
    house, sink = open_house
    address = house.publish()
    message_id = house.send(address.text)
    query = {"recipient": "somebody@elsewhere.example", "clientToken": "once"}
    answers = [release(house, message_id, **query) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json == answers[1].json
    assert answers[0].json["Transport"] == "relay"
    message = house.wait_for_state(message_id, "DELIVERED")
    (mail,) = [mail for mail in sink.mails() if "somebody@elsewhere.example" in mail.recipients]
    assert b"Subject: onward" in mail.content
    released = next(one for one in message["Deliveries"] if one["DeliveryId"] == answers[0].json["DeliveryId"])
    assert (released["Transport"], released["Reasons"]) == ("relay", [{"Reason": "RELEASED"}])
    assert message["Envelope"]["Recipients"] == [address.text]
    assert house.content_status(message_id) == 200
    assert [one["MessageId"] for one in house.http.inbox(house.instance.id, address.id)] == [message_id]


def test_a_release_is_for_whom_it_names_whatever_recipient_its_transport_has(tmp_path: Path) -> None:
    with SmtpSink(tmp_path / "sink") as sink:
        host = {"type": "smtp", "host": "127.0.0.1", "port": sink.port, "tls": "none"}
        transports = {"back": host, "store": host | {"recipient": "{local_part}@store.example"}}
        with House(tmp_path / "house", transports, return_transport="back", **QUICKLY) as house:
            message_id = house.send(house.publish().text)
            query = {"recipient": "somebody@elsewhere.example", "transport": "store"}
            assert release(house, message_id, **query).status == 200
            house.wait_for_state(message_id, "DELIVERED")
            assert [mail.recipients for mail in sink.mails()] == [["somebody@elsewhere.example"]]


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"recipient": "nobody"}, 400, "Recipient"),
        ({"recipient": "a b@elsewhere.example"}, 400, "Recipient"),
        ({"recipient": "a@elsewhere.example", "transport": "inbox"}, 400, "It has to be one of relay."),
        ({"recipient": "a@elsewhere.example", "transport": "none"}, 400, "It has to be one of relay."),
    ],
)
def test_what_can_not_be_released_is_refused(house: House, query: dict[str, str], status: int, words: str) -> None:
    message_id = house.send(house.publish().text)
    answer = release(house, message_id, **query)
    assert (answer.status, words in answer.json["Message"]) == (status, True)
    assert spool(house) == []


def test_only_what_is_there_is_released(open_house: tuple[House, SmtpSink]) -> None:
    house, _ = open_house
    passed_on = house.send(house.publish("relay").text)
    house.wait_for_state(passed_on, "DELIVERED")
    for message_id in (passed_on, UNKNOWN_ID):
        answer = release(house, message_id, recipient="a@elsewhere.example")
        assert (answer.status, answer.code) == (404, "ResourceNotFoundException")
