"""`make bench`: every measure beside its peers, in interleaved rounds, into a table, a picture and a list of goals.

A peer that is missing is left out with a word; a measure that finds a wrong answer ends the run.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import api
import chart
import goals
import growth
import mail
import moving
import report
import start
import testing
from measure import DEFAULT, FULL, HERE, OUT, SHORT, Group, Missing, Scale

GROUPS: dict[str, Group] = {
    "api": api.raw,
    "boto3": api.by_boto3,
    "mail": mail.measures,
    "start": start.measures,
    "growth": growth.measures,
    "import": moving.measures,
    "testing": testing.measures,
}
PICTURE = report.ROOT / "docs" / "images" / "bench.svg"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    options.add_argument(
        "--only", action="append", choices=list(GROUPS), help="this group of measures; may be repeated"
    )
    options.add_argument("--full", action="store_true", help="with 10 million addresses")
    options.add_argument("--short", action="store_true", help="see that everything works; the figures mean nothing")
    options.add_argument(
        "--into", type=Path, help="a folder for results and picture, instead of where README shows them"
    )
    given = options.parse_args()
    scale, name = (SHORT, "short") if given.short else (FULL, "full") if given.full else (DEFAULT, "default")
    results = report.Results()
    started = time.monotonic()
    for group in given.only or GROUPS:
        measure_group(group, scale, results)
    only = f"{name}, only {', '.join(given.only)}" if given.only else name
    write(results, f"{only}, {time.monotonic() - started:.0f} s", given.into or (OUT if given.only else None))


def measure_group(group: str, scale: Scale, results: report.Results) -> None:
    """Servers that take turns, in the other order every second round, so that none always follows the same."""
    OUT.mkdir(exist_ok=True)
    said: set[str] = set()

    def say(text: str) -> None:
        if text not in said:
            print(f"{group}: {text}", flush=True)
        said.add(text)

    with tempfile.TemporaryDirectory(dir=OUT, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # PostgreSQL and Postfix run as others
        try:
            with GROUPS[group](scale, Path(folder), say) as measures:
                for number in range(scale.rounds):
                    for measure in measures[:: -1 if number % 2 else 1]:
                        for figure in measure():
                            results.add(figure)
                    say(f"round {number + 1} of {scale.rounds}")
        except Missing as missing:
            say(f"left out: {missing}")


def write(results: report.Results, scale: str, folder: Path | None) -> None:
    """A part of a run goes to bench/out/, so that it never takes the place of a whole one."""
    facts = report.facts(scale)
    into, picture = (folder, folder / "bench.svg") if folder else (HERE, PICTURE)
    for path in (into, picture.parent):
        path.mkdir(parents=True, exist_ok=True)
    (into / "results.json").write_text(report.as_json(results, facts))
    table = report.as_markdown(results, facts)
    (into / "results.md").write_text(table)
    where = f"{facts['cores']} × {facts['processor']}, {facts['date']}, {facts['commit']}"
    caption = f"{where}; {scale} run; medians, and the lowest to highest round"
    if scale.startswith("short"):
        caption = f"{where}; a SHORT run, whose figures mean nothing"
    picture.write_text(chart.draw(results, caption))
    print(table)
    judged = goals.judge(results.medians())
    print(f"{sum(bool(one.is_met) for one in judged)} goals met, {sum(one.is_met is False for one in judged)} missed, ")
    print(f"{sum(one.is_met is None for one in judged)} not measured; {into}/results.md, {picture}")


if __name__ == "__main__":
    main()
