"""`kill -9` under load, again and again: every 200 and every 250 is still true after the restart (contract 3 and 6)."""

import hashlib
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from harness.engine import Rows, open_beside
from harness.http_client import HttpAnswer, HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.smtp_client import SmtpClient
from harness.tables import broken_promises

API_WORKERS = 3
SMTP_WORKERS = 3
ADDRESSES = f"/email-addresses/{DEV_INSTANCE}"
# In bytes: in one piece, in several reads, and in two and three staged parts.
SIZES = [100, 20_000, 100, 350_000, 3_000, 100, 700_000, 100]


@dataclass
class Call:
    """A request that may be repeated as it is, and what was answered."""

    method: str
    path: str
    body: dict[str, Any]
    to: bool | None = None  # for a toggle: the state that it makes
    answer: HttpAnswer | None = None

    def send(self, http: HttpClient) -> HttpAnswer:
        return http.call(self.method, self.path, self.body)


@dataclass
class ApiWorker:
    """One client's view: what was acknowledged, and what was under way when the line went dead."""

    primary_id: str
    alias_id: str
    state: bool = False
    acknowledged: list[Call] = field(default_factory=list)
    checked: int = 0
    pending: Call | None = None

    def run(self, service: ServiceProcess) -> None:
        with HttpClient(service.http_address) as http:
            while True:
                for call in (self.toggle(not self.state), self.create(), self.toggle(self.state)):
                    self.pending = call
                    self.acknowledge(call, call.send(http))

    def acknowledge(self, call: Call, answer: HttpAnswer) -> None:
        assert answer.status == 200, answer
        call.answer, self.pending = answer, None
        self.acknowledged.append(call)
        self.state = self.state if call.to is None else call.to

    def toggle(self, to: bool) -> Call:
        verb = "associate-alias" if to else "disassociate-alias"
        body = {"AliasConfiguration": {"EmailAddressId": self.alias_id}, "ClientToken": uuid.uuid4().hex}
        return Call("POST", f"{ADDRESSES}/{self.primary_id}/{verb}", body, to)

    def create(self) -> Call:
        name = uuid.uuid4().hex
        return Call("PUT", ADDRESSES, {"EmailAddress": f"{name}@example.com", "ClientToken": name})

    def check(self, http: HttpClient) -> None:
        """After the restart: the state is the acknowledged one, or the pending call's; every token replays."""
        allowed = {self.state} if self.pending is None or self.pending.to is None else {self.state, self.pending.to}
        assert self.find_state(http) in allowed
        if self.pending:
            self.acknowledge(self.pending, self.pending.send(http))
        assert self.find_state(http) is self.state
        for call in self.acknowledged[self.checked :]:
            assert call.answer is not None
            replayed = call.send(http)
            assert (replayed.status, replayed.body) == (200, call.answer.body)
            if call.to is None:
                described = http.call("GET", f"{ADDRESSES}/{replayed.json['EmailAddressId']}")
                assert described.json["EmailAddress"] == call.body["EmailAddress"]
        assert self.find_state(http) is self.state  # a late replay changes nothing
        self.checked = len(self.acknowledged)

    def find_state(self, http: HttpClient) -> bool:
        described = http.call("GET", f"{ADDRESSES}/{self.primary_id}").json
        assert described["AliasConfigurations"] in ([], [{"EmailAddressId": self.alias_id}])
        return bool(described["AliasConfigurations"])


