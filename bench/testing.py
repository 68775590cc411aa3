"""A call of boto3 in a test: with Readdress' pytest plugin and with moto's mock_aws, in interleaved rounds.

Both are asked the same of the same client: DescribeInstance, the nearest operation that moto has. Alias changes are
Readdress' alone. Each peer runs in an interpreter of its own, one at a time; `make bench-deps` installs moto.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from measure import PEERS, Figure, Measure, Say, Scale

PLUGIN, MOCK = "Readdress' pytest plugin", "moto's mock_aws"

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
    "describe an instance, in a test": lambda: connect.describe_instance(InstanceId=instance),
    "describe an address, in a test": lambda: connect.describe_email_address(**address),
    "associate and disassociate, in a test": change,
    "a mail by smtplib, in a test": mail,
    "begin and end of a test": lambda: Readdress(others).close(),
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
    serve({"describe an instance, in a test": lambda: connect.describe_instance(InstanceId=instance)})
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


@contextmanager
def measures(scale: Scale, folder: Path, say: Say) -> Iterator[list[Measure]]:  # noqa: ARG001 - as every group
    with contextlib.ExitStack() as stack:
        found: list[Measure] = []
        for who, python, code in ((PLUGIN, Path(sys.executable), _READDRESS), (MOCK, PEERS / "python", _MOTO)):
            if python.exists():
                peer = Peer(python, code)
                stack.callback(peer.stop)
                peer.take(2)
                found.append(partial(_measure, who, peer, max(10, round(200 * scale.seconds))))
            else:
                say("left out: moto, which `make bench-deps` installs")
        yield found


def _measure(who: str, peer: Peer, calls: int) -> list[Figure]:
    return [Figure(work, who, calls / seconds, "calls/s") for work, seconds in peer.take(calls).items()]
