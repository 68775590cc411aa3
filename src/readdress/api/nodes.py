"""The processes of the service: each says once a minute that it lives, and is forgotten a day after its last word."""

from typing import Final, NamedTuple

from readdress.api.idempotency import sql
from readdress.clock import MS_PER_DAY
from readdress.store.database import Transaction

SILENT_MS: Final = 120_000
NODES_MAX: Final = 1_000


class Node(NamedTuple):
    id: str
    name: str
    version: str
    started_ms: int
    seen_ms: int

    def is_alive(self, now_ms: int) -> bool:
        return self.seen_ms > now_ms - SILENT_MS


def see(tx: Transaction, node_id: str, *, name: str, version: str) -> None:
    """It lives; those that nobody has heard of for a day are forgotten."""
    tx.send(sql.see_node, id=node_id, name=name, version=version, now_ms=tx.now_ms)
    tx.send(sql.forget_nodes, before_ms=tx.now_ms - MS_PER_DAY)


def forget(tx: Transaction, node_id: str) -> None:
    """It stops as it should."""
    tx.send(sql.forget_node, id=node_id)


def list_nodes(tx: Transaction) -> list[Node]:
    """The longest running first."""
    return [Node(*row) for row in tx.all(sql.list_nodes, limit=NODES_MAX)]
