"""Which inboxes a mail reaches, case by case of contract 2 and 6, through the real program."""

import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from harness.engine import where
from harness.instance import Instance, Published
from harness.process import ServiceProcess
from harness.smtp_client import SmtpClient, accepted_id, stuff

SENDER = "customer@sender.example"
CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
LONG_CONTENT = b"Subject: hello\r\n\r\n" + b"0123456789\r\n" * 60_000


class Related(NamedTuple):
    """An alias, its primary, and an address that has nothing to do with them."""

    alias: Published
    primary: Published
    bystander: Published


@pytest.fixture
def related(instance: Instance) -> Related:
    made = Related(instance.publish("alias"), instance.publish("primary"), instance.publish("bystander"))
    instance.associate(primary=made.primary.id, alias=made.alias.id)
    return made


def arrivals(instance: Instance, address: Published) -> list[tuple[str, list[str], list[tuple[str, str | None]]]]:
    """The inbox, newest first: message, recipients as given, and the reasons."""
    return [
        (
            message["MessageId"],
            message["Recipients"],
            [(reason["Reason"], reason.get("AliasId")) for reason in message["Reasons"]],
        )
        for message in instance.http.inbox(instance.id, address.id)
    ]


def ids(instance: Instance, address: Published) -> list[str]:
    return [message_id for message_id, _, _ in arrivals(instance, address)]


# contract 2.2: mail for the alias reaches both, for the primary the primary only; contract 6: one copy, all reasons.
@pytest.mark.parametrize(
    ("recipients", "to_alias", "to_primary"),
    [
        (["alias"], ["DIRECT"], ["ALIAS"]),
        (["primary"], [], ["DIRECT"]),
        (["alias", "primary"], ["DIRECT"], ["ALIAS", "DIRECT"]),
        (["primary", "alias"], ["DIRECT"], ["DIRECT", "ALIAS"]),
        (["alias", "alias"], ["DIRECT"], ["ALIAS"]),
        (["primary", "primary", "primary"], [], ["DIRECT"]),
        (["alias", "bystander", "primary", "alias"], ["DIRECT"], ["ALIAS", "DIRECT"]),
    ],
)
def test_a_mail_reaches_each_inbox_once_with_every_reason(
    instance: Instance,
    smtp: SmtpClient,
    related: Related,
    recipients: list[str],
    to_alias: list[str],
    to_primary: list[str],
) -> None:
    named: dict[str, Published] = related._asdict()
    message_id = accepted_id(smtp.mail(SENDER, *(named[name].text for name in recipients)))
    reasons = {"DIRECT": ("DIRECT", None), "ALIAS": ("ALIAS", related.alias.id)}
    leading = {"alias": ["alias"], "primary": ["alias", "primary"], "bystander": ["bystander"]}
    expected = {"alias": to_alias, "primary": to_primary, "bystander": ["DIRECT"] if "bystander" in recipients else []}
    for name, address in named.items():
        given = list(dict.fromkeys(named[each].text for each in recipients if each in leading[name]))
        wanted = [(message_id, given, [reasons[reason] for reason in expected[name]])] if expected[name] else []
        assert arrivals(instance, address) == wanted, name


def test_a_former_alias_keeps_its_own_mail_and_only_that(
    instance: Instance, smtp: SmtpClient, related: Related
) -> None:
    # contract 2.2
    instance.disassociate(primary=related.primary.id, alias=related.alias.id)
    message_id = accepted_id(smtp.mail(SENDER, related.alias.text))
    assert ids(instance, related.alias) == [message_id]
    assert ids(instance, related.primary) == []


def test_deleting_the_primary_leaves_the_alias_its_own_mail(
    instance: Instance, smtp: SmtpClient, related: Related
) -> None:
    # contract 2.7
    instance.delete(related.primary.id)
    message_id = accepted_id(smtp.mail(SENDER, related.alias.text))
    assert arrivals(instance, related.alias) == [(message_id, [related.alias.text], [("DIRECT", None)])]
    assert smtp.mail(SENDER, related.primary.text).startswith("550 5.1.1 ")


