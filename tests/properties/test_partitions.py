"""Two nodes and their database on hosts of their own: a link is cut and heals, and no promise is broken."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import namespaces
from harness.load_on_nodes import Changes, Mails, check_nothing_lost_at, check_refusals, run_load
from harness.namespaces import Host, Link
from harness.postgres import FAST, PostgresServer
from harness.process import ServiceProcess

CUT_S = 9.0  # longer than a silent line is trusted
BACK_SECONDS_MAX = 60


class Network:
    """The database's host in the middle, a link from it to each node's."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.hosts = [stack.enter_context(Host()) for _ in range(3)]
        database, *others = self.hosts
        self.links = [Link(database, host, f"10.213.{at}") for at, host in enumerate(others)]
        listening = ",".join(["127.0.0.1", *(link.address for link in self.links)])
        server = database.call(self._start_server, listening)
        stack.callback(server.remove)
        name = database.call(server.create_database)
        self.url_here = server.url(name)
        self.nodes = []
        for host, link in zip(others, self.links, strict=True):
            url = f"postgresql://postgres@{link.address}:{server.port}/{name}"
            node = host.call(ServiceProcess, folder / "data", "--database", url)
            stack.callback(node.stop)
            self.nodes.append(node)

    def _start_server(self, listening: str) -> PostgresServer:
        server = PostgresServer({**FAST, "fsync": "on"}, listen=listening)
        with (server.folder / "pg_hba.conf").open("a") as file:
            file.write("host all all 10.213.0.0/16 trust\n")
        server.execute("SELECT pg_reload_conf()")
        return server


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    if not namespaces.are_possible():
        pytest.skip("network namespaces want root, iproute2 and a kernel that allows them")
    with contextlib.ExitStack() as stack:
        yield Network(tmp_path, stack)


@pytest.mark.timeout(300)
def test_a_cut_off_node_says_so_and_comes_back_while_the_other_goes_on(network: Network) -> None:
    cut_at = healed_at = 0.0

    def cut_and_heal(changes: list[Changes], mails: list[Mails]) -> None:
        nonlocal cut_at, healed_at
        time.sleep(1.5)
        network.links[0].cut()
        cut_at = time.monotonic()
        time.sleep(CUT_S)
        network.links[0].heal()
        healed_at = time.monotonic()
        deadline = healed_at + BACK_SECONDS_MAX
        loads = (changes[0], mails[0])
        while not all(load.answered[-1] > healed_at for load in loads) and time.monotonic() < deadline:
            time.sleep(0.05)

    places = [host.enter for host in network.hosts[1:]]
    changes, mails = run_load(network.nodes, cut_and_heal, places)
    check_refusals(changes, mails)
    network.hosts[0].call(check_nothing_lost_at, network.url_here, changes, mails)
    for load in (changes[0], mails[0]):
        assert not [at for at in load.answered if cut_at + 1 < at < healed_at]
        assert load.answered[-1] > healed_at
        assert load.refusals
    for load in (changes[1], mails[1]):
        assert len([at for at in load.answered if cut_at < at < healed_at]) > 10
