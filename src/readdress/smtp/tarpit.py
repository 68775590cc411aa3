"""Whoever is refused again and again waits longer for every further refusal: guessing addresses becomes slow work.

A connection that waits costs memory and no more; when too many wait already, the next one is sent away instead.
"""

WAITING_MAX = 100


class Tarpit:
    """How long to hold a refusal back, and how many connections wait; shared by the doors of a process."""

    def __init__(self, *, after_errors: int, delay_s: float, waiting_max: int = WAITING_MAX) -> None:
        """`delay_s` 0 holds nothing back."""
        self._after_errors = after_errors
        self._delay_s = delay_s
        self._waiting_max = waiting_max
        self.waiting = 0

    @property
    def is_full(self) -> bool:
        return self.waiting >= self._waiting_max

    def delay_s(self, *, errors: int, refusals: int) -> float:
        """For so many new refusals of a session that has had so many errors by now, these among them."""
        return self._delay_s * max(0, min(refusals, errors - self._after_errors))
