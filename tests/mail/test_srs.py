"""Envelope senders of mail that leaves our domains: rewritten when needed, and found again when they return."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ManualClock
from harness.directory import delete, publish, tag
from harness.jobs import accept, make_delivery, make_job
from harness.smtp_sink import SmtpSink
from harness.spooled_mail import deliveries, entries, make_intake
from readdress.address import split_address
from readdress.clock import MS_PER_DAY
from readdress.directory import routing
from readdress.directory.settings import CATCH_ALL
from readdress.inbox.messages import State
from readdress.mail import srs
from readdress.mail.mx import OwnHost
from readdress.mail.resolver import Resolver
from readdress.mail.transports import Job, Outcome, Result
from readdress.mail.transports.relay import NextDomain, Smtp
from readdress.smtp.outgoing import ClientTimeouts, Target
from readdress.store.database import Database

BOB = "bob@sender.example"
OURS = "example.com"


@pytest.fixture(autouse=True)
def _published(database: Database) -> None:
    database.run(publish("help", "help@example.com"))
    database.run(publish("other", "other@our-other.example"))


def rewrite(database: Database, sender: str = BOB, our_domain: str = OURS) -> str:
    return database.run(lambda tx: srs.rewrite(tx, sender, our_domain))


def route(database: Database, recipient: str) -> routing.Route:
    return database.run(lambda tx: routing.route(tx, split_address(recipient)))


def test_a_token_is_short_random_and_its_senders_own(database: Database) -> None:
    # RFC 5321 §4.5.3.1.1: a local part has 64 octets, however long the sender's address is.
    tokens = [rewrite(database, f"{number}@{'long-' * 40}.example") for number in range(50)]
    for text in tokens:
        assert re.fullmatch(r"srs0=[a-z2-7]{24}@example\.com", text)  # 120 bits
        assert len(text.partition("@")[0].encode()) <= 64
    assert len(set(tokens)) == 50


def test_a_sender_keeps_its_token(database: Database) -> None:
    # Greylisting, and replies that are matched by their envelope, need that.
    first = rewrite(database)
    assert rewrite(database) == first
    assert rewrite(database, our_domain="our-other.example") == first.replace("example.com", "our-other.example")
    assert rewrite(database, BOB.upper()) != first  # a local part is its host's business


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.booleans(), min_size=29, max_size=29))
def test_a_token_is_found_in_any_letter_case(database: Database, flips: list[bool]) -> None:
    local_part = rewrite(database).partition("@")[0]
    text = "".join(letter.upper() if flip else letter for letter, flip in zip(local_part, flips, strict=True))
    assert route(database, f"{text}@EXAMPLE.com").destinations == (routing.return_to(BOB),)


def test_what_comes_back_goes_to_the_sender_by_the_way_back(database: Database) -> None:
    message_id = asyncio.run(accept(make_intake(database), rewrite(database), sender=""))
    (delivery,) = deliveries(database, message_id)
    assert (delivery.transport, delivery.next_hop, delivery.state) == ("return", BOB, State.QUEUED)
    assert [entry.delivery_id for entry in entries(database)] == [delivery.id]


@pytest.mark.parametrize(
    ("recipient", "enhanced"),
    [
        ("srs0=aaaaaaaaaaaaaaaaaaaaaaaa@example.com", "5.1.1"),
        ("srs0=@example.com", "5.1.1"),
        ("srs0={token}x@example.com", "5.1.1"),
        ("srs0={half}@example.com", "5.1.1"),
        ("srs0={token}@foreign.example", "5.7.1"),  # never an open relay
    ],
)
def test_what_is_no_token_of_ours_is_refused(database: Database, recipient: str, enhanced: str) -> None:
    token = rewrite(database).partition("@")[0].removeprefix("srs0=")
    found = route(database, recipient.format(token=token, half=token[:12]))
    assert (found.destinations, found.reply.code, found.reply.enhanced) == ((), 550, enhanced)


def test_an_address_that_looks_like_a_token_is_an_address(database: Database) -> None:
    text = rewrite(database)
    database.run(publish("odd", text))
    assert [each.address_id for each in route(database, text).destinations] == ["odd"]


def test_a_catch_all_takes_no_mail_of_a_token(database: Database) -> None:
    database.run(tag("help", {CATCH_ALL: "true"}))
    assert route(database, rewrite(database)).destinations == (routing.return_to(BOB),)


def test_a_token_lives_as_long_as_it_is_used_and_thirty_days(database: Database, clock: ManualClock) -> None:
    used, unused = rewrite(database), rewrite(database, "carl@sender.example")
    for _ in range(6):
        clock.advance(5 * MS_PER_DAY)
        assert rewrite(database) == used
        assert database.run(srs.forget_unused) == 0
    clock.advance(MS_PER_DAY)
    assert database.run(srs.forget_unused) == 1
    assert route(database, unused).reply.enhanced == "5.1.1"
    assert route(database, used).destinations
    assert rewrite(database, "carl@sender.example") != unused


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SmtpSink]:
    with SmtpSink(tmp_path / "sink") as started:
        yield started


def relay(database: Database, sink: SmtpSink, job: Job, *, recipient: str = "me@elsewhere.example") -> Result:
    transport = Smtp(
        Target(host="127.0.0.1", port=sink.port),
        recipient=recipient,
        allow_private=True,
        next_domain=NextDomain(database, Resolver(), OwnHost(names=("mx.example.com",)), None),
        hostname="mx.example.com",
        timeouts=ClientTimeouts(),
        concurrency=1,
        keep_content=False,
    )
    return asyncio.run(transport.deliver(job))


def test_mail_that_leaves_our_domains_has_a_sender_of_ours(database: Database, sink: SmtpSink) -> None:
    job = make_job(sender=BOB)
    result = relay(database, sink, job, recipient="{local_part}.{domain}@elsewhere.example")
    assert (result.outcome, result.recipient) == (Outcome.DELIVERED, "help.example.com@elsewhere.example")
    (mail,) = sink.mails()
    assert (mail.sender, mail.recipients) == (rewrite(database), ["help.example.com@elsewhere.example"])
    # Another recipient stands for ours from here on, and mail that comes back has to be known (RFC 9228 §2).
    assert mail.content.startswith(b"Delivered-To: help@example.com\nX-Original-To: Help@example.com\n")


@pytest.mark.parametrize(
    ("sender", "recipient"),
    [
        ("", "me@elsewhere.example"),  # RFC 5321 §4.5.5
        ("other@our-other.example", "me@elsewhere.example"),
        ("nobody-yet@EXAMPLE.com", "me@elsewhere.example"),
        (BOB, "other@our-other.example"),
        (BOB, ""),
    ],
    ids=["null sender", "our own sender", "our sender's domain", "our next domain", "the address itself"],
)
def test_only_what_needs_it_is_rewritten(database: Database, sink: SmtpSink, sender: str, recipient: str) -> None:
    assert relay(database, sink, make_job(sender=sender), recipient=recipient).outcome is Outcome.DELIVERED
    (mail,) = sink.mails()
    assert mail.sender == sender
    assert database.run(lambda tx: tx.execute(srs.sql.delete_unused_srs, before_ms=1 << 60, limit=9)) == 0


def test_what_goes_back_to_a_sender_is_sent_as_it_came(database: Database, sink: SmtpSink) -> None:
    job = make_job(sender="postmaster@third.example")
    delivery = make_delivery(
        job.message.id, address_id=routing.RETURN, instance_id="", address=None, recipients=["srs0=x@example.com"]
    )
    back = Job(delivery._replace(next_hop=BOB), job.message, 1, job.content)
    assert relay(database, sink, back, recipient="").outcome is Outcome.DELIVERED
    (mail,) = sink.mails()
    assert (mail.sender, mail.recipients) == ("postmaster@third.example", [BOB])
    assert b"Delivered-To" not in mail.content


def test_a_deleted_address_has_its_domain_for_the_token(database: Database, sink: SmtpSink) -> None:
    database.run(delete("help"))
    job = make_job(sender=BOB)
    gone = Job(make_delivery(job.message.id, address=None), job.message, 1, job.content)
    assert relay(database, sink, gone).outcome is Outcome.DELIVERED
    assert sink.mails()[0].sender.endswith("@example.com")
