"""What an import does to a directory: what is there already, what conflicts, what comes later in the file, and tags."""

import pytest

from conftest import ManualClock
from harness.api_calls import ApiCaller, alias_members
from harness.bulk_files import INSTANCE, directory, make_instance, take, take_lines
from harness.engine import open_beside
from harness.failing_database import FailingDatabase, Failure
from harness.tables import check_promises, dump
from readdress.bulk import importing
from readdress.bulk.entry import Entry
from readdress.store.database import Database, StoreUnavailable

REJECTED = {"readdress:accept": "reject"}


@pytest.fixture(autouse=True)
def instance(database: Database) -> None:
    make_instance(database)


def test_addresses_names_tags_and_aliases_are_what_the_file_says(database: Database) -> None:
    taken = take_lines(
        database,
        {"EmailAddress": "help@example.com", "AliasOf": "support@example.com"},  # which comes further down
        {"EmailAddress": "Support@Example.com", "DisplayName": "Support", "Description": "d", "Tags": {"team": "ä"}},
    )
    assert taken.refused == []
    assert (taken.counts.created, taken.counts.associated, taken.counts.unchanged) == (2, 1, 0)
    assert directory(database) == {
        "help@example.com": (None, None, "Support@Example.com", {}),
        "Support@Example.com": ("Support", "d", None, {"team": "ä"}),
    }
    check_promises(database)


def test_what_was_imported_is_what_the_api_would_have_made(database: Database) -> None:
    take_lines(
        database,
        {"EmailAddress": "Zoë@exämple.com", "DisplayName": "ZOË", "Description": "", "Tags": REJECTED},
        {"EmailAddress": "help@example.com", "AliasOf": "zoë@EXÄMPLE.com"},
    )
    imported = dump(database)
    with ApiCaller(database) as api:
        made = [row[0] for row in imported["email_address"]]
        for address_id in made:
            api("DeleteEmailAddress", InstanceId=INSTANCE, EmailAddressId=address_id)
        primary = api.create_address(INSTANCE, "Zoë@exämple.com", DisplayName="ZOË", Description="", Tags=REJECTED)
        alias = api.create_address(INSTANCE, "help@example.com")
        api("AssociateEmailAddressAlias", **alias_members(INSTANCE, primary_id=primary, alias_id=alias))
    called = dump(database)
    ids = {row[0]: row[2] for table in (imported, called) for row in table["email_address"]}

    def without_ids(rows: list[tuple[object, ...]]) -> set[tuple[object, ...]]:
        return {tuple(ids.get(value, value) for value in row) for row in rows}

    for table in ("email_address", "alias", "tag"):
        assert without_ids(called[table]) == without_ids(imported[table]), table
    (ours,) = imported["alias_history"]
    (theirs,) = [row for row in called["alias_history"] if row[4] == "ASSOCIATED" and row[0] == alias]
    assert without_ids([(ours[0], *ours[2:5])]) == without_ids([(theirs[0], *theirs[2:5])])
    assert (ours[5], bool(theirs[5])) == ("", True)  # which call it was; an import is none


def test_the_second_time_changes_nothing(database: Database, clock: ManualClock) -> None:
    lines = [
        {"EmailAddress": f"a{number}@example.com", "DisplayName": "x", "Tags": {"a": "b"}} for number in range(20)
    ] + [{"EmailAddress": f"b{number}@example.com", "AliasOf": f"A{number}@example.com"} for number in range(20)]
    take_lines(database, *lines)
    before = dump(database)
    clock.advance(1_000)
    taken = take_lines(database, *reversed(lines))
    assert (taken.counts.unchanged, taken.refused) == (40, [])
    assert dump(database) == before


