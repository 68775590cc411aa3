"""Faults in tests: calls that fail so often, are slow or lost, mail that is put off, and nothing left for others."""

import smtplib
import time
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from harness.stored import wait_until
from readdress.testing import Published, Readdress
from readdress.testing.exchange import connect_directly

ASSOCIATE = "AssociateEmailAddressAlias"


@pytest.fixture
def support(readdress: Readdress) -> Published:
    return readdress.publish("support")


@pytest.fixture
def pair(readdress: Readdress, support: Published) -> dict[str, Any]:
    """Parameters for associate and disassociate."""
    return {
        "InstanceId": readdress.instance_id,
        "EmailAddressId": support.id,
        "AliasConfiguration": {"EmailAddressId": readdress.publish("help").id},
    }


@pytest.fixture(params=["by HTTP", "directly"])
def once(readdress: Readdress, request: pytest.FixtureRequest) -> Any:
    """A client that never tries again: one of the program's own, and one like the fixture's."""
    config = Config(retries={"total_max_attempts": 1}, read_timeout=2)
    client = boto3.client("connect", config=config, **readdress.client_options)
    if request.param == "directly":
        running = readdress._running
        connect_directly(client, running.service.gateway, running.begin)
    yield client
    client.close()


def is_associated(readdress: Readdress, support: Published) -> bool:
    described = readdress.connect.describe_email_address(InstanceId=readdress.instance_id, EmailAddressId=support.id)
    return bool(described["AliasConfigurations"])


@pytest.mark.parametrize(
    ("error", "status"),
    [("ThrottlingException", 429), ("InternalServiceException", 500), ("AccessDeniedException", 403)],
)
def test_an_operation_fails_so_often_and_nothing_is_done(
    readdress: Readdress, once: Any, support: Published, pair: dict[str, Any], error: str, status: int
) -> None:
    readdress.faults.fail(ASSOCIATE, error, times=2)
    for _ in range(2):
        with pytest.raises(once.exceptions.from_code(error)) as failed:
            once.associate_email_address_alias(**pair)
        assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        assert not is_associated(readdress, support)
    once.associate_email_address_alias(**pair)
    assert is_associated(readdress, support)


def test_an_sdk_s_own_retries_get_through(readdress: Readdress, pair: dict[str, Any]) -> None:
    client = boto3.client(
        "connect", config=Config(retries={"mode": "standard", "total_max_attempts": 3}), **readdress.client_options
    )
    readdress.faults.fail(ASSOCIATE, "ThrottlingException", times=2, retry_after_ms=1)
    answer = client.associate_email_address_alias(**pair)
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2
    assert readdress.faults.list() == []
    client.close()


@pytest.mark.parametrize("applied", [False, True])
def test_a_lost_connection_leaves_the_caller_in_doubt(
    readdress: Readdress, once: Any, support: Published, pair: dict[str, Any], applied: bool
) -> None:
    readdress.faults.fail(ASSOCIATE, connection_lost=True, applied=applied, times=1)
    with pytest.raises(ConnectionClosedError):
        once.associate_email_address_alias(**pair, ClientToken="in-doubt")
    assert is_associated(readdress, support) is applied
    once.associate_email_address_alias(**pair, ClientToken="in-doubt")
    assert is_associated(readdress, support)


def test_an_error_may_hide_that_the_work_is_done(
    readdress: Readdress, once: Any, support: Published, pair: dict[str, Any]
) -> None:
    readdress.faults.fail(ASSOCIATE, "InternalServiceException", applied=True, times=1)
    with pytest.raises(once.exceptions.InternalServiceException):
        once.associate_email_address_alias(**pair)
    assert is_associated(readdress, support)


def test_a_call_may_be_slow(readdress: Readdress, once: Any) -> None:
    readdress.faults.fail("DescribeInstance", delay_ms=300, times=1)
    began = time.monotonic()
    once.describe_instance(InstanceId=readdress.instance_id)
    assert time.monotonic() - began >= 0.3


def test_a_fault_may_come_at_times(readdress: Readdress, once: Any) -> None:
    readdress.faults.fail("DescribeInstance", "ThrottlingException", probability=0.5)
    failed = 0
    for _ in range(60):
        try:
            once.describe_instance(InstanceId=readdress.instance_id)
        except once.exceptions.ThrottlingException:
            failed += 1
    assert 5 < failed < 55


def test_rcpt_is_put_off_and_then_taken(readdress: Readdress, support: Published) -> None:
    readdress.faults.fail("RCPT", reply=451, times=1)
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        readdress.send(to=support)
    assert refused.value.recipients[support][0] == 451
    readdress.send(to=support)
    assert len(readdress.inbox(support)) == 1


@pytest.mark.parametrize(("applied", "arrived"), [(False, 1), (True, 2)])
@pytest.mark.parametrize("body", ["short", "long " * 100_000])
def test_data_is_refused_whether_or_not_the_mail_is_there(
    readdress: Readdress, support: Published, applied: bool, arrived: int, body: str
) -> None:
    readdress.faults.fail("data", reply=451, applied=applied, times=1)
    with pytest.raises(smtplib.SMTPDataError) as refused:
        readdress.send(to=support, body=body)
    assert refused.value.smtp_code == 451
    readdress.send(to=support, body=body)
    assert len(readdress.inbox(support)) == arrived


@pytest.mark.parametrize("verb", ["RCPT", "DATA"])
def test_smtp_s_connection_is_lost_and_the_door_stays_open(readdress: Readdress, support: Published, verb: str) -> None:
    readdress.faults.fail(verb, connection_lost=True, times=1)
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        readdress.send(to=support)
    readdress.send(to=support)
    assert len(readdress.inbox(support)) == 1


def test_smtp_may_be_slow(readdress: Readdress, support: Published) -> None:
    readdress.faults.fail("DATA", delay_ms=200, times=1)
    readdress.faults.fail("RCPT", delay_ms=200, times=1)
    began = time.monotonic()
    readdress.send(to=support)
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize(
    ("target", "members", "words"),
    [
        ("AssociateEmailAddresAlias", {"error": "ThrottlingException"}, "is AssociateEmailAddressAlias"),
        (ASSOCIATE, {"error": "ThrottlingException", "times": 0}, "Times"),
        ("RCPT", {"reply": 250}, "Reply"),
        ("RCPT", {}, "say what happens"),
    ],
)
def test_a_mistake_says_what_to_ask_for(readdress: Readdress, target: str, members: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        readdress.faults.fail(target, **members)


def test_faults_can_be_listed_and_cleared(readdress: Readdress) -> None:
    fault = readdress.faults.fail(ASSOCIATE, "ThrottlingException", times=3)
    assert readdress.faults.list() == [fault]
    readdress.faults.clear()
    assert readdress.faults.list() == []


@pytest.mark.parametrize("_", [1, 2])
def test_faults_end_with_the_test(readdress: Readdress, _: int) -> None:
    assert readdress.faults.list() == []
    readdress.connect.describe_instance(InstanceId=readdress.instance_id)
    readdress.faults.fail("DescribeInstance", "AccessDeniedException")


def test_what_a_client_has_stopped_waiting_for_is_done_all_the_same(
    readdress: Readdress, once: Any, support: Published, pair: dict[str, Any]
) -> None:
    readdress.faults.fail(ASSOCIATE, delay_ms=2_500, times=1)
    with pytest.raises(ReadTimeoutError):
        once.associate_email_address_alias(**pair)
    wait_until(lambda: is_associated(readdress, support))