def test_spellings_of_one_recipient_are_one_copy_that_names_them_all(instance: Instance, smtp: SmtpClient) -> None:
    address = instance.publish("help")
    spellings = [address.text, address.text.upper(), f'"{address.text.partition("@")[0]}"@example.com']
    message_id = accepted_id(smtp.mail(SENDER, *spellings, spellings[0]))
    assert arrivals(instance, address) == [(message_id, spellings, [("DIRECT", None)])]


# contract 5: the key is NFC and casefold of the local part, and the lower-case A-label of the domain.
@pytest.mark.parametrize(
    ("published", "recipient"),
    [
        ("Help.Desk-{}@Example.com", "hELP.dESK-{}@eXAMPLE.COM"),
        ("caf\u00e9-{}@example.com", "cafe\u0301-{}@example.com"),
        ("cafe\u0301-{}@example.com", "CAF\u00c9-{}@example.com"),
        ("stra\u00dfe-{}@example.com", "STRASSE-{}@example.com"),
        ("\u0418\u0432\u0430\u043d-{}@example.com", "\u0438\u0432\u0430\u043d-{}@example.com"),
        ("help-{}@b\u00fccher.example", "help-{}@xn--bcher-kva.example"),
        ("help-{}@xn--bcher-kva.example", "help-{}@B\u00dcCHER.example"),
        ("help-{}@b\u00fccher.example", "help-{}@bu\u0308cher.example"),
        ("help.desk-{}@example.com", '"help.desk-{}"@example.com'),
        ("help.desk-{}@example.com", r'"help\.desk-{}"@example.com'),
        ('"help.desk"-{}@example.com', r'"\"help.desk\"-{}"@example.com'),
        ('"help,desk-{}"@example.com', '"help,desk-{}"@example.com'),
        ("help+billing-{}@example.com", "help+billing-{}@example.com"),
        ("help-{}@example.com", "@relay.example,@example.com:help-{}@example.com"),
    ],
)
def test_spellings_of_one_address_lead_to_it(
    instance: Instance, smtp: SmtpClient, published: str, recipient: str
) -> None:
    unique = uuid.uuid4().hex[:12]
    address = instance.publish(EmailAddress=published.format(unique))
    reply = smtp.mail(SENDER, recipient.format(unique), parameters=" SMTPUTF8")
    assert ids(instance, address) == [accepted_id(reply)]


@pytest.mark.parametrize(
    ("recipient", "refusal"),
    [
        ("ghost-{}@example.com", "550 5.1.1 "),
        ("ghost%elsewhere.example-{}@example.com", "550 5.1.1 "),
        ('"b@elsewhere.example"-{}@example.com', "501 5.1.3 "),
        ('"b-{}@elsewhere.example"@example.com', "550 5.1.1 "),
        ("b-{}@elsewhere.example", "550 5.7.1 "),
        ("b-{}@sub.example.com", "550 5.7.1 "),
        ("b-{}@com", "550 5.7.1 "),
        ("b-{}@[127.0.0.1]", "550 5.7.1 "),
        ("@example.com:b-{}@elsewhere.example", "550 5.7.1 "),
        ("postmaster@elsewhere-{}.example", "550 5.7.1 "),
    ],
)
def test_what_is_not_ours_is_refused_at_rcpt(
    instance: Instance, smtp: SmtpClient, recipient: str, refusal: str
) -> None:
    """Contract 6: unknown address 550 5.1.1; not our domain 550 5.7.1, never an open relay."""
    instance.publish()
    assert smtp.say(f"MAIL FROM:<{SENDER}>").startswith("250")
    assert smtp.say(f"RCPT TO:<{recipient.format(uuid.uuid4().hex[:12])}>").startswith(refusal)
    assert smtp.say("DATA").startswith("503 5.5.1 ")


