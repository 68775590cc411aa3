"""DNS that fails, lies or says nothing never loses mail: it is taken, marked, and within the budget for look-ups."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import checked_mail
from harness.checked_mail import STRANGER, ZONE, connect, mail_of, publish, read, results_of, send
from harness.directory import publish as publish_in
from harness.dns_zone import GARBAGE, REFUSED, SERVFAIL, TIMEOUT, DnsServer, Zone, txt
from harness.jobs import CONTENT, PEER, accept
from harness.process import ServiceProcess, free_port
from harness.signed_mail import key_zone, rsa_key, sign
from harness.smtp_client import accepted_id
from harness.spooled_mail import HELP, HOSTNAME, TroubledDatabase, deliveries, inbox
from harness.stored import wait_until
from readdress.inbox.messages import State
from readdress.mail.authentication import check as check_module
from readdress.mail.intake import Intake
from readdress.mail.sender_checks import LARGE_BYTES, SenderChecks
from readdress.smtp.envelope import Envelope
from readdress.smtp.grammar import Path as MailPath
from readdress.store.database import Database

SPOOFED = mail_of("a@reject.example")


@contextlib.contextmanager
def checking(folder: Path, dns: DnsServer, **settings: str) -> Iterator[tuple[ServiceProcess, str]]:
    process = checked_mail.start(folder / "data", dns, **settings)
    try:
        yield process, publish(process)[1]
    finally:
        process.stop()


def all_of(trouble: str) -> Zone:
    return {name: [trouble] for name in ZONE}


@pytest.mark.parametrize("trouble", [SERVFAIL, REFUSED])
def test_a_name_server_that_fails_marks_mail_and_refuses_none(tmp_path: Path, trouble: str) -> None:
    # RFC 7208 §2.6.6, RFC 8601 §2.7; contract 6: our trouble is no reason to refuse
    with DnsServer(all_of(trouble)) as dns, checking(tmp_path, dns) as (process, recipient):
        judged = send(process, recipient, sign(SPOOFED, domain="reject.example"), sender="a@reject.example")
        assert results_of(judged.raw) == {
            "spf": ["temperror"],
            "dkim": ["temperror"],
            "dmarc": ["temperror"],
            "arc": ["none"],
        }
        assert "WARNING" not in process.errors
        assert "ERROR" not in process.errors


@pytest.mark.parametrize("trouble", [TIMEOUT, GARBAGE])
def test_a_name_server_that_says_nothing_costs_the_budget_and_no_mail(tmp_path: Path, trouble: str) -> None:
    budget = {"check_budget_ms": "200"}
    with DnsServer(all_of(trouble)) as dns, checking(tmp_path, dns, **budget) as (process, recipient):
        judged = send(process, recipient, sign(SPOOFED, domain="reject.example"), sender="a@reject.example")
        assert results_of(judged.raw)["dmarc"] == ["temperror"]
        # The first look-up has spent it: nothing else is asked, whatever the message names.
        assert {name for name, _ in dns.asked} == {"_dmarc.reject.example"}


def test_without_any_name_server_mail_is_taken(tmp_path: Path) -> None:
    with DnsServer({}) as dns, checking(tmp_path, dns, resolver=f"127.0.0.1:{free_port()}") as (process, recipient):
        judged = send(process, recipient, SPOOFED, sender="a@reject.example", source=STRANGER)
        assert (judged.shown("Spf"), judged.shown("Dmarc")) == ("temperror", "temperror")
        assert dns.asked == []


def test_the_second_name_server_is_asked_when_the_first_fails(tmp_path: Path) -> None:
    with DnsServer(all_of(SERVFAIL)) as bad, DnsServer(ZONE) as good:
        servers = f"{bad.address}, {good.address}"
        with checking(tmp_path, good, resolver=servers) as (process, recipient):
            judged = send(process, recipient, SPOOFED, sender="a@reject.example", source=STRANGER)
            assert (judged.shown("Spf"), judged.shown("Dmarc")) == ("fail", "fail")


def test_what_dns_said_is_remembered(tmp_path: Path) -> None:
    with DnsServer(ZONE) as dns, checking(tmp_path, dns) as (process, recipient):
        content = sign(SPOOFED, domain="reject.example")
        send(process, recipient, content, sender="a@reject.example")
        asked = len(dns.asked)
        for _ in range(5):
            judged = send(process, recipient, content, sender="a@reject.example")
            assert judged.shown("Dmarc") == "pass"
        assert len(dns.asked) == asked


def test_a_record_with_a_thousand_look_ups_is_not_followed(tmp_path: Path) -> None:
    # RFC 7208 §4.6.4
    zone: Zone = {
        f"s{number}.many.example": [txt(f"v=spf1 include:s{number + 1}.many.example -all")] for number in range(40)
    }
    with DnsServer({**ZONE, **zone}) as dns, checking(tmp_path, dns) as (process, recipient):
        judged = send(process, recipient, SPOOFED, sender="a@s0.many.example")
        assert judged.shown("Spf") == "permerror"
        assert sum(name.endswith("many.example") for name, _ in dns.asked) <= 12


def test_answers_that_want_tcp_are_had_by_tcp(tmp_path: Path) -> None:
    with DnsServer(ZONE, udp_bytes_max=0) as dns, checking(tmp_path, dns) as (process, recipient):
        judged = send(process, recipient, sign(SPOOFED, domain="reject.example"), sender="a@reject.example")
        assert (judged.shown("Spf"), judged.shown("Dkim"), judged.shown("Dmarc")) == ("pass", "pass", "pass")
        assert {kind for _, kind in dns.asked} >= {"TXT", "TXT/tcp"}


@pytest.mark.parametrize("body", [b"hello\r\n", (b"x" * 998 + b"\r\n") * 400], ids=["small", "large"])
def test_while_one_mail_waits_for_dns_others_pass(tmp_path: Path, body: bytes) -> None:
    slow: Zone = {"slow.example": [TIMEOUT], "_dmarc.slow.example": [TIMEOUT]}
    with DnsServer({**ZONE, **slow}) as dns, checking(tmp_path, dns, check_budget_ms="3000") as (process, recipient):
        with connect(process.smtp) as waiting:
            assert waiting.begin("a@slow.example", recipient).startswith("354")
            waiting.send(mail_of("a@slow.example", body=body) + b".\r\n")
            wait_until(lambda: ("_dmarc.slow.example", "TXT") in dns.asked)
            judged = send(process, recipient, mail_of("a@reject.example", body=body), sender="a@reject.example")
            slow_one = read(process, accepted_id(waiting.read_reply()))
        assert judged.shown("Dmarc") == "pass"
        assert slow_one.shown("Dmarc") == "temperror"
        assert judged.id > slow_one.id  # ids are in the order in which mails begin
        assert results_order(process) == [judged.id, slow_one.id]


def results_order(process: ServiceProcess) -> list[str]:
    return [line.rpartition(" ")[2] for line in process.errors.splitlines() if ": 250 2.0.0 accepted" in line]


# SenderChecks by itself: what nobody foresaw.


@pytest.fixture
def checks() -> Iterator[SenderChecks]:
    with DnsServer({**ZONE, **key_zone(rsa_key())}) as dns:
        made = SenderChecks([dns.address], authserv_id=HOSTNAME, budget_s=60)
        yield made
        made.close()


def take(database: Database, checks: SenderChecks, content: bytes) -> str:
    database.run(publish_in("help", HELP))
    pieces = [content[at : at + 65_536] for at in range(0, len(content), 65_536)]
    intake = Intake(database, hostname=HOSTNAME, checks=checks)
    return asyncio.run(accept(intake, HELP, pieces=pieces))


def explode(*_: object, **__: object) -> None:
    raise RecursionError("in a library")


@pytest.mark.parametrize("size_bytes", [0, 400_000, LARGE_BYTES + 1], ids=["small", "staged", "large"])
def test_a_check_that_breaks_accepts_without_verdicts(
    database: Database,
    checks: SenderChecks,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    size_bytes: int,
) -> None:
    monkeypatch.setattr(check_module, "check_hashed", explode)
    forged = f"Authentication-Results: {HOSTNAME}; dmarc=pass\r\n".encode()
    content = CONTENT + (b"x" * 998 + b"\r\n") * (size_bytes // 1_000)
    message_id = take(database, checks, forged + content)
    (delivery,) = deliveries(database, message_id)
    assert delivery.state is State.DELIVERED
    (stored,) = inbox(database, "help")
    assert stored.startswith(b"Received: ")
    assert b"Authentication-Results" not in stored
    assert stored.endswith(content)
    assert "could not be checked" in caplog.text
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]


def test_a_content_that_cannot_be_read_again_is_accepted_without_verdicts(
    database: Database, checks: SenderChecks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    troubled = TroubledDatabase(database)

    async def load() -> bytes:
        return await troubled.read(lambda tx: tx)  # type: ignore[no-any-return]

    troubled.failing_reads.append(OSError("no disk"))
    envelope = Envelope(MailPath("", None), False, "8BITMIME", "", "")
    assert asyncio.run(checks.check(load, 10, envelope=envelope, peer=PEER)) is None
    assert "no disk" in caplog.text


def test_large_messages_are_read_one_at_a_time(checks: SenderChecks) -> None:
    """So that a few dozens of them at once don't fill the memory; small ones are there already."""
    loading, most = 0, 0

    async def load() -> bytes:
        nonlocal loading, most
        loading += 1
        most = max(most, loading)
        await asyncio.sleep(0)
        loading -= 1
        return CONTENT

    async def all_of_them(size_bytes: int) -> int:
        nonlocal most
        most = 0
        envelope = Envelope(MailPath("", None), False, "8BITMIME", "", "")
        await asyncio.gather(*(checks.check(load, size_bytes, envelope=envelope, peer=PEER) for _ in range(5)))
        return most

    assert asyncio.run(all_of_them(LARGE_BYTES + 1)) == 1
    assert asyncio.run(all_of_them(LARGE_BYTES)) == 5


def test_a_content_is_not_kept_while_dns_is_asked() -> None:
    hashed = check_module.hash_content(sign(SPOOFED, domain="reject.example"))
    assert hashed.message.body.nbytes == 0
    assert {hashed.body(relaxed=relaxed).length_bytes for relaxed in (False, True)} == {7}


def test_a_name_server_that_is_none_stops_the_start(start_service: Callable[..., ServiceProcess]) -> None:
    with pytest.raises(AssertionError, match=r"resolver: .*'localhost'"):
        start_service(environment={"READDRESS_RESOLVER": "localhost", "READDRESS_SENDER_CHECKS": "on"})