def test_what_is_there_gets_other_names_and_more_tags(database: Database, clock: ManualClock) -> None:
    take_lines(
        database,
        {"EmailAddress": "a@example.com", "DisplayName": "old", "Description": "kept", "Tags": {"a": "1", "b": "2"}},
        {"EmailAddress": "b@example.com"},
    )
    clock.advance(5)
    taken = take_lines(
        database,
        {"EmailAddress": "A@example.com", "DisplayName": "NEW", "Tags": {"b": "3", "c": "4"}},
        {"EmailAddress": "b@example.com", "Description": "", "AliasOf": "a@example.com"},
    )
    assert (taken.counts.updated, taken.counts.associated, taken.counts.created) == (2, 1, 0)
    assert directory(database) == {
        "a@example.com": ("NEW", "kept", None, {"a": "1", "b": "3", "c": "4"}),
        "b@example.com": (None, "", "a@example.com", {}),
    }
    with open_beside(database) as rows:
        found = rows.execute("SELECT display_name_folded, modified_ms - created_ms FROM email_address ORDER BY address")
        assert found.fetchall() == [("new", 5), (None, 5)]


def test_an_audit_row_says_how_much_an_import_changed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_ROWS_MAX", 2)
    take_lines(database, *({"EmailAddress": f"a{number}@example.com"} for number in range(5)))
    with open_beside(database) as rows:
        ((operation, detail),) = rows.execute("SELECT operation, detail FROM audit").fetchall()
    assert operation == "ImportAddresses"
    assert detail == f'{{"InstanceId":"{INSTANCE}","File":"a file","Created":5,"Updated":0,"Associated":0}}'


# Relations: the directory and the file under one rule (contract 2.3).


def test_what_the_present_relations_forbid_is_refused_whole(database: Database) -> None:
    take_lines(
        database,
        {"EmailAddress": "primary@example.com"},
        {"EmailAddress": "alias@example.com", "AliasOf": "primary@example.com"},
        {"EmailAddress": "free@example.com"},
    )
    before = dump(database)
    taken = take_lines(
        database,
        {"EmailAddress": "second@example.com", "AliasOf": "primary@example.com"},
        {"EmailAddress": "chained@example.com", "AliasOf": "alias@example.com"},
        {"EmailAddress": "primary@example.com", "AliasOf": "free@example.com", "DisplayName": "not taken"},
        {"EmailAddress": "alias@example.com", "AliasOf": "free@example.com"},
        {"EmailAddress": "self@example.com", "AliasOf": "SELF@example.com"},
        {"EmailAddress": "primary@example.com", "AliasOf": "alias@example.com"},
        {"EmailAddress": "lost@example.com", "AliasOf": "nowhere@example.com"},
    )
    reasons = dict(taken.refused)
    assert sorted(reasons) == [1, 2, 3, 4, 5, 6, 7]
    assert "primary@example.com already has an alias" in reasons[1]
    assert "alias@example.com is itself an alias" in reasons[2]
    assert "primary@example.com has an alias of its own" in reasons[3]
    assert "alias@example.com is already an alias of another" in reasons[4]
    assert "cannot be its own alias" in reasons[5]
    assert "the other way round" in reasons[6]
    assert "nowhere@example.com is not published here" in reasons[7]
    assert dump(database) == before