@dataclass
class SmtpWorker:
    """One sender: `accepted` is number → message id for every 250; `tried` is every number whose content was sent."""

    name: str
    recipients: list[str]
    accepted: dict[int, str] = field(default_factory=dict)
    tried: int = 0

    def run(self, service: ServiceProcess) -> None:
        with SmtpClient(service.smtp_address) as smtp:
            smtp.say("EHLO sender.example")
            while True:
                self.tried += 1
                reply = smtp.mail("", *self.recipients, content=self.content(self.tried))
                if not reply:
                    return  # the line is dead
                assert reply.startswith("250"), reply
                self.accepted[self.tried] = reply.rsplit(" ", 1)[1]
                time.sleep(0.005)

    def subject(self, number: int) -> str:
        return f"{self.name} {number}"

    def content(self, number: int) -> bytes:
        size = SIZES[number % len(SIZES)]
        line = f"{self.subject(number)} {'x' * 50}\r\n".encode()
        return f"Subject: {self.subject(number)}\r\n\r\n".encode() + line * (size // len(line) + 1)


class Load:
    """All workers, from one life of the service to the next."""

    def __init__(self, http: HttpClient) -> None:
        self.api = [ApiWorker(publish(http)[0], publish(http)[0]) for _ in range(API_WORKERS)]
        inboxes = [publish(http) for _ in range(2)]
        self.inbox_ids = sorted(address_id for address_id, _ in inboxes)
        recipients = [text for _, text in inboxes]
        self.smtp = [SmtpWorker(f"sender-{number}", recipients) for number in range(SMTP_WORKERS)]
        self.verified: set[str] = set()

    @contextmanager
    def on(self, service: ServiceProcess) -> Iterator[None]:
        """Load until the service dies inside the block."""
        failures: list[BaseException] = []

        def work(worker: ApiWorker | SmtpWorker) -> None:
            try:
                worker.run(service)
            except (OSError, HTTPException):
                pass  # the line is dead
            except BaseException as error:  # noqa: BLE001 - raised again below
                failures.append(error)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in (*self.api, *self.smtp)]
        for thread in threads:
            thread.start()
        yield
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def check(self, service: ServiceProcess, path: Path) -> None:
        """What was acknowledged in any life so far is there, whole and once."""
        with open_beside(path) as rows:
            assert broken_promises(rows) == {}
            self._check_tokens(rows)
            self._check_messages(rows)
        with HttpClient(service.http_address) as http:
            for worker in self.api:
                worker.check(http)

    def _check_tokens(self, rows: Rows) -> None:
        kept = {token for (token,) in rows.execute("SELECT token FROM idempotency_token")}
        acknowledged = {call.body["ClientToken"] for worker in self.api for call in worker.acknowledged}
        pending = {worker.pending.body["ClientToken"] for worker in self.api if worker.pending}
        assert acknowledged <= kept
        assert kept <= acknowledged | pending

    def _check_messages(self, rows: Rows) -> None:
        subject_of = dict(rows.execute("SELECT id, subject FROM message").fetchall())
        times = Counter(subject_of.values())
        wanted = {
            worker.subject(number): (worker, number) for worker in self.smtp for number in range(worker.tried + 1)
        }
        assert times.keys() <= wanted.keys()
        assert [subject for subject, count in times.items() if count > 1] == []
        for worker in self.smtp:
            for number, message_id in worker.accepted.items():
                assert subject_of.get(message_id) == worker.subject(number)
        deliveries: dict[str, list[str]] = {}
        for message_id, address_id in rows.execute("SELECT message_id, address_id FROM delivery ORDER BY address_id"):
            deliveries.setdefault(message_id, []).append(address_id)
        assert deliveries == dict.fromkeys(subject_of, self.inbox_ids)
        for message_id in subject_of.keys() - self.verified:
            worker, number = wanted[subject_of[message_id]]
            assert digest(rows, message_id) == hashlib.sha256(worker.content(number)).hexdigest()
            self.verified.add(message_id)

    def check_by_api(self, service: ServiceProcess) -> None:
        """The same as its owner sees it."""
        accepted = {message_id for worker in self.smtp for message_id in worker.accepted.values()}
        with HttpClient(service.http_address) as http:
            for address_id in self.inbox_ids:
                listed = Counter(message["MessageId"] for message in http.inbox(DEV_INSTANCE, address_id))
                assert set(listed.values()) == {1}
                assert accepted <= listed.keys()
            for worker in self.smtp:
                for number, message_id in list(worker.accepted.items())[-2 * len(SIZES) :]:
                    path = f"/_readdress/instances/{DEV_INSTANCE}/messages/{message_id}/content"
                    assert http.call("GET", path).body.endswith(b"\r\n" + worker.content(number))


def publish(http: HttpClient) -> tuple[str, str]:
    text = f"{uuid.uuid4().hex}@example.com"
    answer = http.call("PUT", ADDRESSES, {"EmailAddress": text})
    assert answer.status == 200, answer
    return answer.json["EmailAddressId"], text


def digest(rows: Rows, message_id: str) -> str:
    whole = hashlib.sha256()
    for (part,) in rows.execute("SELECT bytes FROM content WHERE message_id = ? ORDER BY part", (message_id,)):
        whole.update(part)
    return whole.hexdigest()


@pytest.mark.parametrize(
    "kills", [3, pytest.param(100, marks=[pytest.mark.torture, pytest.mark.timeout(3_600)])], ids=["short", "long"]
)
def test_what_was_acknowledged_outlives_every_kill(
    start_service: Callable[..., ServiceProcess], tmp_path: Path, kills: int
) -> None:
    moments = random.Random(kills)
    service = start_service()
    with HttpClient(service.http_address) as http:
        load = Load(http)
    for _ in range(kills):
        with load.on(service):
            time.sleep(moments.uniform(0.1, 0.9))
            service.kill()
        service = start_service()
        load.check(service, tmp_path / "data" / "readdress.db")
    load.check_by_api(service)
    assert all(worker.acknowledged for worker in load.api)
    assert {number % len(SIZES) for worker in load.smtp for number in worker.accepted} == set(range(len(SIZES)))


# Python runs a module of this name before the program: here, one that says 250 a moment before it stores.
SITE = """
import asyncio
from readdress.mail.intake import Incoming
from readdress.smtp import reply

accept, tasks = Incoming.accept, set()

async def accept_soon(self):
    await asyncio.sleep(0.05)
    await accept(self)

async def accept_at_once(self):
    tasks.add(asyncio.ensure_future(accept_soon(self)))
    return [reply.accepted(self.id)]

Incoming.accept = accept_at_once
"""


def test_a_program_that_answers_before_it_stores_is_found_out(
    start_service: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    service = start_service(environment={"PYTHONPATH": str(tmp_path)})
    with HttpClient(service.http_address) as http:
        load = Load(http)
    with load.on(service):
        while not all(worker.accepted for worker in load.smtp):
            time.sleep(0.01)
        service.kill()
    service = start_service()
    with pytest.raises(AssertionError):
        load.check(service, tmp_path / "data" / "readdress.db")
