"""DeleteMessages: one inbox is emptied, others keep what they have, and nothing is left of what nobody has."""

from typing import Any

import pytest

from harness.api_calls import ApiCaller
from harness.http_client import HttpAnswer
from harness.instance import UNKNOWN_ID, Instance, Published
from harness.tables import dump
from readdress.api import messages as operations
from readdress.inbox import messages
from readdress.spool import queue
from readdress.store.database import Database, Transaction


def delete(instance: Instance, address_id: str, instance_id: str | None = None) -> HttpAnswer:
    path = f"/_readdress/instances/{instance_id or instance.id}/email-addresses/{address_id}/messages"
    return instance.http.call("DELETE", path)


def inbox(instance: Instance, address: Published) -> list[Any]:
    return instance.http.inbox(instance.id, address.id)


def content(instance: Instance, message_id: str) -> int:
    return instance.http.call("GET", f"/_readdress/instances/{instance.id}/messages/{message_id}/content").status


def test_an_inbox_is_emptied_and_its_messages_are_gone(instance: Instance, primary: Published) -> None:
    sent = [instance.send(primary.text) for _ in range(3)]
    answer = delete(instance, primary.id)
    assert (answer.status, answer.json) == (200, {"Deleted": 3, "More": False})
    assert inbox(instance, primary) == []
    assert [content(instance, message_id) for message_id in sent] == [404, 404, 404]


def test_an_empty_inbox_may_be_emptied(instance: Instance, primary: Published) -> None:
    assert delete(instance, primary.id).json == {"Deleted": 0, "More": False}


def test_mail_that_comes_after_it_stays(instance: Instance, primary: Published) -> None:
    instance.send(primary.text)
    delete(instance, primary.id)
    instance.send(primary.text)
    assert len(inbox(instance, primary)) == 1


def test_the_other_inbox_of_a_message_keeps_it(instance: Instance, primary: Published, alias: Published) -> None:
    message_id = instance.send(alias.text)
    delete(instance, primary.id)
    assert inbox(instance, primary) == []
    assert [message["MessageId"] for message in inbox(instance, alias)] == [message_id]
    assert content(instance, message_id) == 200
    delete(instance, alias.id)
    assert content(instance, message_id) == 404


@pytest.mark.parametrize("instance_id", [None, UNKNOWN_ID])
def test_what_is_not_there_is_404(instance: Instance, primary: Published, instance_id: str | None) -> None:
    address_id = UNKNOWN_ID if instance_id is None else primary.id
    answer = delete(instance, address_id, instance_id)
    assert (answer.status, answer.code) == (404, "ResourceNotFoundException")


# On a database of its own.


def store(tx: Transaction, number: int, state: messages.State, address_id: str = "address") -> None:
    message_id, delivery_id = f"{number:08d}-m", f"{number:08d}-d"
    messages.insert(tx, messages.Message(message_id, 1, "a@example.org", "x", 1, "", "", "", None))
    messages.insert_content(tx, message_id=message_id, part=0, content=b"x")
    messages.insert_delivery(
        tx, messages.Delivery(delivery_id, address_id, message_id, "i", None, [], [], "inbox", state, "", [])
    )
    queue.record_attempt(tx, queue.Attempt(delivery_id, 1, 1, 1, "DELIVERED", "", "", ""))


def settled(tx: Transaction, limit: int) -> list[tuple[str, str]]:
    return messages.list_settled(tx, address_id="address", limit=limit)


def delete_all(tx: Transaction) -> None:
    for delivery_id, message_id in settled(tx, 100):
        queue.delete_attempts(tx, delivery_id)
        messages.delete_delivery(tx, address_id="address", delivery_id=delivery_id, message_id=message_id)


def test_nothing_is_left_of_it(database: Database) -> None:
    empty = dump(database)
    for number in range(3):
        database.run(lambda tx, number=number: store(tx, number, messages.State.DELIVERED))  # type: ignore[misc]
    assert database.run(lambda tx: settled(tx, 2)) == [("00000000-d", "00000000-m"), ("00000001-d", "00000001-m")]
    database.run(delete_all)
    assert dump(database) == empty


@pytest.mark.parametrize("state", list(messages.State))
def test_what_the_spool_holds_stays(database: Database, state: messages.State) -> None:
    database.run(lambda tx: store(tx, 1, state))
    database.run(delete_all)
    stays = state in {messages.State.QUEUED, messages.State.FAILED}
    assert len(dump(database)["delivery"]) == len(dump(database)["message"]) == int(stays)


def test_more_than_fits_in_a_transaction_takes_several_calls(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "DELETED_MAX", 2)
    with ApiCaller(database) as api:
        instance_id = api.create_instance()
        address_id = api.create_address(instance_id, "support@example.com")
        for number in range(3):
            database.run(
                lambda tx, number=number: store(tx, number, messages.State.DELIVERED, address_id)  # type: ignore[misc]
            )
        answers = [api("DeleteMessages", InstanceId=instance_id, EmailAddressId=address_id) for _ in range(2)]
    assert answers == [{"Deleted": 2, "More": True}, {"Deleted": 1, "More": False}]
