"""SearchEmailAddresses: what a condition finds, and pages that stay whole while addresses come and go."""

from typing import Any

import pytest

from harness.instance import UNKNOWN_ID, Instance
from harness.process import DEV_INSTANCE
from harness.refusal import refused

NESTED_DEEPLY: dict[str, Any] = {
    "StringCondition": {"FieldName": "EmailAddress", "Value": "", "ComparisonType": "EXACT"}
}
for _ in range(100):
    NESTED_DEEPLY = {"AndConditions": [NESTED_DEEPLY]}


def text(value: str, comparison: str = "CONTAINS", field: str = "DisplayName") -> dict[str, Any]:
    return {"StringCondition": {"FieldName": field, "Value": value, "ComparisonType": comparison}}


def tag(key: str, value: str | None = None) -> dict[str, str]:
    return {"TagKey": key} | ({} if value is None else {"TagValue": value})


def search(
    instance: Instance, criteria: dict[str, Any] | None = None, tags: dict[str, Any] | None = None, **members: Any
) -> dict[str, Any]:
    request: dict[str, Any] = {"InstanceId": instance.id} | members
    if criteria is not None:
        request["SearchCriteria"] = criteria
    if tags is not None:
        request["SearchFilter"] = {"TagFilter": tags}
    answer: dict[str, Any] = instance.connect.search_email_addresses(**request)
    return answer


def names(answer: dict[str, Any]) -> list[str]:
    return [found["DisplayName"] for found in answer["EmailAddresses"]]


def ids(answer: dict[str, Any]) -> list[str]:
    return [found["EmailAddressId"] for found in answer["EmailAddresses"]]


# Shape.


def test_an_item_has_the_members_of_the_model(instance: Instance) -> None:
    primary = instance.publish(DisplayName="Help", Description="all", Tags={"team": "blue"})
    alias = instance.publish()
    instance.associate(primary=primary.id, alias=alias.id)
    answer = search(instance)
    assert answer["EmailAddresses"] == [
        {
            "EmailAddressId": primary.id,
            "EmailAddressArn": instance.arn(primary.id),
            "EmailAddress": primary.text,
            "DisplayName": "Help",
            "Description": "all",
            "AliasConfigurations": [{"EmailAddressId": alias.id}],
        },
        {
            "EmailAddressId": alias.id,
            "EmailAddressArn": instance.arn(alias.id),
            "EmailAddress": alias.text,
            "AliasConfigurations": [],
        },
    ]
    assert answer["ApproximateTotalCount"] == 2
    assert "NextToken" not in answer


def test_the_instance_may_be_an_arn(instance: Instance) -> None:
    address = instance.publish()
    assert ids(search(instance, InstanceId=instance.arn())) == [address.id]


def test_an_empty_instance_answers_an_empty_list(instance: Instance) -> None:
    answer = search(instance)
    assert (answer["EmailAddresses"], answer["ApproximateTotalCount"]) == ([], 0)


def test_only_the_instances_own_addresses_are_found(instance: Instance) -> None:
    address = instance.publish()
    other = Instance(instance.service, instance.connect, instance.http)
    other.publish()
    assert ids(search(instance)) == [address.id]


# Behaviour: text.


@pytest.mark.parametrize(
    ("comparison", "value", "found"),
    [
        ("EXACT", "sales", ["Sales"]),
        ("EXACT", "sale", []),
        ("STARTS_WITH", "SALES", ["Sales", "Sales North"]),
        ("STARTS_WITH", "north", ["North Sales"]),
        ("CONTAINS", "sales", ["Sales", "Sales North", "North Sales"]),
        ("CONTAINS", "s n", ["Sales North"]),
        ("CONTAINS", "west", []),
    ],
)
def test_a_comparison_compares_without_letter_case(
    instance: Instance, comparison: str, value: str, found: list[str]
) -> None:
    for name in ("Sales", "Sales North", "North Sales"):
        instance.publish(DisplayName=name)
    assert names(search(instance, text(value, comparison))) == found


@pytest.mark.parametrize("comparison", ["EXACT", "STARTS_WITH", "CONTAINS"])
@pytest.mark.parametrize("wildcard", ["%", "_", "!", "\\", "*", "?", "[a]", "'", '"', "^a"])
def test_wildcards_stand_for_themselves(instance: Instance, wildcard: str, comparison: str) -> None:
    instance.publish(DisplayName="a")
    assert names(search(instance, text(wildcard, comparison))) == []
    instance.publish(DisplayName=wildcard)
    assert names(search(instance, text(wildcard, comparison))) == [wildcard]


