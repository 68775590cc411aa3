"""Clients that call nodes while something happens to these, and what has to be true afterwards."""

import http.client
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from harness.engine import Rows
from harness.http_client import HttpAnswer, HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.smtp_client import SmtpClient
from harness.tables import broken_promises


class Load(threading.Thread):
    """Calls one node until it is told to stop; `answered` are the times of good answers."""

    def __init__(self, node: ServiceProcess, stop: threading.Event, enter: Callable[[], None]) -> None:
        super().__init__()
        self.node = node
        self._enter = enter
        self.answered: list[float] = []
        self.failure: BaseException | None = None
        self.may_be_cut = False
        self.cuts = 0  # connections that ended without an answer
        self._is_told = stop

    def run(self) -> None:
        try:
            self._enter()
            while not self._is_told.is_set():
                self.step()
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for the thread
            self.failure = error
        finally:
            self.close()

    def step(self) -> None:
        raise NotImplementedError

    def note_cut(self) -> None:
        """What was under way may have happened or not, and is sent again on another connection."""
        if not self.may_be_cut:
            raise AssertionError("the connection was cut")
        self.cuts += 1
        self.close()

    def close(self) -> None:
        raise NotImplementedError


class Changes(Load):
    """Associates and disassociates a pair in turn, each with a token that is sent again until there is a 200."""

    def __init__(self, node: ServiceProcess, stop: threading.Event, enter: Callable[[], None]) -> None:
        super().__init__(node, stop, enter)
        self._http = HttpClient(node.http_address)
        texts = [f"{uuid.uuid4().hex}@api.example" for _ in range(2)]
        self.primary, self.alias = (
            self._http.call("PUT", f"/email-addresses/{DEV_INSTANCE}", {"EmailAddress": text}).json["EmailAddressId"]
            for text in texts
        )
        self.tokens: list[str] = []
        self.refusals: list[HttpAnswer] = []

    def step(self) -> None:
        token = str(uuid.uuid4())
        verb = "disassociate" if len(self.tokens) % 2 else "associate"
        path = f"/email-addresses/{DEV_INSTANCE}/{self.primary}/{verb}-alias"
        body = {"AliasConfiguration": {"EmailAddressId": self.alias}, "ClientToken": token}
        for _ in range(1_000):
            try:
                answer = self._http.call("POST", path, body)
            except (OSError, http.client.HTTPException):
                self.note_cut()
                continue
            if answer.status == 200:
                self.tokens.append(token)
                self.answered.append(time.monotonic())
                return
            self.refusals.append(answer)
            time.sleep(0.05)
        raise AssertionError("it does not come back")

    def close(self) -> None:
        self._http.close()


class Mails(Load):
    """Sends mail to an address of its own."""

    def __init__(self, node: ServiceProcess, stop: threading.Event, enter: Callable[[], None]) -> None:
        super().__init__(node, stop, enter)
        text = f"{uuid.uuid4().hex}@mail.example"
        with HttpClient(node.http_address) as client:
            made = client.call("PUT", f"/email-addresses/{DEV_INSTANCE}", {"EmailAddress": text})
        self.text, self.address_id = text, made.json["EmailAddressId"]
        self.accepted: list[str] = []
        self.refusals: list[str] = []
        self._smtp: SmtpClient | None = None

    def step(self) -> None:
        try:
            if self._smtp is None:
                self._smtp = SmtpClient(self.node.smtp_address, timeout_s=60)
                self._smtp.say("EHLO sender.example")
            reply = self._smtp.mail("a@sender.example", self.text)
        except OSError:
            reply = ""
        if not reply:
            self.note_cut()
            return
        if reply.startswith("250 2.0.0 accepted"):
            self.accepted.append(reply.split()[-1])
            self.answered.append(time.monotonic())
            return
        self.refusals.append(reply)
        self.close()
        time.sleep(0.05)

    def close(self) -> None:
        if self._smtp:
            self._smtp.close()
            self._smtp = None


def run_load(
    nodes: list[ServiceProcess],
    during: Callable[[list[Changes], list[Mails]], None],
    places: Sequence[Callable[[], None]] = (),
    *,
    may_be_cut: bool = False,
) -> tuple[list[Changes], list[Mails]]:
    """Two clients for each node; `places` are where a node's clients are, called in each thread that makes sockets."""
    stop = threading.Event()
    changes, mails = [], []
    for node, enter in zip(nodes, places or [_stay] * len(nodes), strict=True):
        with ThreadPoolExecutor(1, initializer=enter) as there:
            changes.append(there.submit(Changes, node, stop, enter).result())
            mails.append(there.submit(Mails, node, stop, enter).result())
    for load in (*changes, *mails):
        load.may_be_cut = may_be_cut
        load.start()
    try:
        during(changes, mails)
    finally:
        stop.set()
        for load in (*changes, *mails):
            load.join(90)
    for load in (*changes, *mails):
        if load.failure:
            raise load.failure
    return changes, mails


def _stay() -> None:
    """Where we are."""


def check_refusals(changes: list[Changes], mails: list[Mails]) -> None:
    """Contract 1 and 6: who was not served is told to come again, and nothing else."""
    for answer in (refusal for each in changes for refusal in each.refusals):
        assert answer.status in (503, 429), answer
        assert int(answer.headers["x-amz-retry-after"]) > 0
        assert int(answer.headers["retry-after"]) > 0
    for reply in (refusal for each in mails for refusal in each.refusals):
        assert reply[:3] in ("451", "421"), reply


def check_nothing_lost(rows: Rows, changes: list[Changes], mails: list[Mails]) -> None:
    """Every 200 and every 250 is in the database, once; `rows` reads it."""
    for each in changes:
        history = rows.execute(
            f"SELECT change FROM alias_history WHERE alias_id = '{each.alias}' ORDER BY id"
        ).fetchall()
        expected = ["DISASSOCIATED" if at % 2 else "ASSOCIATED" for at in range(len(each.tokens))]
        assert [change for (change,) in history] == expected
        kept = {token for (token,) in rows.execute("SELECT token FROM idempotency_token").fetchall()}
        assert kept.issuperset(each.tokens)
    for each_mail in mails:
        found: list[Any] = rows.execute(
            f"SELECT message_id FROM delivery WHERE address_id = '{each_mail.address_id}'"
        ).fetchall()
        stored = [message_id for (message_id,) in found]
        assert len(set(stored)) == len(stored)
        assert set(each_mail.accepted) <= set(stored)
    assert broken_promises(rows) == {}


def check_nothing_lost_at(url: str, changes: list[Changes], mails: list[Mails]) -> None:
    """The same, of a PostgreSQL."""
    with psycopg.connect(url, autocommit=True) as rows:
        check_nothing_lost(rows, changes, mails)
