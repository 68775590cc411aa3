"""Three nodes on one PostgreSQL, clients on all of them, and faults: one order explains all that was called and heard.

Contract 2.5, 2.8 and 3: locks, the exact cut-over and tokens hold across nodes. The checker is shown histories that it
must refuse, and programs with a mistake that it must find.
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest

from harness.engine import Engine, open_beside
from harness.histories import (
    ASSOCIATE,
    CREATE,
    DELETE,
    DESCRIBE,
    DISASSOCIATE,
    MAIL,
    OK,
    REFUSED,
    Client,
    Group,
    Node,
    State,
    apply,
)
from harness.linearizability import Call, explains, find_dead_end
from harness.process import ServiceProcess
from harness.tables import check_promises

NODES = 3
GROUPS = 3
CLIENTS_PER_GROUP = 3
LOCK_WAIT_MS = 700
SETTINGS = {"READDRESS_LOCK_WAIT_MS": str(LOCK_WAIT_MS)}


class Cluster:
    """Nodes on one database; they share a data folder, in which there is only their key file."""

    def __init__(self, data: Path, environment: dict[str, str] | None = None) -> None:
        self.data = data
        self._environment = SETTINGS | (environment or {})
        self.nodes = [Node(self._start()) for _ in range(NODES)]

    def _start(self) -> ServiceProcess:
        return ServiceProcess(self.data, environment=self._environment)

    def run(self, seconds: float, fault: Callable[["Cluster", random.Random], None] | None) -> list[Group]:
        """The histories of every group; a fault now and then, and none in the last second."""
        groups = [Group([f"{name}-{at}@group{at}.example" for name in "abc"]) for at in range(GROUPS)]
        stop = threading.Event()
        clients = [Client(self.nodes, group, stop, seed) for seed, group in enumerate(groups * CLIENTS_PER_GROUP)]
        choices = random.Random(1)
        for client in clients:
            client.start()
        end = time.monotonic() + seconds
        try:
            while fault and time.monotonic() < end - 3:
                time.sleep(0.8)
                fault(self, choices)
            time.sleep(max(0, end - time.monotonic()))
        finally:
            stop.set()
            for client in clients:
                client.join(60)
        for client in clients:
            if client.failure:
                raise client.failure
        return groups

    def kill_and_restart(self, node: Node) -> None:
        node.service.kill()
        node.service = self._start()

    def inboxes(self) -> dict[str, frozenset[str]]:
        """Which inboxes each message is in; twice in one is found by the database's own promises."""
        found: dict[str, set[str]] = defaultdict(set)
        with open_beside(self.data) as rows:
            for message_id, address_id in rows.execute("SELECT message_id, address_id FROM delivery").fetchall():
                found[message_id].add(address_id)
        return {message_id: frozenset(inboxes) for message_id, inboxes in found.items()}

    def stop(self) -> None:
        for node in self.nodes:
            if node.service.process.poll() is None:
                node.service.stop()


def trouble(cluster: Cluster, choices: random.Random) -> None:
    """A node dies, a node freezes for longer than a lock is waited for, or sessions end in mid-transaction."""
    node = choices.choice(cluster.nodes)
    kind = choices.choice(("kill", "freeze", "sessions", "sessions"))
    if kind == "kill":
        cluster.kill_and_restart(node)
    elif kind == "freeze":
        node.service.process.send_signal(signal.SIGSTOP)
        time.sleep(LOCK_WAIT_MS / 1000 * 2)
        node.service.process.send_signal(signal.SIGCONT)
    else:
        with open_beside(cluster.data) as rows:
            rows.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND random() < 0.3"
            )


