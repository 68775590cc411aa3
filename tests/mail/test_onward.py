"""Mail through the real program and on from there, by every transport, and what every fault of a next host becomes."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.engine import Engine
from harness.house import CONTENT, QUICKLY, SENDER, WAIT_S_MAX, House, tries_of
from harness.notices import read_notice
from harness.process import ServiceProcess
from harness.smtp_sink import SmtpSink, SunkMail
from harness.webhook_receiver import WebhookReceiver
from readdress.smtp.reply import LOOP

pytestmark = pytest.mark.usefixtures("engine")

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
COMMANDS = ("connect", "ehlo", "mail", "rcpt", "data", ".", "quit")
FAULTS = [(flag, command) for flag in "frqQW" for command in COMMANDS if (flag, command) != ("W", "connect")]


class Neighbours(NamedTuple):
    """The program with its transports, and who is at their other ends; `sinks` are by transport."""

    house: House
    store: House
    hook: WebhookReceiver
    sinks: dict[str, SmtpSink]
    maildirs: Path


def fault_name(flag: str, command: str) -> str:
    names = {"f": "refuse", "r": "defer", "q": "hangup", "Q": "bye", "W": "slow"}
    return f"{names[flag]}-{command if command != '.' else 'end'}"


@pytest.fixture(scope="module")
def neighbours(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    folder = tmp_path_factory.mktemp("onward")
    with ExitStack() as stack:
        store = stack.enter_context(House(folder / "store", {}, "--lmtp", "127.0.0.1:0"))
        hook = stack.enter_context(WebhookReceiver())
        sinks = {name: stack.enter_context(SmtpSink(folder / name)) for name in ("relay", "forward")}
        sinks["lmtp-end"] = stack.enter_context(SmtpSink(folder / "lmtp-end", "-L", "-f", "."))
        for flag, command in FAULTS:
            name = fault_name(flag, command)
            # Without PIPELINING when slow: smtp-sink answers what comes behind a command that waits before it.
            how = ("-p", "-W", f"{command}:1") if flag == "W" else (f"-{flag}", command)
            sinks[name] = stack.enter_context(SmtpSink(folder / name, *how))
        transports: dict[str, dict[str, Any]] = {
            "store": {"type": "lmtp", "address": store.service.lmtp},
            "lmtp-end": {"type": "lmtp", "address": sinks["lmtp-end"].address},
            "hook": {"type": "webhook", "url": hook.url(), "secret": SECRET, "allow_private": True},
            "files": {"type": "maildir", "path": f"{folder}/mail/{{address_id}}", "keep_content": True},
            "files-only": {"type": "maildir", "path": f"{folder}/mail/{{address_id}}"},
        }
        for name, sink in sinks.items():
            if name != "lmtp-end":
                transports[name] = {"type": "smtp", "host": "127.0.0.1", "port": sink.port, "tls": "none"}
        transports["forward"]["recipient"] = "{local_part}@elsewhere.example"
        settings = QUICKLY | {"retry_min_ms": 60_000, "retry_max_ms": 60_000, "return_transport": "relay"}
        house = stack.enter_context(House(folder / "house", transports, **settings))
        yield Neighbours(house, store, hook, sinks, folder / "mail")
        house.check()


@pytest.fixture
def house(neighbours: Neighbours) -> House:
    return neighbours.house


def wait_for_mail(sink: SmtpSink, recipient: str, ending: bytes = b"body") -> SunkMail:
    """The first that came for the recipient, once it is dumped to its end."""
    deadline = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < deadline:
        found = [mail for mail in sink.mails() if recipient in mail.recipients]
        if found and found[0].content.rstrip().endswith(ending):
            return found[0]
        time.sleep(0.01)
    raise AssertionError(f"nothing came for {recipient}")


@pytest.mark.parametrize("transport", ["relay", "forward", "store", "hook", "files", "files-only"])
def test_a_mail_goes_on_and_its_timeline_says_how(house: House, neighbours: Neighbours, transport: str) -> None:
    address = house.publish(transport)
    if transport == "store":
        neighbours.store.publish(text=address.text)
    message_id = house.send(address.text.upper())
    message = house.wait_for_state(message_id, "DELIVERED")
    (delivery,) = message["Deliveries"]
    received, routed, tried = message["Timeline"]
    assert [each["Event"] for each in (received, routed, tried)] == ["RECEIVED", "ROUTED", "ATTEMPTED"]
    assert received["Detail"] == f"from <{SENDER}> by 127.0.0.1 (sender.example), {len(CONTENT)} bytes"
    assert routed["Detail"] == f"{address.text.upper()} to {address.text} (DIRECT) by {transport}: DELIVERED"
    assert re.match(r"try 1( at \S+( \(\S+\))?)?( over TLSv1\.3)?, \d+ ms: DELIVERED: .", tried["Detail"])
    assert routed["DeliveryId"] == tried["DeliveryId"] == delivery["DeliveryId"]
    (listed,) = house.http.inbox(house.instance.id, address.id)
    assert (listed["Transport"], listed["State"]) == (transport, "DELIVERED")
    # The content goes with the last delivery that needs it, unless the transport says otherwise.
    assert house.content_status(message_id) == (200 if transport == "files" else 404)


def test_a_mail_store_behind_lmtp_may_know_the_same_address(house: House, neighbours: Neighbours) -> None:
    # It does the final delivery, and is not told that this has been done.
    address = house.publish("store")
    there = neighbours.store.publish(text=address.text)
    house.wait_for_state(house.send(address.text), "DELIVERED")
    (arrived,) = neighbours.store.http.inbox(neighbours.store.instance.id, there.id)
    assert (arrived["Sender"], arrived["Recipients"]) == (SENDER, [address.text])
    done = neighbours.store.run("inbox", address.text, arrived["MessageId"])
    assert "\r\nX-Original-To: " in done.stdout.replace("\n", "\r\n").replace("\r\r", "\r")
    assert "Delivered-To" not in done.stdout


def test_what_arrives_is_what_came_below_the_trace_fields(house: House, neighbours: Neighbours) -> None:
    body = b"Subject: whole\r\n\r\n" + b".\r\n..\r\nFrom here\r\n" + b"0123456789abcdef" * 60 + b"\r\n"
    content = body + b"line\r\n" * 100_000
    addresses = {name: house.publish(name) for name in ("relay", "hook", "files-only")}
    message_id = house.send(*(address.text for address in addresses.values()), content=content)
    house.wait_for_state(message_id, "DELIVERED")
    in_lf = content.replace(b"\r\n", b"\n")
    sunk = wait_for_mail(neighbours.sinks["relay"], addresses["relay"].text, b"line")
    assert sunk.content.rstrip(b"\n").endswith(b"\n" + in_lf.rstrip(b"\n"))
    (posted,) = (each for each in neighbours.hook.posted if each.envelope["MessageId"] == message_id)
    assert posted.message.endswith(b"\r\n" + content)
    (file,) = (neighbours.maildirs / addresses["files-only"].id / "new").iterdir()
    assert file.read_bytes().endswith(b"\n" + in_lf)
    assert house.content_status(message_id) == 404


# Refusals for good are failures and all else is tried again; before MAIL nothing has been said about the mail.
EXPECTED = {"f": "FAILED", "r": "QUEUED", "q": "QUEUED", "Q": "QUEUED", "W": "DELIVERED"}
EXPECTED_OF = {("f", "connect"): "QUEUED", ("f", "ehlo"): "DELIVERED"}  # who does not know EHLO is greeted with HELO
WORDS = {"FAILED": ": PERMANENT: 5", "QUEUED": ": TEMPORARY: ", "DELIVERED": ": DELIVERED: 2"}


@pytest.mark.parametrize(("flag", "command"), FAULTS, ids=str)
def test_what_every_fault_at_every_command_becomes(house: House, flag: str, command: str) -> None:
    # RFC 5321 §4.2.1: by the class digit alone
    expected = "DELIVERED" if command == "quit" else EXPECTED_OF.get((flag, command), EXPECTED[flag])
    message_id = house.send(house.publish(fault_name(flag, command)).text)
    message = house.wait_for_tries(message_id)
    (tried,) = tries_of(message)
    (delivery,) = message["Deliveries"]
    assert delivery["State"] == expected, tried
    assert WORDS[expected] in tried
    assert house.content_status(message_id) == (404 if expected == "DELIVERED" else 200)


def test_a_slow_host_holds_nobody_elses_mail_up(house: House) -> None:
    address, other = house.publish("slow-end"), house.publish("relay")
    slow = [house.send(address.text) for _ in range(30)]  # three times as many as the transport tries at a time
    house.wait_for_state(house.send(other.text), "DELIVERED")
    assert [each["State"] for each in house.message(slow[-1])["Deliveries"]] == ["QUEUED"]
    for message_id in slow:
        assert len(tries_of(house.wait_for_state(message_id, "DELIVERED"))) == 1


def test_a_mail_store_that_refuses_the_content_is_believed(house: House) -> None:
    # RFC 2033 §4.2: the reply that counts comes after the content, for each recipient
    message_id = house.send(house.publish("lmtp-end").text)
    assert ": PERMANENT: 500 5.3.0 " in tries_of(house.wait_for_state(message_id, "FAILED"))[0]


def test_a_failure_reaches_a_sender_elsewhere(house: House, neighbours: Neighbours) -> None:
    sender = "carl@sender.example"
    address = house.publish("refuse-rcpt")
    house.wait_for_state(house.send(address.text, sender=sender), "FAILED")
    notice = wait_for_mail(neighbours.sinks["relay"], sender, b"--")
    assert notice.sender == ""
    body = re.sub(rb"\A(?:X-[A-Za-z-]+: [^\n]*\n)*", b"", notice.content).rstrip() + b"\n"
    read = read_notice(body.replace(b"\n", b"\r\n"))
    assert read.field("Final-Recipient") == f"rfc822;{address.text}"
    assert read.field("Diagnostic-Code") == "smtp; 500 5.3.0 Error: command failed"


def test_a_forwarded_mail_finds_its_way_back(house: House, neighbours: Neighbours) -> None:
    # SRS: what can't be delivered at the other end comes back to the sender that was rewritten.
    sender = "dora@sender.example"
    address = house.publish("forward")
    house.wait_for_state(house.send(address.text, sender=sender), "DELIVERED")
    mail = wait_for_mail(neighbours.sinks["forward"], f"{address.text.partition('@')[0]}@elsewhere.example")
    assert re.fullmatch(r"srs0=[a-z2-7]{24}@example\.com", mail.sender)
    house.send(mail.sender, sender="", content=b"Subject: undeliverable\r\n\r\n")
    bounce = wait_for_mail(neighbours.sinks["relay"], sender, b"undeliverable")
    assert bounce.sender == ""
    assert b"Subject: undeliverable\n" in bounce.content


@pytest.mark.parametrize("transport", ["forward", "relay"])
def test_a_mail_that_comes_back_is_refused_for_good(house: House, neighbours: Neighbours, transport: str) -> None:
    # contract 6: 554 5.4.6, never a 4xx, which would only prolong it
    address = house.publish(transport)
    house.wait_for_state(house.send(address.text), "DELIVERED")
    local_part = address.text.partition("@")[0]
    wanted = address.text if transport == "relay" else f"{local_part}@elsewhere.example"
    mail = wait_for_mail(neighbours.sinks[transport], wanted)
    assert (b"Delivered-To: " in mail.content) is (transport == "forward")
    back = b"Received: from mx.example.com by elsewhere.example id 7\r\n" + mail.content.replace(b"\n", b"\r\n")
    assert house.try_to_send(address.text, content=back) == str(LOOP)
    assert house.try_to_send(address.text, house.publish().text, content=back) == str(LOOP)
    other = house.publish(transport)
    house.wait_for_state(house.send(other.text, content=back), "DELIVERED")  # somebody else may have it


def test_a_mail_that_was_delivered_to_the_address_elsewhere_is_refused_for_good(house: House) -> None:
    # RFC 9228 §2
    address = house.publish("relay")
    for field in (f"Delivered-To: {address.text}", f"DELIVERED-TO:  <{address.text.upper()}> "):
        assert house.try_to_send(address.text, content=f"{field}\r\n".encode() + CONTENT) == str(LOOP)
    inner = CONTENT + f"Delivered-To: {address.text}\r\n".encode()
    assert house.try_to_send(address.text, content=inner).startswith("250 ")


def test_an_alias_of_a_loop_is_one(house: House) -> None:
    alias, primary = house.publish(), house.publish("relay")
    house.instance.associate(primary=primary.id, alias=alias.id)
    content = f"Delivered-To: {primary.text}\r\n".encode() + CONTENT
    assert house.try_to_send(alias.text, content=content) == str(LOOP)


@pytest.mark.parametrize(("hops", "code"), [(50, "250"), (51, "554")])
def test_a_mail_has_fifty_received_fields_at_most(house: House, hops: int, code: str) -> None:
    hop = b"Received: from a.example by b.example id 01234567-89ab-cdef-0123-456789abcdef; then\r\n"
    reply = house.try_to_send(house.publish("relay").text, content=hop * hops + CONTENT)
    assert reply.startswith(code)


def test_a_tag_counts_from_the_next_mail_on(house: House) -> None:
    address = house.publish()
    for transport in ("inbox", "files", "relay", "inbox"):
        if transport != "inbox":
            house.tag(address, transport)
        elif "relay" in [each["Transport"] for each in house.http.inbox(house.instance.id, address.id)]:
            house.untag(address)
        message_id = house.send(address.text)
        message = house.wait_for_state(message_id, "DELIVERED")
        assert message["Deliveries"][0]["Transport"] == transport
    listed = [each["Transport"] for each in house.http.inbox(house.instance.id, address.id)]
    assert listed == ["inbox", "relay", "files", "inbox"]


def test_alias_and_primary_each_have_their_own_transport(house: House, neighbours: Neighbours) -> None:
    alias, primary = house.publish("hook"), house.publish("relay")
    house.instance.associate(primary=primary.id, alias=alias.id)
    message_id = house.send(alias.text)
    message = house.wait_for_state(message_id, "DELIVERED")
    assert [each["Transport"] for each in message["Deliveries"]] == ["hook", "relay"]
    (posted,) = (each for each in neighbours.hook.posted if each.envelope["MessageId"] == message_id)
    assert posted.envelope["DeliveryId"] == message["Deliveries"][0]["DeliveryId"]
    assert f"X-Original-To: {alias.text}".encode() in wait_for_mail(neighbours.sinks["relay"], primary.text).content


def test_an_address_outside_ascii_is_named_as_it_is(house: House, neighbours: Neighbours) -> None:
    # RFC 6531 §3.4: the extension is asked of the next host, here one that has it.
    text = "h\u00e9lp@example.com"
    alias, primary = house.publish(), house.publish("store", text=text)
    house.instance.associate(primary=primary.id, alias=alias.id)
    there = neighbours.store.publish(text=text)
    message_id = house.send(alias.text)  # without SMTPUTF8
    house.wait_for_state(message_id, "DELIVERED")
    assert len(neighbours.store.http.inbox(neighbours.store.instance.id, there.id)) == 1


def test_a_deployment_and_an_instance_may_have_a_default(
    start_service: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    transports = {name: {"type": "maildir", "path": f"{tmp_path}/{name}"} for name in ("all", "some")}
    with House(tmp_path / "house", transports, default_transport="all") as house:
        address = house.publish()
        house.wait_for_state(house.send(address.text), "DELIVERED")
        house.connect.tag_resource(resourceArn=house.instance.arn(), tags={"readdress:transport": "some"})
        house.wait_for_state(house.send(address.text), "DELIVERED")
        house.tag(address, "inbox")
        assert house.message(house.send(address.text))["Deliveries"][0]["Transport"] == "inbox"
    assert [len(list((tmp_path / name / "new").iterdir())) for name in ("all", "some")] == [1, 1]
