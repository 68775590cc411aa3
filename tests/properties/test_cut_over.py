"""The exact cut-over: mail whose acceptance begins after the API's 200 follows the new relation (contract 2.8)."""

import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.cut_over import Inboxes, Mail, Toggle, find_violations, overlapping, state_before
from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.smtp_client import SmtpClient

PAIRS = 3
SENDERS_PER_PAIR = 2


@dataclass
class Pair:
    """A primary and its alias, with all that was done to them."""

    primary_id: str
    alias_id: str
    alias: str
    toggles: list[Toggle] = field(default_factory=list)
    mails: list[Mail] = field(default_factory=list)


def publish(http: HttpClient, name: str) -> tuple[str, str]:
    text = f"{name}-{uuid.uuid4().hex[:12]}@example.com"
    answer = http.call("PUT", f"/email-addresses/{DEV_INSTANCE}", {"EmailAddress": text})
    assert answer.status == 200, answer
    return answer.json["EmailAddressId"], text


def toggle_until(stop: threading.Event, service: ServiceProcess, pair: Pair, seed: int) -> None:
    """Associate, disassociate, associate …, with a pause of any length between them."""
    pauses = random.Random(seed)
    to = True
    with HttpClient(service.http_address) as http:
        path = f"/email-addresses/{DEV_INSTANCE}/{pair.primary_id}"
        while not stop.is_set():
            verb = "associate-alias" if to else "disassociate-alias"
            body = {"AliasConfiguration": {"EmailAddressId": pair.alias_id}, "ClientToken": uuid.uuid4().hex}
            began = time.monotonic()
            answer = http.call("POST", f"{path}/{verb}", body)
            ended = time.monotonic()
            assert answer.status == 200, answer
            pair.toggles.append(Toggle(began, ended, to))
            to = not to
            time.sleep(pauses.choice([0, 0, 0.001, 0.005, 0.02]))


def send_until(stop: threading.Event, service: ServiceProcess, pair: Pair, seed: int) -> None:
    """Numbered mails to the alias, over one connection; timed from their last bytes to the reply."""
    pauses = random.Random(seed)
    with SmtpClient(service.smtp_address) as smtp:
        smtp.say("EHLO sender.example")
        number = 0
        while not stop.is_set():
            number += 1
            for command in ("MAIL FROM:<>", f"RCPT TO:<{pair.alias}>", "DATA"):
                assert smtp.say(command)[0] in "23"
            smtp.send(f"Subject: {seed}-{number}\r\n\r\nbody\r\n")
            time.sleep(pauses.choice([0, 0, 0, 0.002]))  # the route at RCPT may be another one by now
            began = time.monotonic()
            smtp.send(".\r\n")
            reply = smtp.read_reply()
            ended = time.monotonic()
            assert reply.startswith("250"), reply
            pair.mails.append(Mail(reply.rsplit(" ", 1)[1], began, ended))


def run_all(seconds: float, works: list[Callable[[threading.Event], None]]) -> None:
    """Every work in a thread of its own, until the time is over or one of them fails."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work_and_tell(work: Callable[[threading.Event], None]) -> None:
        try:
            work(stop)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=work_and_tell, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def works_for(service: ServiceProcess, pair: Pair, number: int) -> list[Callable[[threading.Event], None]]:
    works: list[Callable[[threading.Event], None]] = [lambda stop: toggle_until(stop, service, pair, number)]
    for sender in range(SENDERS_PER_PAIR):
        seed = 100 * number + sender
        works.append(lambda stop, seed=seed: send_until(stop, service, pair, seed))  # type: ignore[misc]
    return works


def run_pairs(service: ServiceProcess, seconds: float) -> list[tuple[Pair, Inboxes]]:
    """The load, and what was in the inboxes afterwards."""
    with HttpClient(service.http_address) as http:
        pairs = []
        for _ in range(PAIRS):
            primary_id, _ = publish(http, "primary")
            alias_id, alias = publish(http, "alias")
            pairs.append(Pair(primary_id, alias_id, alias))
    run_all(seconds, [work for number, pair in enumerate(pairs) for work in works_for(service, pair, number)])
    with HttpClient(service.http_address) as http:
        return [(pair, Inboxes(inbox(http, pair.alias_id), inbox(http, pair.primary_id))) for pair in pairs]


def inbox(http: HttpClient, address_id: str) -> list[str]:
    return [message["MessageId"] for message in http.inbox(DEV_INSTANCE, address_id)]


@pytest.mark.parametrize(
    "seconds", [6, pytest.param(150, marks=[pytest.mark.torture, pytest.mark.timeout(900)])], ids=["short", "long"]
)
def test_mail_follows_every_alias_change_from_its_answer_on(
    start_service: Callable[..., ServiceProcess], seconds: float
) -> None:
    for pair, inboxes in run_pairs(start_service(), seconds):
        assert find_violations(pair.toggles, pair.mails, inboxes) == []
        assert set(inboxes.own) == {mail.id for mail in pair.mails}  # every 250, and nothing else
        assert_telling(pair)


# Python runs a module of this name before the program: here, one that keeps a route for a twentieth of a second.
SITE = """
import time
from readdress.directory import routing
find_route, kept = routing.route, {}

