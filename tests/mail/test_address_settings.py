"""Addresses in practice, through the real program: details, a catch-all, and addresses that take no mail."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from harness.engine import Engine
from harness.house import House
from harness.instance import Published
from harness.smtp_client import SmtpClient, stuff
from harness.smtp_sink import SmtpSink

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmtpSink]:
    with SmtpSink(tmp_path_factory.mktemp("sink")) as started:
        yield started


@pytest.fixture(scope="module")
def house(engine: Engine, tmp_path_factory: pytest.TempPathFactory, sink: SmtpSink) -> Iterator[House]:
    transports = {"relay": {"type": "smtp", "host": "127.0.0.1", "port": sink.port, "tls": "none"}}
    with House(tmp_path_factory.mktemp("practice"), transports) as opened:
        yield opened
        opened.check()


@pytest.fixture
def domain() -> str:
    """One that nobody has used."""
    return f"{uuid.uuid4().hex[:12]}.example"


def tag(house: House, address: Published, **settings: str) -> None:
    """`accept="reject"` is the tag `readdress:accept`; underscores stand for hyphens."""
    tags = {f"readdress:{name.replace('_', '-')}": value for name, value in settings.items()}
    house.connect.tag_resource(resourceArn=house.instance.arn(address.id), tags=tags)


def untag(house: House, address: Published, name: str) -> None:
    house.connect.untag_resource(resourceArn=house.instance.arn(address.id), tagKeys=[f"readdress:{name}"])


def inbox(house: House, address: Published) -> list[dict[str, Any]]:
    return list(house.http.inbox(house.instance.id, address.id))


# Details.


def test_a_detail_leads_to_its_base_and_is_kept(house: House, domain: str) -> None:
    # RFC 5233
    base = house.publish(text=f"help@{domain}")
    message_id = house.send(f"help+Order-7@{domain}")
    (listed,) = inbox(house, base)
    assert (listed["MessageId"], listed["Recipients"]) == (message_id, [f"help+Order-7@{domain}"])
    assert listed["Reasons"] == [{"Reason": "DIRECT"}]
    path = f"/_readdress/instances/{house.instance.id}/messages/{message_id}/content"
    content = house.http.call("GET", f"{path}?deliveryId={listed['DeliveryId']}").body
    assert f"X-Original-To: help+Order-7@{domain}\r\n".encode() in content


def test_a_detail_goes_on_to_the_next_host(house: House, sink: SmtpSink, domain: str) -> None:
    base = house.publish("relay", text=f"help@{domain}")
    house.wait_for_state(house.send(f"help+x@{domain}"), "DELIVERED")
    assert [f"help+x@{domain}"] in [mail.recipients for mail in sink.mails()]
    assert inbox(house, base)


def test_a_published_address_comes_before_the_base_of_its_detail(house: House, domain: str) -> None:
    base, full = house.publish(text=f"help@{domain}"), house.publish(text=f"help+vip@{domain}")
    house.send(full.text)
    house.send(f"help+other@{domain}")
    assert (len(inbox(house, base)), len(inbox(house, full))) == (1, 1)


def test_a_base_and_its_detail_both_named_give_one_copy(house: House, domain: str) -> None:
    base = house.publish(text=f"help@{domain}")
    house.send(base.text, f"help+x@{domain}")
    (listed,) = inbox(house, base)
    assert listed["Recipients"] == [base.text, f"help+x@{domain}"]


# A catch-all.


def test_a_catch_all_gets_what_nobody_else_does_from_its_tag_on(house: House, domain: str) -> None:
    known, catch_all = house.publish(text=f"known@{domain}"), house.publish(text=f"rest@{domain}")
    assert house.try_to_send(f"anybody@{domain}").startswith("550 5.1.1 ")
    tag(house, catch_all, catch_all="true")
    message_id = house.send(f"anybody@{domain}")
    house.send(known.text)
    house.send(f"known+x@{domain}")
    (listed,) = inbox(house, catch_all)
    assert (listed["MessageId"], listed["Recipients"]) == (message_id, [f"anybody@{domain}"])
    assert listed["Reasons"] == [{"Reason": "CATCH_ALL"}]
    assert len(inbox(house, known)) == 2
    untag(house, catch_all, "catch-all")
    assert house.try_to_send(f"anybody@{domain}").startswith("550 5.1.1 ")


def test_a_catch_alls_primary_gets_its_mail_too(house: House, domain: str) -> None:
    primary, catch_all = house.publish(text=f"all@{domain}"), house.publish(text=f"rest@{domain}")
    house.instance.associate(primary=primary.id, alias=catch_all.id)
    tag(house, catch_all, catch_all="true")
    house.send(f"anybody@{domain}")
    (listed,) = inbox(house, primary)
    assert listed["Reasons"] == [{"Reason": "ALIAS", "AliasId": catch_all.id}]


# Addresses that take no mail.


@pytest.mark.parametrize(
    ("settings", "reply"),
    [
        ({"accept": "reject"}, "550 5.2.1 "),
        ({"accept": "tempfail"}, "450 4.2.1 "),
        ({"accept": "discard"}, "250 2.0.0 "),
        ({"accept": "accept"}, "250 2.0.0 "),
        ({"expires_at": "2020-01-31T18:00:00Z"}, "550 5.2.1 "),
        ({"expires_at": "2999-01-31"}, "250 2.0.0 "),
        ({"expires_at": "2020-01-31", "accept": "tempfail"}, "450 4.2.1 "),
    ],
    ids=str,
)
def test_an_address_says_whether_it_takes_mail(house: House, domain: str, settings: dict[str, str], reply: str) -> None:
    address = house.publish(text=f"help@{domain}")
    tag(house, address, **settings)
    assert house.try_to_send(address.text).startswith(reply)
    for name in settings:
        untag(house, address, name.replace("_", "-"))
    assert house.try_to_send(address.text).startswith("250 2.0.0 ")


def test_what_is_discarded_leaves_its_facts_and_no_content(house: House, domain: str) -> None:
    primary, alias = house.publish(text=f"all@{domain}"), house.publish(text=f"help@{domain}")
    house.instance.associate(primary=primary.id, alias=alias.id)
    tag(house, alias, accept="discard")
    message_id = house.send(alias.text)
    (listed,) = inbox(house, alias)
    assert (listed["MessageId"], listed["State"]) == (message_id, "DISCARDED")
    assert house.content_status(message_id) == 404
    assert inbox(house, primary) == []


def test_a_primary_that_takes_no_mail_leaves_its_alias_its_own(house: House, domain: str) -> None:
    primary, alias = house.publish(text=f"all@{domain}"), house.publish(text=f"help@{domain}")
    house.instance.associate(primary=primary.id, alias=alias.id)
    tag(house, primary, accept="reject")
    house.send(alias.text)
    assert (len(inbox(house, alias)), inbox(house, primary)) == (1, [])
    tag(house, primary, accept="tempfail")  # what it would miss is not accepted
    assert house.try_to_send(alias.text).startswith("450 4.2.1 ")


def test_a_refusal_holds_for_a_mail_whose_recipient_was_taken_before(house: House, domain: str) -> None:
    # contract 6: the accepting transaction asks again, and its answer counts.
    address = house.publish(text=f"help@{domain}")
    with SmtpClient(house.service.smtp_address) as smtp:
        smtp.say("EHLO sender.example")
        assert smtp.begin("bob@sender.example", address.text).startswith("354")
        tag(house, address, accept="reject")
        smtp.send(stuff(b"Subject: late\r\n\r\n"))
        assert smtp.read_reply().startswith("550 5.2.1 ")
    assert inbox(house, address) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("accept", "maybe"), ("expires_at", "soon"), ("catch_all", "yes"), ("transport", "/etc"), ("acept", "reject")],
)
def test_a_setting_that_means_nothing_is_refused_by_the_api(house: House, name: str, value: str) -> None:
    address = house.publish()
    with pytest.raises(ClientError, match="InvalidParameterException"):
        tag(house, address, **{name: value})
    assert house.try_to_send(address.text).startswith("250 2.0.0 ")
