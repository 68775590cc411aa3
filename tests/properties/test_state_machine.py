"""Random histories of calls against a plain model: what the operations promise holds after every step of every one."""

import contextlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from conftest import ManualClock
from harness.api_calls import ACCOUNT, REGION, ApiCaller, alias_members
from harness.engine import open_beside
from harness.tables import broken_promises
from readdress.api import idempotency
from readdress.directory import addresses, aliases, tags
from readdress.errors import ServiceError
from readdress.store.sqlite.database import SqliteDatabase

Members = dict[str, Any]
SEVEN_DAYS_MS = 7 * 24 * 60 * 60 * 1_000

# Each typed form with its key (contract 5), written by hand: no two addresses share a key.
KEYS = {
    "help@example.com": "help@example.com",
    "HELP@Example.COM": "help@example.com",
    '"help"@example.com': "help@example.com",
    "sales@example.com": "sales@example.com",
    "Straße@example.net": "strasse@example.net",
    "STRASSE@example.net": "strasse@example.net",
    "info@bücher.example": "info@xn--bcher-kva.example",
    "info@xn--bcher-kva.example": "info@xn--bcher-kva.example",
    "a@example.com": "a@example.com",
    "b@example.com": "b@example.com",
}
# What a token with other parameters is refused with (contract 3).
TOKEN_REFUSALS = {"DisassociateEmailAddressAlias": "InvalidRequestException"}


@dataclass
class Address:
    instance_id: str
    text: str
    display_name: str | None
    description: str | None
    tags: dict[str, str]


@dataclass
class Stored:
    parameters: Members
    answer: Members
    at_ms: int


@dataclass
class Model:
    """What ought to be true; nothing in it is clever."""

    addresses: dict[str, Address] = field(default_factory=dict)
    primary_of: dict[str, str] = field(default_factory=dict)
    tokens: dict[tuple[str, str], Stored] = field(default_factory=dict)
    audited: list[str] = field(default_factory=list)

    def lives(self, members: Members, address_id: str) -> bool:
        address = self.addresses.get(address_id)
        return address is not None and address.instance_id == members["InstanceId"]

    def alias_of(self, primary_id: str) -> list[str]:
        return [alias for alias, primary in self.primary_of.items() if primary == primary_id]

    # What each operation refuses in this state, and what it changes.

    def refuse(self, operation: str, members: Members) -> str | None:
        if operation == "CreateEmailAddress":
            taken = {KEYS[address.text] for address in self.addresses.values()}
            return "DuplicateResourceException" if KEYS[members["EmailAddress"]] in taken else None
        if operation in {"TagResource", "UntagResource"}:
            instance_id, address_id = parse(members["resourceArn"])
            known = self.lives({"InstanceId": instance_id}, address_id)
            return None if known else "ResourceNotFoundException"
        if "AliasConfiguration" in members:
            return self._refuse_alias(operation, members)
        return None if self.lives(members, members["EmailAddressId"]) else "ResourceNotFoundException"

    def _refuse_alias(self, operation: str, members: Members) -> str | None:
        primary, alias = members["EmailAddressId"], members["AliasConfiguration"]["EmailAddressId"]
        if primary == alias:
            return "InvalidRequestException"
        if not (self.lives(members, primary) and self.lives(members, alias)):
            return "ResourceNotFoundException"
        if operation.startswith("Disassociate"):
            return None if self.primary_of.get(alias) == primary else "ResourceNotFoundException"
        involved = {*self.primary_of, *self.primary_of.values()}
        return "ResourceConflictException" if {primary, alias} & involved else None

    def apply(self, operation: str, members: Members, answer: Members) -> None:
        if operation == "CreateEmailAddress":
            self.addresses[answer["EmailAddressId"]] = Address(
                members["InstanceId"],
                members["EmailAddress"],
                members.get("DisplayName"),
                members.get("Description"),
                dict(members.get("Tags") or {}),
            )
        elif operation == "TagResource":
            self.addresses[parse(members["resourceArn"])[1]].tags.update(members["tags"])
        elif operation == "UntagResource":
            for key in members["tagKeys"]:
                self.addresses[parse(members["resourceArn"])[1]].tags.pop(key, None)
        elif operation == "AssociateEmailAddressAlias":
            self.primary_of[members["AliasConfiguration"]["EmailAddressId"]] = members["EmailAddressId"]
        elif operation == "DisassociateEmailAddressAlias":
            del self.primary_of[members["AliasConfiguration"]["EmailAddressId"]]
        elif operation == "DeleteEmailAddress":
            gone = members["EmailAddressId"]
            del self.addresses[gone]
            self.primary_of = {
                alias: primary for alias, primary in self.primary_of.items() if gone not in (alias, primary)
            }
        else:
            address = self.addresses[members["EmailAddressId"]]
            address.display_name = members.get("DisplayName", address.display_name)
            address.description = members.get("Description", address.description)
        self.audited.append(operation)


