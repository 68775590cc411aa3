"""Notices to senders: their form, field by field, who hears of what, and what they never say."""

import asyncio
import logging
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ManualClock
from harness.directory import associate, publish
from harness.jobs import CONTENT, accept, asking, make_delivery, make_job
from harness.notices import ReadNotice, read_notice
from harness.spooled_mail import (
    DELIVERED,
    HOSTNAME,
    PERMANENT,
    TEMPORARY,
    content,
    deliveries,
    entries,
    inbox,
    make_intake,
)
from readdress.inbox import messages
from readdress.inbox.messages import Delivery, Message, Notices, Reason, State
from readdress.mail.dispatch import Dispatcher
from readdress.mail.notices import RETURNED_BYTES_MAX, Action, Notifier
from readdress.mail.transports import Outcome, Result
from readdress.smtp import grammar
from readdress.spool import queue
from readdress.store.database import Database, Transaction

ANN = "ann@example.com"
HELP = "help@example.com"
HEADER = CONTENT.partition(b"\r\n\r\n")[0] + b"\r\n"
STATES = {Action.FAILED: State.FAILED, Action.DELAYED: State.QUEUED}


@pytest.fixture(autouse=True)
def _published(database: Database) -> None:
    database.run(publish("ann", ANN))


def store(database: Database, *made: Delivery, raw: bytes = CONTENT, **changes: Any) -> Message:
    """A message as intake leaves it, with deliveries that wait."""
    message = make_job(raw, **({"sender": ANN} | changes)).message

    def work(tx: Transaction) -> None:
        messages.insert(tx, message)
        messages.insert_content(tx, message_id=message.id, part=0, content=raw)
        for delivery in made:
            messages.insert_delivery(tx, delivery._replace(message_id=message.id))
            queue.enqueue(
                tx, delivery_id=delivery.id, address_id=delivery.address_id, message_id=message.id, transport="desk"
            )

    database.run(work)
    return message


def tell(
    database: Database,
    message: Message,
    delivery: Delivery,
    action: Action = Action.FAILED,
    result: Result = PERMANENT,
    *,
    can_return: bool = False,
) -> None:
    """As the runner does when it records an outcome."""
    notifier = Notifier(hostname=HOSTNAME, dispatcher=Dispatcher(can_return=can_return))

    def work(tx: Transaction) -> None:
        messages.set_state(tx, delivery, STATES.get(action, State.DELIVERED))
        if action is Action.DELAYED:
            queue.note_delay_told(tx, delivery.id)
        notifier.tell(tx, action, message, delivery, result)

    database.run(work)


def notices_of(
    database: Database,
    action: Action = Action.FAILED,
    result: Result = PERMANENT,
    *,
    raw: bytes = CONTENT,
    delivery: Delivery | None = None,
    **changes: Any,
) -> list[bytes]:
    """What Ann finds in her inbox when that becomes of her mail."""
    delivery = delivery or make_delivery("", recipients=[HELP])
    message = store(database, delivery, raw=raw, **changes)
    tell(database, message, delivery._replace(message_id=message.id), action, result)
    return inbox(database, "ann")


def notice_of(database: Database, *arguments: Any, **options: Any) -> ReadNotice:
    (notice,) = notices_of(database, *arguments, **options)
    return read_notice(notice)


def test_a_failure_field_by_field(database: Database, clock: ManualClock) -> None:
    clock.advance(3_600_000)
    result = PERMANENT._replace(recipient=HELP)
    delivery = make_delivery(
        "", recipients=[HELP], notices=[Notices(HELP, "FAILURE,DELAY", "rfc822;Help+2Bbox@example.com")]
    )
    notice = notice_of(database, Action.FAILED, result, delivery=delivery, envelope_id="QQ+2B3140+3D", ret="HDRS")
    assert notice.mail["From"] == f"Mail Delivery System <MAILER-DAEMON@{HOSTNAME}>"
    assert notice.mail["To"] == f"<{ANN}>" or notice.mail["To"] == ANN
    assert notice.mail["Subject"] == "Your mail could not be delivered"
    assert parsedate_to_datetime(notice.mail["Date"]).timestamp() * 1000 == clock.now_ms()
    of_message, of_recipient = notice.report
    assert of_message == [
        ("Reporting-MTA", f"dns; {HOSTNAME}"),  # RFC 3464 §2.2.2
        ("Original-Envelope-Id", "QQ+3140="),  # §2.2.1, decoded from xtext (RFC 3461 §4)
        ("Arrival-Date", "Thu, 01 Jan 2026 00:00:00 +0000"),  # §2.2.5
    ]
    assert of_recipient == [
        ("Original-Recipient", "rfc822;Help+box@example.com"),  # §2.3.1
        ("Final-Recipient", f"rfc822;{HELP}"),  # §2.3.2
        ("Action", "failed"),  # §2.3.3
        ("Status", "5.1.1"),  # §2.3.4
        ("Diagnostic-Code", "smtp; 550 5.1.1 never"),  # §2.3.6
        ("Last-Attempt-Date", "Thu, 01 Jan 2026 01:00:00 +0000"),  # §2.3.7
    ]
    assert notice.report_type == "message/delivery-status"
    assert (notice.returned_type, notice.returned) == ("text/rfc822-headers", HEADER)  # RFC 6522 §4
    assert f"\r\n  {HELP}\r\n" in notice.text
    assert "will not be tried again" in notice.text


