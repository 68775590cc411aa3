"""The measures work: every line gives figures, goals, table and picture follow from them, and no time is asserted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.programs import require_program

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def bench() -> Any:
    """The modules of bench/, which are scripts and no package."""
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        import chart
        import goals
        import measure
        import report

        yield {"chart": chart, "goals": goals, "measure": measure, "report": report}
    finally:
        sys.path.remove(str(ROOT / "bench"))


@pytest.mark.timeout(300)
def test_every_line_works_in_short_form(tmp_path: Path) -> None:
    for program in ("wrk", "smtp-source"):
        require_program(program)
    command = [sys.executable, str(ROOT / "bench" / "run.py"), "--short", "--into", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    lines = {(line["work"], line["who"]): line["values"] for line in found["lines"]}
    for work in (
        "describe, 32 connections", "search, 32 connections", "alias change, 32 connections", "alias change by boto3",
        "mail of 4 KiB, reused", "mail of 64 KiB, one connection each", "start to first answer",
        "search CONTAINS, p95, 400 addresses", "route look-up, p99, 200 addresses",
    ):  # fmt: skip
        assert lines[work, "Readdress on SQLite"][0] > 0
    assert lines["mail of 4 KiB, reused", "Readdress on PostgreSQL"][0] > 0
    readme = (ROOT / "bench" / "README.md").read_text("utf-8")
    for _, who in lines:
        assert f"| {who} |" in readme, f"bench/README.md does not say what {who} does not do"
    table = (tmp_path / "results.md").read_text("utf-8")
    assert "| describe, 32 connections: Readdress on SQLite, 2 workers ≥ 0.4 × bare uvicorn |" in table
    assert "| work | who | 200 addresses | 400 addresses |" in table
    ET.parse(tmp_path / "bench.svg")


def test_goals_are_judged_by_ratio(bench: Any) -> None:
    goals = bench["goals"]
    ours, small, large = ("mail", "ours"), ("mail", "small"), ("mail", "large")
    medians = {ours: 20.0, small: 2.0, large: 10.0}
    judged = goals.judge(
        medians,
        (
            goals.Goal(ours, (small,), least=10),
            goals.Goal(ours, (small, large), least=3),
            goals.Goal(ours, (small,), most=11),
            goals.Goal(ours, (), least=50),
            goals.Goal(ours, (("mail", "missing"),), least=1),
            goals.Goal(("mail", "unknown"), (), least=1),
        ),
    )
    assert [(one.ratio, one.is_met) for one in judged] == [
        (10, True), (2, False), (10, True), (20, False), (None, None), (None, None),
    ]  # fmt: skip


def test_a_figure_is_the_median_of_its_rounds(bench: Any) -> None:
    results = bench["report"].Results()
    for value in (3.0, 1.0, 2.0):
        results.add(bench["measure"].Figure("work", "who", value, "calls/s", 10 * value))
    assert results.medians() == {("work", "who"): 2, ("work (CPU)", "who"): 20}
    assert "| who | 2 | 1 to 3 | 20 | 1 |" in bench["report"].as_markdown(results, {})


def test_a_percentile_is_a_value_that_was_seen(bench: Any) -> None:
    percentile = bench["measure"].percentile
    values = list(range(100, 0, -1))
    assert [percentile(values, part) for part in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert percentile([7], 0.5) == 7


def test_a_picture_names_everybody_and_escapes_them(bench: Any) -> None:
    chart, results = bench["chart"], bench["report"].Results()
    for who, value in (("Readdress on SQLite", 30.0), ("a <peer>", 10.0)):
        results.add(bench["measure"].Figure(chart.HEADLINES[0][0], who, value, "calls/s"))
    drawn = ET.fromstring(chart.draw(results, "a & b"))
    texts = [element.text for element in drawn.iter() if element.text]
    assert {"Readdress on SQLite", "a <peer>", "a & b"} <= set(texts)