def arn(instance_id: str, address_id: str) -> str:
    return f"arn:aws:connect:{REGION}:{ACCOUNT}:instance/{instance_id}/email-address/{address_id}"


def parse(text: str) -> tuple[str, str]:
    _, instance_id, _, address_id = text.rsplit(":", 1)[1].split("/")
    return instance_id, address_id


numbers = st.integers(0, 30)
maybe_token = st.none() | st.sampled_from(["t1", "t2", "t3"])
texts = st.none() | st.sampled_from(["", "Help", "HELP desk", "100%"])
tag_maps = st.dictionaries(st.sampled_from(["team", "tier"]), st.sampled_from(["", "1", "support"]), min_size=1)


class Histories(RuleBasedStateMachine):
    """Each rule is a call or the passing of time; each call's outcome is foretold by the model."""

    def __init__(self) -> None:
        super().__init__()
        self.exits = contextlib.ExitStack()
        folder = Path(self.exits.enter_context(tempfile.TemporaryDirectory()))
        self.clock = ManualClock()
        self.database = SqliteDatabase(folder / "readdress.db", clock=self.clock, lock_wait_ms=5_000)
        self.exits.callback(self.database.close)
        self.api = self.exits.enter_context(ApiCaller(self.database))
        self.rows = self.exits.enter_context(open_beside(folder / "readdress.db"))
        self.model = Model()
        self.known: list[str] = ["00000000-0000-4000-8000-000000000000"]
        self.calls: list[tuple[str, Members]] = []

    def teardown(self) -> None:
        self.exits.close()

    @initialize()
    def begin(self) -> None:
        self.instances = [self.api.create_instance() for _ in range(2)]
        self.model.audited += ["CreateInstance"] * 2
        for text in ("a@example.com", "b@example.com", "sales@example.com"):
            self.call("CreateEmailAddress", {"InstanceId": self.instances[0], "EmailAddress": text})
        pair = alias_members(self.instances[0], primary_id=self.known[1], alias_id=self.known[2])
        self.call("AssociateEmailAddressAlias", pair)

    # One call, foretold.

    def call(self, operation: str, members: Members) -> None:
        self.calls.append((operation, members))
        token = members.get("ClientToken")
        stored = self.model.tokens.get((operation, token)) if token else None
        if stored and self.clock.now_ms() - stored.at_ms >= SEVEN_DAYS_MS:
            stored = None
        if stored is None:
            expected = self.model.refuse(operation, members)
        elif stored.parameters == members:
            assert self.outcome(operation, members) == (None, stored.answer)
            return
        else:
            expected = TOKEN_REFUSALS.get(operation, "IdempotencyException")
        code, answer = self.outcome(operation, members)
        assert code == expected, (operation, members, code, answer)
        if code is not None:
            return
        self.model.apply(operation, members, answer)
        if token:
            self.model.tokens[operation, token] = Stored(members, answer, self.clock.now_ms())
        if operation == "CreateEmailAddress":
            self.known.append(answer["EmailAddressId"])

    def outcome(self, operation: str, members: Members) -> tuple[str | None, Members]:
        try:
            return None, self.api(operation, **members)
        except ServiceError as error:
            return error.code, {}
        except Exception as error:
            raise AssertionError(f"{operation} {members}: {error!r}") from error

    def instance(self, number: int) -> str:
        return self.instances[number % 2]

    def address(self, number: int) -> str:
        """Mostly one that lives."""
        living = list(self.model.addresses)
        choice = self.known if number > 25 or not living else living
        return choice[number % len(choice)]

    def home_of(self, address_id: str, stray: bool) -> str:
        """The address's own instance, or on a stray path the other one."""
        known = self.model.addresses.get(address_id)
        home = known.instance_id if known else self.instances[0]
        return next(other for other in self.instances if other != home) if stray else home

    # The rules.

    @rule(
        number=numbers,
        text=st.sampled_from(sorted(KEYS)),
        name=texts,
        description=texts,
        tags=tag_maps | st.none(),
        token=maybe_token,
    )
    def create(
        self, number: int, text: str, name: str | None, description: str | None, tags: Any, token: str | None
    ) -> None:
        members = {"InstanceId": self.instance(number), "EmailAddress": text, "Tags": tags, "ClientToken": token}
        self.call("CreateEmailAddress", without_none(members | {"DisplayName": name, "Description": description}))

    @rule(number=numbers, name=texts, description=texts, stray=st.sampled_from([False] * 5 + [True]), token=maybe_token)
    def update(self, number: int, name: str | None, description: str | None, stray: bool, token: str | None) -> None:
        members = self.named(number, stray) | {"DisplayName": name, "Description": description, "ClientToken": token}
        self.call("UpdateEmailAddressMetadata", without_none(members))

    @rule(number=numbers, stray=st.sampled_from([False] * 5 + [True]))
    def delete(self, number: int, stray: bool) -> None:
        self.call("DeleteEmailAddress", self.named(number, stray))

    @rule(
        operation=st.sampled_from(["AssociateEmailAddressAlias"] * 2 + ["DisassociateEmailAddressAlias"]),
        primary=numbers,
        alias=numbers,
        token=maybe_token,
    )
    def change_alias(self, operation: str, primary: int, alias: int, token: str | None) -> None:
        primary_id, alias_id = self.address(primary), self.address(alias)
        members = alias_members(self.home_of(primary_id, False), primary_id=primary_id, alias_id=alias_id)
        self.call(operation, without_none(members | {"ClientToken": token}))

    @rule(number=numbers, token=maybe_token)
    def disassociate_one_that_is(self, number: int, token: str | None) -> None:
        relations = sorted(self.model.primary_of.items())
        if relations:
            alias_id, primary_id = relations[number % len(relations)]
            members = alias_members(self.home_of(primary_id, False), primary_id=primary_id, alias_id=alias_id)
            self.call("DisassociateEmailAddressAlias", without_none(members | {"ClientToken": token}))

    @rule(number=numbers, new=tag_maps)
    def tag(self, number: int, new: dict[str, str]) -> None:
        address_id = self.address(number)
        self.call("TagResource", {"resourceArn": arn(self.home_of(address_id, False), address_id), "tags": new})

    @rule(number=numbers, keys=st.lists(st.sampled_from(["team", "tier"]), min_size=1, max_size=2))
    def untag(self, number: int, keys: list[str]) -> None:
        address_id = self.address(number)
        self.call("UntagResource", {"resourceArn": arn(self.home_of(address_id, False), address_id), "tagKeys": keys})

    @rule(number=numbers)
    def repeat_an_earlier_call(self, number: int) -> None:
        if self.calls:
            self.call(*self.calls[-1 - number % len(self.calls)])

    @rule(number=numbers)
    def repeat_an_earlier_success_with_its_token(self, number: int) -> None:
        stored = sorted(self.model.tokens.items())
        if stored:
            (operation, _), kept = stored[number % len(stored)]
            self.call(operation, kept.parameters)

    @rule(ms=st.sampled_from([1, 86_400_000, SEVEN_DAYS_MS - 1, SEVEN_DAYS_MS]))
    def time_passes(self, ms: int) -> None:
        self.clock.advance(ms)

    @rule()
    def purge(self) -> None:
        self.database.run(lambda tx: idempotency.delete_expired(tx, retention_days=7))
        now = self.clock.now_ms()
        self.model.tokens = {key: kept for key, kept in self.model.tokens.items() if now - kept.at_ms < SEVEN_DAYS_MS}

    @rule(number=numbers)
    def describe(self, number: int) -> None:
        members = self.named(number, False)
        code, answer = self.outcome("DescribeEmailAddress", members)
        address = self.model.addresses.get(members["EmailAddressId"])
        if address is None:
            assert code == "ResourceNotFoundException"
            return
        assert answer["EmailAddress"] == address.text
        assert (answer.get("DisplayName"), answer.get("Description")) == (address.display_name, address.description)
        assert answer["Tags"] == address.tags
        aliases_told = [alias["EmailAddressId"] for alias in answer["AliasConfigurations"]]
        assert aliases_told == self.model.alias_of(members["EmailAddressId"])

    @rule(number=numbers, word=st.sampled_from(["help", "EXAMPLE.COM", "straße", "zzz"]), page=st.integers(1, 3))
    def search(self, number: int, word: str, page: int) -> None:
        condition = {"FieldName": "emailAddress", "Value": word, "ComparisonType": "CONTAINS"}
        query = {"InstanceId": self.instance(number), "SearchCriteria": {"StringCondition": condition}}
        found: list[str] = []
        token = None
        while True:
            answer = self.api("SearchEmailAddresses", **query, MaxResults=page, NextToken=token)
            found += [hit["EmailAddressId"] for hit in answer["EmailAddresses"]]
            token = answer.get("NextToken")
            if token is None:
                break
        assert found == [
            address_id
            for address_id, address in self.model.addresses.items()
            if address.instance_id == query["InstanceId"] and word.casefold() in address.text.casefold()
        ]

    def named(self, number: int, stray: bool) -> Members:
        address_id = self.address(number)
        return {"InstanceId": self.home_of(address_id, stray), "EmailAddressId": address_id}

    # What holds after every step.

    @invariant()
    def nothing_is_broken(self) -> None:
        assert broken_promises(self.rows) == {}

    @invariant()
    def the_relation_is_the_models(self) -> None:
        assert dict(self.rows.execute("SELECT alias_id, primary_id FROM alias").fetchall()) == self.model.primary_of

    @invariant()
    def a_token_is_kept_for_each_success_and_for_nothing_else(self) -> None:
        rows = self.rows.execute("SELECT operation, token, answer, created_ms FROM idempotency_token").fetchall()
        assert {(operation, token): (json.loads(answer), at_ms) for operation, token, answer, at_ms in rows} == {
            key: (stored.answer, stored.at_ms) for key, stored in self.model.tokens.items()
        }

    @invariant()
    def every_change_is_audited_once(self) -> None:
        rows = self.rows.execute("SELECT operation FROM audit ORDER BY request_id").fetchall()
        assert [operation for (operation,) in rows] == self.model.audited

    @invariant()
    def the_addresses_and_their_tags_are_the_models(self) -> None:
        found: dict[str, Address] = {}
        query = "SELECT id, instance_id, address, display_name, description FROM email_address"
        for address_id, instance_id, text, name, description in self.rows.execute(query):
            found[address_id] = Address(instance_id, text, name, description, {})
        for address_id, key, value in self.rows.execute("SELECT resource_id, key, value FROM tag"):
            found[address_id].tags[key] = value
        assert found == self.model.addresses