@pytest.mark.parametrize(
    ("kept", "asked"),
    [("Bücher", "bÜCHER"), ("caf\u00e9", "CAFE\u0301"), ("Straße", "STRASSE"), ("日本語", "本"), ("ΟΔΟΣ", "οδος")],
)
def test_letters_beyond_ascii_are_compared_without_case(instance: Instance, kept: str, asked: str) -> None:
    instance.publish(DisplayName=kept)
    instance.publish(DisplayName="other")
    assert names(search(instance, text(asked))) == [kept]


@pytest.mark.parametrize("field", ["EmailAddress", "emailaddress", "EMAILADDRESS", "emailAddress"])
def test_a_field_is_named_in_any_letter_case(instance: Instance, field: str) -> None:
    address = instance.publish("Help")
    instance.publish("sales")
    assert ids(search(instance, text("help-", "STARTS_WITH", field))) == [address.id]


@pytest.mark.parametrize("field", ["EmailAddress", "DisplayName", "Description"])
def test_a_condition_looks_at_its_field_alone(instance: Instance, field: str) -> None:
    published = {
        "EmailAddress": instance.publish("needle"),
        "DisplayName": instance.publish(DisplayName="a needle"),
        "Description": instance.publish(Description="a needle in\na haystack"),
    }
    assert ids(search(instance, text("needle", field=field))) == [published[field].id]


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        ({"AndConditions": [text("red"), text("blue")]}, ["red blue"]),
        ({"OrConditions": [text("red"), text("blue")]}, ["red", "blue", "red blue"]),
        ({"AndConditions": [{"OrConditions": [text("red"), text("green")]}, text("blue")]}, ["red blue"]),
        (
            {"OrConditions": [{"AndConditions": [text("red"), text("blue")]}, text("green", "EXACT")]},
            ["green", "red blue"],
        ),
        ({**text("red"), "AndConditions": [text("blue")]}, ["red blue"]),
        ({"AndConditions": [text("red")], "OrConditions": [text("blue"), text("green")]}, ["red blue"]),
        ({}, ["red", "blue", "green", "red blue"]),
    ],
)
def test_conditions_nest(instance: Instance, criteria: dict[str, Any], found: list[str]) -> None:
    for name in ("red", "blue", "green", "red blue"):
        instance.publish(DisplayName=name)
    assert names(search(instance, criteria)) == found


# Behaviour: tags.


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        ({"TagCondition": tag("team", "blue")}, ["one", "two"]),
        ({"TagCondition": tag("team")}, ["one", "two", "three"]),
        ({"TagCondition": tag("team", "")}, []),
        ({"AndConditions": [tag("team", "blue"), tag("level", "1")]}, ["one"]),
        ({"OrConditions": [[tag("team", "red")], [tag("level", "2")]]}, ["two", "three"]),
        ({"OrConditions": [[tag("team", "blue"), tag("level", "2")], [tag("team", "red")]]}, ["two", "three"]),
        ({"OrConditions": [[tag("team", "blue"), tag("level", "3")]]}, []),
    ],
)
def test_a_tag_filter_narrows_the_search(instance: Instance, filter_: dict[str, Any], found: list[str]) -> None:
    instance.publish(DisplayName="one", Tags={"team": "blue", "level": "1"})
    instance.publish(DisplayName="two", Tags={"team": "blue", "level": "2"})
    instance.publish(DisplayName="three", Tags={"team": "red"})
    instance.publish(DisplayName="none")
    assert names(search(instance, tags=filter_)) == found


def test_criteria_and_filter_must_both_hold(instance: Instance) -> None:
    instance.publish(DisplayName="sales", Tags={"team": "blue"})
    instance.publish(DisplayName="sales", Tags={"team": "red"})
    instance.publish(DisplayName="help", Tags={"team": "blue"})
    answer = search(instance, text("sales"), {"TagCondition": tag("team", "blue")})
    assert (names(answer), answer["ApproximateTotalCount"]) == (["sales"], 1)


# Behaviour: pages.


def test_pages_follow_each_other_without_gap_or_repetition(instance: Instance) -> None:
    published = [instance.publish().id for _ in range(7)]
    found: list[str] = []
    answer = search(instance, MaxResults=3)
    while True:
        assert answer["ApproximateTotalCount"] == 7
        found += ids(answer)
        if "NextToken" not in answer:
            break
        assert len(answer["EmailAddresses"]) == 3
        answer = search(instance, MaxResults=3, NextToken=answer["NextToken"])
    assert found == published
    assert ids(search(instance)) == published  # the order is the same every time


def test_a_page_that_takes_all_that_is_left_has_no_next(instance: Instance) -> None:
    for _ in range(4):
        instance.publish()
    first = search(instance, MaxResults=2)
    second = search(instance, MaxResults=2, NextToken=first["NextToken"])
    assert len(second["EmailAddresses"]) == 2
    assert "NextToken" not in second


