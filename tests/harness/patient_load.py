"""Clients that try again as SDKs and mail servers do, and remember what they were told, while nodes lose their store.

A call or a mail may be refused for a time, in one of the few ways the contract allows (1, 6); what was acknowledged has
to be there afterwards, exactly once.
"""

import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from harness.engine import Rows
from harness.http_client import HttpAnswer, HttpClient
from harness.process import DEV_INSTANCE
from harness.smtp_client import SmtpClient, accepted_id
from harness.tables import broken_promises

ADDRESSES = f"/email-addresses/{DEV_INSTANCE}"
# In bytes: in one piece, in several reads, and in two staged parts.
SIZES = (100, 20_000, 100, 350_000)
# How soon a client asks again, however long it was told to wait: so the gap is seen as it is.
AGAIN_S = 0.05
TIMEOUT_S = 60
TEMPORARY = re.compile(r"(421|451) 4\.\d\.\d ")

Address = tuple[str, int]


class Reach(NamedTuple):
    """Where a node listens, and what a thread has to do first that wants to get there."""

    http: Address
    smtp: Address
    enter: Callable[[], None] = lambda: None


@dataclass
class Client:
    """`successes` are the times of what was acknowledged, `longest_s` is the longest that anything took."""

    address: Address
    successes: list[float] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0

    def first_success_after(self, moment: float) -> float:
        return next(success for success in self.successes if success > moment)

    def took(self, began: float) -> None:
        self.longest_s = max(self.longest_s, time.monotonic() - began)


@dataclass
class ApiClient(Client):
    """Associates and disassociates a pair of its own, each call with a token, until it is acknowledged."""

    primary_id: str = ""
    alias_id: str = ""
    changes: int = 0
    tokens: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        with HttpClient(self.address) as http:
            http.connection.timeout = TIMEOUT_S
            while not stop.is_set():
                self._change(http)

    def _change(self, http: HttpClient) -> None:
        token = uuid.uuid4().hex
        verb = "disassociate-alias" if self.changes % 2 else "associate-alias"
        body = {"AliasConfiguration": {"EmailAddressId": self.alias_id}, "ClientToken": token}
        while not self._is_acknowledged(http, f"{ADDRESSES}/{self.primary_id}/{verb}", body):
            time.sleep(AGAIN_S)
        self.successes.append(time.monotonic())
        self.tokens.append(token)
        self.changes += 1

    def _is_acknowledged(self, http: HttpClient, path: str, body: dict[str, Any]) -> bool:
        began = time.monotonic()
        answer = http.call("POST", path, body)
        self.took(began)
        if answer.status != 200:
            check_advice(answer)
            self.refusals[str(answer.status)] += 1
        return answer.status == 200


def check_advice(answer: HttpAnswer) -> None:
    """contract 1: what may be tried again says when, to every SDK."""
    assert answer.status in (429, 503), answer
    assert int(answer.headers["x-amz-retry-after"]) > 0
    assert int(answer.headers["retry-after"]) > 0


