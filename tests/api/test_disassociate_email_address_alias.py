"""DisassociateEmailAddressAlias: the former alias keeps its own mail, and the pair is free for another relation."""

import uuid

import pytest

from harness.instance import UNKNOWN_ID, Instance
from harness.process import DEV_INSTANCE
from harness.refusal import refused


def token() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def pair(instance: Instance) -> dict[str, str]:
    """The ids of a primary and its alias, associated."""
    made = {"primary": instance.publish("primary").id, "alias": instance.publish("alias").id}
    instance.associate(**made)
    return made


# Shape.


def test_the_answer_is_200_with_an_empty_body(instance: Instance, pair: dict[str, str]) -> None:
    answer = instance.http.call(
        "POST",
        f"/email-addresses/{instance.id}/{pair['primary']}/disassociate-alias",
        {"AliasConfiguration": {"EmailAddressId": pair["alias"]}, "ClientToken": token()},
    )
    assert (answer.status, answer.body) == (200, b"")


def test_every_id_may_be_an_arn(instance: Instance, pair: dict[str, str]) -> None:
    instance.connect.disassociate_email_address_alias(
        InstanceId=instance.arn(),
        EmailAddressId=instance.arn(pair["primary"]),
        AliasConfiguration={"EmailAddressId": instance.arn(pair["alias"])},
    )
    assert instance.aliases_of(pair["primary"]) == []


# Behaviour.


def test_the_former_alias_still_gets_its_own_mail(instance: Instance) -> None:
    primary, alias = instance.publish("primary"), instance.publish("alias")
    instance.associate(primary=primary.id, alias=alias.id)
    instance.send(alias.text, subject="while associated")
    instance.disassociate(primary=primary.id, alias=alias.id)
    instance.send(alias.text, subject="for the former alias")
    instance.send(primary.text, subject="for the primary")
    assert instance.subjects(alias.id) == ["while associated", "for the former alias"]
    assert instance.subjects(primary.id) == ["while associated", "for the primary"]


def test_the_pair_may_be_associated_again_at_once(instance: Instance, pair: dict[str, str]) -> None:
    for _ in range(3):  # contract 2.6
        instance.disassociate(**pair)
        instance.associate(**pair)
    instance.disassociate(**pair)
    instance.associate(primary=pair["alias"], alias=pair["primary"])
    assert instance.aliases_of(pair["alias"]) == [pair["primary"]]


def test_both_addresses_stay_as_they_were(instance: Instance, pair: dict[str, str]) -> None:
    before = {address: instance.describe(address) for address in pair.values()}
    instance.disassociate(**pair)
    for address in pair.values():
        after = instance.describe(address)
        assert after["AliasConfigurations"] == []
        for described in (before[address], after):
            del described["ResponseMetadata"], described["AliasConfigurations"]
        assert after == before[address]


# Errors.


def test_what_is_not_associated_is_not_found(instance: Instance, pair: dict[str, str]) -> None:
    other = instance.publish().id
    for primary, alias in ((pair["primary"], other), (other, pair["alias"]), (other, pair["primary"])):
        with refused("ResourceNotFoundException", f"{alias} is not an alias of {primary}") as refusal:
            instance.disassociate(primary=primary, alias=alias)
        assert "other way round" not in refusal.message
    assert instance.aliases_of(pair["primary"]) == [pair["alias"]]


def test_the_other_way_round_is_not_found_and_the_message_says_so(instance: Instance, pair: dict[str, str]) -> None:
    with refused("ResourceNotFoundException", "the other way round"):  # contract 2.4
        instance.disassociate(primary=pair["alias"], alias=pair["primary"])
    assert instance.aliases_of(pair["primary"]) == [pair["alias"]]


def test_a_second_time_is_not_found(instance: Instance, pair: dict[str, str]) -> None:
    instance.disassociate(**pair)
    with refused("ResourceNotFoundException", "is not an alias of"):
        instance.disassociate(**pair)


def test_an_address_is_never_its_own_alias(instance: Instance, pair: dict[str, str]) -> None:
    for address in (*pair.values(), UNKNOWN_ID):
        with refused("InvalidRequestException", "its own alias"):
            instance.disassociate(primary=address, alias=address)


def test_an_unknown_instance_primary_or_alias_is_not_found(instance: Instance, pair: dict[str, str]) -> None:
    with refused("ResourceNotFoundException", UNKNOWN_ID):
        instance.disassociate(primary=UNKNOWN_ID, alias=pair["alias"])
    with refused("ResourceNotFoundException", UNKNOWN_ID):
        instance.disassociate(primary=pair["primary"], alias=UNKNOWN_ID)
    for instance_id in (UNKNOWN_ID, DEV_INSTANCE):
        with refused("ResourceNotFoundException", instance_id):
            instance.connect.disassociate_email_address_alias(
                InstanceId=instance_id,
                EmailAddressId=pair["primary"],
                AliasConfiguration={"EmailAddressId": pair["alias"]},
            )


# Idempotency.


def test_the_same_token_gives_200_again(instance: Instance, pair: dict[str, str]) -> None:
    used = token()
    instance.disassociate(**pair, ClientToken=used)
    assert instance.disassociate(**pair, ClientToken=used)["ResponseMetadata"]["HTTPStatusCode"] == 200
    with refused("ResourceNotFoundException"):
        instance.disassociate(**pair, ClientToken=token())


def test_a_late_retry_does_not_remove_a_new_relation(instance: Instance, pair: dict[str, str]) -> None:
    used = token()
    instance.disassociate(**pair, ClientToken=used)
    instance.associate(**pair)
    instance.disassociate(**pair, ClientToken=used)
    assert instance.aliases_of(pair["primary"]) == [pair["alias"]]


def test_the_same_token_with_other_parameters_is_an_invalid_request(instance: Instance, pair: dict[str, str]) -> None:
    used, other = token(), instance.publish().id
    instance.disassociate(**pair, ClientToken=used)
    with refused("InvalidRequestException", "ClientToken"):  # contract 3: the model lacks IdempotencyException
        instance.disassociate(primary=pair["primary"], alias=other, ClientToken=used)


def test_a_token_of_another_operation_is_another_token(instance: Instance) -> None:
    used = token()
    pair = {"primary": instance.publish(ClientToken=used).id, "alias": instance.publish().id}
    instance.associate(**pair, ClientToken=used)
    instance.disassociate(**pair, ClientToken=used)
    assert instance.aliases_of(pair["primary"]) == []
    instance.connect.update_email_address_metadata(
        InstanceId=instance.id, EmailAddressId=pair["alias"], DisplayName="x", ClientToken=used
    )
    assert instance.describe(pair["alias"])["DisplayName"] == "x"


def test_a_failed_call_keeps_no_token(instance: Instance) -> None:
    pair = {"primary": instance.publish().id, "alias": instance.publish().id}
    used = token()
    with refused("ResourceNotFoundException"):
        instance.disassociate(**pair, ClientToken=used)
    instance.associate(**pair)
    instance.disassociate(**pair, ClientToken=used)
    assert instance.aliases_of(pair["primary"]) == []
