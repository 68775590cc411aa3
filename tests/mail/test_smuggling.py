"""Smuggling through the running program: whatever looks like an end is none here, nor at any host that mail goes on to.

Each mail has, behind such an end, the commands of a second one. By DATA and BDAT it is refused; BINARYMIME may have any
octets, and goes to a host that takes those as they are, or to none.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from harness.engine import Engine
from harness.house import QUICKLY, SENDER, House
from harness.smtp_client import SmtpClient, accepted_id
from harness.smtp_sink import SmtpSink
from harness.smuggling import ENDS, ENDS_TRULY
from readdress.smtp.reply import BARE_CONTENT

VICTIM = "victim@example.com"
HEAD = b"Subject: one\r\n\r\nbody"
SECOND = f"MAIL FROM:<admin@example.com>\r\nRCPT TO:<{VICTIM}>\r\nDATA\r\nSubject: two\r\n\r\nforged\r\n".encode()


class Street(NamedTuple):
    """The program, a host behind it that takes any octets, and one that takes LF for a line end."""

    house: House
    next: House
    sink: SmtpSink


@pytest.fixture(scope="module")
def street(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    folder = tmp_path_factory.mktemp("smuggling")
    with ExitStack() as stack:
        behind = stack.enter_context(House(folder / "next", {}, "--lmtp", "127.0.0.1:0"))
        sink = stack.enter_context(SmtpSink(folder / "sink"))
        port = behind.service.smtp_address[1]
        transports: dict[str, dict[str, Any]] = {
            "lenient": {"type": "smtp", "host": "127.0.0.1", "port": sink.port, "tls": "none"},
            "strict": {"type": "smtp", "host": "127.0.0.1", "port": port, "tls": "none"},
            "store": {"type": "lmtp", "address": behind.service.lmtp},
        }
        house = stack.enter_context(House(folder / "house", transports, **QUICKLY))
        for each in (house, behind):
            each.publish(text=VICTIM)
        yield Street(house, behind, sink)
        house.check()
        behind.check()


def subjects(house: House, address_text: str) -> list[str]:
    """In the inbox of an address, whoever's it is."""
    search = {"StringCondition": {"FieldName": "EmailAddress", "Value": address_text, "ComparisonType": "EXACT"}}
    (found,) = house.http.call(
        "POST", "/search-email-addresses", {"InstanceId": house.instance.id, "SearchCriteria": search}
    ).json["EmailAddresses"]
    return [str(each["Subject"]) for each in house.http.inbox(house.instance.id, found["EmailAddressId"])]


def open_session(house: House, *recipients: str, body: str = "8BITMIME") -> SmtpClient:
    """Up to the content."""
    client = SmtpClient(house.service.smtp_address)
    client.say("EHLO sender.example")
    for command in (f"MAIL FROM:<{SENDER}> BODY={body}", *(f"RCPT TO:<{to}>" for to in recipients)):
        assert client.say(command).startswith("250 ")
    return client


def check_nothing_is_forged(street: Street) -> None:
    assert subjects(street.house, VICTIM) == subjects(street.next, VICTIM) == []
    assert VICTIM not in {recipient for mail in street.sink.mails() for recipient in mail.recipients}


@pytest.mark.parametrize("name", ENDS)
def test_by_data_there_is_no_message_at_all(street: Street, name: str) -> None:
    # contract 6: any CR, LF or NUL outside CRLF refuses the message, which ends where everybody sees it end
    address = street.house.publish("lenient")
    with open_session(street.house, address.text) as client:
        client.say("DATA")
        client.send(HEAD + ENDS[name] + SECOND + b".\r\n")
        assert client.read_reply() == str(BARE_CONTENT)
        if name not in ENDS_TRULY:  # else what follows was said openly, and out of turn
            assert client.say("NOOP").startswith("250 ")
    assert street.house.http.inbox(street.house.instance.id, address.id) == []
    check_nothing_is_forged(street)


@pytest.mark.parametrize("cut", ["in one chunk", "within the end"])
@pytest.mark.parametrize("name", ENDS)
def test_by_bdat_there_is_no_message_either(street: Street, name: str, cut: str) -> None:
    address = street.house.publish("lenient")
    content = HEAD + ENDS[name] + SECOND
    at = len(HEAD) + 1 if cut == "within the end" else 0
    with open_session(street.house, address.text) as client:
        if at:
            client.send(b"BDAT %d\r\n%b" % (at, content[:at]))
            client.read_reply()
        client.send(b"BDAT %d LAST\r\n%b" % (len(content) - at, content[at:]))
        assert client.read_reply() == str(BARE_CONTENT)
        assert client.say("NOOP").startswith("250 ")
    assert street.house.http.inbox(street.house.instance.id, address.id) == []
    check_nothing_is_forged(street)


@pytest.mark.parametrize("name", ENDS)
def test_as_binary_content_it_is_one_message_or_none_at_the_next_host(street: Street, name: str) -> None:
    """RFC 3030 §3: never to a host that does not say it takes such content, and to others as it is."""
    content = b"Subject: one\r\n\r\nbody" + ENDS[name] + SECOND
    goals = {transport: street.house.publish(transport) for transport in ("lenient", "strict", "store")}
    for transport in ("strict", "store"):
        street.next.publish(text=goals[transport].text)
    with open_session(street.house, *(goal.text for goal in goals.values()), body="BINARYMIME") as client:
        client.send(b"BDAT %d LAST\r\n%b" % (len(content), content))
        message_id = accepted_id(client.read_reply())
    message = street.house.wait_for_tries(message_id, 3)
    states = {each["Transport"]: each["State"] for each in message["Deliveries"]}
    assert states == {"lenient": "FAILED", "strict": "DELIVERED", "store": "DELIVERED"}
    assert [subjects(street.next, goals[name_].text) for name_ in ("strict", "store")] == [["one"], ["one"]]
    assert goals["lenient"].text not in {to for mail in street.sink.mails() for to in mail.recipients}
    check_nothing_is_forged(street)


def test_what_is_sound_comes_through_as_one_message(street: Street) -> None:
    """The same words behind a dot that is stuffed: so that the tests above could fail."""
    goals = {transport: street.house.publish(transport) for transport in ("lenient", "strict", "store")}
    for transport in ("strict", "store"):
        street.next.publish(text=goals[transport].text)
    content = HEAD + b"\r\n.\r\n" + SECOND
    message_id = street.house.send(*(goal.text for goal in goals.values()), content=content)
    street.house.wait_for_state(message_id, "DELIVERED")
    assert [subjects(street.next, goals[name].text) for name in ("strict", "store")] == [["one"], ["one"]]
    copies = [mail for mail in street.sink.mails() if goals["lenient"].text in mail.recipients]
    assert len(copies) == 1
    check_nothing_is_forged(street)
