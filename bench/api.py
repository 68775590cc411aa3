"""Signed API calls: looking an address up, searching, and changing aliases, by raw HTTP and by boto3.

Requests are signed before the clock starts and sent by wrk, the same client for every server (see load.py). Readdress'
alias changes carry a token each, so they are all done anew; a server's peer operations are the nearest that it has.
"""

import contextlib
import http.client
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from botocore.awsrequest import AWSResponse

import load
import pgbench
import servers
from harness.process import DEV_INSTANCE, free_port, split_address
from measure import Figure, Measure, Missing, Say, Scale, cpu_seconds, timed
from servers import Service

DESCRIBE, SEARCH, CHANGE = "describe", "search", "alias change"
MOTO, MINISTACK, BARE = "moto_server", "ministack", "bare uvicorn"
# What a file of requests holds at first; it grows when a server is quicker.
REQUESTS_AT_FIRST = 8_000
Feed = Callable[[int], list[bytes]]  # so many requests, where each has to be another


def work_name(work: str, connections: int) -> str:
    return f"{work}, {connections} connection{'s' if connections > 1 else ''}"


@contextmanager
def raw(scale: Scale, folder: Path, say: Say) -> Iterator[list[Measure]]:
    """By raw keep-alive HTTP, with 1 and with 32 connections."""
    with contextlib.ExitStack() as stack:
        measures: list[Measure] = []
        services = stack.enter_context(servers.readdress(folder))
        for service in services:
            calls = Calls(service, scale.pairs)
            feeds: list[tuple[str, Feed]] = [(DESCRIBE, calls.describe), (SEARCH, calls.search), (CHANGE, calls.change)]
            host = service.process.http
            measures += _measures(service.who, host, service.pids, feeds, scale, folder, before=calls.part_all)
        try:
            changes = [(work_name(CHANGE, connections), connections) for connections in scale.http_connections]
            server = next(service.database for service in services if service.database)
            measures += pgbench.measures(server, changes, scale, folder)
        except Missing as missing:
            say(f"left out: {missing}")
        for who, start in ((BARE, bare), (MOTO, moto), (MINISTACK, ministack)):
            try:
                host, pid, feeds = stack.enter_context(start(folder))
            except Missing as missing:
                say(f"left out: {missing}")
            else:
                measures += _measures(who, host, [pid], feeds, scale, folder)
        yield measures


