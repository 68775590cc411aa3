"""The checks of the sender beside the event loop: on threads, within a time for DNS, and few large messages at once.

What goes wrong in them never refuses mail: a message that could not be checked is accepted without verdicts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from readdress.smtp.backend import Peer
from readdress.smtp.envelope import Envelope

if TYPE_CHECKING:
    from readdress.mail.authentication.verdicts import Verdicts

log = logging.getLogger("readdress.mail")

THREADS: Final = 16
# A message beyond this is read whole for its checks only while no other one is.
LARGE_BYTES: Final = 1_048_576


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
            if size_bytes <= LARGE_BYTES:
                return await self._check(await load(), envelope, peer)
            async with self._large:
                return await self._check(await load(), envelope, peer)
        except Exception:
            log.exception("a message from <%s> could not be checked", envelope.sender.text)
            return None

    async def _check(self, content: bytes, envelope: Envelope, peer: Peer) -> "Verdicts":
        from readdress.mail.authentication.check import check_sender

        def check() -> "Verdicts":
            return check_sender(
                content,
                peer_address=peer.address,
                ehlo=peer.ehlo,
                sender=envelope.sender.text,
                authserv_id=self.authserv_id,
                resolver=self._resolver,
                budget_s=self._budget_s,
            )

        return await asyncio.get_running_loop().run_in_executor(self._threads, check)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
