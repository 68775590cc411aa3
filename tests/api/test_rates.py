"""Rates: two calls a second with a burst of five, per account and operation, once they are on (contract 5)."""

from collections.abc import Iterator

import pytest

from conftest import ManualClock
from harness.api_calls import ApiCaller
from harness.tables import dump
from readdress.api import rates
from readdress.api.rates import Rate, Rates
from readdress.errors import ThrottlingException
from readdress.service import AWS_RATE
from readdress.store.database import Database

TWO_A_SECOND = Rate(per_second=2, burst=5)


@pytest.fixture
def buckets(clock: ManualClock) -> Rates:
    return Rates(TWO_A_SECOND, clock)


def taken(buckets: Rates, *, account: str = "1", operation: str = "Describe", tries: int = 20) -> int:
    """How many of the calls in a row are let through."""
    for done in range(tries):
        try:
            buckets.take(account, operation)
        except ThrottlingException:
            return done
    return tries


def test_the_published_rate_is_two_a_second_with_a_burst_of_five() -> None:
    assert AWS_RATE == TWO_A_SECOND


def test_without_a_rate_nobody_waits(clock: ManualClock) -> None:
    assert taken(Rates(None, clock), tries=1_000) == 1_000


def test_a_full_bucket_holds_five_calls(buckets: Rates) -> None:
    assert taken(buckets) == 5


@pytest.mark.parametrize(
    ("wait_ms", "calls"), [(0, 0), (499, 0), (500, 1), (999, 1), (1_000, 2), (2_499, 4), (2_500, 5), (3_600_000, 5)]
)
def test_an_empty_bucket_fills_with_two_calls_a_second(
    buckets: Rates, clock: ManualClock, wait_ms: int, calls: int
) -> None:
    taken(buckets)
    clock.advance(wait_ms)
    assert taken(buckets) == calls


def test_over_a_minute_two_a_second_and_the_burst_are_let_through(buckets: Rates, clock: ManualClock) -> None:
    through = 0
    for _ in range(60_000 // 50):
        through += taken(buckets)
        clock.advance(50)
    assert through == pytest.approx(5 + 2 * 60, abs=1)


@pytest.mark.parametrize("empty_for_ms", [0, 100, 250, 499])
def test_who_waits_as_long_as_told_is_let_through(buckets: Rates, clock: ManualClock, empty_for_ms: int) -> None:
    # contract 1: 429 says when to come again
    taken(buckets)
    clock.advance(empty_for_ms)
    with pytest.raises(ThrottlingException) as caught:
        buckets.take("1", "Describe")
    assert caught.value.retry_after_ms
    assert 0 < caught.value.retry_after_ms <= 501
    clock.advance(caught.value.retry_after_ms)
    buckets.take("1", "Describe")


def test_a_refused_call_costs_nothing(buckets: Rates, clock: ManualClock) -> None:
    taken(buckets)
    for _ in range(100):
        assert taken(buckets) == 0
    clock.advance(500)
    assert taken(buckets) == 1


@pytest.mark.parametrize(("account", "operation"), [("2", "Describe"), ("1", "Search")])
def test_every_account_and_operation_has_a_bucket_of_its_own(buckets: Rates, account: str, operation: str) -> None:
    taken(buckets)
    assert taken(buckets, account=account, operation=operation) == 5
    assert taken(buckets) == 0


def test_a_clock_that_goes_back_gives_nothing_away_and_locks_nobody_out(buckets: Rates, clock: ManualClock) -> None:
    taken(buckets)
    clock.advance(-3_600_000)
    assert taken(buckets) == 0
    clock.advance(500)
    assert taken(buckets) <= 1
    clock.advance(2_500)
    assert taken(buckets) >= 4


def test_the_buckets_take_a_bounded_room(buckets: Rates, monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    monkeypatch.setattr(rates, "BUCKETS_MAX", 10)
    for number in range(100):
        buckets.take(str(number), "Describe")
    assert len(buckets._buckets) <= 10


@pytest.fixture
def limited(database: Database, clock: ManualClock) -> Iterator[ApiCaller]:
    with ApiCaller(database, clock=clock, rate=TWO_A_SECOND) as caller:
        yield caller


def test_a_throttled_call_does_nothing_and_keeps_no_token(limited: ApiCaller, database: Database) -> None:
    instance_id = limited.create_instance()
    for number in range(5):
        limited.create_address(instance_id, f"{number}@example.com", ClientToken=str(number))
    before = dump(database)
    with pytest.raises(ThrottlingException):
        limited.create_address(instance_id, "6@example.com", ClientToken="6")
    assert dump(database) == before


def test_a_replay_takes_its_turn_like_any_call(limited: ApiCaller, clock: ManualClock) -> None:
    # The order of checks is contract: rate before token.
    instance_id = limited.create_instance()
    for _ in range(5):
        limited.create_address(instance_id, "help@example.com", ClientToken="token")
    with pytest.raises(ThrottlingException):
        limited.create_address(instance_id, "help@example.com", ClientToken="token")
    clock.advance(500)
    limited.create_address(instance_id, "help@example.com", ClientToken="token")
