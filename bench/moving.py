"""Import and export of many addresses, half of them aliases of the other half, by the program's own commands.

A row is an address or a relation. The first import begins with an empty database, and the same file once more has
nothing to change.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from measure import SQLITE, Figure, Measure, Say, Scale, memory_mib
from readdress.clock import Clock, new_id
from readdress.config import Config
from readdress.databases import open_database
from readdress.directory import instances

IMPORT, AGAIN, EXPORT, MEMORY = "import", "import again", "export", "memory of import and export, at its peak"
ACCOUNT = "123456789012"


@contextmanager
def measures(scale: Scale, folder: Path, say: Say) -> Iterator[list[Measure]]:
    file = folder / "addresses.jsonl"
    with file.open("w") as out:
        out.writelines(_lines(scale.import_rows // 3))
    say(f"{scale.import_rows:,} rows to import")
    yield [partial(_measure, file, scale.import_rows // 3 * 3, folder, count())]


def _lines(pairs: int) -> Iterator[str]:
    for number in range(pairs):
        primary = f"support-{number:07}@example.com"
        yield json.dumps({"EmailAddress": primary, "DisplayName": f"Support {number}"}) + "\n"
        yield json.dumps({"EmailAddress": f"help-{number:07}@example.com", "AliasOf": primary}) + "\n"


def _measure(file: Path, rows: int, folder: Path, numbers: "count[int]") -> list[Figure]:
    data = folder / f"import-{next(numbers)}"
    data.mkdir()
    instance_id = new_id()
    database = open_database(Config(data=str(data)), Clock())
    made = instances.Instance(instance_id, ACCOUNT, None, "CONNECT_MANAGED", None, 1, 1, 1)
    database.run(lambda tx: instances.create(tx, made))
    database.close()
    figures, peak_mib = [], 0.0
    for work, command in (
        (IMPORT, ["import", file]),
        (AGAIN, ["import", file]),
        (EXPORT, ["export", data / "out.jsonl"]),
    ):
        arguments = [*map(str, command), "--data", str(data), "--instance", instance_id]
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "readdress", *arguments], stdout=subprocess.DEVNULL)
        while True:
            pid, ended, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            # Not ru_maxrss, which is no less than what this program has itself.
            peak_mib = max(peak_mib, memory_mib(process.pid, peak=True))
            time.sleep(0.02)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(ended)
        assert process.returncode == 0, f"{command} ended with {process.returncode}"
        cpu_us = (used.ru_utime + used.ru_stime) / rows * 1e6
        figures.append(Figure(work, SQLITE, rows / seconds, "rows/s", cpu_us))
    return [*figures, Figure(MEMORY, SQLITE, peak_mib, "MiB")]
