"""`kill -9` while mail goes on: afterwards every accepted mail is where it belongs, and only outward perhaps twice."""

import os
import random
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.engine import open_beside
from harness.house import QUICKLY, SENDER, House
from harness.instance import Published
from harness.process import ServiceProcess
from harness.smtp_client import SmtpClient, accepted_id, stuff
from harness.smtp_sink import SmtpSink
from harness.tables import check_promises
from harness.webhook_receiver import WebhookReceiver

WORKERS = 2
SETTLE_S_MAX = 60.0
# In bytes: in one piece, and in several parts of the database.
SIZES = [100, 3_000, 350_000, 100, 20_000]
END = "the end"


@dataclass
class Street:
    """The program, a mail for all of whose addresses goes every way there is, and who is at the other ends."""

    house: House
    folder: Path
    hook: WebhookReceiver
    relay: SmtpSink
    store: SmtpSink
    addresses: dict[str, Published]
    accepted: dict[str, str] = field(default_factory=dict)  # the message's id, by its subject

    @property
    def database(self) -> Path:
        return self.house.data / "readdress.db"

    def send_until_killed(self, name: str) -> None:
        recipients = [address.text for address in self.addresses.values()]
        number = 0
        try:
            with SmtpClient(self.house.service.smtp_address) as smtp:
                smtp.say("EHLO sender.example")
                while True:
                    number += 1
                    subject = f"{name}-{number}"
                    reply = smtp.mail(SENDER, *recipients, content=content_of(subject))
                    if not reply:
                        return
                    self.accepted[subject] = accepted_id(reply)
                    time.sleep(0.02)
        except OSError:  # the line is dead
            return

    def wait_until_settled(self) -> None:
        deadline = time.monotonic() + SETTLE_S_MAX
        while time.monotonic() < deadline:
            with open_beside(self.database) as rows:
                (waiting,) = rows.execute("SELECT count(*) FROM spool").fetchone()
            if not waiting:
                return
            time.sleep(0.05)
        raise AssertionError(f"{waiting} deliveries still wait\n{self.house.service.errors}")

    def wait_until_stopped(self, reached: Path) -> None:
        """At the step, and the others as far as they can get."""
        deadline = time.monotonic() + SETTLE_S_MAX
        while not reached.exists():
            assert time.monotonic() < deadline, "the step is never reached"
            time.sleep(0.01)
        time.sleep(0.5)

    def read_some(self, moments: random.Random) -> None:
        """As a reader of the Maildir does, who moves what is new and seen."""
        for file in (self.folder / "mail" / "new").glob("*"):
            if moments.random() < 0.5:
                file.rename(file.parent.parent / "cur" / f"{file.name}:2,S")

    def check(self) -> None:
        """What was acknowledged in any life is in its inbox and its Maildir once, and elsewhere at least once."""
        check_promises(self.database)
        with open_beside(self.database) as rows:
            subjects = dict(rows.execute("SELECT id, subject FROM message").fetchall())
            found = rows.execute("SELECT message_id, transport, id, state FROM delivery").fetchall()
        assert {message_id: subjects.get(message_id) for message_id in self.accepted.values()} == {
            message_id: subject for subject, message_id in self.accepted.items()
        }
        assert Counter(subjects.values()).keys() == set(subjects.values())
        assert len(set(subjects.values())) == len(subjects)
        assert {state for *_, state in found} == {"DELIVERED"}
        deliveries: dict[str, dict[str, str]] = defaultdict(dict)
        for message_id, transport, delivery_id, _ in found:
            assert transport not in deliveries[message_id], "one delivery for each"
            deliveries[message_id][transport] = delivery_id
        assert deliveries.keys() == subjects.keys()
        for message_id in subjects:
            assert deliveries[message_id].keys() == self.addresses.keys()
        self._check_maildir(subjects, {each["files"]: message_id for message_id, each in deliveries.items()})
        self._check_hook(subjects, {message_id: each["hook"] for message_id, each in deliveries.items()})
        for name, sink in (("relay", self.relay), ("store", self.store)):
            self._check_sink(sink, subjects, {message_id: each[name] for message_id, each in deliveries.items()})

    def times_of_each(self) -> dict[str, set[int]]:
        """How often a mail came to each who may get it twice, as far as whole ones count."""
        times: dict[str, Counter[str]] = {"hook": Counter(each.headers["idempotency-key"] for each in self.hook.posted)}
        for name, sink in (("relay", self.relay), ("store", self.store)):
            times[name] = Counter(copy.message_id for copy in whole_copies(sink))
        return {name: set(counted.values()) for name, counted in times.items()}

    def _check_maildir(self, subjects: dict[str, str], message_of: dict[str, str]) -> None:
        times: Counter[str] = Counter()
        for subfolder in ("new", "cur"):
            for file in (self.folder / "mail" / subfolder).iterdir():
                match = re.fullmatch(r"\d+\.R([0-9a-f-]{36})\.readdress,S=(\d+)(?::2,S)?", file.name)
                assert match, file.name
                times[match[1]] += 1
                written = file.read_bytes()
                assert len(written) == int(match[2])
                assert written.endswith(content_of(subjects[message_of[match[1]]]).replace(b"\r\n", b"\n"))
        assert times == Counter(message_of.keys())

    def _check_hook(self, subjects: dict[str, str], delivery_of: dict[str, str]) -> None:
        keys = defaultdict(set)
        for posted in self.hook.posted:
            message_id = posted.envelope["MessageId"]
            keys[message_id].add(posted.headers["idempotency-key"])
            assert posted.envelope["DeliveryId"] == posted.headers["idempotency-key"]
            assert posted.message.endswith(b"\r\n" + content_of(subjects[message_id]))
        assert keys == {message_id: {delivery_id} for message_id, delivery_id in delivery_of.items()}

    def _check_sink(self, sink: SmtpSink, subjects: dict[str, str], delivery_of: dict[str, str]) -> None:
        """Every copy is the same, and names its delivery (contract 6: at least once, with one key)."""
        copies = defaultdict(set)
        for copy in whole_copies(sink):
            copies[copy.message_id].add(copy.text)
        assert copies.keys() == subjects.keys()
        for message_id, texts in copies.items():
            (text,) = texts
            assert text.count(f"X-Readdress-Delivery-Id: {delivery_of[message_id]}\n".encode()) == 1
            assert text.endswith(content_of(subjects[message_id]).replace(b"\r\n", b"\n").rstrip(b"\n"))


