"""TagResource, UntagResource, ListTagsForResource: at most fifty tags on an instance or an address, by its ARN."""

from typing import Any
from urllib.parse import quote

import pytest

from harness.instance import UNKNOWN_ID, Instance
from harness.refusal import refused

TAGS_MAX = 50


@pytest.fixture(params=["instance", "address"])
def arn(request: pytest.FixtureRequest, instance: Instance) -> str:
    """The ARN of each kind of resource that has tags."""
    return instance.arn(instance.publish().id if request.param == "address" else None)


def tags_of(instance: Instance, arn: str) -> dict[str, str]:
    tags: dict[str, str] = instance.connect.list_tags_for_resource(resourceArn=arn)["tags"]
    return tags


# Shape.


def test_tag_and_untag_answer_200_with_an_empty_body(instance: Instance, arn: str) -> None:
    path = f"/tags/{quote(arn, safe='')}"  # an ARN is one segment of the path, contract 1
    for answer in (
        instance.http.call("POST", path, {"tags": {"a": "1"}}),
        instance.http.call("DELETE", f"{path}?tagKeys=a"),
    ):
        assert (answer.status, answer.body) == (200, b"")
    answer = instance.http.call("GET", path)
    assert (answer.status, answer.json) == (200, {"tags": {}})


@pytest.mark.parametrize(
    "tags",
    [{"k" * 128: "v" * 256}, {"": "v"}, {"k" * 129: ""}, {"k": "v" * 257}, {"aws:k": ""}, {"k!": ""}, {}, {"k": None}],
    ids=["the longest", "no key", "long key", "long value", "aws: prefix", "! in the key", "none", "null"],
)
def test_tags_have_the_limits_of_the_model(instance: Instance, tags: dict[str, Any]) -> None:
    answer = instance.http.call("POST", f"/tags/{quote(instance.arn(), safe='')}", {"tags": tags})
    if "k" * 128 in tags:
        assert answer.status == 200
        assert tags_of(instance, instance.arn()) == tags
    else:
        assert (answer.status, answer.code) == (400, "InvalidParameterException")
        assert "tags" in answer.json["Message"]
        assert tags_of(instance, instance.arn()) == {}


# Behaviour.


def test_tags_are_added_overwritten_and_removed(instance: Instance, arn: str) -> None:
    connect = instance.connect
    connect.tag_resource(resourceArn=arn, tags={"team": "blue", "Ärea/x:y=1+z-@.": "Süd % &", "empty": ""})
    connect.tag_resource(resourceArn=arn, tags={"team": "red", "Team": "green"})
    assert tags_of(instance, arn) == {"team": "red", "Team": "green", "Ärea/x:y=1+z-@.": "Süd % &", "empty": ""}
    connect.untag_resource(resourceArn=arn, tagKeys=["team", "Ärea/x:y=1+z-@.", "not there"])
    assert tags_of(instance, arn) == {"Team": "green", "empty": ""}


def test_describe_and_list_give_the_same_tags(instance: Instance) -> None:
    address = instance.publish(Tags={"team": "blue"})
    instance.connect.tag_resource(resourceArn=instance.arn(address.id), tags={"level": "1"})
    assert instance.describe(address.id)["Tags"] == tags_of(instance, instance.arn(address.id))
    instance.connect.tag_resource(resourceArn=instance.arn(), tags={"level": "2"})
    described = instance.connect.describe_instance(InstanceId=instance.id)["Instance"]
    assert described["Tags"] == tags_of(instance, instance.arn()) == {"level": "2"}


def test_the_fifty_first_tag_is_refused_and_an_overwrite_is_not(instance: Instance, arn: str) -> None:
    fifty = {f"key-{number}": "" for number in range(TAGS_MAX)}
    instance.connect.tag_resource(resourceArn=arn, tags=fifty)
    with refused("InvalidParameterException", str(TAGS_MAX)):
        instance.connect.tag_resource(resourceArn=arn, tags={"key-0": "changed", "one more": ""})
    assert tags_of(instance, arn) == fifty
    instance.connect.tag_resource(resourceArn=arn, tags={"key-0": "changed"})
    assert tags_of(instance, arn) == fifty | {"key-0": "changed"}
    instance.connect.untag_resource(resourceArn=arn, tagKeys=list(fifty))
    assert tags_of(instance, arn) == {}


def test_more_than_fifty_tags_in_one_call_are_refused(instance: Instance, arn: str) -> None:
    many = {f"key-{number}": "" for number in range(TAGS_MAX + 1)}
    with refused("InvalidParameterException", "tags"):
        instance.connect.tag_resource(resourceArn=arn, tags=many)
    with refused("InvalidParameterException", "tagKeys"):
        instance.connect.untag_resource(resourceArn=arn, tagKeys=list(many))


# Errors.


def call_each(instance: Instance, arn: str, code: str, *words: str) -> None:
    connect = instance.connect
    with refused(code, *words):
        connect.tag_resource(resourceArn=arn, tags={"a": "1"})
    with refused(code, *words):
        connect.untag_resource(resourceArn=arn, tagKeys=["a"])
    with refused(code, *words):
        connect.list_tags_for_resource(resourceArn=arn)


def test_a_resource_that_is_not_there_is_not_found(instance: Instance) -> None:
    gone, elsewhere = instance.publish(), Instance(instance.service, instance.connect, instance.http).publish()
    instance.delete(gone.id)
    for arn in (
        instance.arn(UNKNOWN_ID),
        instance.arn(gone.id),
        instance.arn(elsewhere.id),
        instance.arn(account="999999999999"),
        instance.arn(region="eu-west-1"),
    ):
        call_each(instance, arn, "ResourceNotFoundException")


@pytest.mark.parametrize("arn", ["x", "*", UNKNOWN_ID, "arn:aws:s3:::bucket", "{partition}", "{queue}", "{longer}"])
def test_what_is_no_arn_of_ours_is_an_invalid_parameter(instance: Instance, arn: str) -> None:
    ours = instance.arn()
    arn = arn.format(partition=ours.replace("aws", "aws-cn"), queue=f"{ours}/queue/x", longer=f"{ours}/")
    call_each(instance, arn, "InvalidParameterException", "resourceArn")


# Idempotency: these operations have no token; each may simply be repeated.


def test_each_call_may_be_repeated(instance: Instance, arn: str) -> None:
    for _ in range(2):
        instance.connect.tag_resource(resourceArn=arn, tags={"a": "1"})
    assert tags_of(instance, arn) == {"a": "1"}
    for _ in range(2):
        instance.connect.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert tags_of(instance, arn) == {}
