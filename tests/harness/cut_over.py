"""A history of alias changes and mail, and whether some single order of all of them explains it (contract 2.8)."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Toggle(NamedTuple):
    """An Associate (`to` is True) or Disassociate that was answered with 200, from its call to its answer."""

    began: float
    ended: float
    to: bool


class Mail(NamedTuple):
    """A message that was answered with 250, from the end of its content to the reply."""

    id: str
    began: float
    ended: float


class Inboxes(NamedTuple):
    """The message ids in the alias's own inbox and in its primary's."""

    own: Sequence[str]
    primary: Sequence[str]


def overlapping(toggles: Sequence[Toggle], mail: Mail) -> range:
    """The toggles that were under way at some time between the mail's beginning and end."""
    first = bisect_left(toggles, mail.began, key=lambda toggle: toggle.ended)
    return range(first, bisect_right(toggles, mail.ended, lo=first, key=lambda toggle: toggle.began))


def state_before(toggles: Sequence[Toggle], mail: Mail) -> bool:
    """What the last toggle that ended before the mail began left behind; nothing is associated at first."""
    first = bisect_left(toggles, mail.began, key=lambda toggle: toggle.ended)
    return toggles[first - 1].to if first else False


def find_violations(toggles: Sequence[Toggle], mails: Iterable[Mail], inboxes: Inboxes) -> list[str]:
    """Why no order explains the history; empty when one does.

    The toggles of a pair follow each other. A mail beside none of them has to follow the state; the mails beside one
    alone have to agree on an instant of it; a mail beside several may have met any state.
    """
    mails = list(mails)
    violations = _count_violations(mails, inboxes)
    forwarded = set(inboxes.primary)
    latest = [toggle.began for toggle in toggles]  # the toggle took effect after this …
    earliest = [toggle.ended for toggle in toggles]  # … and before that
    for mail in mails:
        beside = overlapping(toggles, mail)
        was_forwarded = mail.id in forwarded
        if not beside and was_forwarded != state_before(toggles, mail):
            violations.append(f"{mail.id} was {'' if was_forwarded else 'not '}forwarded, against the state around it")
        if len(beside) == 1:
            (at,) = beside
            if was_forwarded == toggles[at].to:
                earliest[at] = min(earliest[at], mail.ended)
            else:
                latest[at] = max(latest[at], mail.began)
    return violations + [
        f"no instant of toggle {at} explains the mails beside it"
        for at, (after, before) in enumerate(zip(latest, earliest, strict=True))
        if after > before
    ]


def _count_violations(mails: Sequence[Mail], inboxes: Inboxes) -> list[str]:
    own, primary = Counter(inboxes.own), Counter(inboxes.primary)
    violations = [f"{mail.id} is {own[mail.id]} times in its own inbox" for mail in mails if own[mail.id] != 1]
    violations += [
        f"{message_id} is {times} times at the primary" for message_id, times in primary.items() if times > 1
    ]
    violations += [f"{message_id} is at the primary and not at the alias" for message_id in primary.keys() - own.keys()]
    return violations