def test_mail_crosses_from_an_alias_to_no_other_instance(instance: Instance, smtp: SmtpClient, connect: Any) -> None:
    """One message for two instances: each sees its own deliveries only (contract 6, one copy per inbox)."""
    other = Instance(instance.service, connect, instance.http)
    mine, theirs = instance.publish("mine"), other.publish("theirs")
    message_id = accepted_id(smtp.mail(SENDER, mine.text, theirs.text))
    assert arrivals(instance, mine) == [(message_id, [mine.text], [("DIRECT", None)])]
    assert arrivals(other, theirs) == [(message_id, [theirs.text], [("DIRECT", None)])]
    seen = instance.http.call("GET", f"/_readdress/instances/{instance.id}/messages/{message_id}").json
    assert [delivery["EmailAddressId"] for delivery in seen["Deliveries"]] == [mine.id]
    assert seen["Envelope"]["Recipients"] == [mine.text]


# The postmaster: contract 6, RFC 5321 §4.5.1.


def read_postmaster(service: ServiceProcess, *message_id: str) -> bytes:
    """What `readdress inbox postmaster` prints on the program's own data."""
    command = [sys.executable, "-m", "readdress", "inbox", "postmaster", *message_id, *where(service.data)]
    return subprocess.run(command, capture_output=True, check=True).stdout


def listed(service: ServiceProcess) -> list[str]:
    return [line.split("\t")[0] for line in read_postmaster(service).decode().splitlines()]


@pytest.mark.parametrize("recipient", ["postmaster", "PostMaster", "Postmaster@{}", "postmaster@{}"])
def test_mail_for_an_unpublished_postmaster_is_read_on_the_command_line(
    instance: Instance, service: ServiceProcess, smtp: SmtpClient, recipient: str
) -> None:
    domain = f"d{uuid.uuid4().hex[:12]}.example"
    instance.publish(EmailAddress=f"help@{domain}")
    message_id = accepted_id(smtp.mail("", recipient.format(domain), content=CONTENT))
    assert message_id in listed(service)
    line = next(line for line in read_postmaster(service).decode().splitlines() if line.startswith(message_id))
    assert line.split("\t")[2:] == ["DIRECT", "<>", "hello"]
    assert read_postmaster(service, message_id).endswith(CONTENT)


def test_a_published_postmaster_has_an_inbox_like_any_other(
    instance: Instance, service: ServiceProcess, smtp: SmtpClient
) -> None:
    domain = f"d{uuid.uuid4().hex[:12]}.example"
    address = instance.publish(EmailAddress=f"postmaster@{domain}")
    message_id = accepted_id(smtp.mail(SENDER, f"Postmaster@{domain.upper()}"))
    assert ids(instance, address) == [message_id]
    assert message_id not in listed(service)
    bare_id = accepted_id(smtp.mail(SENDER, "postmaster"))
    assert bare_id in listed(service)
    assert ids(instance, address) == [message_id]


def test_a_message_for_the_postmaster_and_an_address_reaches_both(
    instance: Instance, service: ServiceProcess, smtp: SmtpClient
) -> None:
    address = instance.publish()
    message_id = accepted_id(smtp.mail(SENDER, "postmaster", address.text))
    assert arrivals(instance, address) == [(message_id, [address.text], [("DIRECT", None)])]
    assert message_id in listed(service)


# Between RCPT and the end of DATA: the accepting transaction's answer alone counts (contract 2.8, 6).