def test_it_has_the_null_sender_and_asks_for_no_notice_itself(database: Database) -> None:
    # RFC 3464 §2: so that no notice is ever answered by one
    notices_of(database)
    found = database.run(lambda tx: messages.list_inbox(tx, address_id="ann", before_id=None, limit=1))
    assert found[0].sender == ""
    (delivery,) = deliveries(database, found[0].message_id)
    assert [each.notify for each in delivery.notices] == ["NEVER"]


@pytest.mark.parametrize(
    ("action", "result", "status", "words"),
    [
        (Action.DELAYED, TEMPORARY, "4.2.1", "need not send it again"),
        (Action.DELIVERED, DELIVERED, "2.0.0", "was delivered"),
        (Action.RELAYED, DELIVERED, "2.0.0", "passed on"),
        (Action.FAILED, TEMPORARY, "5.2.1", "could not be delivered"),
        (Action.DELAYED, PERMANENT, "4.1.1", "need not send it again"),
        (Action.FAILED, Result(Outcome.PERMANENT, "no", ""), "5.0.0", "could not be delivered"),
        (Action.FAILED, Result(Outcome.PERMANENT, "no", "5.1\r\nX: y"), "5.0.0", "could not be delivered"),
    ],
)
def test_the_class_of_the_status_is_the_actions(
    database: Database, action: Action, result: Result, status: str, words: str
) -> None:
    # RFC 3464 §2.3.4, RFC 3463 §2
    delivery = make_delivery("", recipients=[HELP], notices=[Notices(HELP, "SUCCESS,FAILURE,DELAY", "")])
    notice = notice_of(database, action, result, delivery=delivery)
    assert (notice.field("Action"), notice.field("Status")) == (action, status)
    assert words in notice.text


@pytest.mark.parametrize(
    ("notify", "heard"),
    [
        ("", {Action.FAILED, Action.DELAYED}),
        ("NEVER", set()),
        ("SUCCESS", {Action.DELIVERED, Action.RELAYED}),
        ("FAILURE", {Action.FAILED}),
        ("delay", {Action.DELAYED}),
        ("FAILURE,DELAY", {Action.FAILED, Action.DELAYED}),
        ("SUCCESS,FAILURE,DELAY", set(Action)),
    ],
)
@pytest.mark.parametrize("action", Action)
def test_a_sender_hears_what_was_asked_for(database: Database, action: Action, notify: str, heard: set[Action]) -> None:
    # RFC 3461 §4.1; without NOTIFY a sender hears of failures and delays
    delivery = make_delivery("", recipients=[HELP], notices=[Notices(HELP, notify, "")] if notify else [])
    assert len(notices_of(database, action, delivery=delivery)) == (1 if action in heard else 0)


def test_what_one_recipient_asked_holds_for_that_one(database: Database) -> None:
    other = "HELP@example.com"
    delivery = make_delivery("", recipients=[HELP, other], notices=[Notices(HELP, "NEVER", "")])
    assert notice_of(database, delivery=delivery).field("Final-Recipient") == f"rfc822;{other}"


LONG = b"Subject: hello\r\n\r\n" + b"x" * RETURNED_BYTES_MAX


