"""How often somebody may fail to sign in, by access key and by peer, within a minute; each process counts its own."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

WINDOW_S: Final = 60.0
BY_KEY_MAX: Final = 10
BY_PEER_MAX: Final = 30  # behind a proxy all people are one peer
REMEMBERED_MAX: Final = 10_000


class Attempts:
    """Failures that were lately; of more names than REMEMBERED_MAX the one that failed longest ago is forgotten."""

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        self._now_s = now_s
        self._failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def wait_s(self, *, access_key_id: str, peer: str) -> int:
        """0 for who may try now, else in how many seconds."""
        now_s = self._now_s()
        waits = [0.0]
        for name, failures_max in _names(access_key_id, peer):
            failures = self._failures.get(name, ())
            recent = [at_s for at_s in failures if at_s > now_s - WINDOW_S]
            if len(recent) >= failures_max:
                waits.append(recent[-failures_max] + WINDOW_S - now_s)
        return -int(-max(waits) // 1)

    def add(self, *, access_key_id: str, peer: str) -> None:
        """Somebody failed."""
        for name, failures_max in _names(access_key_id, peer):
            failures = self._failures.setdefault(name, deque(maxlen=failures_max))
            failures.append(self._now_s())
            self._failures.move_to_end(name)
        while len(self._failures) > REMEMBERED_MAX:
            self._failures.popitem(last=False)


def _names(access_key_id: str, peer: str) -> Iterable[tuple[tuple[str, str], int]]:
    return (("key", access_key_id), BY_KEY_MAX), (("peer", peer), BY_PEER_MAX)
