"""Search: any tree of conditions finds what a plain walk over the addresses finds, and values stay values."""

import unicodedata
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from readdress.directory import addresses, instances, search, tags
from readdress.directory.search import All, AnyOf, Condition, Tag, Text
from readdress.store.database import Database, Transaction


class Known(NamedTuple):
    id: str
    address: str
    display_name: str | None
    description: str | None
    tags: dict[str, str]


KNOWN = [
    Known("1", "Help@Example.com", "Help Desk", None, {"team": "support", "tier": "1"}),
    Known("2", "sales@example.com", "Sales", "Sells 100% of it", {"team": "sales"}),
    Known("3", "Straße@example.net", "STRASSE", "a_b", {}),
    Known("4", "a!b@example.com", None, "100! a%b", {"team": "", "tier": "2"}),
    Known("5", "E\u0301cole@example.org", "école", "", {"Team": "support"}),
    Known("6", "x'y\"z@example.org", "'; DROP TABLE alias; --", ":v1 {where}", {"a'b": "c'd"}),
]
WORDS = [
    "", "help", "HELP DESK", "sales", "%", "_", "!", "a_b", "axb", "100%", "strasse", "STRAßE", "ÉCOLE", "e",
    "@example.", "'", "'; drop", ":v1", "{where}", "!%", "\\", "zzz",
]  # fmt: skip


def fold(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def holds(condition: Condition, known: Known) -> bool:
    """The plain meaning (contract 5: case-insensitive; And and Or nest)."""
    match condition:
        case Text(field, comparison, value):
            text = {"emailaddress": known.address, "displayname": known.display_name, "description": known.description}
            folded = text[field]
            if folded is None:
                return False
            if comparison == "EXACT":
                return fold(folded) == fold(value)
            return fold(folded).startswith(fold(value)) if comparison == "STARTS_WITH" else fold(value) in fold(folded)
        case Tag(key, value):
            return key in known.tags and value in {None, known.tags[key]}
        case All(conditions):
            return all(holds(inner, known) for inner in conditions)
        case AnyOf(conditions):
            return any(holds(inner, known) for inner in conditions)


def publish_all(tx: Transaction) -> None:
    for instance_id in ("one", "two"):
        instances.create(tx, instances.Instance(instance_id, "123456789012", None, "SAML", None, 1, 1, 0))
    for known in KNOWN:
        for instance_id, prefix in (("one", ""), ("two", "elsewhere-")):
            addresses.create(
                tx,
                address_id=prefix + known.id,
                instance_id=instance_id,
                address=prefix + known.address,
                display_name=known.display_name,
                description=known.description,
                addresses_max=None,
            )
            tags.put(tx, prefix + known.id, known.tags)


@pytest.fixture
def published(database: Database) -> Database:
    database.run(publish_all)
    return database


def find(database: Database, condition: Condition, *, after_id: str = "", limit: int = 100) -> list[str]:
    hits, count = database.run(
        lambda tx: search.search(tx, instance_id="one", condition=condition, after_id=after_id, limit=limit)
    )
    if not after_id and limit == 100:
        assert count == len(hits)
    return [hit.id for hit in hits]


leaves: st.SearchStrategy[Condition] = st.one_of(
    st.builds(
        Text,
        st.sampled_from(sorted(search.FIELDS)),
        st.sampled_from(["EXACT", "STARTS_WITH", "CONTAINS"]),
        st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["C"]), max_size=3),
    ),
    st.builds(
        Tag,
        st.sampled_from(["team", "Team", "tier", "a'b", "none"]),
        st.sampled_from([None, "support", "Support", "sales", "1", "", "c'd"]),
    ),
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3).map(All) | st.lists(inner, max_size=3).map(AnyOf),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(condition=trees)
def test_any_tree_of_conditions_finds_what_it_says(published: Database, condition: Condition) -> None:
    assert find(published, condition) == [known.id for known in KNOWN if holds(condition, known)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (All([]), ["1", "2", "3", "4", "5", "6"]),
        (AnyOf([]), []),
        (Text("emailaddress", "CONTAINS", "@EXAMPLE.COM"), ["1", "2", "4"]),
        (Text("description", "CONTAINS", "%"), ["2", "4"]),
        (Text("description", "CONTAINS", "_"), ["3"]),
        (Text("description", "STARTS_WITH", "100"), ["4"]),
        (Text("displayname", "EXACT", "straße"), ["3"]),
        (Text("displayname", "EXACT", "\u00c9COLE"), ["5"]),
        (Text("description", "EXACT", ""), ["5"]),
        (Tag("team", None), ["1", "2", "4"]),
        (Tag("team", "support"), ["1"]),
    ],
    ids=str,
)
def test_known_searches_find_known_addresses(published: Database, condition: Condition, expected: list[str]) -> None:
    assert find(published, condition) == expected


@pytest.mark.parametrize("page", [1, 2, 4, 6, 7])
def test_pages_put_together_are_the_whole_in_order(published: Database, page: int) -> None:
    found: list[str] = []
    while hits := find(published, All([]), after_id=found[-1] if found else "", limit=page):
        found += hits
    assert found == [known.id for known in KNOWN]


def test_a_search_of_the_longest_value_is_served(published: Database) -> None:
    # The API takes values of 4,096 characters, and a pattern escapes each of these.
    for character in ("%", "\u0390", "\U00010400"):
        assert find(published, Text("description", "CONTAINS", character * 4_096)) == []
