"""The connections of one event loop: opened when needed, lent to one transaction at a time, replaced when lost.

When the database can't be reached, who asks hears it at once or after one attempt to connect, and the next one tries
anew: so a node is back with the first request after the database is.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic

from readdress.store.database import StoreBusy, StoreError
from readdress.store.postgres.connection import Connection
from readdress.store.postgres.failures import ConnectionLost

WATCH_INTERVAL_S = 1.0


class Pool:
    """At most `size` connections: one is shared, and the others are lent."""

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], *, size: int, wait_s: float, answer_s: float
    ) -> None:
        """`wait_s` is for a free connection; a server that leaves a statement unanswered for `answer_s` is given up."""
        self.loop = asyncio.get_running_loop()
        self.size = size
        self.wait_s = wait_s
        self._connect = connect
        self._answer_s = answer_s
        self._free: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening = 0
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._shared: Connection | None = None
        self._opening_shared: asyncio.Task[Connection] | None = None
        self._is_closed = False
        self._watch()

    async def lend(self) -> Connection:
        """A connection of one's own, until `give_back`. Raises StoreBusy when all stay taken, ConnectionLost."""
        deadline = self.loop.time() + self.wait_s
        while True:
            if self._is_closed:
                raise ConnectionLost("the database is closed")
            if self._free:
                return self._free.pop()
            is_shared_open = self._shared is not None and not self._shared.is_lost
            if len(self._open) - is_shared_open + self._opening < max(1, self.size - 1):
                return await self._open_one()
            connection = await self._wait_for_one(deadline)
            if connection is not None and not connection.is_lost:
                return connection

    def give_back(self, connection: Connection) -> None:
        if connection.is_lost or self._is_closed:
            connection.abort("the database is closed")
            self._tell_next(None)
        elif not self._tell_next(connection):
            self._free.append(connection)

    async def share(self) -> Connection:
        """The connection for single statements, which many use at a time. Raises ConnectionLost."""
        if self._shared is None or self._shared.is_lost:
            if self._is_closed:
                raise ConnectionLost("the database is closed")
            if self._opening_shared is None:
                self._opening_shared = self.loop.create_task(self._open_shared())
            return await asyncio.shield(self._opening_shared)
        return self._shared

    async def _open_shared(self) -> Connection:
        """One attempt for all who wait for it, even when who asked first has gone."""
        try:
            self._shared = self._attach(await self._connect())
        finally:
            self._opening_shared = None
        return self._shared

    def close(self) -> None:
        self._is_closed = True
        for connection in list(self._open):
            connection.abort("the database is closed")
        while self._waiting:
            self._tell_next(None)

    async def _open_one(self) -> Connection:
        self._opening += 1
        try:
            connection = await self._connect()
        except StoreError as error:
            # What the others wait for does not come either.
            while self._waiting:
                future = self._waiting.popleft()
                if not future.done():
                    future.set_exception(error)
            raise
        except BaseException:  # who asked has gone, and another may try
            self._tell_next(None)
            raise
        finally:
            self._opening -= 1
        return self._attach(connection)

    def _attach(self, connection: Connection) -> Connection:
        self._open.add(connection)
        connection.attach(self.loop, self._drop)
        if self._is_closed:
            connection.abort("the database is closed")
        return connection

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._free.remove(connection)
        self._tell_next(None)

    async def _wait_for_one(self, deadline: float) -> Connection | None:
        """None says that it is worth another look."""
        future: asyncio.Future[Connection | None] = self.loop.create_future()
        self._waiting.append(future)
        try:
            await asyncio.wait([future], timeout=deadline - self.loop.time())
        except asyncio.CancelledError:
            if future.done() and not future.exception() and (lent := future.result()):
                self.give_back(lent)
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(future)
        if not future.done():
            raise StoreBusy("every connection to the database was taken for too long")
        return future.result()

    def _tell_next(self, connection: Connection | None) -> bool:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return True
        return False

    def _watch(self) -> None:
        """A frozen server or a cut line says nothing at all."""
        if self._is_closed or self.loop.is_closed():
            return
        oldest = monotonic() - self._answer_s
        for connection in list(self._open):
            since = connection.waiting_since
            if since is not None and since < oldest:
                connection.abort("the server does not answer")
        self.loop.call_later(WATCH_INTERVAL_S, self._watch)