def change_while_open(
    smtp: SmtpClient, recipients: list[Published], change: Callable[[], object], content: bytes = CONTENT
) -> str:
    """RCPT, half of the content, the change, the other half; gives the reply."""
    assert smtp.begin(SENDER, *(recipient.text for recipient in recipients)).startswith("354")
    wire = stuff(content)
    smtp.send(wire[: len(wire) // 2])
    change()
    smtp.send(wire[len(wire) // 2 :])
    return smtp.read_reply()


@pytest.mark.parametrize("content", [CONTENT, LONG_CONTENT], ids=["short", "long"])
def test_an_alias_made_before_the_end_of_data_is_obeyed(instance: Instance, smtp: SmtpClient, content: bytes) -> None:
    alias, primary = instance.publish("alias"), instance.publish("primary")
    reply = change_while_open(
        smtp, [alias], lambda: instance.associate(primary=primary.id, alias=alias.id), content=content
    )
    assert ids(instance, alias) == ids(instance, primary) == [accepted_id(reply)]


@pytest.mark.parametrize("content", [CONTENT, LONG_CONTENT], ids=["short", "long"])
def test_an_alias_undone_before_the_end_of_data_is_no_more(
    instance: Instance, smtp: SmtpClient, related: Related, content: bytes
) -> None:
    reply = change_while_open(
        smtp,
        [related.alias],
        lambda: instance.disassociate(primary=related.primary.id, alias=related.alias.id),
        content=content,
    )
    assert ids(instance, related.alias) == [accepted_id(reply)]
    assert ids(instance, related.primary) == []


def test_every_mail_follows_the_relation_of_its_acceptance(instance: Instance, smtp: SmtpClient) -> None:
    """Contract 2.8: exact cut-over, with no cache in between, also right after each 200 (2.6)."""
    alias, primary = instance.publish("alias"), instance.publish("primary")
    pair = {"primary": primary.id, "alias": alias.id}
    of_alias: list[str] = []
    of_primary: list[str] = []
    for _ in range(10):
        replies = [change_while_open(smtp, [alias], lambda: instance.associate(**pair))]
        replies.append(smtp.mail(SENDER, alias.text))
        of_primary += map(accepted_id, replies)
        replies.append(change_while_open(smtp, [alias], lambda: instance.disassociate(**pair)))
        replies.append(smtp.mail(SENDER, alias.text))
        of_alias += map(accepted_id, replies)
    assert ids(instance, alias) == of_alias[::-1]
    assert ids(instance, primary) == of_primary[::-1]


@pytest.mark.parametrize("content", [CONTENT, LONG_CONTENT], ids=["short", "long"])
def test_an_address_deleted_before_the_end_of_data_is_550(instance: Instance, smtp: SmtpClient, content: bytes) -> None:
    instance.publish("other")  # so that the domain stays ours
    address = instance.publish()
    reply = change_while_open(smtp, [address], lambda: instance.delete(address.id), content=content)
    assert reply.startswith("550 5.1.1 ")
    assert smtp.say("NOOP").startswith("250")


def test_when_only_some_recipients_are_gone_the_sender_comes_again(instance: Instance, smtp: SmtpClient) -> None:
    """SMTP has one reply for all: 451, nothing is stored, and at the next RCPT the sender hears which."""
    gone, stays = instance.publish("gone"), instance.publish("stays")
    reply = change_while_open(smtp, [gone, stays], lambda: instance.delete(gone.id))
    assert reply.startswith("451 4.3.0 ")
    assert ids(instance, stays) == []
    assert smtp.mail(SENDER, gone.text).startswith("550 5.1.1 ")
    smtp.say("RSET")
    message_id = accepted_id(smtp.mail(SENDER, stays.text))
    assert ids(instance, stays) == [message_id]


def test_a_primary_deleted_before_the_end_of_data_gets_nothing(
    instance: Instance, smtp: SmtpClient, related: Related
) -> None:
    reply = change_while_open(smtp, [related.alias], lambda: instance.delete(related.primary.id))
    assert arrivals(instance, related.alias) == [(accepted_id(reply), [related.alias.text], [("DIRECT", None)])]


def test_two_mails_with_one_message_id_field_are_two_mails(instance: Instance, smtp: SmtpClient) -> None:
    # contract 6: no de-duplication across messages by Message-ID
    address = instance.publish()
    content = b"Message-ID: <same@sender.example>\r\nSubject: again\r\n\r\n"
    first = accepted_id(smtp.mail(SENDER, address.text, content=content))
    second = accepted_id(smtp.mail(SENDER, address.text, content=content))
    assert ids(instance, address) == [second, first]
