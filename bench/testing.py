"""Calls of boto3 in a test run, one after the other: with Readdress' pytest plugin, and with moto's mock_aws.

Both are asked for the same, DescribeInstance, the nearest that moto has. Each is an interpreter of its own, so that
neither pays for what the other imports; it measures when it is told to.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from measure import PEERS, Figure, Measure, Missing, Say, Scale

PLUGIN, MOCK = "Readdress in a test", "moto's mock_aws"
DESCRIBE = "describe in a test"

# Reads for how many seconds to call, and answers how many calls there were in a second, by work.
_LOOP = """
import json, sys, time

def measure(calls):
    for asked in sys.stdin:
        rates = {}
        for work, call in calls.items():
            began, done, spent = time.perf_counter(), 0, 0.0
            while spent < float(asked):
                done += call()
                spent = time.perf_counter() - began
            rates[work] = done / spent
        print(json.dumps(rates), flush=True)
"""
_PLUGIN = f"""{_LOOP}
from pathlib import Path
import boto3
from readdress.testing.running import RunningServices
from readdress.testing.scope import Readdress

folders = iter(Path(sys.argv[1], name) for name in ("a", "b"))
services = RunningServices(lambda: next(folders))
mine = Readdress(services.get({{}}))
others = services.get({{"account": "000000000000"}})  # another service: its key belongs to tests that come and go
connect, instance = mine.connect, mine.instance_id
primary, alias = mine.publish("primary"), mine.publish("alias")
pair = {{"InstanceId": instance, "EmailAddressId": primary.id, "AliasConfiguration": {{"EmailAddressId": alias.id}}}}

own = boto3.client("connect", **mine.client_options)

def describe():
    connect.describe_instance(InstanceId=instance)
    return 1

def describe_by_http():
    own.describe_instance(InstanceId=instance)
    return 1

def change():
    connect.associate_email_address_alias(**pair)
    connect.disassociate_email_address_alias(**pair)
    return 2

def mail():
    mine.send(to=alias, subject="x")
    return 1

def begin_and_end():
    Readdress(others).close()
    return 1

measure({{
    "{DESCRIBE}": describe,
    "{DESCRIBE}, by a client of one's own": describe_by_http,
    "alias change in a test": change,
    "mail in a test": mail,
    "begin and end of a test": begin_and_end,
}})
mine.close()
services.stop()
"""
_MOCK = f"""{_LOOP}
import boto3, moto

with moto.mock_aws():
    connect = boto3.client("connect", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    instance = connect.create_instance(
        IdentityManagementType="SAML", InboundCallsEnabled=True, OutboundCallsEnabled=True
    )["Id"]

    def describe():
        connect.describe_instance(InstanceId=instance)
        return 1

    measure({{"{DESCRIBE}": describe}})
"""


@contextmanager
def measures(scale: Scale, folder: Path, say: Say) -> Iterator[list[Measure]]:
    with ExitStack() as stack:
        loops = [stack.enter_context(closing(_Loop(PLUGIN, [sys.executable, "-c", _PLUGIN, str(folder)], scale)))]
        try:
            python = PEERS / "python"
            if not python.exists():
                raise Missing("moto: `make bench-deps` installs it")
            loops.append(stack.enter_context(closing(_Loop(MOCK, [str(python), "-c", _MOCK], scale))))
        except Missing as missing:
            say(f"left out: {missing}")
        yield [loop.measure for loop in loops]


class _Loop:
    """An interpreter that calls for so long, each time it is asked."""

    def __init__(self, who: str, command: list[str], scale: Scale) -> None:
        self._who = who
        self._seconds = scale.seconds
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._ask(0.05)  # the first calls load what the others use

    def measure(self) -> list[Figure]:
        return [Figure(work, self._who, rate, "calls/s") for work, rate in self._ask(self._seconds).items()]

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, seconds: float) -> dict[str, float]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{seconds}\n")
        rates: dict[str, float] = json.loads(self._process.stdout.readline())
        return rates
