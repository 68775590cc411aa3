"""Links between nodes and their database are cut, with a word and without one, and healed: no promise is broken.

Two nodes and a PostgreSQL, each in a network of its own. Nodes listen on the loopback of theirs, which nobody reaches
but the test's threads.
"""

import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from harness.namespaces import Link, Namespace, require_namespaces
from harness.patient_load import Load, Reach
from harness.postgres import PostgresServer, new_folder
from harness.process import ServiceProcess
from harness.replicated_postgres import DURABLE

NODES = 2
CUTS = (Link.take_down, Link.drop)
# How long a call may take in any case, and until everyone is served again; what operators are told is less.
ANSWER_S_MAX = 30
BACK_S_MAX = 30


class Archipelago:
    """The database at home, and each node on an island with one link to it."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._home = _namespace(stack)
        islands = [_namespace(stack) for _ in range(NODES)]
        self.links = [Link(self._home, island, subnet=number) for number, island in enumerate(islands)]
        access = new_folder()
        stack.callback(shutil.rmtree, access)
        self._server = self._home.run(lambda: self._start_server(access / "access.conf"))
        stack.callback(self._server.remove)
        self._name = self._home.run(self._server.create_database)
        reached = []
        for number, (island, link) in enumerate(zip(islands, self.links, strict=True)):
            url = f"postgresql://postgres@{link.one.address}:{self._server.port}/{self._name}"
            node = island.run(lambda number=number, url=url: _start_node(folder, number, url))  # type: ignore[misc]
            stack.callback(node.stop)
            reached.append(Reach(node.http_address, node.smtp_address, island.enter))
        self.load = Load(reached)

    def _start_server(self, access: Path) -> PostgresServer:
        addresses = [link.one.address for link in self.links]
        access.write_text("".join(f"host all all {address}/30 trust\n" for address in addresses))
        settings = DURABLE | {"listen_addresses": ",".join(addresses), "hba_file": str(access)}
        return PostgresServer(settings, host=addresses[0])

    def check(self) -> None:
        def check() -> None:
            with psycopg.connect(self._server.url(self._name), autocommit=True) as rows:
                self.load.check(rows)

        self._home.run(check)


def _namespace(stack: ExitStack) -> Namespace:
    namespace = Namespace()
    stack.callback(namespace.remove)
    return namespace


def _start_node(folder: Path, number: int, url: str) -> ServiceProcess:
    key_file = {"READDRESS_KEY_FILE": str(folder / "shared.key")}
    return ServiceProcess(folder / f"node-{number}", "--database", url, environment=key_file)


@pytest.fixture
def archipelago(tmp_path: Path) -> Iterator[Archipelago]:
    require_namespaces()
    with ExitStack() as stack:
        yield Archipelago(stack, tmp_path)


def tell(text: str) -> None:
    """Shown by `pytest -s`."""
    sys.stdout.write(f"\n{text}\n")


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: str(cut.__name__))
def test_a_node_that_is_cut_off_says_so_and_comes_back_while_the_other_goes_on(
    archipelago: Archipelago, cut: Callable[[Link], None]
) -> None:
    load, (link, _) = archipelago.load, archipelago.links
    cut_off, others = load.clients_of(0), load.clients_of(1)
    with load.running():
        load.wait_for_successes(time.monotonic(), within_s=BACK_S_MAX)
        began = time.monotonic()
        cut(link)
        load.wait_for_refusals(cut_off, within_s=ANSWER_S_MAX)
        told = time.monotonic()
        load.wait_for_successes(told, clients=others, within_s=ANSWER_S_MAX)
        load.wait_for_refusals(cut_off, within_s=ANSWER_S_MAX)
        assert not any(success > told for client in cut_off for success in client.successes)
        link.heal()
        healed = time.monotonic()
        served = load.wait_for_successes(healed, clients=cut_off, within_s=BACK_S_MAX)
    tell(f"told after {told - began:.2f} s, served {served - healed:.2f} s after the link was healed; {load.told()}")
    assert max(client.longest_s for client in load.clients) < ANSWER_S_MAX
    archipelago.check()


@pytest.mark.torture
@pytest.mark.timeout(1_800)
def test_links_that_come_and_go_break_no_promise(archipelago: Archipelago) -> None:
    moments = random.Random(1)
    load = archipelago.load
    with load.running():
        for _ in range(30):
            cut_links = moments.choice([archipelago.links[:1], archipelago.links[1:], archipelago.links])
            for link in cut_links:
                moments.choice(CUTS)(link)
            time.sleep(moments.choice([0.01, 0.3, 2, 6, 12]))
            for link in cut_links:
                link.heal()
            time.sleep(moments.choice([0.01, 0.5, 3]))
        load.wait_for_successes(time.monotonic(), within_s=BACK_S_MAX)
    tell(load.told())
    assert max(client.longest_s for client in load.clients) < ANSWER_S_MAX
    archipelago.check()
