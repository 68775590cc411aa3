"""ListMessages with WaitMs: answered by the commit that brings the mail, bounded, and nobody's business elsewhere."""

import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from harness.http_client import HttpAnswer, HttpClient
from harness.instance import Instance, Published
from harness.process import ServiceProcess


@pytest.fixture
def inbox(instance: Instance) -> Published:
    return instance.publish("inbox")


def wait(instance: Instance, address: Published, **query: Any) -> HttpAnswer:
    path = f"/_readdress/instances/{instance.id}/email-addresses/{address.id}/messages?{urlencode(query)}"
    client = HttpClient(instance.service.http_address)
    try:
        return client.call("GET", path)
    finally:
        client.close()


def subjects(answer: HttpAnswer) -> list[str]:
    assert answer.status == 200, answer
    return [message["Subject"] for message in answer.json["Messages"]]


def test_it_answers_when_mail_comes(instance: Instance, inbox: Published) -> None:
    sent: list[float] = []

    def send() -> None:
        time.sleep(0.3)
        instance.send(inbox.text, subject="late")
        sent.append(time.monotonic())

    sender = threading.Thread(target=send)
    sender.start()
    answer = wait(instance, inbox, waitMs=20_000)
    answered = time.monotonic()
    sender.join()
    assert subjects(answer) == ["late"]
    assert answered - sent[0] < 0.5


def test_what_is_there_is_not_waited_for(instance: Instance, inbox: Published) -> None:
    instance.send(inbox.text)
    began = time.monotonic()
    assert len(subjects(wait(instance, inbox, waitMs=20_000))) == 1
    assert time.monotonic() - began < 5


def test_it_waits_for_several(instance: Instance, inbox: Published) -> None:
    instance.send(inbox.text, subject="1")
    sender = threading.Thread(target=lambda: [instance.send(inbox.text, subject=text) for text in "23"])
    sender.start()
    assert subjects(wait(instance, inbox, waitMs=20_000, minResults=3)) == ["3", "2", "1"]
    sender.join()


def test_a_full_page_is_enough(instance: Instance, inbox: Published) -> None:
    for _ in range(3):
        instance.send(inbox.text)
    answer = wait(instance, inbox, waitMs=20_000, minResults=10, maxResults=2)
    assert len(subjects(answer)) == 2


@pytest.mark.parametrize("wait_ms", [0, 300])
def test_when_the_time_is_over_it_says_what_there_is(instance: Instance, inbox: Published, wait_ms: int) -> None:
    began = time.monotonic()
    assert subjects(wait(instance, inbox, waitMs=wait_ms)) == []
    assert wait_ms / 1000 <= time.monotonic() - began < 10


def test_an_alias_s_mail_wakes_who_waits_for_its_primary(instance: Instance, inbox: Published) -> None:
    alias = instance.publish("alias")
    instance.associate(primary=inbox.id, alias=alias.id)
    sender = threading.Thread(target=lambda: instance.send(alias.text, subject="by the alias"))
    sender.start()
    assert subjects(wait(instance, inbox, waitMs=20_000)) == ["by the alias"]
    sender.join()


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ({"waitMs": 20_001}, "WaitMs"),
        ({"waitMs": -1}, "WaitMs"),
        ({"waitMs": "soon"}, "WaitMs"),
        ({"minResults": 0}, "MinResults"),
        ({"minResults": 101}, "MinResults"),
    ],
)
def test_waiting_is_bounded(instance: Instance, inbox: Published, query: dict[str, Any], member: str) -> None:
    answer = wait(instance, inbox, **query)
    assert (answer.status, answer.code) == (400, "InvalidParameterException")
    assert answer.json["Message"].startswith(f"{member}: ")


def test_both_wires_wait(instance: Instance, inbox: Published) -> None:
    instance.send(inbox.text, subject="x")
    values = {"InstanceId": instance.id, "EmailAddressId": inbox.id, "WaitMs": 1_000}
    assert subjects(instance.http.rpc("ListMessages", values)) == ["x"]


def test_a_service_that_stops_lets_nobody_wait(start_service: Callable[..., ServiceProcess]) -> None:
    process = start_service()
    client = HttpClient(process.http_address)
    instance = Instance(process, process.connect(), client)
    inbox = instance.publish("inbox")
    answers: list[HttpAnswer] = []
    waiting = threading.Thread(target=lambda: answers.append(wait(instance, inbox, waitMs=20_000)))
    waiting.start()
    time.sleep(0.5)
    began = time.monotonic()
    assert process.stop() == 0
    assert time.monotonic() - began < 8
    waiting.join()
    assert subjects(answers[0]) == []
    client.close()
