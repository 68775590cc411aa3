"""Mail to the hosts that MX records name: which is asked next, and how many mails go to a domain at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from harness.directory import publish
from harness.dns_zone import DnsServer, Zone
from harness.jobs import make_job
from harness.outgoing import HOSTNAME, TIMEOUTS
from harness.scripted_host import BYE, ENVELOPE, GREETING, Hear, HearContent, Silence, Step, ehlo, scripted_host
from readdress.mail.mx import OwnHost
from readdress.mail.resolver import Resolver
from readdress.mail.transports import Outcome, Result
from readdress.mail.transports.relay import NextDomain, Smtp
from readdress.smtp.outgoing import Target
from readdress.store.database import Database

ALIVE_S = 10
NAMES = ("first.example", "second.example")
HOSTS: Zone = {name: [("A", "127.0.0.1")] for name in NAMES}
ZONE: Zone = {
    "elsewhere.example": [("MX", "10 first.example."), ("MX", "20 second.example.")],
    **HOSTS,
}
READY: Sequence[Step] = (GREETING, *ehlo(), *ENVELOPE, Hear("DATA"), "354 go", HearContent())
TAKES: Sequence[Step] = (*READY, "250 2.0.0 taken", *BYE)
NOBODY = None


@pytest.fixture(autouse=True)
def published(database: Database) -> None:
    database.run(publish("help", "help@example.com"))


def transport(database: Database, dns: DnsServer, ports: dict[str, int], **settings: Any) -> Smtp:
    """Each host of the zone has its port, where all hosts of the world have 25."""

    def to_host(*, host: str, addresses: Sequence[str]) -> Target:
        return Target(host=host, port=ports[host], addresses=tuple(addresses), tls="none")

    return Smtp(
        None,
        to_host=to_host,
        recipient=settings.pop("recipient", "me@elsewhere.example"),
        allow_private=settings.pop("allow_private", True),
        next_domain=NextDomain(database, Resolver([dns.address]), OwnHost(names=("mx.example.com",)), None),
        hostname=HOSTNAME,
        timeouts=TIMEOUTS,
        concurrency=10,
        keep_content=False,
        **settings,
    )


def deliver(database: Database, scripts: Sequence[Sequence[Step] | None], **settings: Any) -> tuple[Result, list[int]]:
    """The result, and how many connections each host of the domain saw; one without a script does not listen."""

    async def converse() -> tuple[Result, list[int]]:
        async with AsyncExitStack() as stack:
            hosts = [await stack.enter_async_context(scripted_host(script or ())) for script in scripts]
            ports = {
                name: host.port if script is not None else 1
                for name, host, script in zip(NAMES, hosts, scripts, strict=True)
            }
            result = await transport(database, dns, ports, **settings).deliver(make_job())
            return result, [len(host.heard) for host in hosts]

    with DnsServer(ZONE) as dns:
        return asyncio.run(converse())


@pytest.mark.parametrize(
    ("first", "outcome", "connections"),
    [
        (TAKES, Outcome.DELIVERED, [1, 0]),
        (NOBODY, Outcome.DELIVERED, [0, 1]),
        (["421 4.3.2 closing"], Outcome.DELIVERED, [1, 1]),
        (["554 5.0.0 no mail here"], Outcome.DELIVERED, [1, 1]),
        ([], Outcome.DELIVERED, [1, 1]),
        ([GREETING, Hear("EHLO"), "451 4.3.0 later"], Outcome.DELIVERED, [1, 1]),
        ([GREETING, *ehlo(), Hear("MAIL"), "550 5.7.1 not you"], Outcome.PERMANENT, [1, 0]),
        ([GREETING, *ehlo(), *ENVELOPE[:3], "450 4.2.1 later", Silence()], Outcome.TEMPORARY, [1, 0]),
        ([*READY, "452 4.3.1 full", Silence()], Outcome.TEMPORARY, [1, 0]),
        (READY, Outcome.TEMPORARY, [1, 0]),  # it may have taken the mail
    ],
    ids=[
        "takes it",
        "does not listen",
        "421 at once",
        "554 at once",
        "hangs up",
        "defers EHLO",
        "refuses the sender",
        "defers the recipient",
        "defers the content",
        "is lost behind the content",
    ],
)
def test_the_next_host_is_asked_while_none_has_spoken_of_the_mail(
    database: Database, first: Sequence[Step] | None, outcome: Outcome, connections: list[int]
) -> None:
    # RFC 5321 §5.1
    result, seen = deliver(database, [first, TAKES])
    assert (result.outcome, seen) == (outcome, connections), result


def test_when_no_host_can_be_reached_the_mail_waits(database: Database) -> None:
    result, _ = deliver(database, [NOBODY, NOBODY])
    assert (result.outcome, result.enhanced) == (Outcome.TEMPORARY, "4.4.1")
    assert "second.example" in result.remote


def test_hosts_inside_are_not_asked_unless_allowed(database: Database) -> None:
    result, seen = deliver(database, [TAKES, TAKES], allow_private=False)
    assert (result.outcome, seen) == (Outcome.PERMANENT, [0, 0])


class Counting:
    """A host that takes mails slowly, and counts how many at a time."""

    def __init__(self) -> None:
        self.at_a_time = self.most = self.taken = 0
        self.go_on = asyncio.Event()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.at_a_time += 1
        self.most = max(self.most, self.at_a_time)
        try:
            async with asyncio.timeout(ALIVE_S):
                await self.go_on.wait()
                for reply in (b"220 x", b"250 x", b"250 a", b"250 b", b"354 c"):
                    writer.write(reply + b"\r\n")
                    await reader.readline()
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 2.0.0 taken\r\n")
                self.taken += 1
        finally:
            self.at_a_time -= 1
            writer.close()


@asynccontextmanager
async def counting_hosts(names: Iterable[str]) -> AsyncIterator[dict[str, tuple[Counting, int]]]:
    async with AsyncExitStack() as stack:
        hosts = {}
        for name in names:
            host = Counting()
            server = await stack.enter_async_context(await asyncio.start_server(host.take, "127.0.0.1", 0))
            hosts[name] = (host, int(server.sockets[0].getsockname()[1]))
        yield hosts


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_domain_gets_no_more_at_a_time_than_it_should(database: Database, concurrency: int) -> None:
    """However its name is written, and whatever other domains get."""
    zone: Zone = {
        "elsewhere.example": [("MX", "10 first.example.")],
        "other.example": [("MX", "10 second.example.")],
        **HOSTS,
    }
    recipients = ["me@elsewhere.example", "me@ELSEWHERE.example", "you@elsewhere.example"] * 3 + ["me@other.example"]

    async def converse() -> None:
        async with counting_hosts(NAMES) as hosts, asyncio.timeout(ALIVE_S):
            smtp = transport(
                database,
                dns,
                {name: port for name, (_, port) in hosts.items()},
                recipient="",
                domain_concurrency=concurrency,
            )
            (first, _), (second, _) = hosts.values()
            jobs = [make_job() for _ in recipients]
            tries = [
                asyncio.create_task(smtp.deliver(replace(job, delivery=job.delivery._replace(next_hop=recipient))))
                for job, recipient in zip(jobs, recipients, strict=True)
            ]
            while not (first.at_a_time == concurrency and second.at_a_time == 1):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert (first.most, second.most) == (concurrency, 1)
            first.go_on.set()
            second.go_on.set()
            results = await asyncio.gather(*tries)
            assert {result.outcome for result in results} == {Outcome.DELIVERED}
            assert (first.most, first.taken, second.taken) == (concurrency, len(recipients) - 1, 1)

    with DnsServer(zone) as dns:
        asyncio.run(converse())
