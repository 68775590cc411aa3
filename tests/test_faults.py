"""Faults: which call takes which, how often, and what can't be meant."""

import pytest

from readdress.errors import ServiceError
from readdress.faults import FAULTS_MAX, Fault, FaultError, Faults
from readdress.gateway.faulty import ERRORS

OPERATIONS = {"DescribeInstance", "AssociateEmailAddressAlias", "DisassociateEmailAddressAlias"}
THROTTLED = "ThrottlingException"


@pytest.fixture
def faults() -> Faults:
    return Faults(operations=OPERATIONS, errors=ERRORS)


def add(faults: Faults, target: str = "DescribeInstance", **members: object) -> Fault:
    return faults.add(Fault(operation=target, **({"error": THROTTLED} | members)))  # type: ignore[arg-type]


def test_without_faults_nothing_is_taken(faults: Faults) -> None:
    assert faults.take("DescribeInstance") is None
    assert faults.list() == []


def test_a_fault_strikes_so_many_times_and_is_gone(faults: Faults) -> None:
    fault = add(faults, times=2)
    assert faults.take("AssociateEmailAddressAlias") is None
    assert faults.take("DescribeInstance") is fault
    assert faults.list() == [fault]
    assert fault.times == 1
    assert faults.take("DescribeInstance") is fault
    assert faults.take("DescribeInstance") is None
    assert faults.list() == []


def test_without_a_number_it_strikes_until_it_is_cleared(faults: Faults) -> None:
    fault = add(faults)
    assert all(faults.take("DescribeInstance") is fault for _ in range(10))
    faults.clear()
    assert faults.take("DescribeInstance") is None


def test_faults_of_one_target_come_in_order(faults: Faults) -> None:
    first, second = add(faults, times=1), add(faults, times=1, error="InternalServiceException")
    assert [faults.take("DescribeInstance") for _ in range(3)] == [first, second, None]


def test_a_probability_is_drawn_for_each_call() -> None:
    drawn = iter([0.0, 0.29, 0.3, 0.9])
    faults = Faults(operations=OPERATIONS, errors=ERRORS, draw=lambda: next(drawn))
    fault = add(faults, probability=0.3, times=3)
    assert [faults.take("DescribeInstance") for _ in range(4)] == [fault, fault, None, None]
    assert fault.times == 1


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "name one"),
        ({"operation": "DescribeInstance", "verb": "RCPT", "reply": 451}, "name one"),
        ({"operation": "DescribeInstanz", "error": THROTTLED}, "is DescribeInstance meant?"),
        ({"operation": "Frobnicate", "error": THROTTLED}, "choose one of AssociateEmailAddressAlias, Describe"),
        ({"operation": "DescribeInstance", "error": "ThrottledException"}, "ThrottlingException"),
        ({"operation": "DescribeInstance"}, "say what happens"),
        ({"operation": "DescribeInstance", "reply": 451}, "a verb of SMTP with a reply"),
        ({"verb": "RCPT", "error": THROTTLED}, "a verb of SMTP with a reply"),
        ({"verb": "DATA", "reply": 451, "connection_lost": True}, "choose one"),
        ({"verb": "RCPT", "reply": 451, "applied": True}, "give DATA"),
    ],
)
def test_what_cannot_be_meant_says_what_can(faults: Faults, members: dict[str, object], words: str) -> None:
    with pytest.raises(FaultError) as refused:
        faults.add(Fault(**members))  # type: ignore[arg-type]
    assert words in str(refused.value)
    assert faults.list() == []


def test_their_number_is_bounded(faults: Faults) -> None:
    for _ in range(FAULTS_MAX):
        add(faults)
    with pytest.raises(FaultError, match="clear them first"):
        add(faults)


def test_every_error_of_the_wire_may_be_asked_for() -> None:
    assert {"ThrottlingException", "InternalServiceException", "ServiceUnavailableException"} <= ERRORS.keys()
    assert all(isinstance(error("text"), ServiceError) for error in ERRORS.values())
