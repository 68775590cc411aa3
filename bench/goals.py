"""What we want of the figures: compared after a run and printed as met or missed, never asserted.

Each goal sets Readdress' median against a peer's, or against a figure of its own: at least, or at most, so many times
as much. A goal whose figures are not all there is not measured, and one that was easily met has been raised. Rates were
set for two cores, so on SQLite they are those of two workers; what a unit of work costs is that of one process.
"""

from collections.abc import Mapping
from typing import NamedTuple

import api
import growth
import mail
import moving
import start
import testing
from measure import POSTGRES, SQLITE, SQLITE_WORKERS

Key = tuple[str, str]  # work, who


class Goal(NamedTuple):
    """`ours` divided by the greatest of `theirs` (or by 1, for a figure that stands for itself)."""

    ours: Key
    theirs: tuple[Key, ...]
    least: float | None = None
    most: float | None = None

    @property
    def text(self) -> str:
        bound = f"≥ {self.least:,g}" if self.least is not None else f"≤ {self.most:,.3g}"
        against = " or ".join(f"{who} ({work})" if work != self.ours[0] else who for work, who in self.theirs)
        return f"{self.ours[0]}: {self.ours[1]} {bound}" + (f" × {against}" if against else "")


class Judged(NamedTuple):
    goal: Goal
    ratio: float | None
    is_met: bool | None  # None: not measured


DESCRIBE, CHANGE = api.work_name(api.DESCRIBE, 32), api.work_name(api.CHANGE, 32)
SMALL, EACH = mail.work_name(4, mail.REUSED), mail.work_name(4, mail.EACH)
LARGE = mail.work_name(64, mail.REUSED)
CPU = " (CPU)"


def _grown(work: str, part: str, size: int) -> Key:
    return growth.work_name(work, part, size), SQLITE


def _against(work: str, who: str, *, least: float | None = None, most: float | None = None, ours: str = SQLITE) -> Goal:
    return Goal((work, ours), ((work, who),), least, most)


GOALS = (
    _against(DESCRIBE, api.MOTO, least=35, ours=SQLITE_WORKERS),  # 25 at first
    _against(DESCRIBE, api.MINISTACK, least=4.5, ours=SQLITE_WORKERS),  # 2
    _against(DESCRIBE, api.BARE, least=0.4, ours=SQLITE_WORKERS),  # 0.25
    Goal((CHANGE, SQLITE_WORKERS), ((DESCRIBE, api.MOTO),), least=12),
    _against(SMALL, mail.POSTFIX, least=10, ours=SQLITE_WORKERS),
    _against(SMALL, mail.HARAKA, least=5, ours=SQLITE_WORKERS),
    _against(SMALL, mail.AIOSMTPD, least=10, ours=SQLITE_WORKERS),
    _against(SMALL, mail.SINK, least=0.35, ours=SQLITE_WORKERS),
    _against(SMALL, mail.POSTFIX, least=6, ours=POSTGRES),
    _against(EACH, mail.POSTFIX, least=5.5, ours=SQLITE_WORKERS),
    _against(LARGE, mail.POSTFIX, least=6.5, ours=SQLITE_WORKERS),
    Goal((LARGE, SQLITE_WORKERS), tuple((LARGE, who) for who in (mail.POSTFIX, mail.HARAKA, mail.AIOSMTPD)), least=3),
    _against(SMALL + CPU, mail.POSTFIX, most=0.07),
    Goal(_grown(growth.ROUTE, "p99", 10_000_000), (_grown(growth.ROUTE, "p99", 10_000),), most=1.5),
    Goal(_grown(growth.CHANGE, "p99", 10_000_000), (_grown(growth.CHANGE, "p99", 10_000),), most=1.5),
    _against(growth.work_name("search CONTAINS", "p95", 1_000_000), growth.SCAN, most=1 / 70),  # 1/50
    Goal((moving.IMPORT, SQLITE), (), least=70_000),  # 50,000
    Goal((moving.MEMORY, SQLITE), (), most=64),
    _against(testing.DESCRIBE, testing.MOCK, least=1.25, ours=testing.PLUGIN),  # 1
    _against(start.START, api.MOTO, most=1 / 3),
)


def judge(medians: Mapping[Key, float], goals: tuple[Goal, ...] = GOALS) -> list[Judged]:
    """`medians` by work and who; CPU under the work's name with CPU behind it."""
    judged = []
    for goal in goals:
        theirs = [medians[key] for key in goal.theirs if key in medians]
        if goal.ours not in medians or (goal.theirs and not any(theirs)):  # a short run may find no CPU used at all
            judged.append(Judged(goal, None, None))
            continue
        ratio = medians[goal.ours] / (max(theirs) if theirs else 1)
        is_met = ratio >= goal.least if goal.least is not None else ratio <= (goal.most or 0)
        judged.append(Judged(goal, ratio, is_met))
    return judged
