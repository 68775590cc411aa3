"""`make profile`: a flame graph of each hot path of Readdress on SQLite, drawn by py-spy into bench/out/.

Needs the right to look into another process (root, as a rule) and what `make bench-deps` installs; says so where not.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import api
import load
import mail
import servers
from harness.process import ServiceProcess
from measure import OUT, SQLITE, Missing

SECONDS = 8
PAIRS = 512


def main() -> None:
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUT) as name:
        folder = Path(name)
        process = ServiceProcess(folder / "data")
        try:
            service = servers.Service(SQLITE, process, None)
            mail.publish_alias(service)
            calls = api.Calls(service, PAIRS)
            for path, feed, count in (
                ("describe", calls.describe, 0),
                ("search", calls.search, 0),
                ("alias-change", calls.change, SECONDS * 10_000),
            ):
                requests = feed(count)
                draw(path, process, lambda requests=requests: send(process, requests, folder))  # type: ignore[misc]
            for kib, messages in ((4, 15_000), (64, 4_000)):
                draw(f"mail-{kib}-kib", process, lambda kib=kib, messages=messages: deliver(process, kib, messages))  # type: ignore[misc]
        except Missing as missing:
            raise SystemExit(f"left out: {missing}") from missing
        finally:
            process.stop()


def send(process: ServiceProcess, requests: list[bytes], folder: Path) -> None:
    load.run(process.http, requests, connections=32, seconds=SECONDS, folder=folder)


def deliver(process: ServiceProcess, kib: int, messages: int) -> None:
    mail.send(process.smtp, count=messages, kib=kib, connections=20, reuse=True)


def draw(name: str, process: ServiceProcess, work: Callable[[], None]) -> None:
    """What the process does while the work is done."""
    file = OUT / f"{name}.svg"
    command = [servers.peer_program("py-spy"), "record", "--pid", str(process.process.pid), "--nonblocking"]
    command += ["--rate", "200", "--duration", str(SECONDS), "--output", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as spy:
        time.sleep(0.5)
        work()
        _, errors = spy.communicate(timeout=SECONDS + 60)
    if spy.returncode:
        raise SystemExit(f"py-spy: {errors.decode()}")
    print(file)


if __name__ == "__main__":
    main()