def without_none(members: Members) -> Members:
    return {name: value for name, value in members.items() if value is not None}


def run_histories(*, examples: int, steps: int, **more: Any) -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            **more,
        ),
    )


@pytest.mark.parametrize(
    ("examples", "steps"), [(40, 40), pytest.param(3_000, 80, marks=pytest.mark.torture)], ids=["short", "long"]
)
def test_every_history_of_calls_keeps_every_promise(examples: int, steps: int) -> None:
    run_histories(examples=examples, steps=steps)


# The histories find what is wrong: each of these mistakes is one that the code could have.


def associate_whatever_the_state(tx: Any, *, primary_id: str, alias_id: str, **where: str) -> None:
    aliases._lock(tx, primary_id=primary_id, alias_id=alias_id, **where)
    tx.execute(aliases.sql.insert_alias, alias_id=alias_id, primary_id=primary_id, created_ms=tx.now_ms)


def associate_backwards(tx: Any, *, primary_id: str, alias_id: str, **where: str) -> None:
    associate(tx, primary_id=alias_id, alias_id=primary_id, **where)


def update_and_forget_the_alias(tx: Any, address_id: str, **values: Any) -> None:
    update(tx, address_id, **values)
    for (other_id,) in tx.all(aliases.sql.find_partner, id=address_id):
        tx.execute(aliases.sql.delete_alias, alias_id=address_id, primary_id=other_id)
        tx.execute(aliases.sql.delete_alias, alias_id=other_id, primary_id=address_id)


