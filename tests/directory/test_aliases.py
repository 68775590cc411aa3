"""The relation as a matching: every state of four addresses, against every change, and what a plain model expects."""

from collections.abc import Iterator
from itertools import permutations, product
from typing import NamedTuple

import pytest

from readdress.address import split_address
from readdress.directory import addresses, aliases, instances
from readdress.errors import ServiceError
from readdress.store.database import Database, Transaction
from readdress.store.queries import Query

ADDRESSES = ("a", "b", "c", "d")
UNKNOWN = "nobody"
FOREIGN = "elsewhere"  # an address of another instance
ACCOUNT = "123456789012"

State = frozenset[tuple[str, str]]  # of (alias, primary)


def matchings() -> Iterator[State]:
    """Every set of directed pairs in which no address occurs twice."""
    yield frozenset()
    seen = set()
    for size in (1, 2):
        for chosen in permutations(ADDRESSES, 2 * size):
            state = frozenset(zip(chosen[::2], chosen[1::2], strict=True))
            if state not in seen:
                seen.add(state)
                yield state


STATES = sorted(matchings(), key=lambda state: (len(state), sorted(state)))


class Outcome(NamedTuple):
    """An error's code or None, the state afterwards, and the reasons of which the message has to name one."""

    code: str | None
    state: State
    reasons: frozenset[str] = frozenset()


def expect_associate(state: State, *, primary: str, alias: str) -> Outcome:
    # contract 2.3, 2.4
    if primary == alias:
        return Outcome("InvalidRequestException", state, frozenset({"its own alias"}))
    if {primary, alias} & {UNKNOWN, FOREIGN}:
        return Outcome("ResourceNotFoundException", state, frozenset({"does not exist"}))
    reasons = {
        "same pair": (alias, primary) in state,
        "other way round": (primary, alias) in state,
        "primary has an alias": any(other != alias for other, served in state if served == primary),
        "alias serves another": any(served != primary for other, served in state if other == alias),
        "chain": any(other == primary or served == alias for other, served in state),
    }
    forbidding = frozenset(reason for reason, holds in reasons.items() if holds)
    if forbidding:
        return Outcome("ResourceConflictException", state, forbidding)
    return Outcome(None, state | {(alias, primary)})


def expect_disassociate(state: State, *, primary: str, alias: str) -> Outcome:
    # contract 2.4
    if primary == alias:
        return Outcome("InvalidRequestException", state, frozenset({"its own alias"}))
    if {primary, alias} & {UNKNOWN, FOREIGN}:
        return Outcome("ResourceNotFoundException", state, frozenset({"does not exist"}))
    if (alias, primary) in state:
        return Outcome(None, state - {(alias, primary)})
    reason = "other way round" if (primary, alias) in state else "not associated"
    return Outcome("ResourceNotFoundException", state, frozenset({reason}))


# How a message says each reason.
WORDS = {
    "its own alias": "its own alias",
    "does not exist": "does not exist",
    "other way round": "other way round",
    "primary has an alias": "already has an alias",
    "alias serves another": "already an alias of another",
    "chain": "chain",
    "not associated": "is not an alias of",
}


def said(message: str, *, primary: str) -> str:
    """Which reason the message names."""
    for reason, words in WORDS.items():
        if words in message:
            return reason
    assert f"already an alias of {primary}" in message, message
    return "same pair"


def find_state(tx: Transaction) -> State:
    return frozenset((alias, primary) for alias, primary in tx.all(Query("SELECT alias_id, primary_id FROM alias")))


def put_state(tx: Transaction, state: State) -> None:
    tx.execute(Query("DELETE FROM alias"))
    for alias, primary in state:
        tx.execute(aliases.sql.insert_alias, alias_id=alias, primary_id=primary, created_ms=0)


def create_addresses(tx: Transaction) -> None:
    for instance_id, ids in {"one": ADDRESSES, "two": (FOREIGN,)}.items():
        instances.create(tx, instances.Instance(instance_id, ACCOUNT, None, "SAML", None, 1, 1, 0))
        for address_id in ids:
            addresses.create(
                tx,
                address_id=address_id,
                instance_id=instance_id,
                address=f"{address_id}@example.com",
                display_name=None,
                description=None,
                addresses_max=None,
            )


CHANGES = {
    "associate": (aliases.associate, expect_associate),
    "disassociate": (aliases.disassociate, expect_disassociate),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("state", STATES, ids=lambda state: "+".join(f"{a}>{p}" for a, p in sorted(state)) or "none")
def test_every_change_in_every_state_does_what_the_model_says(database: Database, change: str, state: State) -> None:
    operate, expect = CHANGES[change]

    def try_all(tx: Transaction) -> None:
        create_addresses(tx)
        for primary, alias in product((*ADDRESSES, UNKNOWN, FOREIGN), repeat=2):
            put_state(tx, state)
            expected = expect(state, primary=primary, alias=alias)
            code, reason = None, None
            try:
                operate(tx, account=ACCOUNT, instance_id="one", primary_id=primary, alias_id=alias)
            except ServiceError as error:
                code, reason = error.code, said(error.message, primary=primary)
            assert (code, find_state(tx)) == expected[:2], (primary, alias)
            assert reason is None or reason in expected.reasons, (primary, alias)

    database.run(try_all)


def test_there_are_twenty_five_states_of_four_addresses() -> None:
    # One empty, six pairs in two directions each, three pairings in four.
    assert len(STATES) == 1 + 12 + 12


def test_the_same_pair_can_be_associated_again_right_after(database: Database) -> None:
    # contract 2.6
    def again(tx: Transaction) -> State:
        create_addresses(tx)
        for operate in (aliases.associate, aliases.disassociate, aliases.associate):
            operate(tx, account=ACCOUNT, instance_id="one", primary_id="a", alias_id="b")
        return find_state(tx)

    assert database.run(again) == {("b", "a")}


@pytest.mark.parametrize("gone", ["a", "b"])
def test_deleting_either_end_removes_the_relation_and_frees_the_other(database: Database, gone: str) -> None:
    # contract 2.7
    def delete_and_associate(tx: Transaction) -> State:
        create_addresses(tx)
        aliases.associate(tx, account=ACCOUNT, instance_id="one", primary_id="a", alias_id="b")
        addresses.delete(tx, instance_id="one", address_id=gone)
        assert find_state(tx) == set()
        aliases.associate(tx, account=ACCOUNT, instance_id="one", primary_id="c", alias_id=({"a", "b"} - {gone}).pop())
        return find_state(tx)

    assert len(database.run(delete_and_associate)) == 1


@pytest.mark.parametrize(
    "other", ["A@Example.COM", '"a"@example.com', "a@EXAMPLE.com"], ids=["letter case", "quotes", "domain"]
)
def test_one_key_belongs_to_one_address(database: Database, other: str) -> None:
    # contract 5; RFC 5321 §4.1.2 for the quotes
    assert split_address(other).key == split_address("a@example.com").key

    def create_twice(tx: Transaction) -> None:
        create_addresses(tx)
        addresses.create(
            tx,
            address_id="x",
            instance_id="two",
            address=other,
            display_name=None,
            description=None,
            addresses_max=None,
        )

    with pytest.raises(ServiceError) as caught:
        database.run(create_twice)
    assert caught.value.code == "DuplicateResourceException"
