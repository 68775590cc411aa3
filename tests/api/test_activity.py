"""What has happened: events of an instance on one line, an address's hour and history, and how the service fares."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from harness.access_keys import create_key
from harness.api_calls import ApiCaller
from harness.http_client import HttpClient
from harness.instance import UNKNOWN_ID, Instance, Published
from harness.process import ServiceProcess
from readdress.api import activity, paging
from readdress.clock import ms_of_id, new_id
from readdress.inbox import messages
from readdress.store.database import Database, Transaction

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def ask(instance: Instance, path: str, **query: str) -> Any:
    asked = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    answer = instance.http.call("GET", f"/_readdress/instances/{instance.id}/{path}" + (f"?{asked}" if asked else ""))
    assert answer.status == 200, answer.body
    return answer.json


def events_of(instance: Instance, page: int = 100) -> list[dict[str, Any]]:
    """All of them, page by page."""
    events: list[dict[str, Any]] = []
    query = {"maxResults": str(page)}
    while True:
        answer = ask(instance, "events", **query)
        assert len(answer["Events"]) <= page
        events += answer["Events"]
        if "NextToken" not in answer:
            return events
        query["nextToken"] = answer["NextToken"]


def test_changes_and_mails_are_on_one_line(instance: Instance) -> None:
    primary, alias = instance.publish("primary"), instance.publish("alias")
    associated = instance.associate(primary=primary.id, alias=alias.id)
    message_id = instance.send(alias.text, subject="where to?")
    disassociated = instance.disassociate(primary=primary.id, alias=alias.id)

    last, mail, first, *made = events_of(instance)
    assert (last["Event"], last["Operation"]) == ("CHANGED", "DisassociateEmailAddressAlias")
    assert last["RequestId"] == disassociated["ResponseMetadata"]["RequestId"]
    assert first["RequestId"] == associated["ResponseMetadata"]["RequestId"]
    assert last["AccessKeyId"] == "test"
    assert set(last["EmailAddressIds"]) == {primary.id, alias.id}
    assert (mail["Event"], mail["MessageId"]) == ("RECEIVED", message_id)
    assert set(mail["EmailAddressIds"]) == {primary.id, alias.id}
    assert mail["Detail"].startswith("where to? from <customer@sender.example>: ")
    assert f"to {primary.text} (ALIAS) by inbox: DELIVERED" in mail["Detail"]
    assert [event["Operation"] for event in made] == ["CreateEmailAddress", "CreateEmailAddress", "CreateInstance"]
    assert all(INSTANT.fullmatch(event["Timestamp"]) for event in [last, mail, first, *made])


@pytest.mark.parametrize("page", [1, 3, 100])
def test_pages_have_every_event_once_and_in_order(instance: Instance, page: int) -> None:
    for number in range(4):
        address = instance.publish(f"n{number}")
        instance.send(address.text, address.text, subject=f"number {number}")
    events = events_of(instance, page)
    assert len(events) == 9
    names = [event.get("RequestId") or event["MessageId"] for event in events]
    assert len(set(names)) == 9
    times = [event["Timestamp"] for event in events]
    assert times == sorted(times, reverse=True)


def test_what_other_instances_do_is_not_told(instance: Instance, service: ServiceProcess, connect: Any) -> None:
    with_mail = Instance(service, connect, instance.http)
    with_mail.send(with_mail.publish().text)
    assert [event["Operation"] for event in events_of(instance)] == ["CreateInstance"]


def _store_mail(tx: Transaction, instance_id: str, *, after_ms: int = 0) -> str:
    message_id = new_id()
    at_ms = ms_of_id(message_id) + after_ms
    messages.insert(tx, messages.Message(message_id, at_ms, "a@example.org", "x", 1, "", "", "", None))
    state = messages.State.DELIVERED
    for address_id in ("one", "two"):
        messages.insert_delivery(
            tx, messages.Delivery(new_id(), address_id, message_id, instance_id, None, [], [], "inbox", state, "", [])
        )
    return message_id


@pytest.mark.parametrize("examined", [3, 4, 5, 100])
def test_a_busy_neighbour_makes_pages_short_and_loses_no_event(
    database: Database, monkeypatch: pytest.MonkeyPatch, examined: int
) -> None:
    """An answer looks at so many rows of all instances, so a page may be empty and yet have a next one."""
    monkeypatch.setattr(activity, "EXAMINED_MAX", examined)
    with ApiCaller(database) as api:
        quiet, busy = api.create_instance(), api.create_instance()
        own = []
        for number in range(20):
            message_id = database.run(
                lambda tx, number=number: _store_mail(tx, busy if number % 7 else quiet)  # type: ignore[misc]
            )
            own += [] if number % 7 else [message_id]
        found: list[dict[str, Any]] = []
        answer: dict[str, Any] = {"NextToken": None}
        while "NextToken" in answer:
            answer = api("ListEvents", InstanceId=quiet, MaxResults=2, NextToken=answer["NextToken"])
            found += answer["Events"]
    assert [event.get("MessageId") for event in found] == [*reversed(own), None]


def test_only_what_is_asked_for(instance: Instance) -> None:
    primary, alias, other = (instance.publish(name) for name in ("primary", "alias", "other"))
    instance.associate(primary=primary.id, alias=alias.id)
    forwarded, elsewhere = instance.send(alias.text), instance.send(other.text)
    everything = events_of(instance)

    def asked(**query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(instance, "events", **query)["Events"]
        return found

    assert asked(event="RECEIVED") == [one for one in everything if one["Event"] == "RECEIVED"]
    assert asked(event="ATTEMPTED") == []
    assert [one["MessageId"] for one in asked(messageId=elsewhere)] == [elsewhere]
    about = asked(emailAddressId=primary.id)
    assert about == [one for one in everything if primary.id in one.get("EmailAddressIds", ())]
    assert [one.get("Operation", one.get("MessageId")) for one in about] == [
        forwarded,
        "AssociateEmailAddressAlias",
        "CreateEmailAddress",
    ]
    assert asked(emailAddressId=primary.id, event="RECEIVED", messageId=elsewhere) == []
    instant = about[1]["Timestamp"]
    assert asked(since=instant) == [one for one in everything if one["Timestamp"] >= instant]
    assert asked(until=instant) == [one for one in everything if one["Timestamp"] < instant]
    assert asked(since=instant, until=instant) == []
    assert asked(emailAddressId=UNKNOWN_ID) == asked(messageId="none") == []


@pytest.mark.parametrize(
    "query",
    [
        {"event": "SEEN"},
        {"since": "yesterday"},
        {"until": "2026-01-01T00:00:00"},
        {"emailAddressId": "x" * 501},
        {"messageId": "x" * 101},
    ],
    ids=["no kind", "no time", "no zone", "a long address", "a long message"],
)
def test_what_can_not_be_asked_for(instance: Instance, query: dict[str, str]) -> None:
    ((name, value),) = query.items()
    answer = instance.http.call("GET", f"/_readdress/instances/{instance.id}/events?{name}={quote(value, safe='')}")
    assert (answer.status, answer.code) == (400, "InvalidParameterException")
    assert answer.json["Message"].startswith(name[0].upper() + name[1:])


@pytest.mark.parametrize("place", ["", "[]!", '["a", "b", "c"]', '["a", "b", "9999999999999999999 c"]', '["\\u0000"]'])
def test_a_forged_token_is_refused(instance: Instance, place: str) -> None:
    query = ("events", instance.id, "", "", "", 0, 1 << 62)
    token = quote(paging.encode_token(place, *query), safe="")
    answer = instance.http.call("GET", f"/_readdress/instances/{instance.id}/events?nextToken={token}")
    assert (answer.status, answer.code) == (400, "InvalidParameterException")


def test_who_names_another_instance_in_a_text_is_not_told_there(
    instance: Instance, service: ServiceProcess, connect: Any
) -> None:
    other = Instance(service, connect, instance.http)
    other.publish(Description=f"as in {instance.id}", Tags={"a": f"/instance/{instance.id}/"})
    assert [event["Operation"] for event in events_of(instance)] == ["CreateInstance"]


def test_a_mail_that_came_slowly_is_not_lost_between_pages(database: Database) -> None:
    """Its id is from when it began, before a mail that was stored earlier."""
    with ApiCaller(database) as api:
        instance_id = api.create_instance()
        slow = database.run(lambda tx: _store_mail(tx, instance_id, after_ms=5_000))
        quick = database.run(lambda tx: _store_mail(tx, instance_id))
        first = api("ListEvents", InstanceId=instance_id, Event="RECEIVED", MaxResults=1)
        second = api("ListEvents", InstanceId=instance_id, Event="RECEIVED", NextToken=first["NextToken"])
    assert {event["MessageId"] for event in first["Events"] + second["Events"]} == {slow, quick}


def test_the_hour_of_an_address_and_its_history(instance: Instance) -> None:
    primary, alias = instance.publish("primary"), instance.publish("alias")
    associated = instance.associate(primary=primary.id, alias=alias.id)
    for recipient in (primary.text, alias.text, alias.text):
        instance.send(recipient)
    disassociated = instance.disassociate(primary=primary.id, alias=alias.id)
    answer = ask(instance, f"email-addresses/{primary.id}/activity")
    assert (sum(answer["Direct"]), sum(answer["Forwarded"])) == (1, 2)
    assert (len(answer["Direct"]), len(answer["Forwarded"]), answer["IsComplete"]) == (60, 60, True)
    assert [(one["Change"], one["AliasId"], one["PrimaryId"]) for one in answer["History"]] == [
        ("DISASSOCIATED", alias.id, primary.id),
        ("ASSOCIATED", alias.id, primary.id),
    ]
    assert [one["RequestId"] for one in answer["History"]] == [
        called["ResponseMetadata"]["RequestId"] for called in (disassociated, associated)
    ]
    assert sum(ask(instance, f"email-addresses/{alias.id}/activity")["Direct"]) == 2


def test_a_relation_that_ends_with_an_address_names_the_call(instance: Instance) -> None:
    primary, alias = instance.publish("primary"), instance.publish("alias")
    instance.associate(primary=primary.id, alias=alias.id)
    deleted = instance.connect.delete_email_address(InstanceId=instance.id, EmailAddressId=alias.id)
    last, first = ask(instance, f"email-addresses/{primary.id}/activity")["History"]
    assert (last["Change"], last["RequestId"]) == ("DELETED", deleted["ResponseMetadata"]["RequestId"])
    assert first["RequestId"] != last["RequestId"]


def test_how_the_service_fares(instance: Instance, primary: Published) -> None:
    for _ in range(3):
        instance.send(primary.text)
    answer = ask(instance, "status")
    assert len(answer["Mail"]) == 60
    assert sum(minute["States"].get("DELIVERED", 0) for minute in answer["Mail"]) == 3
    assert answer["Mail"] == sorted(answer["Mail"], key=lambda minute: minute["Minute"])
    assert (answer["IsComplete"], answer["Spool"], answer["Transports"]) == (True, [], [])
    assert any(node["IsAlive"] for node in answer["Nodes"])


@pytest.mark.parametrize("path", ["events", "status", "spool", "email-addresses/{address}/activity"])
def test_only_who_may_hears_it(service: ServiceProcess, instance: Instance, primary: Published, path: str) -> None:
    statement = {"Effect": "Allow", "Action": ["connect:*"], "Resource": "*"}
    key, secret = create_key(service, json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    with HttpClient(service.http_address, access_key_id=key, secret=secret) as client:
        answer = client.call("GET", f"/_readdress/instances/{instance.id}/{path.format(address=primary.id)}")
    assert (answer.status, answer.code) == (403, "AccessDeniedException")


@pytest.mark.parametrize("path", ["events", "status", "spool", f"email-addresses/{UNKNOWN_ID}/activity"])
def test_an_instance_that_is_not_there(instance: Instance, path: str) -> None:
    answer = instance.http.call("GET", f"/_readdress/instances/{UNKNOWN_ID}/{path}")
    assert (answer.status, answer.code) == (404, "ResourceNotFoundException")


def test_a_token_of_another_list_is_refused(instance: Instance) -> None:
    instance.publish()
    token = ask(instance, "events", maxResults="1")["NextToken"]
    answer = instance.http.call("GET", f"/_readdress/instances/{instance.id}/spool?nextToken={quote(token, safe='')}")
    assert (answer.status, answer.code) == (400, "InvalidParameterException")


def test_a_long_detail_is_cut(instance: Instance) -> None:
    instance.publish(Description="x" * 4_000)
    detail = events_of(instance)[0]["Detail"]
    assert len(detail) == activity.DETAIL_MAX
    assert detail.endswith("…")
