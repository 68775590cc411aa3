"""AssociateEmailAddressAlias: mail for the alias reaches the primary as well, and nobody is in two relations."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from harness.instance import UNKNOWN_ID, Instance
from harness.process import DEV_INSTANCE
from harness.refusal import refused


def token() -> str:
    return uuid.uuid4().hex


# Shape.


def test_the_answer_is_200_with_an_empty_body(instance: Instance) -> None:
    primary, alias = instance.publish("primary"), instance.publish("alias")
    answer = instance.http.call(
        "POST",
        f"/email-addresses/{instance.id}/{primary.id}/associate-alias",
        {"AliasConfiguration": {"EmailAddressId": alias.id}},
    )
    assert (answer.status, answer.body) == (200, b"")


def test_every_id_may_be_an_arn(instance: Instance) -> None:
    primary, alias = instance.publish("primary"), instance.publish("alias")
    instance.connect.associate_email_address_alias(
        InstanceId=instance.arn(),
        EmailAddressId=instance.arn(primary.id),
        AliasConfiguration={"EmailAddressId": instance.arn(alias.id)},
    )
    assert instance.aliases_of(primary.id) == [alias.id]


@pytest.mark.parametrize("body", [{}, {"AliasConfiguration": {}}, {"AliasConfiguration": None}])
def test_the_alias_is_required(instance: Instance, body: dict[str, Any]) -> None:
    path = f"/email-addresses/{instance.id}/{instance.publish().id}/associate-alias"
    answer = instance.http.call("POST", path, body)
    assert (answer.status, answer.code) == (400, "InvalidParameterException")
    assert "AliasConfiguration" in answer.json["Message"]


# Behaviour.


def test_the_id_in_the_path_is_the_primary(instance: Instance) -> None:
    primary, alias = instance.publish("primary"), instance.publish("alias")
    instance.associate(primary=primary.id, alias=alias.id)
    instance.send(alias.text, subject="for the alias")
    instance.send(primary.text, subject="for the primary")
    # Contract 2.1, 2.2: both keep receiving; mail for the primary reaches the primary only.
    assert instance.subjects(alias.id) == ["for the alias"]
    assert instance.subjects(primary.id) == ["for the alias", "for the primary"]


def test_mail_follows_the_relation_from_the_answer_on(instance: Instance) -> None:
    primary, alias = instance.publish("primary"), instance.publish("alias")
    for number in range(3):  # contract 2.8
        instance.send(alias.text, subject=f"before {number}")
        instance.associate(primary=primary.id, alias=alias.id)
        instance.send(alias.text, subject=f"between {number}")
        instance.disassociate(primary=primary.id, alias=alias.id)
    assert instance.subjects(primary.id) == [f"between {number}" for number in range(3)]
    assert len(instance.subjects(alias.id)) == 6


def test_of_concurrent_calls_for_one_primary_exactly_one_succeeds(instance: Instance) -> None:
    primary, aliases = instance.publish("primary"), [instance.publish("alias") for _ in range(8)]

    def attempt(alias: str) -> str:
        try:
            instance.associate(primary=primary.id, alias=alias)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return alias

    with ThreadPoolExecutor(len(aliases)) as pool:
        outcomes = list(pool.map(attempt, [alias.id for alias in aliases]))
    assert outcomes.count("ResourceConflictException") == len(aliases) - 1
    (winner,) = set(outcomes) - {"ResourceConflictException"}
    assert instance.aliases_of(primary.id) == [winner]


# Errors: never valid, whatever the state.


def test_an_address_cannot_be_its_own_alias(instance: Instance) -> None:
    one, other = instance.publish(), instance.publish()
    for address in (one.id, UNKNOWN_ID):
        with refused("InvalidRequestException", "its own alias"):
            instance.associate(primary=address, alias=address)
    with refused("InvalidRequestException", "its own alias"):
        instance.associate(primary=one.id, alias=instance.arn(one.id))
    instance.associate(primary=one.id, alias=other.id)
    for address in (one.id, other.id):
        with refused("InvalidRequestException", "its own alias"):
            instance.associate(primary=address, alias=address)


# Errors: what the present state forbids (contract 2.3).


@pytest.mark.parametrize(
    ("present", "wanted", "culprit", "words"),
    [
        pytest.param(("a", "b"), ("a", "b"), "b", "already an alias of {a}", id="the same pair"),
        pytest.param(("a", "b"), ("a", "c"), "a", "already has an alias", id="the primary has an alias"),
        pytest.param(("a", "b"), ("c", "b"), "b", "already an alias of another", id="the alias serves someone"),
        pytest.param(("a", "b"), ("b", "c"), "b", "chain", id="the primary is an alias"),
        pytest.param(("a", "b"), ("c", "a"), "a", "chain", id="the alias has an alias"),
        pytest.param(("a", "b"), ("b", "a"), "a", "the other way round", id="the pair the other way round"),
    ],
)
def test_a_conflict_says_which_relation_forbids_it(
    instance: Instance, present: tuple[str, str], wanted: tuple[str, str], culprit: str, words: str
) -> None:
    ids = {name: instance.publish(name).id for name in "abc"}
    instance.associate(primary=ids[present[0]], alias=ids[present[1]])
    with refused("ResourceConflictException", ids[culprit], words.format(**ids)):
        instance.associate(primary=ids[wanted[0]], alias=ids[wanted[1]])
    assert instance.aliases_of(ids[present[0]]) == [ids[present[1]]]
    assert all(instance.aliases_of(ids[name]) == [] for name in "abc" if name != present[0])


def test_the_conflicts_are_told_apart_by_their_messages(instance: Instance) -> None:
    ids = {name: instance.publish(name).id for name in "abc"}
    instance.associate(primary=ids["a"], alias=ids["b"])
    messages = set()
    for primary, alias in (("a", "b"), ("a", "c"), ("c", "b"), ("b", "c"), ("c", "a"), ("b", "a")):
        with refused("ResourceConflictException") as refusal:
            instance.associate(primary=ids[primary], alias=ids[alias])
        message = refusal.message
        for address_id in ids.values():
            message = message.replace(address_id, "…")
        messages.add(message)
    assert len(messages) == 6


def test_two_relations_side_by_side_are_no_conflict(instance: Instance) -> None:
    a, b, c, d = (instance.publish().id for _ in range(4))
    instance.associate(primary=a, alias=b)
    instance.associate(primary=c, alias=d)
    assert (instance.aliases_of(a), instance.aliases_of(c)) == ([b], [d])


# Errors: what is not there (contract 2.4).


def test_an_unknown_primary_or_alias_is_not_found(instance: Instance) -> None:
    here = instance.publish().id
    with refused("ResourceNotFoundException", UNKNOWN_ID):
        instance.associate(primary=UNKNOWN_ID, alias=here)
    with refused("ResourceNotFoundException", UNKNOWN_ID):
        instance.associate(primary=here, alias=UNKNOWN_ID)


def test_an_address_of_another_instance_is_not_found(instance: Instance) -> None:
    here, there = instance.publish().id, instance.publish().id
    elsewhere = Instance(instance.service, instance.connect, instance.http).publish().id
    for primary, alias in ((here, elsewhere), (elsewhere, here)):
        with refused("ResourceNotFoundException", elsewhere):
            instance.associate(primary=primary, alias=alias)
    for instance_id in (UNKNOWN_ID, DEV_INSTANCE):
        with refused("ResourceNotFoundException", instance_id):
            instance.connect.associate_email_address_alias(
                InstanceId=instance_id, EmailAddressId=here, AliasConfiguration={"EmailAddressId": there}
            )


# Idempotency (contract 3).


def test_the_same_token_gives_200_again_and_another_a_conflict(instance: Instance) -> None:
    pair = {"primary": instance.publish().id, "alias": instance.publish().id}
    used = token()
    instance.associate(**pair, ClientToken=used)
    instance.associate(**pair, ClientToken=used)
    instance.associate(primary=instance.arn(pair["primary"]), alias=instance.arn(pair["alias"]), ClientToken=used)
    with refused("ResourceConflictException"):
        instance.associate(**pair, ClientToken=token())
    with refused("ResourceConflictException"):
        instance.associate(**pair)  # the SDK fills in a new one


def test_a_late_retry_does_not_associate_again(instance: Instance) -> None:
    pair = {"primary": instance.publish().id, "alias": instance.publish().id}
    used = token()
    instance.associate(**pair, ClientToken=used)
    instance.disassociate(**pair)
    instance.associate(**pair, ClientToken=used)
    assert instance.aliases_of(pair["primary"]) == []
    instance.delete(pair["alias"])
    instance.associate(**pair, ClientToken=used)  # however late


def test_the_same_token_with_other_parameters_is_refused(instance: Instance) -> None:
    a, b, c = (instance.publish().id for _ in range(3))
    used = token()
    instance.associate(primary=a, alias=b, ClientToken=used)
    for primary, alias in ((a, c), (c, b), (b, a)):
        with refused("IdempotencyException", "ClientToken"):
            instance.associate(primary=primary, alias=alias, ClientToken=used)


def test_a_failed_call_keeps_no_token(instance: Instance) -> None:
    a, b, c = (instance.publish().id for _ in range(3))
    used = token()
    instance.associate(primary=a, alias=b)
    with refused("ResourceConflictException"):
        instance.associate(primary=a, alias=c, ClientToken=used)
    instance.disassociate(primary=a, alias=b)
    instance.associate(primary=a, alias=c, ClientToken=used)
    assert instance.aliases_of(a) == [c]


def test_concurrent_calls_with_one_token_all_succeed_and_run_once(instance: Instance) -> None:
    pair = {"primary": instance.publish().id, "alias": instance.publish().id}
    used = token()
    with ThreadPoolExecutor(8) as pool:
        attempts = [pool.submit(instance.associate, **pair, ClientToken=used) for _ in range(8)]
        assert {attempt.result()["ResponseMetadata"]["HTTPStatusCode"] for attempt in attempts} == {200}
    assert instance.aliases_of(pair["primary"]) == [pair["alias"]]


def test_without_a_token_a_repetition_is_a_conflict(instance: Instance) -> None:
    primary, alias = instance.publish(), instance.publish()
    path = f"/email-addresses/{instance.id}/{primary.id}/associate-alias"
    body = {"AliasConfiguration": {"EmailAddressId": alias.id}}
    assert instance.http.call("POST", path, body).status == 200
    assert instance.http.call("POST", path, body).code == "ResourceConflictException"
