"""Search: any tree of conditions finds what a plain walk over the addresses finds, and values stay values."""

import unicodedata
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.engine import POSTGRES, Engine
from harness.tables import check_promises
from readdress.directory import addresses, instances, search, tags, texts
from readdress.directory.conditions import FIELDS, All, AnyOf, Condition, Tag, Text
from readdress.errors import InvalidParameterException
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
    Known("7", "a@wei\u00df.example", None, None, {}),
    Known("8", "a@weiss.example", None, None, {}),
    Known("9", '"q.r"@example.org', None, None, {}),
]
WORDS = [
    "", "help", "HELP DESK", "sales", "%", "_", "!", "a_b", "axb", "100%", "strasse", "STRAßE", "ÉCOLE", "e",
    "@example.", "'", "'; drop", ":v1", "{where}", "!%", "\\", "zzz",
    "help@example.com", "a@weiss.example", "a@wei\u00df.example", "Q.R@example.org", '"q.r"@EXAMPLE.org',
    "strasse@example.net",
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


def index(database: Database, *, upto: int | None = None) -> None:
    """Have the index take in all addresses, or so many."""
    while database.run(lambda tx: texts.index_some(tx, batch=upto or 1)) and not upto:
        pass


@pytest.fixture(params=["new", "half of them indexed", "indexed"])
def published(request: pytest.FixtureRequest, engine: Engine, database: Database) -> Database:
    """KNOWN, as they are found before and after the index of texts has taken them in."""
    database.run(publish_all)
    if request.param != "new":
        if engine.name == POSTGRES:
            pytest.skip("PostgreSQL has the index of the table itself")
        index(database, upto=len(KNOWN) if request.param.startswith("half") else None)
    return database


def find_page(database: Database, condition: Condition, after: str | None = None, limit: int = 100) -> search.Page:
    return database.run(lambda tx: search.search(tx, instance_id="one", condition=condition, after=after, limit=limit))


def find(database: Database, condition: Condition) -> list[str]:
    page = find_page(database, condition)
    assert page.total == len(page.hits)
    return [hit.id for hit in page.hits]


leaves: st.SearchStrategy[Condition] = st.one_of(
    st.builds(
        Text,
        st.sampled_from(sorted(FIELDS)),
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
        (All([]), ["1", "2", "3", "4", "5", "6", "7", "8", "9"]),
        (AnyOf([]), []),
        (Text("emailaddress", "CONTAINS", "@EXAMPLE.COM"), ["1", "2", "4"]),
        (Text("description", "CONTAINS", "%"), ["2", "4"]),
        (Text("description", "CONTAINS", "_"), ["3"]),
        (Text("description", "STARTS_WITH", "100"), ["4"]),
        (Text("displayname", "EXACT", "straße"), ["3"]),
        (Text("displayname", "EXACT", "\u00c9COLE"), ["5"]),
        (Text("description", "EXACT", ""), ["5"]),
        (Text("emailaddress", "EXACT", "HELP@example.com"), ["1"]),
        (Text("emailaddress", "EXACT", "strasse@example.net"), ["3"]),
        (Text("emailaddress", "EXACT", "a@weiss.example"), ["7", "8"]),
        (Text("emailaddress", "EXACT", "q.r@example.org"), []),
        (Text("emailaddress", "EXACT", '"Q.R"@example.org'), ["9"]),
        (Tag("team", None), ["1", "2", "4"]),
        (Tag("team", "support"), ["1"]),
    ],
    ids=str,
)
def test_known_searches_find_known_addresses(published: Database, condition: Condition, expected: list[str]) -> None:
    assert find(published, condition) == expected


@pytest.mark.parametrize("limit", [1, 2, 4, 6, 7])
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (All([]), ["1", "2", "3", "4", "5", "6", "7", "8", "9"]),
        (Text("emailaddress", "CONTAINS", "example"), ["1", "2", "3", "4", "5", "6", "7", "8", "9"]),
        (Tag("team", "support"), ["1"]),
        (All([AnyOf([]), Tag("team", "support")]), []),
    ],
    ids=str,
)
def test_pages_put_together_are_the_whole_in_order(
    published: Database, condition: Condition, expected: list[str], limit: int
) -> None:
    found: list[str] = []
    after: str | None = None
    while True:
        page = find_page(published, condition, after, limit)
        assert page.total == len(expected)
        assert len(page.hits) <= limit
        found += [hit.id for hit in page.hits]
        after = page.next_after
        if after is None:
            break
    assert found == expected


def test_hits_are_counted_to_a_bound(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "COUNT_MAX", 4)
    database.run(publish_all)
    for condition in (All([]), Text("emailaddress", "CONTAINS", "example")):
        assert find_page(database, condition, limit=2).total == 4
    assert find_page(database, Text("emailaddress", "CONTAINS", "example.com"), limit=2).total == 3


def test_what_changed_or_went_after_it_was_indexed_is_found_as_it_is(published: Database) -> None:
    def change(tx: Transaction) -> None:
        addresses.update(tx, "1", display_name="Front office", description=None)
        addresses.delete(tx, instance_id="one", address_id="2")

    assert find(published, Text("displayname", "CONTAINS", "help desk")) == ["1"]
    published.run(change)
    assert find(published, Text("displayname", "CONTAINS", "help desk")) == []
    assert find(published, Text("displayname", "STARTS_WITH", "front")) == ["1"]
    assert find(published, Text("emailaddress", "CONTAINS", "sales@")) == []
    check_promises(published)


def test_a_position_of_another_database_is_refused(published: Database) -> None:
    condition = Text("emailaddress", "CONTAINS", "example")
    if published.run(lambda tx: tx.has_text_table):
        with pytest.raises(InvalidParameterException, match="Begin the query again"):
            find_page(published, condition, after="01890a5d-ac96-774b-bcce-b302099a8057")


def test_a_search_of_the_longest_value_is_served(published: Database) -> None:
    # The API takes values of 4,096 characters, and a pattern escapes each of these.
    for character in ("%", "\u0390", "\U00010400"):
        assert find(published, Text("description", "CONTAINS", character * 4_096)) == []