def find_for_ever(tx: Any, token: Any, *, retention_days: int) -> Any:
    return find(tx, token, retention_days=365)


def store_no_answer(tx: Any, token: Any, *, fingerprint: str, answer: bytes) -> None:
    store(tx, token, fingerprint=fingerprint, answer=b"{}")


associate, update, find = aliases.associate, addresses.update, idempotency.find
store = idempotency.store

MISTAKES: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "no conflict is seen": (aliases, "associate", associate_whatever_the_state),
    "alias and primary are swapped": (aliases, "associate", associate_backwards),
    "an update forgets the alias": (addresses, "update", update_and_forget_the_alias),
    "tags outlive their address": (tags, "delete_all", lambda *_: None),
    "tokens are not kept": (idempotency, "store", lambda *_, **__: None),
    "tokens are kept for ever": (idempotency, "find", find_for_ever),
    "parameters are not compared": (idempotency, "fingerprint", lambda _: "same"),
    "answers are not stored": (idempotency, "store", store_no_answer),
    "the purge takes everything": (idempotency, "delete_expired", lambda tx, **_: tx.execute(
        "DELETE FROM idempotency_token")),
    "some deletes do nothing": (addresses, "delete", lambda *_, **__: None),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    monkeypatch.setattr(*MISTAKES[mistake])
    with pytest.raises(AssertionError):
        run_histories(
            examples=200,
            steps=40,
            derandomize=True,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            print_blob=False,
        )
