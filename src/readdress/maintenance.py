"""Beside its work, the service says that it lives, forgets what is past its time, and tends the index of texts."""

import asyncio
import logging

from readdress import __version__
from readdress.api import idempotency, nodes
from readdress.clock import new_id
from readdress.console import sessions
from readdress.directory import texts
from readdress.inbox import messages
from readdress.mail import srs
from readdress.store.database import Database, StoreError, Transaction

log = logging.getLogger("readdress")

INTERVAL_S = 60
INDEX_INTERVAL_S = 1
FAREWELL_S = 1


class Maintenance:
    """Of one process, `name` telling people which."""

    def __init__(self, database: Database, *, name: str, token_retention_days: int) -> None:
        self._database = database
        self._name = name
        self._token_retention_days = token_retention_days
        self._node_id = new_id()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._tidy()), asyncio.create_task(self._index_texts())]

    async def stop(self) -> None:
        """The last word of this process is that it goes."""
        for task in self._tasks:
            task.cancel()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._database.write(lambda tx: nodes.forget(tx, self._node_id))
        except (StoreError, TimeoutError):
            log.warning("this node could not be taken off the list", exc_info=True)

    async def _tidy(self) -> None:
        """A little at a time, so that nobody waits for it."""

        def forget(tx: Transaction) -> int:
            expired = idempotency.delete_expired(tx, retention_days=self._token_retention_days)
            expired += sessions.delete_expired(tx)
            return expired + messages.sweep_staged(tx) + srs.forget_unused(tx)

        while True:
            try:
                await self._database.write(
                    lambda tx: nodes.see(tx, self._node_id, name=self._name, version=__version__)
                )
                while await self._database.write(forget):
                    await asyncio.sleep(0.1)
            except StoreError:
                log.warning("maintenance is put off", exc_info=True)
            await asyncio.sleep(INTERVAL_S)

    async def _index_texts(self) -> None:
        """Tell the index of texts of new addresses, on a thread: a batch takes some ten milliseconds."""
        if not await self._database.read(lambda tx: tx.has_text_table):
            return
        while True:
            try:
                while await self._database.read(texts.is_due):
                    await asyncio.to_thread(self._database.run, texts.index_some)
            except StoreError:
                log.warning("the index of texts is put off", exc_info=True)
            await asyncio.sleep(INDEX_INTERVAL_S)
