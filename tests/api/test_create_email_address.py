"""CreateEmailAddress: an address is published under one key in the whole deployment, and mail for it is accepted."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.engine import engine_in_use
from harness.instance import REGION, UNKNOWN_ID, Instance
from harness.process import DEV_INSTANCE, ServiceProcess
from harness.refusal import refused
from readdress.clock import Clock
from readdress.directory import addresses, instances
from readdress.store.database import Transaction

ADDRESSES_MAX = 100  # Connect's published quota, contract 5


def token() -> str:
    return uuid.uuid4().hex


# Shape.


def test_the_answer_is_the_id_and_its_arn(instance: Instance) -> None:
    made = instance.connect.create_email_address(InstanceId=instance.id, EmailAddress=f"{token()}@example.com")
    members = {name: value for name, value in made.items() if name != "ResponseMetadata"}
    address_id = made["EmailAddressId"]
    assert str(uuid.UUID(address_id)) == address_id  # contract 5: identifiers are UUIDs
    assert members == {"EmailAddressId": address_id, "EmailAddressArn": instance.arn(address_id)}


def test_an_instance_is_named_by_its_arn_as_well(instance: Instance) -> None:
    made = instance.connect.create_email_address(InstanceId=instance.arn(), EmailAddress=f"{token()}@example.com")
    assert instance.describe(made["EmailAddressId"])["EmailAddressArn"] == made["EmailAddressArn"]


@pytest.mark.parametrize(
    ("member", "length_max"),
    [("DisplayName", 256), ("Description", 4096), ("EmailAddress", 255), ("ClientToken", 500)],
)
def test_text_has_the_length_of_the_model_at_most(instance: Instance, member: str, length_max: int) -> None:
    def of_length(length: int) -> str:
        ending = f"{token()}@example.com" if member == "EmailAddress" else token()
        return "ü" * (length - len(ending)) + ending

    instance.publish(**{member: of_length(length_max)})
    with refused("InvalidParameterException", member):
        instance.publish(**{member: of_length(length_max + 1)})


@pytest.mark.parametrize(
    "text",
    ["nobody", "a@b", "@example.com", "a@.", "a@@example.com", "a b@example.com", "a@b@example.com", "a@exa mple.com"],
)
def test_what_the_models_pattern_refuses_is_refused(instance: Instance, text: str) -> None:
    with refused("InvalidParameterException", "EmailAddress"):
        instance.publish(EmailAddress=text)


@pytest.mark.parametrize("local_part", ["o'neil", "a..b", "(odd)", "<x>", "日本語", "a+b", "100%", "null"])
def test_what_the_models_pattern_accepts_is_accepted_and_kept_as_typed(instance: Instance, local_part: str) -> None:
    text = f"{local_part}-{token()}@Example.COM"
    assert instance.describe(instance.publish(EmailAddress=text).id)["EmailAddress"] == text


# Behaviour.


def test_mail_for_the_address_is_accepted_from_the_answer_on(instance: Instance) -> None:
    instance.publish()
    text = f"new-{token()}@example.com"
    assert instance.refusal_of(text) == b"550 5.1.1"
    address = instance.publish(EmailAddress=text)
    instance.send(text, subject="first")
    assert instance.subjects(address.id) == ["first"]


def test_every_member_is_kept(instance: Instance) -> None:
    address = instance.publish(DisplayName="Hélp", Description="two\nlines", Tags={"team": "blue", "cost:centre": ""})
    described = instance.describe(address.id)
    assert described["DisplayName"] == "Hélp"
    assert described["Description"] == "two\nlines"
    assert described["Tags"] == {"team": "blue", "cost:centre": ""}


def test_a_deleted_address_may_be_published_again_under_a_new_id(instance: Instance) -> None:
    address = instance.publish()
    instance.delete(address.id)
    assert instance.publish(EmailAddress=address.text).id != address.id


# Errors.


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("Help-{}@example.com", "hELP-{}@EXAMPLE.com", id="letter case"),
        pytest.param("straße-{}@example.com", "STRASSE-{}@example.com", id="casefold"),
        pytest.param("caf\u00e9-{}@example.com", "cafe\u0301-{}@example.com", id="NFC"),
        pytest.param("CAFE\u0301-{}@example.com", "caf\u00e9-{}@example.com", id="NFC and letter case"),
        pytest.param("help-{}@bücher.example", "help-{}@xn--bcher-kva.example", id="IDNA"),
        pytest.param("help-{}@xn--bcher-kva.example", "help-{}@BÜCHER.Example", id="IDNA and letter case"),
    ],
)
def test_two_spellings_of_one_address_are_duplicates(instance: Instance, first: str, second: str) -> None:
    name = token()
    instance.publish(EmailAddress=first.format(name))
    with refused("DuplicateResourceException", second.format(name)):
        instance.publish(EmailAddress=second.format(name))


@pytest.mark.parametrize(
    ("first", "second"),
    [("help-{}@example.com", "help-{}@example.net"), ("help.{}@example.com", "help{}@example.com")],
)
def test_other_addresses_are_no_duplicates(instance: Instance, first: str, second: str) -> None:
    name = token()
    assert instance.publish(EmailAddress=first.format(name)) != instance.publish(EmailAddress=second.format(name))


def test_an_address_is_unique_in_the_whole_deployment(instance: Instance) -> None:
    with refused("DuplicateResourceException"):  # contract 5, for SMTP carries no instance
        instance.connect.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress=instance.publish().text)


@pytest.mark.parametrize(
    "instance_id",
    [
        UNKNOWN_ID,
        "no-uuid-at-all",
        f"arn:aws:connect:{REGION}:999999999999:instance/{DEV_INSTANCE}",
        f"arn:aws:connect:eu-west-1:123456789012:instance/{DEV_INSTANCE}",
        f"arn:aws-cn:connect:{REGION}:123456789012:instance/{DEV_INSTANCE}",
        f"arn:aws:connect:{REGION}:123456789012:queue/{DEV_INSTANCE}",
    ],
)
def test_an_unknown_instance_is_not_found(connect: Any, instance_id: str) -> None:
    with refused("ResourceNotFoundException", instance_id):
        connect.create_email_address(InstanceId=instance_id, EmailAddress=f"{token()}@example.com")


@pytest.mark.parametrize(
    "tags",
    [
        {f"key-{number}": "" for number in range(51)},
        {"aws:team": "blue"},
        {"k" * 129: "blue"},
        {"team": "v" * 257},
        {"te#am": "blue"},
    ],
    ids=["51 tags", "aws: prefix", "129 characters of key", "257 characters of value", "# in the key"],
)
def test_tags_have_the_limits_of_the_model(instance: Instance, tags: dict[str, str]) -> None:
    address = f"{token()}@example.com"
    with refused("InvalidParameterException", "Tags"):
        instance.publish(EmailAddress=address, Tags=tags)
    instance.publish(EmailAddress=address)  # nothing has happened


def test_the_101st_address_of_an_instance_exceeds_the_published_quota(
    tmp_path: Path, start_limited: Callable[[Path], ServiceProcess]
) -> None:
    data = tmp_path / "seeded"
    data.mkdir()
    full = seed(data, count=ADDRESSES_MAX)
    connect = start_limited(data).connect()
    with refused("ServiceQuotaExceededException", str(ADDRESSES_MAX)):
        connect.create_email_address(InstanceId=full, EmailAddress="one-more@example.com")
    other = connect.create_email_address(InstanceId=DEV_INSTANCE, EmailAddress="other@example.com")
    assert other["EmailAddressId"]  # the quota is the instance's
    one = connect.search_email_addresses(InstanceId=full, MaxResults=1)["EmailAddresses"][0]
    connect.delete_email_address(InstanceId=full, EmailAddressId=one["EmailAddressId"])
    assert connect.create_email_address(InstanceId=full, EmailAddress="one-more@example.com")["EmailAddressId"]


def seed(data: Path, *, count: int) -> str:
    """An instance with so many addresses, where no program runs yet; made so because the API is limited."""
    instance_id = str(uuid.uuid4())

    def fill(tx: Transaction) -> None:
        instances.create(
            tx, instances.Instance(instance_id, "123456789012", None, "CONNECT_MANAGED", None, 1, 1, tx.now_ms)
        )
        for number in range(count):
            addresses.create(
                tx,
                address_id=str(uuid.uuid4()),
                instance_id=instance_id,
                address=f"a{number}@example.com",
                display_name=None,
                description=None,
                addresses_max=None,
            )

    database = engine_in_use().open(data, Clock())
    database.run(fill)
    database.close()
    return instance_id


# Idempotency.


def create(instance: Instance, **members: Any) -> str:
    members = {"InstanceId": instance.id} | members
    return str(instance.connect.create_email_address(**members)["EmailAddressId"])


def test_the_same_token_gives_the_same_answer_without_running_again(instance: Instance) -> None:
    request = {"EmailAddress": f"{token()}@example.com", "Tags": {"b": "1", "a": "2"}, "ClientToken": token()}
    first = create(instance, **request)
    assert create(instance, **request) == first
    assert create(instance, **request, InstanceId=instance.arn()) == first  # the ARN says the same as the id
    assert create(instance, **request | {"Tags": {"a": "2", "b": "1"}}) == first  # a map has no order


def test_a_late_retry_does_not_publish_a_deleted_address_again(instance: Instance) -> None:
    request = {"EmailAddress": f"{token()}@example.com", "ClientToken": token()}
    first = create(instance, **request)
    instance.delete(first)
    assert create(instance, **request) == first
    with refused("ResourceNotFoundException"):
        instance.describe(first)


@pytest.mark.parametrize(
    "change",
    [{"EmailAddress": "other@example.com"}, {"DisplayName": "x"}, {"Tags": {"a": "1"}}, {"InstanceId": DEV_INSTANCE}],
    ids=lambda change: next(iter(change)),
)
def test_the_same_token_with_other_parameters_is_refused(instance: Instance, change: dict[str, Any]) -> None:
    request = {"EmailAddress": f"{token()}@example.com", "ClientToken": token()}
    create(instance, **request)
    with refused("IdempotencyException", "ClientToken"):
        create(instance, **request | change)


def test_a_token_is_case_sensitive(instance: Instance) -> None:
    name = token()
    assert instance.publish(ClientToken=f"t{name}") != instance.publish(ClientToken=f"T{name}")


def test_without_a_token_a_repetition_is_a_duplicate(instance: Instance) -> None:
    address = instance.publish()  # contract 1: SDKs send none by themselves
    with refused("DuplicateResourceException", address.text):
        instance.publish(EmailAddress=address.text)


def test_a_failed_call_keeps_no_token(instance: Instance) -> None:
    blocking = instance.publish()
    request = {"EmailAddress": blocking.text, "ClientToken": token()}
    with refused("DuplicateResourceException"):
        create(instance, **request)
    instance.delete(blocking.id)
    assert create(instance, **request) != blocking.id
