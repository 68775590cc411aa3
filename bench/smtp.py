"""Mail to an alias, durable in both inboxes: Readdress against Postfix, in interleaved rounds driven by smtp-source.

What the peers do not do: Postfix has no alias API; it queues, answers, and delivers to two Maildirs afterwards, so it
has two lines: what it accepted, and what reached both inboxes. smtp-sink stores nothing and is the ceiling. Needs root
for Postfix, and `make test-deps`.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from harness.engine import POSTGRES, SQLITE, provide_postgres, use
from harness.postfix import ALIAS_TO_MAILDIRS, Postfix
from harness.postgres import PostgresServer
from harness.process import DEV_INSTANCE, ServiceProcess, free_port
from report import Report, cpu_seconds, peak_mib


def send(
    address: str, *, count: int, size: int, connections: int, reuse: bool, recipient: str = "alias@example.com"
) -> float:
    """Seconds until smtp-source has its last 250."""
    command = ["smtp-source", *(["-d"] if reuse else []), "-s", str(connections), "-m", str(count), "-l", str(size)]
    command += ["-f", "sender@example.org", "-t", recipient, f"inet:{address}"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        raise SystemExit(f"smtp-source: {done.stderr}")
    return time.perf_counter() - started


def start_readdress(data: Path) -> ServiceProcess:
    service = ServiceProcess(data)
    client = service.connect()
    primary, alias = (
        client.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=f"{name}@example.com")["EmailAddressId"]
        for name in ("primary", "alias")
    )
    client.associate_email_address_alias(
        InstanceId=DEV_INSTANCE, EmailAddressId=primary, AliasConfiguration={"EmailAddressId": alias}
    )
    return service


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--messages", type=int, default=5_000)
    options.add_argument("--size", type=int, default=4_096)
    options.add_argument("--connections", type=int, default=20)
    given = options.parse_args()
    if not shutil.which("smtp-source"):
        raise SystemExit("smtp-source is missing: `make test-deps` installs it with Postfix")
    kib = given.size // 1024
    report = Report(f"Mail of {kib} KiB to an alias, {given.connections} connections", "messages/s")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        Path(folder).chmod(0o755)
        database = PostgresServer({})
        provide_postgres(database)
        services = {}
        for engine in (SQLITE, POSTGRES):
            use(engine)
            services[engine] = start_readdress(Path(folder) / engine)
        postfix = Postfix(Path(folder) / "postfix", free_port(), ALIAS_TO_MAILDIRS)
        sink_port = free_port()
        command = ["smtp-sink", "-u", "nobody", "-c", f"127.0.0.1:{sink_port}", "1000"]
        sink = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            for _ in range(given.rounds):
                one_round(report, services, postfix, f"127.0.0.1:{sink_port}", given)
            memory = {engine: f"{peak_mib(service.process.pid):.0f}" for engine, service in services.items()}
        finally:
            sink.terminate()
            sink.wait()
            postfix.stop()
            for service in services.values():
                service.stop()
            database.remove()
    report.show(against="Postfix, in both Maildirs, reused")
    print(f"Readdress' peak memory in MiB: {memory}")


def one_round(
    report: Report, services: dict[str, ServiceProcess], postfix: Postfix, sink: str, given: argparse.Namespace
) -> None:
    for reuse, word in ((True, "reused"), (False, "one connection each")):
        settings = {"size": given.size, "connections": given.connections, "reuse": reuse}
        count = given.messages
        for engine, service in services.items():
            before = cpu_seconds(service.process.pid)
            seconds = send(service.smtp, count=count, **settings)
            cpu_us = (cpu_seconds(service.process.pid) - before) / count * 1e6
            report.add(f"Readdress on {engine}, in both inboxes, {word}", count / seconds, cpu_us=cpu_us)
        count = given.messages // 5
        postfix.empty()
        before, started = postfix.cpu_seconds(), time.perf_counter()
        seconds = send(f"127.0.0.1:{postfix.port}", count=count, **settings)
        postfix.wait_delivered(count)
        report.add(f"Postfix, accepted, {word}", count / seconds)
        cpu_us = (postfix.cpu_seconds() - before) / count * 1e6
        report.add(f"Postfix, in both Maildirs, {word}", count / (time.perf_counter() - started), cpu_us=cpu_us)
        report.add(f"smtp-sink, {word}", given.messages / send(sink, count=given.messages, **settings))


if __name__ == "__main__":
    main()
