"""The primary dies under load, its synchronous standby is promoted: nodes say so, come back, and have lost nothing."""

import logging
import time
from pathlib import Path

import pytest

from harness.load_on_nodes import check_nothing_lost_at, check_refusals, run_load
from harness.process import ServiceProcess
from harness.replication import ReplicatedPostgres

log = logging.getLogger(__name__)

BACK_SECONDS_MAX = 60  # five are what we aim at; a busy machine may need more


@pytest.mark.parametrize("times", [1, pytest.param(6, marks=pytest.mark.torture)], ids=["once", "again and again"])
@pytest.mark.timeout(600)
def test_what_was_answered_outlives_the_primary(tmp_path: Path, times: int) -> None:
    with ReplicatedPostgres() as servers:
        nodes = [ServiceProcess(tmp_path / "data", "--database", servers.url) for _ in range(2)]
        promoted: list[float] = []

        def fail_over(*_: object) -> None:
            for turn in range(times):
                if turn:
                    servers.replace_standby()
                time.sleep(1.5)
                servers.primary.kill()
                time.sleep(1)
                servers.fail_over()
                promoted.append(time.monotonic())
                time.sleep(3)

        try:
            changes, mails = run_load(nodes, fail_over)
        finally:
            for node in nodes:
                node.stop()
        check_refusals(changes, mails)
        check_nothing_lost_at(servers.primary.url(servers.database), changes, mails)
    assert any(each.refusals for each in changes) or any(
        each.refusals for each in mails
    )  # else the load has met no trouble
    for instant in promoted:
        for load in (*changes, *mails):
            back = min((at for at in load.answered if at > instant), default=None)
            assert back is not None
            assert back - instant < BACK_SECONDS_MAX
            log.info("%s: served %.2f s after the promotion", type(load).__name__, back - instant)
