"""Waiting for mail: who waits for an inbox is woken by the commit that put something there.

A wake is a hint and no more: another node's commits and a notice's arrive without one, so who waits looks again every
second, and what is told too often or too late only costs a look.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

LOOK_INTERVAL_S = 1.0


class Arrivals:
    """Who waits for which inbox, on one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.is_closed = False

    def tell(self, address_ids: Iterable[str]) -> None:
        """Something has been committed to these inboxes."""
        if self._waiting:
            for address_id in address_ids:
                for arrived in self._waiting.get(address_id, ()):
                    arrived.set()

    def close(self) -> None:
        """Nobody waits any more: the service stops."""
        self.is_closed = True
        for waiting in self._waiting.values():
            for arrived in waiting:
                arrived.set()

    async def look_until(
        self,
        address_id: str,
        look: Callable[[], Awaitable[T]],
        is_enough: Callable[[T], bool],
        *,
        timeout_s: float,
    ) -> T:
        """What `look` gives as soon as it is enough, or else what it gives when the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        arrived = asyncio.Event()
        self._waiting.setdefault(address_id, set()).add(arrived)
        try:
            while True:
                arrived.clear()  # before the look, so that no commit falls between the two
                found = await look()
                left_s = deadline - loop.time()
                if is_enough(found) or left_s <= 0 or self.is_closed:
                    return found
                await _wait(arrived, min(left_s, LOOK_INTERVAL_S))
        finally:
            self._forget(address_id, arrived)

    def _forget(self, address_id: str, arrived: asyncio.Event) -> None:
        waiting = self._waiting[address_id]
        waiting.discard(arrived)
        if not waiting:
            del self._waiting[address_id]


async def _wait(arrived: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await arrived.wait()
    except TimeoutError:
        return