@pytest.mark.parametrize(
    ("action", "ret", "raw", "expected"),
    [
        (Action.FAILED, "FULL", CONTENT, ("message/rfc822", CONTENT)),
        (Action.FAILED, "FULL", LONG, ("text/rfc822-headers", b"Subject: hello\r\n")),
        (Action.FAILED, "", CONTENT, ("text/rfc822-headers", HEADER)),
        (Action.DELAYED, "FULL", CONTENT, ("text/rfc822-headers", HEADER)),  # RFC 3461 §4.3: for failures only
        (Action.FAILED, "", b"\r\na body\r\n\r\nalone\r\n", ("text/rfc822-headers", b"")),
        (Action.FAILED, "", b"Subject: no body\r\n", ("text/rfc822-headers", b"Subject: no body\r\n\r\n")),
        (
            Action.FAILED,
            "",
            "Subject: \u00fc\r\n\r\nx\r\n".encode(),
            ("message/global-headers", b"Subject: \xc3\xbc\r\n"),
        ),
        (Action.FAILED, "FULL", b"Subject: \xc3\xbc\r\n\r\n", ("message/global", b"Subject: \xc3\xbc\r\n\r\n")),
    ],
    ids=["full", "too long", "unasked", "delayed", "no header", "no body", "utf-8 header", "utf-8 full"],
)
def test_how_much_comes_back(
    database: Database, action: Action, ret: str, raw: bytes, expected: tuple[str, bytes]
) -> None:
    # RFC 3461 §4.3; RFC 6533 §5 for what is not ASCII
    notice = notice_of(database, action, ret=ret, raw=raw)
    assert (notice.returned_type, notice.returned) == expected


@pytest.mark.parametrize(
    "header",
    [
        "Auto-Submitted: auto-generated",
        "auto-submitted:auto-replied",
        "Auto-Submitted: auto-notified; owner-email=x",
        "Auto-Submitted:\r\n auto-replied",
        "Precedence: bulk",
        "Precedence: list",
        "PRECEDENCE : junk",
        "List-Id: <list.example>",
        "X-Auto-Response-Suppress: All",
        "X-Auto-Response-Suppress: OOF, DR",
    ],
)
@pytest.mark.parametrize("action", [Action.FAILED, Action.DELAYED])
def test_what_a_program_sent_by_itself_is_never_answered(
    database: Database, action: Action, header: str, caplog: pytest.LogCaptureFixture
) -> None:
    # RFC 3834 §2
    with caplog.at_level(logging.INFO, "readdress.mail"):
        assert notices_of(database, action, raw=f"Subject: t\r\n{header}\r\n\r\nbody\r\n".encode()) == []
    assert "a program sent it" in caplog.text


@pytest.mark.parametrize(
    "raw",
    [
        b"Auto-Submitted: no\r\n\r\n",
        b"Auto-Submitted: no; because\r\n\r\n",
        b"Precedence: first-class\r\n\r\n",
        b"Subject: List-Id: x\r\n\r\nAuto-Submitted: auto-replied\r\n",
        b"X-Auto-Response-Suppress: None\r\n\r\n",
    ],
)
def test_what_a_person_sent_is_answered(database: Database, raw: bytes) -> None:
    assert len(notices_of(database, raw=raw)) == 1


def test_a_null_sender_is_never_answered_nor_is_a_notice(database: Database) -> None:
    # RFC 5321 §4.5.5
    assert notices_of(database, sender="") == []
    assert len(notices_of(database)) == 1
    (entry,) = database.run(lambda tx: messages.list_inbox(tx, address_id="ann", before_id=None, limit=2))
    notice = database.run(lambda tx: messages.find(tx, entry.message_id))
    assert notice
    tell(database, notice, deliveries(database, notice.id)[0])
    assert len(inbox(database, "ann")) == 1


PRIMARY = "secret.primary@hidden.example"


@pytest.mark.parametrize("action", Action)
def test_a_notice_never_says_who_is_behind_an_alias(database: Database, action: Action) -> None:
    # contract 6: not the primary's address, nor what a host says that knows it
    delivery = make_delivery(
        "",
        address=PRIMARY,
        recipients=[HELP],
        reasons=[Reason("ALIAS", "11111111-1111-7111-8111-111111111111")],
        next_hop=PRIMARY,
        notices=[Notices(HELP, "SUCCESS,FAILURE,DELAY", "")],
    )
    words = f"550 5.2.2 {PRIMARY}: box full at store7.hidden.example"
    result = Result(
        Outcome.PERMANENT, words, "5.2.2", "store7.hidden.example (10.0.0.7:25)", is_remote=True, recipient=PRIMARY
    )
    (raw,) = notices_of(database, action, result, delivery=delivery, ret="FULL")
    for secret in ("secret.primary", "hidden.example", "10.0.0.7", "box full", "Diagnostic-Code", delivery.address_id):
        assert secret.encode() not in raw
    assert read_notice(raw).field("Final-Recipient") == f"rfc822;{HELP}"