@pytest.mark.parametrize("batch", [1, 2, 3, 1_000])
def test_conflicts_within_a_file_are_found_wherever_its_batches_end(
    database: Database, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(importing, "BATCH_ROWS_MAX", batch)
    lines = [
        {"EmailAddress": "one@example.com", "AliasOf": "primary@example.com"},
        {"EmailAddress": "two@example.com", "AliasOf": "primary@example.com"},
        {"EmailAddress": "primary@example.com"},
        {"EmailAddress": "chain@example.com", "AliasOf": "one@example.com"},
        {"EmailAddress": "one@example.com", "DisplayName": "again"},
    ]
    taken = take_lines(database, *lines)
    assert sorted(line for line, _ in taken.refused) == [2, 4]
    check_promises(database)
    assert directory(database)["one@example.com"][0] == "again"


def test_targets_of_a_domain_are_published_where_nothing_else_does(database: Database) -> None:
    taken = take_lines(
        database,
        {"EmailAddress": "help@example.com", "AliasOf": "Support@example.com"},
        {"EmailAddress": "info@example.com", "AliasOf": "boss@elsewhere.example"},
        {"EmailAddress": "sales@example.com", "AliasOf": "desk@example.com"},
        {"EmailAddress": "desk@example.com", "DisplayName": "Desk"},
        publish={"example.com"},
    )
    assert [line for line, _ in taken.refused] == [2]
    assert directory(database) == {
        "help@example.com": (None, None, "Support@example.com", {}),
        "Support@example.com": (None, None, None, {}),
        "sales@example.com": (None, None, "desk@example.com", {}),
        "desk@example.com": ("Desk", None, None, {}),
    }


def test_an_address_of_another_instance_is_neither_changed_nor_a_primary(database: Database) -> None:
    make_instance(database, "22222222-2222-4222-8222-222222222222", "other")
    take_lines(database, {"EmailAddress": "a@example.com"}, instance_id="22222222-2222-4222-8222-222222222222")
    before = dump(database)
    taken = take_lines(
        database,
        {"EmailAddress": "a@example.com", "DisplayName": "mine"},
        {"EmailAddress": "b@example.com", "AliasOf": "a@example.com"},
    )
    assert [(line, "belongs to another instance" in reason) for line, reason in taken.refused] == [(1, True), (2, True)]
    assert dump(database) == before


# Tags and quotas.


def test_tags_are_settings_where_they_say_so(database: Database) -> None:
    taken = take_lines(
        database,
        {"EmailAddress": "a@example.com", "Tags": {"readdress:catch-all": "true", "readdress:transport": "inbox"}},
        {"EmailAddress": "b@example.com", "Tags": {"readdress:catch-all": "true"}},
        {"EmailAddress": "c@example.com", "Tags": {"readdress:transport": "nowhere"}},
        {"EmailAddress": "d@example.com", "Tags": {"readdress:nonsense": "x"}},
        {"EmailAddress": "e@elsewhere.example", "Tags": {"readdress:catch-all": "true"}},
    )
    reasons = dict(taken.refused)
    assert sorted(reasons) == [2, 3, 4]
    assert "has a catch-all already" in reasons[2]
    assert "has to be one of inbox" in reasons[3]
    assert "is no setting" in reasons[4]
    assert directory(database).keys() == {"a@example.com", "e@elsewhere.example"}
    again = take_lines(database, {"EmailAddress": "f@example.com", "Tags": {"readdress:catch-all": "true"}})
    assert [line for line, _ in again.refused] == [1]


def test_no_address_gets_more_than_fifty_tags(database: Database) -> None:
    take_lines(database, {"EmailAddress": "a@example.com", "Tags": {str(number): "x" for number in range(50)}})
    taken = take_lines(
        database,
        {"EmailAddress": "a@example.com", "DisplayName": "not taken", "Tags": {"more": "x"}},
        {"EmailAddress": "b@example.com", "Tags": {str(number): "x" for number in range(51)}},
    )
    assert [line for line, _ in sorted(taken.refused)] == [1, 2]
    assert directory(database)["a@example.com"][0] is None


def test_the_quota_of_an_instance_holds(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_ROWS_MAX", 2)
    lines = [{"EmailAddress": f"a{number}@example.com"} for number in range(5)]
    taken = take_lines(database, *lines, addresses_max=3)
    assert [line for line, _ in taken.refused] == [4, 5]
    assert "its quota" in taken.refused[0][1]


# Failures.


def test_an_import_that_fails_at_any_statement_leaves_whole_batches_and_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH_ROWS_MAX", 3)
    entries = [
        (line, Entry(email_address=f"a{line}@example.com", tags={"a": "b"}) if line % 2 else
         Entry(email_address=f"b{line}@example.com", alias_of=f"a{(line + 2) % 8 + 1}@example.com"))
        for line in range(1, 9)
    ]  # fmt: skip
    at = 0
    happened = True
    while happened:
        at += 1
        failure = Failure(at)
        try:
            take(FailingDatabase(database, failure), entries)
        except StoreUnavailable:
            check_promises(database)
        happened = failure.happened
    taken = take(database, entries)
    assert (taken.counts.unchanged, taken.counts.refused) == (8, 0)
    assert len(directory(database)) == 8