@dataclass
class MailClient(Client):
    """Sends numbered mails to the same recipients; `accepted` is number → id for every 250."""

    name: str = ""
    recipients: tuple[str, ...] = ()
    accepted: dict[int, str] = field(default_factory=dict)
    tried: int = 0

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with SmtpClient(self.address, timeout_s=TIMEOUT_S) as smtp:
                if smtp.greeting.startswith("220") and smtp.say("EHLO sender.example").startswith("250"):
                    self._send_until(stop, smtp)
            time.sleep(AGAIN_S)

    def _send_until(self, stop: threading.Event, smtp: SmtpClient) -> None:
        """Over one connection, as long as it lasts."""
        while not stop.is_set():
            self.tried += 1
            began = time.monotonic()
            reply = smtp.mail("", *self.recipients, content=self._content(self.tried))
            self.took(began)
            if reply.startswith("250"):
                self.accepted[self.tried] = accepted_id(reply)
                self.successes.append(time.monotonic())
                continue
            assert TEMPORARY.match(reply), reply
            self.refusals[reply[:3]] += 1
            time.sleep(AGAIN_S)
            if reply.startswith("421") or not smtp.say("RSET").startswith("250"):
                return

    def subject(self, number: int) -> str:
        return f"{self.name} {number}"

    def _content(self, number: int) -> bytes:
        line = b"x" * 70 + b"\r\n"
        return f"Subject: {self.subject(number)}\r\n\r\n".encode() + line * (SIZES[number % len(SIZES)] // len(line))


class Load:
    """One client of each kind on every node; mail from all goes to the same two inboxes."""

    def __init__(self, nodes: list[Reach]) -> None:
        inboxes: list[tuple[str, str]] = []
        self.api: list[ApiClient] = []
        self.mail: list[MailClient] = []
        self._nodes = nodes
        for number, node in enumerate(nodes):
            pair, two_more = _publish(node, 2), _publish(node, 2)
            inboxes = inboxes or two_more
            self.api.append(ApiClient(node.http, primary_id=pair[0][0], alias_id=pair[1][0]))
            recipients = tuple(text for _, text in inboxes)
            self.mail.append(MailClient(node.smtp, name=f"sender-{number}", recipients=recipients))
        self._inbox_ids = sorted(address_id for address_id, _ in inboxes)

    def clients_of(self, number: int) -> list[Client]:
        """Those of one node."""
        return [self.api[number], self.mail[number]]

    @property
    def clients(self) -> list[Client]:
        return [*self.api, *self.mail]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Load while the block runs; afterwards every client ends with what it has under way acknowledged."""
        stop = threading.Event()
        failures: list[BaseException] = []

        def work(client: ApiClient | MailClient, node: Reach) -> None:
            try:
                node.enter()
                client.run(stop)
            except BaseException as error:  # noqa: BLE001 - raised again below
                failures.append(error)

        threads = [
            threading.Thread(target=work, args=(client, node), daemon=True)
            for clients in (self.api, self.mail)
            for client, node in zip(clients, self._nodes, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(2 * TIMEOUT_S)
        if failures:
            raise failures[0]
        assert not any(thread.is_alive() for thread in threads)

    def wait_for_successes(self, after: float, *, clients: list[Client] | None = None, within_s: float) -> float:
        """Until each client has had one since that moment; gives when the last of them had its first."""
        waiting = self.clients if clients is None else clients
        deadline = time.monotonic() + within_s
        while not all(client.successes and client.successes[-1] > after for client in waiting):
            assert time.monotonic() < deadline, f"some never came back: {self.told()}"
            time.sleep(0.01)
        return max(client.first_success_after(after) for client in waiting)

    def wait_for_refusals(self, clients: list[Client], *, within_s: float) -> None:
        """Until each client has been refused once more."""
        before = [client.refusals.total() for client in clients]
        deadline = time.monotonic() + within_s
        while any(client.refusals.total() == count for client, count in zip(clients, before, strict=True)):
            assert time.monotonic() < deadline, f"some were not told: {self.told()}"
            time.sleep(0.01)

    def told(self) -> str:
        return "; ".join(
            f"{type(client).__name__} {len(client.successes)} acknowledged, refused {dict(client.refusals)}, "
            f"longest {client.longest_s:.1f} s"
            for client in self.clients
        )

    def check(self, rows: Rows) -> None:
        """What was acknowledged is there, whole and once, and nothing that nobody asked for."""
        assert broken_promises(rows) == {}
        for client in self.api:
            self._check_changes(rows, client)
        self._check_mail(rows)

    def _check_changes(self, rows: Rows, client: ApiClient) -> None:
        """Every change happened once and in turn, whatever its client heard in between (contract 3)."""
        where = f"WHERE alias_id = '{client.alias_id}'"
        changes = [change for (change,) in rows.execute(f"SELECT change FROM alias_history {where} ORDER BY id")]
        assert len(changes) == client.changes
        assert all(before != after for before, after in pairwise(changes))
        relation = rows.execute(f"SELECT primary_id FROM alias {where}").fetchall()
        assert relation == ([(client.primary_id,)] if client.changes % 2 else [])
        kept = Counter(token for (token,) in rows.execute("SELECT token FROM idempotency_token"))
        assert [kept[token] for token in client.tokens] == [1] * len(client.tokens)

    def _check_mail(self, rows: Rows) -> None:
        subject_of = dict(rows.execute("SELECT id, subject FROM message").fetchall())
        deliveries: dict[str, list[str]] = {}
        for message_id, address_id in rows.execute("SELECT message_id, address_id FROM delivery ORDER BY address_id"):
            deliveries.setdefault(message_id, []).append(address_id)
        assert deliveries == dict.fromkeys(subject_of, self._inbox_ids)
        for client in self.mail:
            for number, message_id in client.accepted.items():
                assert subject_of.get(message_id) == client.subject(number)
        tried = {client.subject(number) for client in self.mail for number in range(client.tried + 1)}
        assert set(subject_of.values()) <= tried


def _publish(node: Reach, count: int) -> list[tuple[str, str]]:
    """Fresh addresses: their ids and their texts."""

    def publish() -> list[tuple[str, str]]:
        texts = [f"{uuid.uuid4().hex}@example.com" for _ in range(count)]
        with HttpClient(node.http) as http:
            answers = [http.call("PUT", ADDRESSES, {"EmailAddress": text}) for text in texts]
        assert all(answer.status == 200 for answer in answers), answers
        return [(answer.json["EmailAddressId"], text) for answer, text in zip(answers, texts, strict=True)]

    with ThreadPoolExecutor(1, initializer=node.enter) as thread:
        return thread.submit(publish).result()
