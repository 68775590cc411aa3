"""The clock of a test: tokens, rates and ends of addresses age by it, signatures do not, and nobody else notices."""

import smtplib
import time
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.config import Config

from readdress.testing import Readdress


def difference_s(readdress: Readdress) -> float:
    return (readdress.clock.now - datetime.now(UTC)).total_seconds()


def test_a_service_keeps_the_time_of_the_machine(readdress: Readdress) -> None:
    assert abs(difference_s(readdress)) < 5


def test_what_a_test_has_advanced_ends_with_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from datetime import UTC, datetime, timedelta

        @pytest.mark.parametrize("number", range(3))
        def test_it(readdress, number):
            assert abs(readdress.clock.now - datetime.now(UTC)) < timedelta(minutes=1)
            assert readdress.clock.advance(days=8) - datetime.now(UTC) > timedelta(days=7)
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=3)


def test_steps_add_up(readdress: Readdress) -> None:
    readdress.clock.advance(days=1, hours=1, minutes=1, seconds=1, milliseconds=500)
    readdress.clock.advance(hours=1)
    assert difference_s(readdress) == pytest.approx(86_400 + 3_600 + 60 + 1.5 + 3_600, abs=5)


@pytest.mark.parametrize("step", [{}, {"days": 0}, {"hours": -1}])
def test_time_does_not_go_back(readdress: Readdress, step: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="more than nothing"):
        readdress.clock.advance(**step)


def test_calls_are_signed_by_the_time_of_day(readdress: Readdress) -> None:
    readdress.clock.advance(days=400)
    readdress.connect.list_instances()


@pytest.mark.parametrize(("days", "is_forgotten"), [(6.9, False), (7.1, True)])
def test_tokens_age(readdress: Readdress, days: float, is_forgotten: bool) -> None:
    first = readdress.publish("first", ClientToken="token")
    readdress.connect.delete_email_address(InstanceId=readdress.instance_id, EmailAddressId=first.id)
    readdress.clock.advance(days=days)
    again = readdress.publish("first", ClientToken="token")
    assert (again.id != first.id) is is_forgotten


@pytest.mark.readdress(aws_limits=True)
@pytest.mark.parametrize("_", [1, 2])
def test_rates_age_and_are_full_for_the_next_test(readdress: Readdress, _: int) -> None:
    client = boto3.client("connect", config=Config(retries={"total_max_attempts": 1}), **readdress.client_options)

    def describe() -> None:
        client.describe_instance(InstanceId=readdress.instance_id)

    def describe_often() -> None:
        for _ in range(10):
            describe()

    for _ in range(5):
        describe()
    with pytest.raises(client.exceptions.ThrottlingException):
        describe_often()
    readdress.clock.advance(minutes=1)
    for _ in range(5):
        describe()
    client.close()


def test_an_address_that_ends_ends(readdress: Readdress) -> None:
    end = (readdress.clock.now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    campaign = readdress.publish("campaign", Tags={"readdress:expires-at": end})
    readdress.send(to=campaign)
    readdress.clock.advance(hours=2)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        readdress.send(to=campaign)


def test_mail_is_received_at_the_time_of_the_service(readdress: Readdress) -> None:
    support = readdress.publish("support")
    readdress.send(to=support, subject="before")
    readdress.clock.advance(days=3)
    readdress.send(to=support, subject="after")
    before, after = readdress.inbox(support)
    assert timedelta(days=3) <= after.received - before.received < timedelta(days=3, minutes=1)
    assert abs(before.received.timestamp() - time.time()) < 60
