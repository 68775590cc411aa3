"""An instance that refuses what its author's domain disowns, beside one that only marks it (contract 6)."""

import uuid
from collections.abc import Iterator

import pytest

from harness import checked_mail
from harness.checked_mail import CLIENT, EHLO, STRANGER, ZONE, connect, mail_of, publish, tag
from harness.dns_zone import DnsServer
from harness.engine import Engine
from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.signed_mail import sign
from harness.smtp_client import stuff
from harness.stored import count_rows
from harness.two_hosts import TwoHosts

pytestmark = pytest.mark.usefixtures("engine")

REFUSED = "550 5.7.1 the domain of the author says to refuse such mail (DMARC)"
TAKEN = "250 2.0.0 accepted "
SPOOFED = mail_of("a@reject.example")


@pytest.fixture(scope="module")
def process(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with DnsServer(ZONE) as dns:
        started = checked_mail.start(tmp_path_factory.mktemp("reject"), dns)
        yield started
        started.stop()


@pytest.fixture(scope="module")
def strict_instance(process: ServiceProcess) -> str:
    return make_instance(process, dmarc="reject")


@pytest.fixture(scope="module")
def strict(process: ServiceProcess, strict_instance: str) -> str:
    return publish(process, instance_id=strict_instance)[1]


@pytest.fixture(scope="module")
def lenient(process: ServiceProcess) -> str:
    return publish(process, instance_id=make_instance(process, dmarc="mark"))[1]


def make_instance(process: ServiceProcess, **tags: str) -> str:
    with HttpClient(process.http_address) as http:
        asked = {"IdentityManagementType": "SAML", "InboundCallsEnabled": True, "OutboundCallsEnabled": True}
        made = http.call("PUT", "/instance", asked).json
        tag(http, made["Arn"], **tags)
    return str(made["Id"])


def say(
    process: ServiceProcess,
    *recipients: str,
    content: bytes = SPOOFED,
    source: str = STRANGER,
    sender: str = "a@reject.example",
) -> str:
    with connect(process.smtp, source=source) as client:
        return client.mail(sender, *recipients, content=content)


CASES = {
    "spoofed": (SPOOFED, STRANGER, REFUSED),
    "spoofed, and signed by a stranger": (sign(SPOOFED, domain="none.example"), STRANGER, REFUSED),
    "SPF is good": (SPOOFED, CLIENT, TAKEN),
    "DKIM is good": (sign(SPOOFED, domain="reject.example"), STRANGER, TAKEN),
    "a subdomain": (mail_of("a@sub.reject.example"), STRANGER, REFUSED),
    "policy quarantine": (mail_of("a@quarantine.example"), STRANGER, TAKEN),
    "policy none": (mail_of("a@none.example"), STRANGER, TAKEN),
    "no policy": (mail_of("a@plain.example"), STRANGER, TAKEN),
    "DNS trouble": (mail_of("a@trouble.example"), STRANGER, TAKEN),
    "two From fields": (mail_of("a@reject.example", top=b"From: b@plain.example\r\n"), STRANGER, REFUSED),
    "no From field": (b"Subject: none\r\n\r\n", STRANGER, REFUSED),
}


@pytest.mark.parametrize(("content", "source", "reply"), CASES.values(), ids=CASES)
def test_an_instance_that_rejects(
    process: ServiceProcess, strict: str, content: bytes, source: str, reply: str
) -> None:
    # RFC 9989 §5.4; without one author's domain there is no policy to ask for, and no way around it either (§5.3.1)
    assert say(process, strict, content=content, source=source).startswith(reply)


@pytest.mark.parametrize("content", [content for content, _, _ in CASES.values()], ids=CASES)
def test_an_instance_that_marks_takes_them_all(process: ServiceProcess, lenient: str, content: bytes) -> None:
    assert say(process, lenient, content=content).startswith(TAKEN)


def test_what_is_refused_leaves_nothing(process: ServiceProcess, strict: str) -> None:
    before = count_rows(process.data)
    for content in (SPOOFED, SPOOFED + b"x" * 900 + b"\r\n", SPOOFED + (b"x" * 900 + b"\r\n") * 400):
        assert say(process, strict, content=content) == REFUSED
    assert count_rows(process.data) == before


def test_one_recipient_that_refuses_refuses_for_all_of_a_session_with_one_reply(
    process: ServiceProcess, strict: str, lenient: str
) -> None:
    """A 4xx would only bring the same mail again, and a 250 would lose it for one of them without a word."""
    before = count_rows(process.data)
    for recipients in ((strict, lenient), (lenient, strict)):
        assert say(process, *recipients) == REFUSED
    assert count_rows(process.data) == before
    assert say(process, strict, lenient, source=CLIENT).startswith(TAKEN)


def test_in_lmtp_each_recipient_has_its_own_answer(process: ServiceProcess, strict: str, lenient: str) -> None:
    # RFC 2033 §4.2
    with connect(process.lmtp, source=STRANGER, hello=f"LHLO {EHLO}") as client:
        assert client.begin("a@reject.example", strict, lenient).startswith("354")
        client.send(stuff(SPOOFED))
        assert client.read_reply() == REFUSED
        assert client.read_reply().startswith(TAKEN)


def test_postmaster_hears_of_it_all_the_same(process: ServiceProcess, strict: str) -> None:
    # RFC 5321 §4.5.1
    assert say(process, "postmaster").startswith(TAKEN)
    assert strict


def test_it_holds_from_the_answer_to_the_tag_on(process: ServiceProcess) -> None:
    instance_id = make_instance(process, dmarc="mark")
    _, text = publish(process, instance_id=instance_id)
    arn = f"arn:aws:connect:us-east-1:123456789012:instance/{instance_id}"
    with connect(process.smtp, source=STRANGER) as client, HttpClient(process.http_address) as http:
        for value, reply in (("mark", TAKEN), ("reject", REFUSED), ("mark", TAKEN)):
            tag(http, arn, dmarc=value)
            assert client.mail("a@reject.example", text, content=SPOOFED).startswith(reply)


def test_an_alias_of_the_instance_is_no_way_around(process: ServiceProcess, strict_instance: str) -> None:
    primary_id, primary = publish(process, instance_id=strict_instance)
    alias_id, alias = publish(process, f"alias-{uuid.uuid4().hex}@example.com", instance_id=strict_instance)
    with HttpClient(process.http_address) as http:
        asked = {
            "InstanceId": strict_instance,
            "EmailAddressId": primary_id,
            "AliasConfiguration": {"EmailAddressId": alias_id},
        }
        assert http.rpc("AssociateEmailAddressAlias", asked).status == 200
    for recipients in ((alias,), (primary,), (alias, primary)):
        assert say(process, *recipients) == REFUSED


def test_what_a_relay_got_refused_comes_back_as_a_notice_and_not_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The next host's 550 is final for us too (RFC 5321 §4.2.1)."""
    with DnsServer(ZONE) as dns:
        hosts = TwoHosts(tmp_path_factory.mktemp("refused"), dns)
        try:
            place = hosts.publish("relay")
            with HttpClient(hosts.next.http_address) as http:
                tag(http, f"arn:aws:connect:us-east-1:123456789012:instance/{DEV_INSTANCE}", dmarc="reject")
            back_id, back = publish(hosts.first)
            with connect(hosts.first.smtp) as client:
                assert client.mail(back, place.text, content=SPOOFED).startswith(TAKEN)
            notice = hosts.wait_for_inbox(hosts.first, back_id)
        finally:
            hosts.stop()
    assert b"\r\nAction: failed\r\nStatus: 5.7.1\r\n" in notice