@pytest.mark.parametrize(
    ("recipient", "is_remote", "is_told"),
    [(HELP, True, True), ("me@elsewhere.example", True, False), ("", True, False), (HELP, False, False)],
    ids=["the recipient itself", "another one stands for it", "no mail host", "our own words"],
)
def test_a_next_hosts_words_are_told_where_it_knows_no_more_than_the_sender(
    database: Database, recipient: str, is_remote: bool, is_told: bool
) -> None:
    result = PERMANENT._replace(reply="550 5.1.1 about somebody", recipient=recipient, is_remote=is_remote)
    (raw,) = notices_of(database, Action.FAILED, result)
    assert (b"about somebody" in raw) is is_told
    assert b"elsewhere.example" not in raw


@pytest.mark.parametrize(
    ("action", "result"), [(Action.FAILED, PERMANENT), (Action.DELAYED, TEMPORARY), (Action.DELIVERED, DELIVERED)]
)
def test_an_aliass_two_deliveries_are_told_of_once(database: Database, action: Action, result: Result) -> None:
    # The sender wrote to one recipient, and does not hear that it was two.
    notices = [Notices(HELP, "SUCCESS,FAILURE,DELAY", "")]
    pair = [
        make_delivery("", recipients=[HELP], notices=notices, address_id=f"{number}1111111-1111-7111-8111-111111111111")
        for number in range(2)
    ]
    message = store(database, *pair)
    for delivery in pair:
        tell(database, message, delivery._replace(message_id=message.id), action, result)
    assert len(inbox(database, "ann")) == 1


def test_two_recipients_are_told_of_each(database: Database) -> None:
    pair = [make_delivery("", recipients=[f"{name}@example.com"], address_id=name) for name in ("a", "b")]
    message = store(database, *pair)
    for delivery in pair:
        tell(database, message, delivery._replace(message_id=message.id))
    found = [read_notice(raw).field("Final-Recipient") for raw in inbox(database, "ann")]
    assert found == ["rfc822;a@example.com", "rfc822;b@example.com"]


def test_what_is_in_an_inbox_at_once_is_confirmed_once_where_that_was_asked(database: Database) -> None:
    # RFC 3461 §4.1; alias and primary, so two inboxes
    for name in ("alias", "primary"):
        database.run(publish(name, f"{name}@example.com"))
    database.run(associate("alias", "primary"))
    intake = make_intake(database)
    recipients = [
        asking("alias@example.com", "SUCCESS", "rfc822;x@y.example"),
        asking("primary@example.com", "FAILURE"),
    ]
    asyncio.run(accept(intake, *recipients, sender=ANN))
    asyncio.run(accept(intake, "alias@example.com", sender=ANN))
    (raw,) = inbox(database, "ann")
    notice = read_notice(raw)
    assert notice.report[1] == [
        ("Original-Recipient", "rfc822;x@y.example"),
        ("Final-Recipient", "rfc822;alias@example.com"),
        ("Action", "delivered"),
        ("Status", "2.1.5"),
    ]


def test_a_sender_elsewhere_hears_by_the_way_back(database: Database) -> None:
    delivery = make_delivery("", recipients=[HELP])
    message = store(database, delivery, sender="bob@sender.example", smtputf8=True)
    tell(database, message, delivery._replace(message_id=message.id), can_return=True)
    (_, entry) = entries(database)
    assert entry.transport == "return"
    (returned,) = deliveries(database, entry.message_id)
    assert (returned.next_hop, returned.instance_id, returned.state) == ("bob@sender.example", "", State.QUEUED)
    stored = database.run(lambda tx: messages.find(tx, entry.message_id))
    assert stored
    assert (stored.sender, stored.smtputf8) == ("", True)
    raw = content(database, entry.message_id)
    assert raw
    assert stored.size_bytes == len(raw)
    assert read_notice(raw).field("Action") == "failed"
    # No Delivered-To goes on top of it: to a host that knows the sender, that would be the mark of a loop.
    assert messages.onward_trace(stored, returned, returned.next_hop) == (
        f"X-Original-To: bob@sender.example\r\nX-Readdress-Delivery-Id: {returned.id}\r\n"
    )


