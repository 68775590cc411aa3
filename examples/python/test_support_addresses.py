"""What the program promises, seen from both ends: calls of the API, and mail that arrives or does not."""

import smtplib

import pytest

from readdress.testing import Readdress
from support_addresses import SupportAddresses, main


@pytest.fixture
def addresses(readdress: Readdress) -> SupportAddresses:
    return SupportAddresses(readdress.connect, readdress.instance_id)


@pytest.fixture
def support(readdress: Readdress, addresses: SupportAddresses) -> str:
    address = readdress.address("support")
    addresses.publish(address, team="care")
    return address


@pytest.fixture
def helpdesk(readdress: Readdress, addresses: SupportAddresses) -> str:
    address = readdress.address("help")
    addresses.publish(address, team="care")
    return address


def test_a_published_address_gets_mail(readdress: Readdress, support: str) -> None:
    readdress.send(to=support, sender="ada@example.org", subject="My order")
    [message] = readdress.wait_for(support)
    assert message.email["Subject"] == "My order"


def test_publishing_twice_is_publishing_once(addresses: SupportAddresses) -> None:
    first = addresses.publish("support@example.com", team="care")
    assert addresses.publish("support@example.com", team="care") == first


def test_merged_addresses_share_what_comes_next(
    readdress: Readdress, addresses: SupportAddresses, support: str, helpdesk: str
) -> None:
    addresses.merge(helpdesk, into=support)
    addresses.merge(helpdesk, into=support)
    readdress.send(to=helpdesk)
    assert [message.reason for message in readdress.inbox(support)] == ["ALIAS"]
    assert [message.reason for message in readdress.inbox(helpdesk)] == ["DIRECT"]


def test_split_addresses_share_nothing_from_then_on(
    readdress: Readdress, addresses: SupportAddresses, support: str, helpdesk: str
) -> None:
    addresses.merge(helpdesk, into=support)
    addresses.split(helpdesk, out_of=support)
    addresses.split(helpdesk, out_of=support)
    readdress.send(to=helpdesk)
    assert readdress.inbox(support) == []
    assert len(readdress.inbox(helpdesk)) == 1


def test_a_retired_address_refuses_mail(readdress: Readdress, addresses: SupportAddresses, support: str) -> None:
    addresses.retire(support)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        readdress.send(to=support)


def test_an_address_that_is_not_there_is_named(addresses: SupportAddresses, support: str) -> None:
    with pytest.raises(LookupError, match=r"nobody@example\.com is not published"):
        addresses.merge("nobody@example.com", into=support)


@pytest.mark.parametrize("error", ["ThrottlingException", "InternalServiceException"])
def test_a_service_that_stumbles_is_asked_again(
    readdress: Readdress, addresses: SupportAddresses, support: str, helpdesk: str, error: str
) -> None:
    readdress.faults.fail("AssociateEmailAddressAlias", error, times=1)
    addresses.merge(helpdesk, into=support)
    readdress.send(to=helpdesk)
    assert len(readdress.inbox(support)) == 1


def test_a_lost_answer_does_no_harm(
    readdress: Readdress, addresses: SupportAddresses, support: str, helpdesk: str
) -> None:
    readdress.faults.fail("AssociateEmailAddressAlias", connection_lost=True, applied=True, times=1)
    addresses.merge(helpdesk, into=support)
    assert readdress.faults.list() == []


@pytest.mark.usefixtures("readdress_environment")
def test_the_command_line_does_the_same(readdress: Readdress, support: str) -> None:
    sales = readdress.address("sales")
    main(["publish", sales, "sales"])
    main(["merge", sales, support])
    readdress.send(to=sales)
    assert len(readdress.inbox(support)) == 1
    main(["split", sales, support])
    main(["retire", sales])
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        readdress.send(to=sales)
