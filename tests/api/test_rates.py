"""Rates: two calls a second with a burst of five, per account and operation, once they are on (contract 5)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import ManualClock
from harness.api_calls import ApiCaller
from harness.tables import dump
from readdress.api import rates
from readdress.api.rates import Rate
from readdress.errors import ThrottlingException
from readdress.service import AWS_RATE
from readdress.store.database import Database

TWO_A_SECOND = Rate(per_second=2, burst=5)


class Buckets:
    """What `take` says, in the tests' words."""

    def __init__(self, database: Database, rate: Rate = TWO_A_SECOND) -> None:
        self._database = database
        self._rate = rate

    def take(self, account: str = "1", operation: str = "Describe") -> int:
        """How long the caller is told to wait, in milliseconds."""
        return self._database.run(lambda tx: rates.take(tx, self._rate, account=account, operation=operation))

    def taken(self, *, account: str = "1", operation: str = "Describe", tries: int = 20) -> int:
        """How many of the calls in a row are let through."""
        return next((done for done in range(tries) if self.take(account, operation)), tries)


@pytest.fixture
def buckets(database: Database) -> Buckets:
    return Buckets(database)


def test_the_published_rate_is_two_a_second_with_a_burst_of_five() -> None:
    assert AWS_RATE == TWO_A_SECOND


def test_without_a_rate_nobody_waits(database: Database) -> None:
    with ApiCaller(database) as api:
        for _ in range(20):
            api("ListInstances")
    assert dump(database)["rate"] == []


def test_a_full_bucket_holds_five_calls(buckets: Buckets) -> None:
    assert buckets.taken() == 5


@pytest.mark.parametrize(
    ("wait_ms", "calls"), [(0, 0), (499, 0), (500, 1), (999, 1), (1_000, 2), (2_499, 4), (2_500, 5), (3_600_000, 5)]
)
def test_an_empty_bucket_fills_with_two_calls_a_second(
    buckets: Buckets, clock: ManualClock, wait_ms: int, calls: int
) -> None:
    buckets.taken()
    clock.advance(wait_ms)
    assert buckets.taken() == calls


def test_over_a_minute_two_a_second_and_the_burst_are_let_through(buckets: Buckets, clock: ManualClock) -> None:
    through = 0
    for _ in range(60_000 // 50):
        through += buckets.taken()
        clock.advance(50)
    assert through == pytest.approx(5 + 2 * 60, abs=1)


@pytest.mark.parametrize("empty_for_ms", [0, 100, 250, 499])
def test_who_waits_as_long_as_told_is_let_through(buckets: Buckets, clock: ManualClock, empty_for_ms: int) -> None:
    # contract 1: 429 says when to come again
    buckets.taken()
    clock.advance(empty_for_ms)
    wait_ms = buckets.take()
    assert 0 < wait_ms <= 500
    clock.advance(wait_ms)
    assert buckets.take() == 0


def test_a_refused_call_costs_nothing(buckets: Buckets, clock: ManualClock) -> None:
    buckets.taken()
    for _ in range(100):
        assert buckets.taken() == 0
    clock.advance(500)
    assert buckets.taken() == 1


@pytest.mark.parametrize(("account", "operation"), [("2", "Describe"), ("1", "Search")])
def test_every_account_and_operation_has_a_bucket_of_its_own(buckets: Buckets, account: str, operation: str) -> None:
    buckets.taken()
    assert buckets.taken(account=account, operation=operation) == 5
    assert buckets.taken() == 0


def test_a_clock_that_goes_back_gives_nothing_away_and_locks_nobody_out(buckets: Buckets, clock: ManualClock) -> None:
    buckets.taken()
    clock.advance(-3_600_000)
    assert buckets.taken() == 0
    clock.advance(500)
    assert buckets.taken() <= 1
    clock.advance(2_500)
    assert buckets.taken() >= 4


def test_calls_at_the_same_time_share_the_bucket(database: Database) -> None:
    # two nodes, or many: what one takes is gone for all
    others = [Buckets(database) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        through = sum(threads.map(lambda one: one.taken(tries=5), others))
    assert through == 5


@pytest.fixture
def limited(database: Database, clock: ManualClock) -> Iterator[ApiCaller]:
    with ApiCaller(database, rate=TWO_A_SECOND) as caller:
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