@pytest.fixture
def start_cluster(engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    with contextlib.ExitStack() as stack:

        def start(**environment: str) -> Cluster:
            cluster = Cluster(tmp_path / "data", environment)
            stack.callback(cluster.stop)
            return cluster

        yield start


@pytest.mark.postgres_only
@pytest.mark.parametrize(
    "seconds", [8, pytest.param(600, marks=[pytest.mark.torture, pytest.mark.timeout(1_500)])], ids=["short", "long"]
)
def test_one_order_explains_all_that_nodes_answer(start_cluster: Callable[..., Cluster], seconds: float) -> None:
    cluster = start_cluster()
    groups = []
    for _ in range(max(1, int(seconds / 20))):  # fresh addresses each time, so that each search stays short
        groups += cluster.run(min(seconds, 20), trouble)
        inboxes = cluster.inboxes()
        for group in groups[-GROUPS:]:
            assert find_dead_end(group.history(inboxes), State(), apply) == []
            assert_telling(group)
        check_promises(cluster.data)
        clear(cluster)


def clear(cluster: Cluster) -> None:
    with open_beside(cluster.data) as rows:
        rows.execute("DELETE FROM email_address WHERE domain LIKE 'group%'")
        rows.execute("DELETE FROM tag WHERE resource_id NOT IN (SELECT id FROM instance)")


def assert_telling(group: Group) -> None:
    """The history had calls of every kind with answers of every kind; else it would prove little."""
    answers = defaultdict(set)
    for call in group.calls:
        if call.ended < inf:
            answers[call.operation].add(call.answer[0] if call.answer != REFUSED else REFUSED)
    assert answers[ASSOCIATE] >= {OK, "ResourceConflictException"}
    assert answers[DISASSOCIATE] >= {OK, "ResourceNotFoundException"}
    assert OK in answers[DESCRIBE]
    assert len(group.mails) > 30


# Programs with a mistake: Python runs a module of this name before the program.
MISTAKES = {
    "tokens are forgotten": """
from readdress.api import idempotency
idempotency.store = lambda *_, **__: None
""",
    "a route is kept for a moment": """
import time
from readdress.directory import routing
find_route, kept = routing.route, {}

def keep_route(tx, recipient, **options):
    route, until = kept.get(recipient, (None, 0))
    if time.monotonic() > until:
        route = find_route(tx, recipient, **options)
        kept[recipient] = route, time.monotonic() + 0.2
    return route

routing.route = keep_route
""",
    "a description is kept for a moment": """
import time
from readdress.directory import addresses
describe, kept = addresses.describe, {}

def keep(tx, **where):
    key = where["address_id"]
    found, until = kept.get(key, (None, 0))
    if time.monotonic() > until:
        found = describe(tx, **where)
        kept[key] = found, time.monotonic() + 0.2
    return found

addresses.describe = keep
""",
}


@pytest.mark.postgres_only
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_program_with_a_mistake_is_found_out(
    start_cluster: Callable[..., Cluster], tmp_path: Path, mistake: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(MISTAKES[mistake])
    cluster = start_cluster(PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    for _ in range(10):  # mostly the first shows it
        groups = cluster.run(2, None)
        inboxes = cluster.inboxes()
        if not all(explains(group.history(inboxes), State(), apply) for group in groups):
            return
        clear(cluster)
    raise AssertionError("nobody has noticed")


# The checker itself.


def call(began: float, ended: float, operation: str, *arguments: Any, answer: Any = (OK,)) -> Call:
    return Call(began, ended, operation, arguments, answer)


A, B = "a@x.example", "b@x.example"
PUBLISHED = State(ids=frozenset({(A, "a"), (B, "b")}))
ON = call(10, 20, ASSOCIATE, "a", "b", "t1")
OFF = call(30, 40, DISASSOCIATE, "a", "b", "t2")
BOTH, OWN = frozenset({"a", "b"}), frozenset({"b"})

TRUE_HISTORIES: dict[str, list[Call]] = {
    "nothing": [],
    "one after the other": [ON, call(21, 22, MAIL, B, answer=BOTH), OFF, call(41, 42, MAIL, B, answer=OWN)],
    "mail beside the change, either way": [ON, call(15, 16, MAIL, B, answer=BOTH), call(12, 13, MAIL, B, answer=OWN)],
    "a lost call that happened": [ON._replace(ended=inf), call(50, 51, MAIL, B, answer=BOTH)],
    "a lost call that never happened": [ON._replace(ended=inf), call(50, 51, MAIL, B, answer=OWN)],
    "a lost call that happened late": [
        ON._replace(ended=inf), call(50, 51, MAIL, B, answer=OWN), call(52, 53, MAIL, B, answer=BOTH),
    ],
    "a token again, long after": [ON, OFF, call(50, 51, ASSOCIATE, "a", "b", "t1"), call(60, 61, MAIL, B, answer=OWN)],
    "a conflict": [ON, call(21, 22, ASSOCIATE, "b", "a", "t3", answer=("ResourceConflictException",))],
    "the same conflict beside the change": [
        ON, call(15, 35, ASSOCIATE, "b", "a", "t3"), OFF._replace(ended=inf),
        call(36, 37, DESCRIBE, "b", answer=(OK, ("a",))),
    ],
    "deleted with its relation": [
        ON, call(21, 22, DELETE, "a"), call(23, 24, MAIL, B, answer=OWN), call(23, 24, MAIL, A, answer=REFUSED),
    ],
    "made again under another id": [
        call(1, 2, DELETE, "a"), call(3, 4, CREATE, A, "a2", "t4", answer=(OK, "a2")),
        call(5, 6, MAIL, A, answer=frozenset({"a2"})),
    ],
}  # fmt: skip

FALSE_HISTORIES: dict[str, list[Call]] = {
    "a stale mail after the 200": [ON, call(21, 22, MAIL, B, answer=OWN)],
    "a stale mail after the end": [ON, OFF, call(41, 42, MAIL, B, answer=BOTH)],
    "a stale read": [ON, call(21, 22, DESCRIBE, "a", answer=(OK, ()))],
    "back and forth beside a change": [
        ON, call(11, 12, MAIL, B, answer=BOTH), call(13, 14, MAIL, B, answer=OWN),
    ],
    "a lost update": [ON, call(21, 22, ASSOCIATE, "a", "b", "t3")],
    "a chain": [ON, call(21, 22, ASSOCIATE, "b", "a", "t3")],
    "a token that ran twice": [ON, OFF, call(50, 51, ASSOCIATE, "a", "b", "t1"), call(60, 61, MAIL, B, answer=BOTH)],
    "a token whose answer was lost": [
        ON, call(21, 22, ASSOCIATE, "a", "b", "t1", answer=("ResourceConflictException",)),
    ],
    "a lost call that happened and did not": [
        ON._replace(ended=inf), call(50, 51, MAIL, B, answer=BOTH), call(52, 53, MAIL, B, answer=OWN),
    ],
    "a lost mail": [ON, call(21, 22, MAIL, B, answer=frozenset())],
    "mail to one who is gone": [call(1, 2, DELETE, "a"), call(3, 4, MAIL, A, answer=frozenset({"a"}))],
    "two under one name": [call(1, 2, CREATE, A, "a2", "t4", answer=(OK, "a2"))],
    "deleted twice": [call(1, 2, DELETE, "a"), call(1, 3, DELETE, "a")],
    "an end before its beginning": [OFF, ON._replace(began=50, ended=60)],
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE_HISTORIES)
def test_the_checker_accepts_a_true_history(name: str) -> None:
    assert explains(TRUE_HISTORIES[name], PUBLISHED, apply)


@pytest.mark.parametrize("name", FALSE_HISTORIES)
def test_the_checker_refuses_a_false_history(name: str) -> None:
    assert not explains(FALSE_HISTORIES[name], PUBLISHED, apply)
