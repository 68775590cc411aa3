"""An import of many addresses, half of them aliases of the other half: rows a second, and the memory at its peak.

`make bench-bulk ARGS="--addresses 1000000"`; with `--database postgresql://…` on a server that is there already.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from readdress.clock import Clock, new_id
from readdress.config import Config
from readdress.databases import open_database
from readdress.directory import instances

ACCOUNT = "123456789012"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--addresses", type=int, default=1_000_000)
    parser.add_argument("--database", default="")
    parser.add_argument("--shuffled", action="store_true", help="pairs in an order that has nothing to do with keys")
    parser.add_argument("--ahead", action="store_true", help="every alias comes before any primary")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="readdress-bulk-") as folder:
        url = options.database or f"sqlite:///{folder}/readdress.db"
        instance_id = _make_instance(url)
        file = Path(folder) / "addresses.jsonl"
        with file.open("w") as out:
            domain = f"{instance_id}.example"
            out.writelines(_lines(options.addresses // 2, domain, shuffled=options.shuffled, ahead=options.ahead))
        common = ["--database", url, "--data", folder, "--instance", instance_id]
        rows = options.addresses + options.addresses // 2
        _run("import", rows, ["import", str(file), *common])
        _run("import again", rows, ["import", str(file), *common])
        _run("export", rows, ["export", f"{folder}/out.jsonl", *common])


def _make_instance(url: str) -> str:
    database = open_database(Config(database=url), Clock())
    instance_id = new_id()
    made = instances.Instance(instance_id, ACCOUNT, None, "CONNECT_MANAGED", None, 1, 1, 1)
    database.run(lambda tx: instances.create(tx, made))
    database.close()
    return instance_id


def _lines(pairs: int, domain: str, *, shuffled: bool, ahead: bool) -> Iterator[str]:
    numbers = list(range(pairs))
    if shuffled:
        random.Random(1).shuffle(numbers)

    def primary(number: int) -> str:
        members = {"EmailAddress": f"support-{number:07}@{domain}", "DisplayName": f"Support {number}"}
        return json.dumps(members) + "\n"

    def alias(number: int) -> str:
        members = {"EmailAddress": f"help-{number:07}@{domain}", "AliasOf": f"support-{number:07}@{domain}"}
        return json.dumps(members) + "\n"

    if ahead:
        yield from map(alias, numbers)
        yield from map(primary, numbers)
        return
    for number in numbers:
        yield primary(number)
        yield alias(number)


def _run(what: str, rows: int, arguments: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "readdress", *arguments], capture_output=True, text=True, check=True)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{what}: {rows:,} rows in {seconds:.1f} s = {rows / seconds:,.0f} rows/s ({busy:.1f} s of one core), "
        f"at most {after.ru_maxrss / 1024:.0f} MiB: {done.stdout.strip()}",
        flush=True,
    )


if __name__ == "__main__":
    main()