class Copy(NamedTuple):
    """A mail at a next host: the id in our Received field, and all there is of it without the last line's end."""

    message_id: str
    text: bytes


def whole_copies(sink: SmtpSink) -> list[Copy]:
    """A copy that broke off in the middle was not taken, and is none."""
    copies = []
    for mail in sink.mails():
        text = mail.content.rstrip(b"\n")
        if text.endswith(END.encode()):
            found = re.search(rb" id ([0-9a-f-]{36})[;\n]", text)
            assert found
            copies.append(Copy(found[1].decode(), text))
    return copies


def content_of(subject: str) -> bytes:
    size = SIZES[sum(subject.encode()) % len(SIZES)]
    line = f"{subject} {'x' * 50}\r\n".encode()
    return f"Subject: {subject}\r\n\r\n".encode() + line * (size // len(line) + 1) + f"{END}\r\n".encode()


@contextmanager
def open_street(folder: Path, environment: dict[str, str] | None = None) -> Iterator[Street]:
    with ExitStack() as stack:
        hook = stack.enter_context(WebhookReceiver())
        relay = stack.enter_context(SmtpSink(folder / "relay"))
        store = stack.enter_context(SmtpSink(folder / "store", "-L"))
        transports: dict[str, dict[str, Any]] = {
            "files": {"type": "maildir", "path": str(folder / "mail")},
            "hook": {"type": "webhook", "url": hook.url(), "allow_private": True, "secret": "secret"},
            "relay": {"type": "smtp", "host": "127.0.0.1", "port": relay.port, "tls": "none"},
            "store": {"type": "lmtp", "address": store.address},
        }
        house = stack.enter_context(House(folder / "house", transports, environment=environment, **QUICKLY))
        addresses = {name: house.publish(name if name != "inbox" else "") for name in ("inbox", *transports)}
        yield Street(house, folder, hook, relay, store, addresses)


@pytest.mark.parametrize(
    "kills", [5, pytest.param(150, marks=[pytest.mark.torture, pytest.mark.timeout(3_600)])], ids=["short", "long"]
)
def test_what_was_accepted_reaches_its_ends_whenever_the_program_dies(tmp_path: Path, kills: int) -> None:
    moments = random.Random(kills)
    with open_street(tmp_path) as street:
        for kill in range(kills):
            threads = [
                threading.Thread(target=street.send_until_killed, args=(f"life-{kill}-{worker}",))
                for worker in range(WORKERS)
            ]
            for thread in threads:
                thread.start()
            time.sleep(moments.uniform(0.1, 0.6))
            street.house.restart(ServiceProcess.kill)
            for thread in threads:
                thread.join()
            street.read_some(moments)
        street.wait_until_settled()
        street.check()
        assert street.accepted


# Python runs a module of this name before the program: here, one that stops it for good at a step of a delivery.
SITE = """
import asyncio, pathlib, time
from readdress.mail import intake, queue_runner
from readdress.mail.transports import maildir, webhook
from readdress.smtp.mail_transaction import Transfer

reached = pathlib.Path({reached!r})

async def stop_here(*_, **__):
    reached.touch()
    await asyncio.sleep(3600)

def stop_thread_here(*_, **__):
    reached.touch()
    time.sleep(3600)

def stop_after(done):
    def work(*arguments):
        done(*arguments)
        stop_thread_here()
    return work

def stop_behind(done):
    async def work(*arguments, **named):
        await done(*arguments, **named)
        await stop_here()
    return work

def stop_within(pieces):
    async def some(*arguments):
        async for piece in pieces(*arguments):
            yield piece[: len(piece) // 2]
            await stop_here()
    return some

{change}
"""
STEPS = {
    "leased and not tried": "queue_runner.QueueRunner._load = stop_here",
    "written in part": "queue_runner.QueueRunner._content = stop_within(queue_runner.QueueRunner._content)",
    "written and not in place": "maildir._publish = stop_thread_here",
    "in place and not recorded": "maildir._publish = stop_after(maildir._publish)",
    "posted and not answered": "webhook._read_response = stop_here",
    "named and not sent": "Transfer._send_message = stop_here",
    "sent in part": "Transfer._pieces = stop_within(Transfer._pieces)",
    "sent and not answered": "Transfer._hear_final = stop_here",
    "answered and not believed": "Transfer._hear_final = stop_behind(Transfer._hear_final)",
    "tried and not recorded": "queue_runner.QueueRunner._record = stop_here",
    "recorded": "queue_runner.QueueRunner._record = stop_behind(queue_runner.QueueRunner._record)",
}
# Behind these, every next host has the mail, and gets it again.
COMES_TWICE = {
    "tried and not recorded": {"hook", "relay", "store"},
    "posted and not answered": {"hook"},
    "sent and not answered": {"relay", "store"},
    "answered and not believed": {"relay", "store"},
}


def stopping(folder: Path, change: str) -> tuple[Path, dict[str, str]]:
    """The file that says when the step is reached, and the environment that stops there."""
    reached = folder / "reached"
    (folder / "sitecustomize.py").write_text(SITE.format(reached=str(reached), change=change))
    return reached, {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}


def die_at(street: Street, reached: Path) -> None:
    """One mail is accepted, the step is reached, the program dies; the next has no such step."""
    recipients = [address.text for address in street.addresses.values()]
    for subject in ("one", "another"):
        street.accepted[subject] = street.house.send(*recipients, content=content_of(subject))
    street.wait_until_stopped(reached)
    street.house.restart(ServiceProcess.kill)
    street.wait_until_settled()


@pytest.mark.parametrize("step", STEPS)
def test_a_program_that_dies_at_a_step_leaves_it_to_the_next(tmp_path: Path, step: str) -> None:
    reached, environment = stopping(tmp_path, STEPS[step])
    with open_street(tmp_path, environment) as street:
        die_at(street, reached)
        street.check()
        for name, times in street.times_of_each().items():
            expected = {2} if name in COMES_TWICE.get(step, ()) else {1}
            assert times == expected, name


def test_a_program_that_dies_before_it_says_250_has_accepted_once(tmp_path: Path) -> None:
    """The sender can't know, and may send again; what is stored goes on, once."""
    change = "intake.Incoming._store = stop_behind(intake.Incoming._store)"
    reached, environment = stopping(tmp_path, change)
    with open_street(tmp_path, environment) as street, SmtpClient(street.house.service.smtp_address) as smtp:
        smtp.say("EHLO sender.example")
        smtp.begin(SENDER, *(address.text for address in street.addresses.values()))
        smtp.send(stuff(content_of("one")))
        street.wait_until_stopped(reached)
        street.house.restart(ServiceProcess.kill)
        assert smtp.read_reply() == ""
        street.wait_until_settled()
        street.check()
        assert {tuple(times) for times in street.times_of_each().values()} == {(1,)}


def test_a_maildir_that_has_a_mail_twice_is_found_out(tmp_path: Path) -> None:
    reached, environment = stopping(tmp_path, STEPS["tried and not recorded"])
    with open_street(tmp_path, environment) as street:
        recipients = [address.text for address in street.addresses.values()]
        street.accepted["one"] = street.house.send(*recipients, content=content_of("one"))
        deadline = time.monotonic() + SETTLE_S_MAX
        while not reached.exists() or not list((tmp_path / "mail" / "new").glob("*")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (file,) = (tmp_path / "mail" / "new").iterdir()
        file.rename(file.with_name(f"1{file.name}"))  # so that the next try does not find it
        street.house.restart(ServiceProcess.kill)
        street.wait_until_settled()
        with pytest.raises(AssertionError, match="Counter"):
            street.check()