class Calls:
    """Readdress' requests, on addresses that are made for them: the even ones are primaries, the odd ones aliases."""

    def __init__(self, service: Service, pairs: int) -> None:
        self.host = service.process.http
        client = service.process.connect()
        self.ids = [
            client.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=f"a{n}@example.com")["EmailAddressId"]
            for n in range(2 * pairs)
        ]

    def describe(self, _: int) -> list[bytes]:
        return [load.sign("GET", f"/email-addresses/{DEV_INSTANCE}/{one}", self.host) for one in self.ids]

    def search(self, _: int) -> list[bytes]:
        """One address by its whole text."""
        return [self._search(f"a{n}@example.com") for n in range(len(self.ids))]

    def change(self, count: int) -> list[bytes]:
        """Associate all pairs, disassociate all pairs, and so on: two changes of a pair are never under way at once."""
        pairs = len(self.ids) // 2
        return [self._change(at % pairs, "disassociate" if at // pairs % 2 else "associate") for at in range(count)]

    def part_all(self) -> None:
        """No pair is associated any more: a run ends anywhere."""
        connection = http.client.HTTPConnection(*split_address(self.host))
        connection.connect()
        for pair in range(len(self.ids) // 2):
            assert connection.sock
            connection.sock.sendall(self._change(pair, "disassociate"))
            response = http.client.HTTPResponse(connection.sock)
            response.begin()
            response.read()
            assert response.status in {200, 404}
        connection.close()

    def _search(self, text: str) -> bytes:
        condition = {"FieldName": "EmailAddress", "Value": text, "ComparisonType": "EXACT"}
        body = {"InstanceId": DEV_INSTANCE, "SearchCriteria": {"StringCondition": condition}}
        return load.sign("POST", "/search-email-addresses", self.host, json.dumps(body).encode())

    def _change(self, pair: int, verb: str) -> bytes:
        primary, alias = self.ids[2 * pair : 2 * pair + 2]
        body = {"AliasConfiguration": {"EmailAddressId": alias}, "ClientToken": str(uuid.uuid4())}
        path = f"/email-addresses/{DEV_INSTANCE}/{primary}/{verb}-alias"
        return load.sign("POST", path, self.host, json.dumps(body).encode())


def _measures(
    who: str,
    host: str,
    pids: list[int],
    feeds: list[tuple[str, Feed]],
    scale: Scale,
    folder: Path,
    before: Callable[[], None] = lambda: None,
) -> list[Measure]:
    """Each with its own idea of how many requests it takes, which grows."""
    measures: list[Measure] = []
    for work, feed in feeds:
        for connections in scale.http_connections:
            count = [REQUESTS_AT_FIRST if scale.seconds >= 1 else REQUESTS_AT_FIRST // 2]

            def measure(
                work: str = work, feed: Feed = feed, connections: int = connections, count: list[int] = count
            ) -> list[Figure]:
                while True:
                    if work == CHANGE:
                        before()
                    requests = feed(count[0])
                    used = cpu_seconds(*pids)
                    done = load.run(host, requests, connections=connections, seconds=scale.seconds, folder=folder)
                    used = cpu_seconds(*pids) - used
                    if work != CHANGE or not done.wrapped:
                        cpu_us = used / done.answered * 1e6
                        return [Figure(work_name(work, connections), who, done.per_second, "calls/s", cpu_us)]
                    count[0] *= 2  # a token sent twice is answered without a change

            measures.append(measure)
    return measures


Peer = tuple[str, int, list[tuple[str, Feed]]]


@contextmanager
def bare(_: Path) -> Iterator[Peer]:
    port = free_port()
    with servers.started(servers.bare_command(port), partial(servers.answers_http, port)) as process:
        yield f"127.0.0.1:{port}", process.pid, [(DESCRIBE, lambda _: [load.sign("GET", "/", "127.0.0.1")])]


@contextmanager
def moto(folder: Path) -> Iterator[Peer]:
    """Its Connect has instances and data sets associated with them, and no email addresses."""
    port = free_port()
    host = f"127.0.0.1:{port}"
    command, log = servers.moto_command(port), folder / "moto.log"
    with servers.started(command, partial(servers.answers_http, port), log=log) as process:
        made = client("connect", f"http://{host}").create_instance(**NEW_INSTANCE)["Id"]
        path = f"/analytics-data/instance/{made}/association"

        def change(count: int) -> list[bytes]:
            return [
                load.sign("POST" if is_end else "PUT", path, host, json.dumps({"DataSetId": name}).encode())
                for name, is_end in in_turns(count)
            ]

        yield (
            host,
            process.pid,
            [
                (DESCRIBE, lambda _: [load.sign("GET", f"/instance/{made}", host)]),
                (SEARCH, lambda _: [load.sign("GET", "/instance", host)]),
                (CHANGE, change),
            ],
        )


@contextmanager
def ministack(folder: Path) -> Iterator[Peer]:
    """It has no Connect; nearest are the email identities of its SES."""
    port = free_port()
    host = f"127.0.0.1:{port}"
    environment = servers.ministack_environment(port, folder)
    command, log = servers.ministack_command(port), folder / "ministack.log"
    answers = partial(servers.answers_http, port)
    with servers.started(command, answers, environment=environment, log=log) as process:
        client("sesv2", f"http://{host}").create_email_identity(EmailIdentity="a1@example.com")
        path, sign = "/v2/email/identities", partial(load.sign, service="ses")

        def change(count: int) -> list[bytes]:
            return [
                sign("DELETE", f"{path}/{name}@example.com", host)
                if is_end
                else sign("POST", path, host, json.dumps({"EmailIdentity": f"{name}@example.com"}).encode())
                for name, is_end in in_turns(count)
            ]

        yield (
            host,
            process.pid,
            [
                (DESCRIBE, lambda _: [sign("GET", f"{path}/a1@example.com", host)]),
                (SEARCH, lambda _: [sign("GET", path, host)]),
                (CHANGE, change),
            ],
        )


def in_turns(count: int) -> Iterator[tuple[str, bool]]:
    """Names to begin and then to end, many at a time, so that no two requests about one are under way at once."""
    run = uuid.uuid4().hex[:8]
    for at in range(count):
        yield f"{run}-{at // 256}-{at % 128}", at // 128 % 2 == 1


NEW_INSTANCE = {"IdentityManagementType": "CONNECT_MANAGED", "InboundCallsEnabled": True, "OutboundCallsEnabled": True}


def client(service: str, url: str) -> Any:
    import boto3

    return boto3.session.Session().client(
        service, endpoint_url=url, region_name=load.REGION, aws_access_key_id="test", aws_secret_access_key="test"
    )


@contextmanager
def by_boto3(scale: Scale, folder: Path, say: Say) -> Iterator[list[Measure]]:
    """One boto3 client in a loop, as a program would call; boto3 alone, with no network behind it, is the floor."""
    stub = client("connect", "http://127.0.0.1:9")
    stub.meta.events.register("before-send.connect", _answer_at_once)
    loops: list[tuple[str, str, Callable[[], int]]] = [
        ("boto3 alone", DESCRIBE, partial(_describe, stub, DEV_INSTANCE))
    ]
    with contextlib.ExitStack() as stack:
        for service in stack.enter_context(servers.readdress(folder)):
            connect = service.process.connect()
            ids = [
                connect.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=f"b{n}@example.com")[
                    "EmailAddressId"
                ]
                for n in range(2)
            ]
            loops += [
                (service.who, DESCRIBE, partial(_describe, connect, ids[0])),
                (service.who, SEARCH, partial(_search, connect)),
                (service.who, CHANGE, partial(_change, connect, ids)),
            ]
        for who, start in ((MOTO, moto), (MINISTACK, ministack)):
            try:
                host, _, _ = stack.enter_context(start(folder))
            except Missing as missing:
                say(f"left out: {missing}")
            else:
                loops.append((who, DESCRIBE, _peer_describe(who, f"http://{host}")))
        yield [partial(_loop, who, work, call, scale.seconds) for who, work, call in loops]


def _loop(who: str, work: str, call: Callable[[], int], seconds: float) -> list[Figure]:
    """The CPU is the client's."""
    pid, done, spent = os.getpid(), 0, 0.0
    used = cpu_seconds(pid)
    while spent < seconds:
        calls = 0

        def once() -> None:
            nonlocal calls
            calls = call()

        spent += timed(once)
        done += calls
    return [Figure(f"{work} by boto3", who, done / spent, "calls/s", (cpu_seconds(pid) - used) / done * 1e6)]


def _answer_at_once(**_: Any) -> AWSResponse:
    return AWSResponse("http://127.0.0.1:9", 200, {}, _Body())


class _Body:
    """What urllib3 would give of an answer."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield b'{"EmailAddressId":"e","EmailAddress":"a@example.com"}'

    def read(self) -> bytes:
        return b""


def _describe(connect: Any, address_id: str) -> int:
    connect.describe_email_address(InstanceId=DEV_INSTANCE, EmailAddressId=address_id)
    return 1


def _search(connect: Any) -> int:
    condition = {"FieldName": "EmailAddress", "Value": "b0@example.com", "ComparisonType": "EXACT"}
    connect.search_email_addresses(InstanceId=DEV_INSTANCE, SearchCriteria={"StringCondition": condition})
    return 1


def _change(connect: Any, ids: list[str]) -> int:
    pair = {"InstanceId": DEV_INSTANCE, "EmailAddressId": ids[0], "AliasConfiguration": {"EmailAddressId": ids[1]}}
    connect.associate_email_address_alias(**pair)
    connect.disassociate_email_address_alias(**pair)
    return 2


def _peer_describe(who: str, url: str) -> Callable[[], int]:
    if who == MOTO:
        connect = client("connect", url)
        instance = connect.create_instance(**NEW_INSTANCE)["Id"]
        return lambda: bool(connect.describe_instance(InstanceId=instance))
    ses = client("sesv2", url)
    return lambda: bool(ses.get_email_identity(EmailIdentity="a1@example.com"))
