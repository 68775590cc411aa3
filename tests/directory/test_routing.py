"""Where mail for a recipient goes: the address itself, then its primary, at this instant."""

import pytest

from harness.directory import Change, associate, delete, disassociate, publish, route_after
from readdress.address import Address, split_address
from readdress.directory import instances
from readdress.store.database import Database

PUBLISHED = (publish("a", "alias@example.com"), publish("p", "primary@example.com"), publish("x", "x@other.example"))
OF_ALIAS = [("a", "alias@example.com", "DIRECT", None), ("p", "primary@example.com", "ALIAS", "a")]
OF_ALIAS_ALONE = OF_ALIAS[:1]
OF_PRIMARY = [("p", "primary@example.com", "DIRECT", None)]


@pytest.mark.parametrize(
    ("changes", "recipient", "expected"),
    [
        ([], "alias@example.com", OF_ALIAS_ALONE),
        ([associate("a", "p")], "alias@example.com", OF_ALIAS),
        ([associate("a", "p")], "primary@example.com", OF_PRIMARY),
        ([associate("p", "a")], "alias@example.com", OF_ALIAS_ALONE),
        ([associate("a", "p"), disassociate("a", "p")], "alias@example.com", OF_ALIAS_ALONE),
        ([associate("a", "p"), disassociate("a", "p"), associate("a", "p")], "alias@example.com", OF_ALIAS),
        ([associate("a", "p"), delete("p")], "alias@example.com", OF_ALIAS_ALONE),
        ([associate("a", "p"), delete("a")], "primary@example.com", OF_PRIMARY),
    ],
    ids=[
        "no relation",
        "the alias reaches both",  # contract 2.2
        "the primary reaches itself only",
        "the direction counts",
        "after disassociation its own inbox",
        "and both again",
        "the primary is deleted",
        "the alias is deleted",
    ],
)
def test_mail_goes_to_the_address_and_then_to_its_primary(
    database: Database, changes: list[Change], recipient: str, expected: list[tuple[str, str, str, str | None]]
) -> None:
    route = route_after(database, split_address(recipient), *PUBLISHED, *changes)
    assert [(to.address_id, to.address, to.reason, to.alias_id) for to in route.destinations] == expected
    assert route.reply.code == 250


@pytest.mark.parametrize(
    "spelling", ["ALIAS@EXAMPLE.COM", "Alias@Example.com", "alias@example.COM"], ids=["capitals", "mixed", "domain"]
)
def test_letter_case_does_not_matter(database: Database, spelling: str) -> None:
    # contract 5
    assert route_after(database, split_address(spelling), *PUBLISHED).destinations[0].address_id == "a"


@pytest.mark.parametrize(
    ("published", "recipient"),
    [
        ("info@bücher.example", "info@xn--bcher-kva.example"),
        ("info@xn--bcher-kva.example", "info@BÜCHER.example"),
        ("jose\u0301@example.net", "JOS\u00c9@example.net"),
        ("straße@example.net", "STRASSE@example.net"),
    ],
    ids=["U-label published", "A-label published", "NFC", "casefold"],
)
def test_unicode_spellings_of_one_address_are_one_address(database: Database, published: str, recipient: str) -> None:
    # contract 5: NFC + casefold of the local part, lower-case A-label of the domain
    route = route_after(database, split_address(recipient), publish("u", published))
    assert [to.address_id for to in route.destinations] == ["u"]
    assert route.destinations[0].address == published  # the typed form is kept


@pytest.mark.parametrize(
    ("recipient", "code", "enhanced"),
    [
        (Address("nobody", "example.com"), 550, "5.1.1"),
        (Address("nobody", "EXAMPLE.com"), 550, "5.1.1"),
        (Address("alias", "nowhere.example"), 550, "5.7.1"),
        (Address("alias", "sub.example.com"), 550, "5.7.1"),
        (Address("postmaster", "nowhere.example"), 550, "5.7.1"),
        (Address("", "example.com"), 550, "5.1.1"),
    ],
    ids=["unknown", "unknown, capitals", "foreign", "subdomain", "foreign postmaster", "no local part"],
)
def test_what_is_not_published_is_refused_for_good(
    database: Database, recipient: Address, code: int, enhanced: str
) -> None:
    # contract 6
    route = route_after(database, recipient, *PUBLISHED)
    assert (route.destinations, route.reply.code, route.reply.enhanced) == ((), code, enhanced)


def test_a_domain_is_ours_as_long_as_an_address_in_it_is_published(database: Database) -> None:
    assert route_after(database, Address("x", "other.example"), *PUBLISHED).reply.code == 250
    assert route_after(database, Address("x", "other.example"), delete("x")).reply.enhanced == "5.7.1"


@pytest.mark.parametrize("recipient", [Address("postmaster", ""), Address("PostMaster", "example.com")])
def test_mail_for_a_postmaster_nobody_published_has_an_inbox_of_its_own(database: Database, recipient: Address) -> None:
    # RFC 5321 §4.5.1
    (destination,) = route_after(database, recipient, *PUBLISHED).destinations
    assert destination.instance_id == ""


def test_a_published_postmaster_gets_the_mail_and_can_be_an_alias(database: Database) -> None:
    changes = (*PUBLISHED, publish("m", "postmaster@example.com"), associate("m", "p"))
    route = route_after(database, Address("POSTMASTER", "example.com"), *changes)
    assert [to.address_id for to in route.destinations] == ["m", "p"]


def test_a_deleted_instance_takes_its_routes_along(database: Database) -> None:
    # contract 2.7 and DeleteInstance
    changes = (*PUBLISHED, associate("a", "p"), lambda tx: instances.delete(tx, "one"))
    assert route_after(database, split_address("alias@example.com"), *changes).reply.enhanced == "5.7.1"
