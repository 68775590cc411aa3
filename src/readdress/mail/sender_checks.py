"""The checks of the sender beside the event loop: on threads, within a time for DNS, one large message at a time.

What goes wrong in them never refuses mail: a message that could not be checked is accepted without verdicts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from readdress.smtp.backend import Peer
from readdress.smtp.envelope import Envelope

if TYPE_CHECKING:
    from readdress.mail.authentication.verdicts import Verdicts

log = logging.getLogger("readdress.mail")

# They mostly wait for DNS, and nobody's slow names may keep others from being checked.
THREADS: Final = 64
# A message beyond this is read whole only while no other one is, and is not kept while DNS is asked.
LARGE_BYTES: Final = 262_144

T = TypeVar("T")


class SenderChecks:
    """One for the process: what DNS said is remembered for a while."""

    def __init__(self, nameservers: list[str], *, authserv_id: str, budget_s: float) -> None:
        """`nameservers` are `ip` or `ip:port`, none for those of the system; ValueError for others."""
        from readdress.mail.authentication.resolver import Resolver

        self._resolver = Resolver(nameservers)
        self._budget_s = budget_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="check")
        self._large = asyncio.Semaphore(1)
        self.authserv_id = authserv_id

    async def check(
        self, load: Callable[[], Awaitable[bytes]], size_bytes: int, *, envelope: Envelope, peer: Peer
    ) -> "Verdicts | None":
        """The verdicts on a message, whose content `load` gives; None when it could not be checked."""
        try:
            return await self._check(load, size_bytes, envelope, peer)
        except Exception:
            log.exception("a message from <%s> could not be checked", envelope.sender.text)
            return None

    async def _check(
        self, load: Callable[[], Awaitable[bytes]], size_bytes: int, envelope: Envelope, peer: Peer
    ) -> "Verdicts":
        from readdress.mail.authentication import check

        judge = partial(
            check.check_hashed,
            peer_address=peer.address,
            ehlo=peer.ehlo,
            sender=envelope.sender.text,
            authserv_id=self.authserv_id,
            resolver=self._resolver,
            budget_s=self._budget_s,
        )
        if size_bytes <= LARGE_BYTES:
            content = await load()
            return await self._run(lambda: judge(check.hash_content(content)))
        async with self._large:
            hashed = await self._run(partial(check.hash_content, await load()))
        return await self._run(partial(judge, hashed))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