def test_a_search_that_names_no_size_has_pages_of_a_hundred_at_most(instance: Instance) -> None:
    published = [instance.publish().id for _ in range(101)]
    first = search(instance)
    assert len(first["EmailAddresses"]) <= 100
    assert ids(first) + ids(search(instance, NextToken=first["NextToken"])) == published


def test_pages_stay_whole_while_addresses_come_and_go(instance: Instance) -> None:
    published = [instance.publish().id for _ in range(10)]
    first = search(instance, MaxResults=4)
    seen = ids(first)
    for gone in (seen[0], seen[3], published[5]):  # one seen, the one the token stands on, one to come
        instance.delete(gone)
    added = instance.publish().id
    rest = search(instance, MaxResults=100, NextToken=first["NextToken"])
    expected = [address for address in published if address not in {*seen, published[5]}]
    assert [address for address in ids(rest) if address != added] == expected


def test_a_page_token_goes_with_another_size_of_page(instance: Instance) -> None:
    published = [instance.publish().id for _ in range(5)]
    first = search(instance, text("", field="EmailAddress"), MaxResults=1)
    rest = search(instance, text("", field="EmailAddress"), MaxResults=100, NextToken=first["NextToken"])
    assert ids(first) + ids(rest) == published


# Errors.


def test_a_page_token_is_bound_to_its_query(instance: Instance) -> None:
    for _ in range(3):
        instance.publish(DisplayName="Help", Tags={"a": "1"})
    token = search(instance, text("help"), MaxResults=1)["NextToken"]
    for criteria, filter_ in ((None, None), (text("hel"), None), (text("help"), {"TagCondition": tag("a")})):
        with refused("InvalidParameterException", "NextToken"):
            search(instance, criteria, filter_, NextToken=token)
    with refused("InvalidParameterException", "NextToken"):
        search(instance, text("help"), NextToken=token, InstanceId=DEV_INSTANCE)
    assert len(search(instance, text("help"), NextToken=token, MaxResults=9)["EmailAddresses"]) == 2


def test_a_page_token_that_nobody_gave_is_refused(instance: Instance) -> None:
    for _ in range(2):
        instance.publish()
    token = search(instance, MaxResults=1)["NextToken"]
    for made_up in ("x", "é", "null", token[:-9], token[9:], UNKNOWN_ID, "W10", "t" * 2500, "t" * 2501):
        with refused("InvalidParameterException", "NextToken"):
            search(instance, NextToken=made_up)


@pytest.mark.parametrize("field", ["", "Id", "EmailAddressId", "Email Address", "EmailAddress ", "Name"])
def test_another_field_is_an_invalid_parameter(instance: Instance, field: str) -> None:
    with refused("InvalidParameterException", "FieldName", "EmailAddress, DisplayName or Description"):
        search(instance, text("x", field=field))


@pytest.mark.parametrize("missing", ["FieldName", "Value", "ComparisonType"])
def test_a_condition_needs_all_of_its_members(instance: Instance, missing: str) -> None:
    criteria = text("x")
    del criteria["StringCondition"][missing]
    with refused("InvalidParameterException", missing):
        search(instance, criteria)


@pytest.mark.parametrize(
    ("criteria", "filter_", "word"),
    [
        (text("x", "ENDS_WITH"), None, "ComparisonType"),
        (text("x", "exact"), None, "ComparisonType"),
        (text("v" * 4097), None, "Value"),
        (None, {"TagCondition": {"TagValue": "blue"}}, "TagKey"),
        ({"OrConditions": [text(str(number)) for number in range(500)]}, None, "conditions"),
        ({"OrConditions": [{}] * 5000}, None, "conditions"),
        ({"AndConditions": [{}] * 5000}, None, "conditions"),
        (NESTED_DEEPLY, None, "deep"),
        (None, {"AndConditions": [tag("a")] * 500}, "conditions"),
        (None, {"OrConditions": [[]] * 5000}, "conditions"),
    ],
)
def test_what_cannot_be_searched_is_an_invalid_parameter(
    instance: Instance, criteria: dict[str, Any] | None, filter_: dict[str, Any] | None, word: str
) -> None:
    with refused("InvalidParameterException", word):
        search(instance, criteria, filter_)


@pytest.mark.parametrize("size", [0, 101, -1])
def test_a_page_has_one_to_a_hundred_members(instance: Instance, size: int) -> None:
    answer = instance.http.call("POST", "/search-email-addresses", {"InstanceId": instance.id, "MaxResults": size})
    assert (answer.status, answer.code) == (400, "InvalidParameterException")
    assert "MaxResults" in answer.json["Message"]


def test_an_unknown_instance_is_not_found(instance: Instance) -> None:
    with refused("ResourceNotFoundException", UNKNOWN_ID):
        search(instance, InstanceId=UNKNOWN_ID)
