"""Signed API calls over raw keep-alive HTTP: Readdress against moto_server and a bare uvicorn, in interleaved rounds.

What the peers do not do: moto keeps everything in memory, verifies no signature and has no email addresses, so its line
is its DescribeInstance; the bare uvicorn answers two bytes and does nothing. `make bench-deps` installs moto.
"""

import argparse
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import load
from harness.process import DEV_INSTANCE, ServiceProcess, free_port
from report import Report, cpu_seconds, peak_mib

MOTO = Path(__file__).parent / "out" / "peers" / "bin" / "moto_server"
BARE = """
import socket, sys, uvicorn
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none", lifespan="off", log_level="error")
"""


def start_peer(command: list[str], port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
        except urllib.error.HTTPError as error:
            error.close()
            return process
        except OSError:
            time.sleep(0.05)
        else:
            return process
    raise SystemExit(f"{command[0]} did not start")


class Readdress:
    """A service with a pair of addresses for every connection."""

    def __init__(self, data: Path, connections: int, *options: str) -> None:
        started = time.perf_counter()
        self.service = ServiceProcess(data, *options)
        self.started_s = time.perf_counter() - started
        client = self.client = self.service.connect()
        self.ids = [
            client.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=f"a{n}@example.com")["EmailAddressId"]
            for n in range(2 * connections)
        ]

    def describe(self, number: int) -> Iterator[bytes]:
        path = f"/email-addresses/{DEV_INSTANCE}/{self.ids[number]}"
        return itertools.repeat(load.sign("GET", path, self.service.http))

    def changes(self, number: int, count: int) -> Iterator[bytes]:
        """Associate and disassociate in turn, each with a token of its own, signed before the clock starts."""
        primary, alias = self.ids[2 * number], self.ids[2 * number + 1]
        with contextlib.suppress(self.client.exceptions.ResourceNotFoundException):  # where the last round stopped
            self.client.disassociate_email_address_alias(
                InstanceId=DEV_INSTANCE, EmailAddressId=primary, AliasConfiguration={"EmailAddressId": alias}
            )
        prepared = []
        for at in range(count):
            verb = "disassociate" if at % 2 else "associate"
            body = {"AliasConfiguration": {"EmailAddressId": alias}, "ClientToken": str(uuid.uuid4())}
            path = f"/email-addresses/{DEV_INSTANCE}/{primary}/{verb}-alias"
            prepared.append(load.sign("POST", path, self.service.http, json.dumps(body).encode()))
        return iter(prepared)


def measure(
    report: Report, line: str, feeds: list[Iterator[bytes]], address: tuple[str, int], pids: list[int], seconds: float
) -> None:
    before = sum(map(cpu_seconds, pids))
    done = uvloop.run(load.run(address, lambda number: feeds[number], connections=len(feeds), seconds=seconds))
    if done.refused:
        report.notes[line] = f"{done.refused} refused"
    report.add(line, done.per_second, cpu_us=(sum(map(cpu_seconds, pids)) - before) / max(1, done.answered) * 1e6)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=2)
    options.add_argument("--connections", type=int, default=32)
    given = options.parse_args()
    report = Report("API, signed calls over raw HTTP", "calls/s")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        readdress = Readdress(Path(folder) / "data", given.connections)
        peers: list[subprocess.Popen[bytes]] = []
        try:
            run(report, readdress, peers, given)
            memory = peak_mib(readdress.service.process.pid)
        finally:
            readdress.service.stop()
            for peer in peers:
                peer.terminate()
                peer.wait()
    report.show(against="moto DescribeInstance" if "moto DescribeInstance" in report.figures else "bare uvicorn")
    print(f"start to first answer {readdress.started_s:.2f} s (with the interpreter), peak memory {memory:.0f} MiB")


def run(report: Report, readdress: Readdress, peers: list[subprocess.Popen[bytes]], given: argparse.Namespace) -> None:
    pids, address = [readdress.service.process.pid], readdress.service.http_address
    bare_port, moto_port = free_port(), free_port()
    peers.append(start_peer([sys.executable, "-c", BARE, str(bare_port)], bare_port))
    hello = load.sign("GET", "/", "127.0.0.1")
    moto_feed = None
    if MOTO.exists():
        peers.append(start_peer([str(MOTO), "-p", str(moto_port)], moto_port))
        moto_feed = moto_describe(moto_port)
    else:
        print("moto is left out: `make bench-deps` installs it")
    for _ in range(given.rounds):
        for count in (1, given.connections):
            feeds = [readdress.describe(number) for number in range(count)]
            measure(report, f"Readdress Describe, {count} connections", feeds, address, pids, given.seconds)
            prepared = int(given.seconds * 6_000 / count) // 2 * 2
            feeds = [readdress.changes(number, prepared) for number in range(count)]
            measure(report, f"Readdress alias changes, {count} connections", feeds, address, pids, given.seconds)
        feeds = [itertools.repeat(hello) for _ in range(given.connections)]
        measure(report, "bare uvicorn", feeds, ("127.0.0.1", bare_port), [peers[0].pid], given.seconds)
        if moto_feed:
            feeds = [itertools.repeat(moto_feed) for _ in range(given.connections)]
            measure(report, "moto DescribeInstance", feeds, ("127.0.0.1", moto_port), [peers[1].pid], given.seconds)


def moto_describe(port: int) -> bytes:
    import boto3

    client = boto3.client(
        "connect",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    made: dict[str, str] = client.create_instance(
        IdentityManagementType="CONNECT_MANAGED", InboundCallsEnabled=True, OutboundCallsEnabled=True
    )
    return load.sign("GET", f"/instance/{made['Id']}", f"127.0.0.1:{port}")


if __name__ == "__main__":
    main()