def keep_route(tx, recipient, **options):
    route, until = kept.get(recipient, (None, 0))
    if time.monotonic() > until:
        route = find_route(tx, recipient, **options)
        kept[recipient] = route, time.monotonic() + 0.05
    return route

routing.route = keep_route
"""


def test_a_program_that_keeps_routes_for_a_moment_is_found_out(
    start_service: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    service = start_service(environment={"PYTHONPATH": str(tmp_path)})
    histories = run_pairs(service, 1)
    assert any(find_violations(pair.toggles, pair.mails, inboxes) for pair, inboxes in histories)


def assert_telling(pair: Pair) -> None:
    """The history had mails of every kind; else it would prove little."""
    beside = [mail for mail in pair.mails if overlapping(pair.toggles, mail)]
    apart = [state_before(pair.toggles, mail) for mail in pair.mails if not overlapping(pair.toggles, mail)]
    assert len(pair.toggles) > 10
    assert len(beside) > 10
    assert apart.count(True) > 10
    assert apart.count(False) > 10


# The checker itself: what happened, and whether some order explains it.

ON, OFF = Toggle(10, 20, to=True), Toggle(50, 60, to=False)


def mails(**spans: tuple[float, float]) -> list[Mail]:
    return [Mail(name, *span) for name, span in spans.items()]


TRUE_HISTORIES: dict[str, tuple[list[Toggle], list[Mail], list[str], list[str]]] = {
    "nothing at all": ([], [], [], []),
    "before, between and after": (
        [ON, OFF], mails(a=(1, 2), b=(30, 40), c=(70, 80)), ["a", "b", "c"], ["b"],
    ),
    "beside an associate, forwarded": ([ON], mails(a=(15, 25)), ["a"], ["a"]),
    "beside an associate, not forwarded": ([ON], mails(a=(15, 25)), ["a"], []),
    "begun before it and ended inside": ([ON], mails(a=(5, 12)), ["a"], ["a"]),
    "beside both": ([ON, OFF], mails(a=(15, 55)), ["a"], []),
    "beside one, the older way first": ([ON], mails(a=(11, 12), b=(13, 14)), ["a", "b"], ["b"]),
    "beside one, two at a time either way": ([ON], mails(a=(11, 14), b=(12, 15)), ["a", "b"], ["a"]),
    "an inbox has more than is asked for": ([ON], mails(a=(30, 40)), ["x", "a"], ["a"]),
}  # fmt: skip

FALSE_HISTORIES: dict[str, tuple[list[Toggle], list[Mail], list[str], list[str]]] = {
    "after the 200 of an associate, not forwarded": ([ON], mails(a=(21, 25)), ["a"], []),
    "between associate and disassociate, not forwarded": ([ON, OFF], mails(a=(30, 40)), ["a"], []),
    "after the 200 of a disassociate, forwarded": ([ON, OFF], mails(a=(61, 62)), ["a"], ["a"]),
    "before any associate, forwarded": ([ON], mails(a=(1, 2)), ["a"], ["a"]),
    "before a second associate, forwarded": (
        [ON, OFF, Toggle(90, 95, to=True)], mails(a=(70, 80)), ["a"], ["a"],
    ),
    "lost": ([ON], mails(a=(1, 2)), [], []),
    "lost at its own inbox": ([ON], mails(a=(30, 40)), [], ["a"]),
    "twice in its own inbox": ([ON], mails(a=(30, 40)), ["a", "a"], ["a"]),
    "twice at the primary": ([ON], mails(a=(30, 40)), ["a"], ["a", "a"]),
    "at the primary only": ([ON], [], [], ["x"]),
    "beside one, the newer way first": ([ON], mails(a=(11, 12), b=(13, 14)), ["a", "b"], ["a"]),
    "beside a disassociate, the newer way first": (
        [ON, OFF], mails(a=(51, 52), b=(53, 54)), ["a", "b"], ["b"],
    ),
    "back and forth beside one": (
        [ON], mails(a=(11, 12), b=(13, 14), c=(15, 16)), ["a", "b", "c"], ["b"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE_HISTORIES)
def test_the_checker_accepts_a_true_history(name: str) -> None:
    toggles, sent, own, primary = TRUE_HISTORIES[name]
    assert find_violations(toggles, sent, Inboxes(own, primary)) == []


@pytest.mark.parametrize("name", FALSE_HISTORIES)
def test_the_checker_refuses_a_false_history(name: str) -> None:
    toggles, sent, own, primary = FALSE_HISTORIES[name]
    assert find_violations(toggles, sent, Inboxes(own, primary)) != []
