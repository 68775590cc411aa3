"""Page tokens: opaque, bound to their query, and good while addresses come and go (contract 5)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api_calls import ApiCaller
from readdress.api import paging
from readdress.errors import InvalidParameterException
from readdress.store.database import Database


@pytest.fixture
def api(database: Database) -> Any:
    with ApiCaller(database) as caller:
        yield caller


def search(api: ApiCaller, instance_id: str, **members: Any) -> tuple[list[str], str | None]:
    answer = api("SearchEmailAddresses", InstanceId=instance_id, **members)
    return [hit["EmailAddressId"] for hit in answer["EmailAddresses"]], answer.get("NextToken")


def text_is(field: str, value: str) -> dict[str, Any]:
    return {"StringCondition": {"FieldName": field, "Value": value, "ComparisonType": "CONTAINS"}}


@given(after=st.text(max_size=60), query=st.lists(st.text(max_size=5), max_size=3))
@settings(deadline=None, database=None)
def test_a_token_gives_back_where_to_go_on_to_its_own_query_only(after: str, query: list[str]) -> None:
    token = paging.encode_token(after, *query)
    assert paging.decode_token(token, *query) == after
    with pytest.raises(InvalidParameterException):
        paging.decode_token(token, *query, "more")


@given(text=st.text(min_size=1, max_size=80) | st.from_regex(r"\A[A-Za-z0-9_\-]{1,80}\Z"))
@settings(max_examples=300, deadline=None, database=None)
def test_whatever_is_no_token_is_an_invalid_parameter(text: str) -> None:
    with pytest.raises(InvalidParameterException, match="NextToken"):
        paging.decode_token(text, "query")


@pytest.mark.parametrize("at", [0, 5, 20, -1])
def test_a_token_changed_in_one_place_is_refused_or_means_another_place(at: int) -> None:
    token = paging.encode_token("0190", "query")
    changed = list(token)
    changed[at] = "A" if changed[at] != "A" else "B"
    try:
        after = paging.decode_token("".join(changed), "query")
    except InvalidParameterException:
        return
    assert after is not None


def test_no_token_is_the_first_page() -> None:
    assert paging.decode_token(None, "query") is None


def test_the_last_page_has_no_token(api: ApiCaller) -> None:
    instance_id = api.create_instance()
    ids = [api.create_address(instance_id, f"{number}@example.com") for number in range(4)]
    first, token = search(api, instance_id, MaxResults=2)
    assert token is not None
    assert (first, search(api, instance_id, MaxResults=2, NextToken=token)) == (ids[:2], (ids[2:], None))


def test_a_token_is_good_for_a_page_of_another_size(api: ApiCaller) -> None:
    instance_id = api.create_instance()
    ids = [api.create_address(instance_id, f"{number}@example.com") for number in range(4)]
    _, token = search(api, instance_id, MaxResults=1)
    assert search(api, instance_id, MaxResults=100, NextToken=token) == (ids[1:], None)


@pytest.mark.parametrize(
    "other",
    [
        {"SearchCriteria": text_is("Description", "example")},
        {"SearchCriteria": text_is("EmailAddress", "EXAMPLE.com")},
        {"SearchFilter": {"TagFilter": {"TagCondition": {"TagKey": "team"}}}},
        {"SearchCriteria": {"AndConditions": [text_is("EmailAddress", "example")]}},
    ],
    ids=["another field", "another value", "a filter instead", "another shape"],
)
def test_a_token_of_another_query_is_refused(api: ApiCaller, other: dict[str, Any]) -> None:
    instance_id = api.create_instance()
    for number in range(3):
        api.create_address(instance_id, f"{number}@example.com")
    _, token = search(api, instance_id, MaxResults=1, SearchCriteria=text_is("EmailAddress", "example"))
    assert token
    with pytest.raises(InvalidParameterException, match="NextToken"):
        search(api, instance_id, MaxResults=1, NextToken=token, **other)


def test_a_token_of_another_instance_is_refused(api: ApiCaller) -> None:
    one, other = api.create_instance(), api.create_instance()
    for number in range(2):
        api.create_address(one, f"{number}@example.com")
    _, token = search(api, one, MaxResults=1)
    with pytest.raises(InvalidParameterException, match="NextToken"):
        search(api, other, MaxResults=1, NextToken=token)


@pytest.mark.parametrize("page", [1, 2, 3])
def test_what_was_there_all_the_time_is_given_exactly_once_while_others_come_and_go(api: ApiCaller, page: int) -> None:
    instance_id = api.create_instance()
    ids = [api.create_address(instance_id, f"{number}@example.com") for number in range(12)]
    doomed = ids[1::3]
    found, token = search(api, instance_id, MaxResults=page)
    turn = 0
    while token:
        if turn < len(doomed):
            api("DeleteEmailAddress", InstanceId=instance_id, EmailAddressId=doomed[turn])
            api.create_address(instance_id, f"new-{turn}@example.com")
        turn += 1
        more, token = search(api, instance_id, MaxResults=page, NextToken=token)
        found += more
    assert len(found) == len(set(found))
    assert [address_id for address_id in found if address_id in ids and address_id not in doomed] == [
        address_id for address_id in ids if address_id not in doomed
    ]
