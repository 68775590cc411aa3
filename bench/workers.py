"""One service in one process or several, on one PostgreSQL, in interleaved rounds: look-ups, alias changes and mail.

Clients, database and workers share the machine's cores, so what more workers give is what those leave free.
"""

import argparse
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from api import Readdress, measure
from harness.engine import POSTGRES, provide_postgres, use
from harness.postgres import PostgresServer, children_of
from harness.process import DEV_INSTANCE
from report import Report, cpu_seconds
from smtp import send

CLIENTS = 32


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workers", default="1,2", help="how many, between commas")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=2)
    options.add_argument("--messages", type=int, default=3_000)
    given = options.parse_args()
    report = Report(f"Workers on PostgreSQL, {CLIENTS} connections", "a second")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, PostgresServer({"max_connections": "200"}) as server:
        provide_postgres(server)
        use(POSTGRES)
        services = {
            workers: Readdress(Path(folder) / workers, CLIENTS, "--workers", workers)
            for workers in given.workers.split(",")
        }
        try:
            for each in services.values():
                each.client.associate_email_address_alias(
                    InstanceId=DEV_INSTANCE,
                    EmailAddressId=each.ids[0],
                    AliasConfiguration={"EmailAddressId": each.ids[1]},
                )
            for _ in range(given.rounds):
                for kind in ("look-ups", "alias changes", "mail"):
                    for workers, readdress in services.items():
                        one_run(report, f"{kind}, {workers} of them", kind, readdress, given)
        finally:
            for readdress in services.values():
                readdress.service.stop()
    report.show(against="look-ups, 1 of them")


def one_run(report: Report, line: str, kind: str, readdress: Readdress, given: argparse.Namespace) -> None:
    service = readdress.service
    pids = children_of(service.process.pid) or [service.process.pid]
    if kind == "mail":
        if not shutil.which("smtp-source"):
            return
        before = sum(map(cpu_seconds, pids))
        send_some = partial(send, service.smtp, size=4_096, connections=CLIENTS, reuse=True, recipient="a1@example.com")
        seconds = send_some(count=given.messages)
        cpu_us = (sum(map(cpu_seconds, pids)) - before) / given.messages * 1e6
        report.add(line, given.messages / seconds, cpu_us=cpu_us)
        return
    if kind == "look-ups":
        feeds = [readdress.describe(number) for number in range(CLIENTS)]
    else:
        prepared = int(given.seconds * 6_000 / CLIENTS) // 2 * 2
        feeds = [readdress.changes(number, prepared) for number in range(CLIENTS)]
    measure(report, line, feeds, service.http_address, pids, given.seconds)


if __name__ == "__main__":
    main()
