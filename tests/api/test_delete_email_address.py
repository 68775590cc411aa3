"""DeleteEmailAddress: the address goes, with its relation and its tags, and mail for it is refused."""

import uuid

import pytest

from harness.instance import UNKNOWN_ID, Instance
from harness.process import DEV_INSTANCE
from harness.refusal import refused

# Shape.


def test_the_answer_is_200_with_an_empty_body(instance: Instance) -> None:
    answer = instance.http.call("DELETE", f"/email-addresses/{instance.id}/{instance.publish().id}")
    assert (answer.status, answer.body) == (200, b"")


def test_both_ids_may_be_arns(instance: Instance) -> None:
    address = instance.publish()
    instance.connect.delete_email_address(InstanceId=instance.arn(), EmailAddressId=instance.arn(address.id))
    with refused("ResourceNotFoundException"):
        instance.describe(address.id)


# Behaviour.


def test_the_address_is_gone_and_mail_for_it_is_refused(instance: Instance) -> None:
    instance.publish()
    address = instance.publish()
    instance.send(address.text)
    instance.delete(address.id)
    with refused("ResourceNotFoundException", address.id):
        instance.describe(address.id)
    assert instance.connect.search_email_addresses(InstanceId=instance.id)["ApproximateTotalCount"] == 1
    assert instance.refusal_of(address.text) == b"550 5.1.1"  # contract 6


def test_with_the_last_address_of_a_domain_the_domain_is_no_longer_ours(instance: Instance) -> None:
    domain = f"{uuid.uuid4().hex}.example"
    address = instance.publish(EmailAddress=f"only@{domain}")
    assert instance.refusal_of(f"other@{domain}") == b"550 5.1.1"
    instance.delete(address.id)
    assert instance.refusal_of(address.text) == b"550 5.7.1"  # contract 6: never an open relay


@pytest.mark.parametrize("deleted", ["primary", "alias"])
def test_the_relation_goes_with_either_side(instance: Instance, deleted: str) -> None:
    pair = {"primary": instance.publish("primary"), "alias": instance.publish("alias")}
    instance.associate(primary=pair["primary"].id, alias=pair["alias"].id)
    instance.delete(pair.pop(deleted).id)
    (left,) = pair.values()
    assert instance.aliases_of(left.id) == []  # contract 2.7
    instance.send(left.text, subject="alone")
    assert instance.subjects(left.id) == ["alone"]
    other = instance.publish("other")
    instance.associate(primary=left.id, alias=other.id)
    instance.disassociate(primary=left.id, alias=other.id)
    instance.associate(primary=other.id, alias=left.id)


def test_tags_go_too_and_do_not_come_back_with_the_text(instance: Instance) -> None:
    address = instance.publish(Tags={"team": "blue"}, DisplayName="Help")
    assert instance.tag_rows(address.id) == 1
    instance.delete(address.id)
    assert instance.tag_rows(address.id) == 0
    described = instance.describe(instance.publish(EmailAddress=address.text).id)
    assert described["Tags"] == {}
    assert "DisplayName" not in described


def test_a_new_address_with_the_same_text_begins_with_an_empty_inbox(instance: Instance) -> None:
    address = instance.publish()
    instance.send(address.text)
    instance.delete(address.id)
    assert instance.subjects(instance.publish(EmailAddress=address.text).id) == []


# Errors.


def test_what_is_unknown_is_not_found(instance: Instance) -> None:
    address = instance.publish()
    with refused("ResourceNotFoundException", UNKNOWN_ID):
        instance.delete(UNKNOWN_ID)
    for instance_id in (UNKNOWN_ID, DEV_INSTANCE):
        with refused("ResourceNotFoundException", instance_id):
            instance.connect.delete_email_address(InstanceId=instance_id, EmailAddressId=address.id)
    assert instance.describe(address.id)["EmailAddress"] == address.text


# Idempotency: the operation has no token.


def test_a_second_time_is_not_found(instance: Instance) -> None:
    address = instance.publish()
    instance.delete(address.id)
    with refused("ResourceNotFoundException", address.id):
        instance.delete(address.id)