def test_without_a_way_back_nothing_is_written_and_the_log_says_so(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    delivery = make_delivery("", recipients=[HELP])
    message = store(database, delivery, sender="bob@sender.example")
    tell(database, message, delivery._replace(message_id=message.id))
    assert [entry.message_id for entry in entries(database)] == [message.id]
    assert "no way back to <bob@sender.example>: set return_transport" in caplog.text


def test_a_local_senders_alias_takes_notices_to_both(database: Database) -> None:
    database.run(publish("boss", "boss@example.com"))
    database.run(associate("ann", "boss"))
    assert len(notices_of(database)) == 1
    assert len(inbox(database, "boss")) == 1


def test_addresses_outside_ascii_have_the_global_form(database: Database) -> None:
    # RFC 6533 §3, §4
    recipient = "h\u00e9lp@example.com"
    delivery = make_delivery("", recipients=[recipient], notices=[Notices(recipient, "FAILURE", f"utf-8;{recipient}")])
    notice = notice_of(database, delivery=delivery, smtputf8=True)
    assert notice.report_type == "message/global-delivery-status"
    assert notice.field("Final-Recipient") == f"utf-8;{recipient}"
    assert notice.field("Original-Recipient") == f"utf-8;{recipient}"
    assert recipient in notice.text


def test_a_notice_is_written_exactly_when_the_outcome_is(database: Database) -> None:
    delivery = make_delivery("", recipients=[HELP])
    message = store(database, delivery)
    notifier = Notifier(hostname=HOSTNAME, dispatcher=Dispatcher())

    def work(tx: Transaction) -> None:
        notifier.tell(tx, Action.FAILED, message, delivery._replace(message_id=message.id), PERMANENT)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        database.run(work)
    assert inbox(database, "ann") == []


_LOCAL_PARTS = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text(st.sampled_from('ab \\"\t<>@.;:,\u2028\u0085\u00e9'), min_size=1, max_size=20).map(
        lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    ),
)
_MAILBOXES = _LOCAL_PARTS.map(lambda local: f"{local}@odd.example").filter(
    lambda text: grammar.parse_mailbox(text) is not None
)
# No door lets a NUL in (RFC 5321 §2.3.8, RFC 3461 §4), and PostgreSQL's text has none.
_TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=100)
_LINES = st.binary(max_size=200).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b""))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sender=_MAILBOXES,
    recipient=_MAILBOXES,
    lines=st.lists(_LINES, max_size=5),
    original=_TEXTS,
    envelope_id=_TEXTS,
    reply=_TEXTS,
    ret=st.sampled_from(["", "FULL", "HDRS"]),
)
def test_whatever_a_mail_is_made_of_its_notice_is_well_formed(
    database: Database,
    sender: str,
    recipient: str,
    lines: list[bytes],
    original: str,
    envelope_id: str,
    reply: str,
    ret: str,
) -> None:
    raw = b"".join(b"X-%d: %s\r\n" % (number, line) for number, line in enumerate(lines)) + b"\r\nbody\r\n"
    original, envelope_id = (text.encode("utf-8", "replace").decode() for text in (original, envelope_id))
    delivery = make_delivery("", recipients=[recipient], notices=[Notices(recipient, "FAILURE", f"rfc822;{original}")])
    message = store(
        database, delivery, raw=raw, sender=sender, smtputf8=True, ret=ret, envelope_id=envelope_id, subject="x"
    )
    result = Result(
        Outcome.PERMANENT, reply.encode("utf-8", "replace").decode(), "5.1.1", is_remote=True, recipient=recipient
    )
    tell(database, message, delivery._replace(message_id=message.id), Action.FAILED, result, can_return=True)
    newest = database.run(lambda tx: messages.list_since(tx, 0, limit=1))[0]
    assert newest.sender == ""
    written = content(database, newest.id)
    assert written
    notice = read_notice(written)
    names = [[name for name, _ in block] for block in notice.report]
    assert names == [
        ["Reporting-MTA", *(["Original-Envelope-Id"] if envelope_id else []), "Arrival-Date"],
        ["Original-Recipient", "Final-Recipient", "Action", "Status", "Diagnostic-Code", "Last-Attempt-Date"],
    ]
    assert notice.field("Final-Recipient").endswith(f";{recipient}")
    assert notice.returned == (raw if ret == "FULL" else raw.removesuffix(b"\r\nbody\r\n"))
