"""Tags of a resource: put, overwrite, remove, fifty at most, and gone with what carried them."""

import pytest

from conftest import ManualClock
from harness.api_calls import REGION, ApiCaller
from harness.tables import dump
from readdress.directory import tags
from readdress.errors import InvalidParameterException
from readdress.store.database import Database


def numbered(first: int, count: int) -> dict[str, str]:
    return {f"key-{number}": str(number) for number in range(first, first + count)}


def test_tags_are_added_overwritten_and_removed(database: Database) -> None:
    database.run(lambda tx: tags.put(tx, "r", {"a": "1", "b": "2"}))
    database.run(lambda tx: tags.put(tx, "r", {"b": "3", "c": ""}))
    assert database.run(lambda tx: tags.of(tx, "r")) == {"a": "1", "b": "3", "c": ""}
    database.run(lambda tx: tags.remove(tx, "r", ["a", "never there"]))
    assert database.run(lambda tx: tags.of(tx, "r")) == {"b": "3", "c": ""}


def test_a_tag_is_of_one_resource_alone(database: Database) -> None:
    database.run(lambda tx: tags.put(tx, "r", {"a": "1"}))
    database.run(lambda tx: tags.put(tx, "s", {"a": "2"}))
    database.run(lambda tx: tags.delete_all(tx, "r"))
    assert database.run(lambda tx: (tags.of(tx, "r"), tags.of(tx, "s"))) == ({}, {"a": "2"})


@pytest.mark.parametrize(
    ("present", "new", "refused"),
    [
        (numbered(0, 0), numbered(0, 50), False),
        (numbered(0, 49), numbered(49, 1), False),
        (numbered(0, 50), numbered(10, 5), False),  # they overwrite
        (numbered(0, 50), numbered(50, 1), True),
        (numbered(0, 49), numbered(48, 3), True),
    ],
    ids=["50 at once", "the 50th", "50 overwritten", "the 51st", "one old, two new"],
)
def test_a_resource_has_fifty_tags_at_most(
    database: Database, present: dict[str, str], new: dict[str, str], refused: bool
) -> None:
    if present:
        database.run(lambda tx: tags.put(tx, "r", present))
    if refused:
        with pytest.raises(InvalidParameterException):
            database.run(lambda tx: tags.put(tx, "r", new))
    else:
        database.run(lambda tx: tags.put(tx, "r", new))
    assert database.run(lambda tx: tags.of(tx, "r")) == (present if refused else present | new)


@pytest.mark.parametrize("deleted", ["address", "instance"])
def test_tags_go_with_what_carried_them(database: Database, clock: ManualClock, deleted: str) -> None:
    with ApiCaller(database) as api:
        kept, instance_id = api.create_instance(), api.create_instance()
        api.create_address(kept, "kept@example.com", Tags={"team": "kept"})
        address_id = api.create_address(instance_id, "help@example.com", Tags={"team": "support"})
        arn = f"arn:aws:connect:{REGION}:{api.caller.scope.account}:instance/{instance_id}"
        api("TagResource", resourceArn=arn, tags={"of": "the instance"})
        if deleted == "address":
            api("DeleteEmailAddress", InstanceId=instance_id, EmailAddressId=address_id)
        else:
            api("DeleteInstance", InstanceId=instance_id)
    values = {value for _, _, value in dump(database)["tag"]}
    assert values == ({"kept", "the instance"} if deleted == "address" else {"kept"})
