"""Waiting for mail: woken by a commit, looking again now and then, and never longer than told."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from readdress.inbox import arrivals as module
from readdress.inbox.arrivals import Arrivals


class Inbox:
    """What is in it, and how often somebody looked."""

    def __init__(self) -> None:
        self.messages = 0
        self.looks = 0

    async def look(self) -> int:
        self.looks += 1
        await asyncio.sleep(0)
        return self.messages


def wait(arrivals: Arrivals, inbox: Inbox, *, count: int = 1, timeout_s: float = 5) -> Awaitable[int]:
    return arrivals.look_until("a", inbox.look, lambda found: found >= count, timeout_s=timeout_s)


def run(body: Callable[[Arrivals, Inbox], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            await body(Arrivals(), Inbox())

    asyncio.run(main())


def test_what_is_there_is_seen_at_the_first_look() -> None:
    async def body(arrivals: Arrivals, inbox: Inbox) -> None:
        inbox.messages = 2
        assert await wait(arrivals, inbox, count=2) == 2
        assert inbox.looks == 1

    run(body)


def test_a_commit_wakes_who_waits_for_that_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_INTERVAL_S", 60)

    async def body(arrivals: Arrivals, inbox: Inbox) -> None:
        waiting = asyncio.ensure_future(wait(arrivals, inbox, count=2))
        await asyncio.sleep(0.05)
        arrivals.tell(["b"])
        await asyncio.sleep(0.05)
        assert inbox.looks == 1
        for messages in (1, 2):
            inbox.messages = messages
            arrivals.tell(["b", "a"])
            await asyncio.sleep(0.05)
            assert inbox.looks == 1 + messages
        assert await waiting == 2

    run(body)


def test_a_commit_during_a_look_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_INTERVAL_S", 60)

    async def body(arrivals: Arrivals, inbox: Inbox) -> None:
        async def look() -> int:
            seen = await inbox.look()
            if inbox.looks == 1:  # behind the look's own instant, before its answer
                inbox.messages = 1
                arrivals.tell(["a"])
            return seen

        assert await arrivals.look_until("a", look, bool, timeout_s=5) == 1

    run(body)


def test_without_a_wake_it_looks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_INTERVAL_S", 0.05)

    async def body(arrivals: Arrivals, inbox: Inbox) -> None:
        waiting = asyncio.ensure_future(wait(arrivals, inbox))
        await asyncio.sleep(0.01)
        inbox.messages = 1
        assert await waiting == 1
        assert inbox.looks == 2

    run(body)


@pytest.mark.parametrize("timeout_s", [0, 0.1])
def test_when_the_time_is_over_it_gives_what_there_is(timeout_s: float) -> None:
    async def body(arrivals: Arrivals, inbox: Inbox) -> None:
        began = asyncio.get_running_loop().time()
        assert await wait(arrivals, inbox, timeout_s=timeout_s) == 0
        assert timeout_s <= asyncio.get_running_loop().time() - began < timeout_s + 2

    run(body)


def test_nobody_is_left_waiting_when_the_service_stops() -> None:
    async def body(arrivals: Arrivals, inbox: Inbox) -> None:
        waiting = asyncio.ensure_future(wait(arrivals, inbox, timeout_s=60))
        await asyncio.sleep(0.01)
        arrivals.close()
        assert await waiting == 0
        assert await wait(arrivals, inbox, timeout_s=60) == 0

    run(body)


def test_who_has_gone_is_forgotten() -> None:
    async def body(arrivals: Arrivals, inbox: Inbox) -> None:
        several = [asyncio.ensure_future(wait(arrivals, inbox, timeout_s=60)) for _ in range(3)]
        await asyncio.sleep(0.01)
        for waiting in several:
            waiting.cancel()
        await asyncio.gather(*several, return_exceptions=True)
        assert arrivals._waiting == {}

    run(body)
