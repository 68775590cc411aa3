"""The primary dies under load, its synchronous standby is promoted: nodes say so, come back, and have lost nothing."""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.http_client import HttpAnswer, HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.replication import ReplicatedPostgres
from harness.smtp_client import SmtpClient
from harness.tables import broken_promises

log = logging.getLogger(__name__)

BACK_SECONDS_MAX = 60  # five are what we aim at; a busy machine may need more


class Load(threading.Thread):
    """Calls one node until it is told to stop; `answered` are the times of good answers."""

    def __init__(self, node: ServiceProcess, stop: threading.Event) -> None:
        super().__init__()
        self.node = node
        self.answered: list[float] = []
        self.failure: BaseException | None = None
        self._is_told = stop

    def run(self) -> None:
        try:
            while not self._is_told.is_set():
                self.step()
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for the thread
            self.failure = error
        finally:
            self.close()

    def step(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Changes(Load):
    """Associates and disassociates a pair in turn, each with a token that is sent again until there is a 200."""

    def __init__(self, node: ServiceProcess, stop: threading.Event) -> None:
        super().__init__(node, stop)
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
            answer = self._http.call("POST", path, body)
            if answer.status == 200:
                self.tokens.append(token)
                self.answered.append(time.monotonic())
                return
            self.refusals.append(answer)
            time.sleep(0.05)
        raise AssertionError(f"it does not come back: {answer}")

    def close(self) -> None:
        self._http.close()


class Mails(Load):
    """Sends mail to an address of its own."""

    def __init__(self, node: ServiceProcess, stop: threading.Event) -> None:
        super().__init__(node, stop)
        text = f"{uuid.uuid4().hex}@mail.example"
        with HttpClient(node.http_address) as client:
            made = client.call("PUT", f"/email-addresses/{DEV_INSTANCE}", {"EmailAddress": text})
        self.text, self.address_id = text, made.json["EmailAddressId"]
        self.accepted: list[str] = []
        self.refusals: list[str] = []
        self._smtp: SmtpClient | None = None

    def step(self) -> None:
        if self._smtp is None:
            self._smtp = SmtpClient(self.node.smtp_address, timeout_s=60)
            self._smtp.say("EHLO sender.example")
        reply = self._smtp.mail("a@sender.example", self.text)
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


def run_load(nodes: list[ServiceProcess], during: Callable[[], None]) -> tuple[list[Changes], list[Mails]]:
    stop = threading.Event()
    changes = [Changes(node, stop) for node in nodes]
    mails = [Mails(node, stop) for node in nodes]
    for load in (*changes, *mails):
        load.start()
    try:
        during()
    finally:
        stop.set()
        for load in (*changes, *mails):
            load.join(90)
    for load in (*changes, *mails):
        if load.failure:
            raise load.failure
    return changes, mails


def check_refusals(changes: list[Changes], mails: list[Mails]) -> None:
    """Contract 1 and 6: who was not served is told to come again, and nothing else."""
    for answer in (refusal for each in changes for refusal in each.refusals):
        assert answer.status in (503, 429), answer
        assert int(answer.headers["x-amz-retry-after"]) > 0
        assert int(answer.headers["retry-after"]) > 0
    for reply in (refusal for each in mails for refusal in each.refusals):
        assert reply[:3] in ("451", "421"), reply


def check_nothing_lost(servers: ReplicatedPostgres, changes: list[Changes], mails: list[Mails]) -> None:
    import psycopg

    with psycopg.connect(servers.primary.url(servers.database), autocommit=True) as rows:
        for each in changes:
            history = rows.execute(
                "SELECT change FROM alias_history WHERE alias_id = %s ORDER BY id", (each.alias,)
            ).fetchall()
            expected = ["DISASSOCIATED" if at % 2 else "ASSOCIATED" for at in range(len(each.tokens))]
            assert [change for (change,) in history] == expected
            kept = rows.execute("SELECT token FROM idempotency_token WHERE token = ANY(%s)", (each.tokens,)).fetchall()
            assert len(kept) == len(each.tokens)
        for each_mail in mails:
            found: list[Any] = rows.execute(
                "SELECT message_id FROM delivery WHERE address_id = %s", (each_mail.address_id,)
            ).fetchall()
            stored = [message_id for (message_id,) in found]
            assert len(set(stored)) == len(stored)
            assert set(each_mail.accepted) <= set(stored)
        assert broken_promises(rows) == {}


@pytest.mark.parametrize("times", [1, pytest.param(6, marks=pytest.mark.torture)], ids=["once", "again and again"])
@pytest.mark.timeout(600)
def test_what_was_answered_outlives_the_primary(tmp_path: Path, times: int) -> None:
    with ReplicatedPostgres() as servers:
        nodes = [ServiceProcess(tmp_path / "data", "--database", servers.url) for _ in range(2)]
        promoted: list[float] = []

        def fail_over() -> None:
            for turn in range(times):
                if turn:
                    servers.replace_standby()
                time.sleep(1.5)
                servers.primary.kill()
                time.sleep(1)
                servers.fail_over()
                promoted.append(time.monotonic())
                time.sleep(3)

        try:
            changes, mails = run_load(nodes, fail_over)
        finally:
            for node in nodes:
                node.stop()
        check_refusals(changes, mails)
        check_nothing_lost(servers, changes, mails)
    assert any(each.refusals for each in changes) or any(
        each.refusals for each in mails
    )  # else the load has met no trouble
    for instant in promoted:
        for load in (*changes, *mails):
            back = min((at for at in load.answered if at > instant), default=None)
            assert back is not None
            assert back - instant < BACK_SECONDS_MAX
            log.info("%s: served %.2f s after the promotion", type(load).__name__, back - instant)
