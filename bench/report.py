"""Rounds, medians, and a table; what machine it was, in one line."""

import json
import os
import platform
import statistics
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

OUT = Path(__file__).parent / "out"


class Report:
    """Figures of interleaved rounds: medians count, since the machine is shared and noisy."""

    def __init__(self, title: str, unit: str) -> None:
        self.title = title
        self.unit = unit
        self.figures: dict[str, list[float]] = defaultdict(list)
        self.cpu_us: dict[str, list[float]] = defaultdict(list)
        self.notes: dict[str, str] = {}

    def add(self, line: str, per_second: float, *, cpu_us: float | None = None) -> None:
        self.figures[line].append(per_second)
        if cpu_us is not None:
            self.cpu_us[line].append(cpu_us)

    def show(self, *, against: str) -> None:
        """Print the table, every line as a ratio to `against`, and keep the figures."""
        base = statistics.median(self.figures[against]) if against in self.figures else None
        table = Table("what", self.unit, "lowest to highest", "CPU µs each", f"× {against}", "note", title=self.title)
        for line, figures in self.figures.items():
            median = statistics.median(figures)
            cpu = f"{statistics.median(self.cpu_us[line]):,.0f}" if self.cpu_us[line] else ""
            ratio = f"{median / base:,.2f}" if base else ""
            spread = f"{min(figures):,.0f} to {max(figures):,.0f}"
            table.add_row(line, f"{median:,.0f}", spread, cpu, ratio, self.notes.get(line, ""))
        Console(width=150).print(table)
        print(machine())
        OUT.mkdir(exist_ok=True)
        content = {"machine": machine(), "unit": self.unit, "figures": self.figures, "cpu_us": self.cpu_us}
        name = self.title.split(",")[0].lower().replace(" ", "-")
        (OUT / f"{name}.json").write_text(json.dumps(content, indent=1))


def machine() -> str:
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    return (
        f"{os.cpu_count()} × {model or platform.processor()}, {platform.system()}, Python {platform.python_version()}"
    )


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, its waited-for children too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
