"""Whether one order explains a history of calls that overlapped: Wing and Gong's search, with memory of where it was.

A call took effect at one instant between its beginning and its end; one whose answer was lost did so at any time after
its beginning, or never. Histories of things that have nothing to do with each other are checked one by one.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from math import inf
from typing import Any, NamedTuple

Apply = Callable[[Hashable, str, tuple[Any, ...]], tuple[Any, Hashable]]


class Call(NamedTuple):
    """`ended` is `inf` where the answer was lost."""

    began: float
    ended: float
    operation: str
    arguments: tuple[Any, ...]
    answer: Any = None


def explains(calls: Sequence[Call], initial: Hashable, apply: Apply) -> bool:
    """Whether some order of the calls gives each its answer; `apply` gives a call's answer and the state behind it."""
    return not find_dead_end(calls, initial, apply)


def find_dead_end(calls: Sequence[Call], initial: Hashable, apply: Apply) -> list[Call]:
    """The calls that were left at the furthest point that any order came to; empty where one explains them all."""
    calls = _without_repeats(sorted(calls, key=lambda call: call.began))
    needed = sum(1 << at for at, call in enumerate(calls) if call.ended < inf)
    furthest, left = -1, [call for call in calls if call.ended < inf]
    seen: set[tuple[int, Hashable]] = set()
    steps: list[tuple[int, Hashable]] = [(0, initial)]
    while steps:
        done, state = steps.pop()
        if (done, state) in seen:
            continue
        seen.add((done, state))
        if done & needed == needed:
            return []
        if done.bit_count() > furthest:
            furthest = done.bit_count()
            left = [call for at, call in enumerate(calls) if not done >> at & 1 and call.ended < inf][:5]
        for at in _next(calls, done):
            call = calls[at]
            answer, after = apply(state, call.operation, call.arguments)
            # A lost call that would change nothing might as well not have happened.
            if answer == call.answer if call.ended < inf else after != state:
                steps.append((done | 1 << at, after))
    return left


def _without_repeats(calls: Sequence[Call]) -> list[Call]:
    """Of lost calls that say the same, the first alone: whatever a later one may have done, it may have done as well.

    So it is where saying the same twice does no more than saying it once, as with a token or a deletion.
    """
    kept, lost = [], set()
    for call in calls:
        if call.ended == inf:
            if (call.operation, call.arguments) in lost:
                continue
            lost.add((call.operation, call.arguments))
        kept.append(call)
    return kept


def _next(calls: Sequence[Call], done: int) -> Iterator[int]:
    """Those that may come next: none that is still to come had ended before they began. The likeliest comes last."""
    bound, found = inf, []
    at = (~done & (done + 1)).bit_length() - 1  # the first that is not done
    while at < len(calls) and calls[at].began <= bound:
        if not done >> at & 1:
            found.append(at)
            bound = min(bound, calls[at].ended)
        at += 1
    return (at for at in sorted(found, key=lambda at: -calls[at].ended) if calls[at].began <= bound)
