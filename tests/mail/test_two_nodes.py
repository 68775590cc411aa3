"""Two nodes deliver out of one spool, and one freezes beyond its lease: nothing is lost, and twice is outward only.

Contract 6 and design: at-least-once outward with one delivery id, exactly once into an inbox and a Maildir.
"""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.engine import Engine
from harness.house import QUICKLY, House
from harness.process import ServiceProcess
from harness.smtp_client import SmtpClient, accepted_id
from harness.stored import wait_until
from harness.tables import check_promises
from harness.webhook_receiver import Answer, Posted, WebhookReceiver

pytestmark = pytest.mark.postgres_only

WAIT_S_MAX = 30


class Slow:
    """The first request has no answer until it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self._is_first = True

    def __call__(self, _: Posted) -> Answer:
        if self._is_first:
            self._is_first = False
            self.go_on.wait(WAIT_S_MAX)
        return Answer()


class TwoNodes:
    def __init__(self, folder: Path, transports: dict[str, Any]) -> None:
        self.house = House(folder, transports, **QUICKLY)
        self.other = ServiceProcess(self.house.data, *self.house._options)

    @property
    def first(self) -> ServiceProcess:
        return self.house.service

    def send(self, node: ServiceProcess, recipient: str) -> str:
        with SmtpClient(node.smtp_address) as smtp:
            smtp.say("EHLO sender.example")
            return accepted_id(smtp.mail("bob@sender.example", recipient))

    def close(self) -> None:
        self.first.process.send_signal(signal.SIGCONT)
        self.other.stop()
        self.house.close()


@pytest.fixture
def hook() -> Iterator[tuple[WebhookReceiver, Slow]]:
    slow = Slow()
    with WebhookReceiver(slow) as receiver:
        yield receiver, slow
        slow.go_on.set()


@pytest.fixture
def nodes(engine: Engine, tmp_path: Path, hook: tuple[WebhookReceiver, Slow]) -> Iterator[TwoNodes]:
    made = TwoNodes(
        tmp_path / "house",
        {
            "hook": {"type": "webhook", "url": hook[0].url(), "allow_private": True, "secret": "whsec_c2VjcmV0"},
            "files": {"type": "maildir", "path": f"{tmp_path}/mail/{{address_id}}"},
        },
    )
    yield made
    made.close()


def test_what_a_frozen_node_was_trying_goes_on_at_the_other(
    nodes: TwoNodes, hook: tuple[WebhookReceiver, Slow]
) -> None:
    receiver, slow = hook
    address = nodes.house.publish("hook")
    message_id = nodes.send(nodes.first, address.text)
    wait_until(lambda: len(receiver.posted) == 1)
    nodes.first.process.send_signal(signal.SIGSTOP)  # in the middle of its try
    wait_until(lambda: len(receiver.posted) == 2)
    nodes.house.http.close()
    nodes.first.process.send_signal(signal.SIGCONT)
    slow.go_on.set()
    nodes.house.wait_for_state(message_id, "DELIVERED")
    time.sleep(1.5)  # longer than a lease: nobody tries it again
    assert len(receiver.posted) == 2
    ids = {posted.envelope["DeliveryId"] for posted in receiver.posted}
    assert len(ids) == 1
    assert {posted.envelope["MessageId"] for posted in receiver.posted} == {message_id}
    check_promises(nodes.house.data)


def test_an_inbox_and_a_maildir_get_one_of_each_whoever_freezes(nodes: TwoNodes, tmp_path: Path) -> None:
    kept, filed = nodes.house.publish(), nodes.house.publish("files")
    accepted = []
    for turn in range(6):
        nodes.first.process.send_signal(signal.SIGCONT)
        for node in (nodes.first, nodes.other):
            accepted += [nodes.send(node, recipient) for _ in range(5) for recipient in (kept.text, filed.text)]
        if turn % 2:
            nodes.first.process.send_signal(signal.SIGSTOP)
            time.sleep(1.2)  # longer than its leases
    nodes.first.process.send_signal(signal.SIGCONT)
    for message_id in accepted:
        nodes.house.wait_for_state(message_id, "DELIVERED")
    files = [*(tmp_path / "mail" / filed.id / "new").iterdir()]
    assert len(files) == len(accepted) // 2
    inbox = nodes.house.http.inbox(nodes.house.instance.id, kept.id)
    assert sorted(entry["MessageId"] for entry in inbox) == sorted(accepted[0::2])
    check_promises(nodes.house.data)
