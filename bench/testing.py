"""A call of boto3 in a test: with Readdress' pytest plugin and with moto's mock_aws, in interleaved rounds.

Both are asked the same of the same client: DescribeInstance, the nearest operation that moto has. Alias changes are
Readdress' alone. Each peer runs in an interpreter of its own, one at a time; `make bench-deps` installs moto.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from report import Report

PEERS = Path(__file__).parent / "out" / "peers" / "bin" / "python"

# Each reads a number from its input and answers with the seconds that so many calls took, by line.
_LOOP = """
import json, sys, time
def serve(lines):
    for asked in sys.stdin:
        count, taken = int(asked), {}
        for line, call in lines.items():
            started = time.perf_counter()
            for _ in range(count):
                call()
            taken[line] = time.perf_counter() - started
        print(json.dumps(taken), flush=True)
"""
_READDRESS = (
    _LOOP
    + """
import tempfile
from pathlib import Path
from readdress.testing.running import RunningServices
from readdress.testing.scope import Readdress
services = RunningServices(lambda: Path(tempfile.mkdtemp()))
scope = Readdress(services.get({}))
others = services.get({"account": "000000000000"})  # of another service, so that its key stays in this scope's account
connect, instance = scope.connect, scope.instance_id
primary, alias = scope.publish("a"), scope.publish("b")
pair = {"InstanceId": instance, "EmailAddressId": primary.id, "AliasConfiguration": {"EmailAddressId": alias.id}}
address = {"InstanceId": instance, "EmailAddressId": primary.id}
def change():
    connect.associate_email_address_alias(**pair)
    connect.disassociate_email_address_alias(**pair)
def mail():
    scope.send(to=alias, subject="x")
serve({
    "Readdress DescribeInstance": lambda: connect.describe_instance(InstanceId=instance),
    "Readdress DescribeEmailAddress": lambda: connect.describe_email_address(**address),
    "Readdress associate + disassociate": change,
    "Readdress a mail by smtplib": mail,
    "Readdress a test's begin and end": lambda: Readdress(others).close(),
})
scope.close()
services.stop()
"""
)
_MOTO = (
    _LOOP
    + """
import boto3, moto
options = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
with moto.mock_aws():
    connect = boto3.client("connect", **options)
    instance = connect.create_instance(
        IdentityManagementType="SAML", InboundCallsEnabled=True, OutboundCallsEnabled=True
    )["Id"]
    serve({"moto DescribeInstance": lambda: connect.describe_instance(InstanceId=instance)})
"""
)


class Peer:
    def __init__(self, python: Path, code: str) -> None:
        self.process = subprocess.Popen(
            [python, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def take(self, calls: int) -> dict[str, float]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{calls}\n")
        taken: dict[str, float] = json.loads(self.process.stdout.readline())
        return taken

    def stop(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--calls", type=int, default=200)
    given = options.parse_args()
    report = Report("boto3 in a test, one call at a time", "calls/s")
    peers = [Peer(Path(sys.executable), _READDRESS)]
    if PEERS.exists():
        peers.append(Peer(PEERS, _MOTO))
    else:
        print("moto is left out: `make bench-deps` installs it")
    for peer in peers:
        peer.take(20)
    for _ in range(given.rounds):
        for peer in peers:
            for line, seconds in peer.take(given.calls).items():
                report.add(line, given.calls / seconds)
    for peer in peers:
        peer.stop()
    report.show(against="moto DescribeInstance" if len(peers) > 1 else "Readdress DescribeInstance")


if __name__ == "__main__":
    main()
