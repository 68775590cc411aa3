"""Settings given as tags: what is refused when it is tagged, and what routing makes of what is there."""

from collections.abc import Callable

import pytest

from harness.directory import associate, publish, route_after, tag, tag_instance
from readdress.address import Address, split_address
from readdress.directory import routing, settings
from readdress.errors import InvalidParameterException
from readdress.store.database import Database

Shown = tuple[str, str, str]
ALIAS, PRIMARY = publish("a", "alias@example.com"), publish("p", "primary@example.com")
RELATED = (ALIAS, PRIMARY, associate("a", "p"))


def shown(route: routing.Route) -> list[Shown]:
    return [(to.address_id, to.reason, to.transport) for to in route.destinations]


# Subaddresses and the catch-all.


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("alias+orders@example.com", [("a", "orders"), ("p", "orders")]),
        ("ALIAS+Orders@example.com", [("a", "Orders"), ("p", "Orders")]),
        ("primary+a+b@example.com", [("p", "a+b")]),
        ("alias+full@example.com", [("f", "")]),
        ("alias+full+x@example.com", [("a", "full+x"), ("p", "full+x")]),
    ],
    ids=["base", "letter case", "first separator", "the full address wins", "no longest match"],
)
def test_a_detail_is_set_aside_unless_the_full_address_exists(
    database: Database, recipient: str, expected: list[tuple[str, str]]
) -> None:
    # RFC 5233 §4: the detail begins at the first separator, and it is kept
    full = publish("f", "alias+full@example.com")
    route = route_after(database, split_address(recipient), *RELATED, full)
    assert [(to.address_id, to.detail) for to in route.destinations] == expected


@pytest.mark.parametrize("recipient", ["alias+@example.com", "+x@example.com", "nobody+x@example.com"])
def test_what_has_no_base_or_no_detail_is_unknown(database: Database, recipient: str) -> None:
    assert route_after(database, split_address(recipient), *RELATED).reply.enhanced == "5.1.1"


def test_the_detail_goes_on_with_the_mail(database: Database) -> None:
    route = route_after(database, Address("alias+x", "example.com"), *RELATED)
    assert [to.next_hop for to in route.destinations] == ["alias+x@example.com", "primary+x@example.com"]


def test_a_catch_all_takes_what_nobody_else_does_in_its_domain(database: Database) -> None:
    changes = (*RELATED, publish("o", "o@other.example"), tag("a", {settings.CATCH_ALL: "true"}))
    assert shown(route_after(database, Address("any", "example.com"), *changes)) == [
        ("a", "CATCH_ALL", ""),
        ("p", "ALIAS", ""),
    ]
    assert shown(route_after(database, Address("primary", "example.com"))) == [("p", "DIRECT", "")]
    assert shown(route_after(database, Address("primary+x", "example.com"))) == [("p", "DIRECT", "")]
    assert route_after(database, Address("any", "other.example")).reply.enhanced == "5.1.1"


def test_a_domain_has_one_catch_all(database: Database) -> None:
    # a second one is refused with the first one's id, and so the letter case of an address can't matter
    catch_all = {settings.CATCH_ALL: "true"}
    with pytest.raises(InvalidParameterException, match="email address a"):
        route_after(database, Address("x", "example.com"), *RELATED, tag("a", catch_all), tag("p", catch_all))
    again = route_after(database, Address("x", "example.com"), *RELATED, tag("a", catch_all), tag("a", catch_all))
    assert again.destinations[0].address_id == "a"


# Addresses that take no mail.


@pytest.mark.parametrize(
    ("own", "of_primary", "expected", "code"),
    [
        ("accept", None, [("a", "DIRECT", ""), ("p", "ALIAS", "")], "250 2.1.5"),
        ("reject", None, [], "550 5.2.1"),
        ("tempfail", None, [], "450 4.2.1"),
        ("discard", None, [("a", "DIRECT", "discard")], "250 2.1.5"),
        (None, "reject", [("a", "DIRECT", "")], "250 2.1.5"),
        (None, "discard", [("a", "DIRECT", "")], "250 2.1.5"),
        (None, "tempfail", [], "450 4.2.1"),
        ("reject", "tempfail", [], "550 5.2.1"),
    ],
)
def test_accept_says_what_becomes_of_mail(
    database: Database, own: str | None, of_primary: str | None, expected: list[Shown], code: str
) -> None:
    changes = [*RELATED]
    changes += [tag("a", {settings.ACCEPT: own})] if own else []
    changes += [tag("p", {settings.ACCEPT: of_primary})] if of_primary else []
    route = route_after(database, Address("alias", "example.com"), *changes)
    assert shown(route) == expected
    assert f"{route.reply.code} {route.reply.enhanced}" == code


@pytest.mark.parametrize(
    ("expires_at", "accept", "code"),
    [
        ("2026-01-01T00:00:00Z", None, 550),  # the clock of these tests stands at that very instant
        ("2026-01-01T00:00:00.001Z", None, 250),
        ("2026-01-01", None, 550),
        ("2026-01-02", None, 250),
        ("2026-01-01T01:00:00+02:00", None, 550),
        ("2026-01-01T00:30:00-01:00", None, 250),
        ("2025-01-01", "tempfail", 450),
        ("2025-01-01", "accept", 550),
    ],
)
def test_an_address_refuses_mail_from_its_end_on(
    database: Database, expires_at: str, accept: str | None, code: int
) -> None:
    values = {settings.EXPIRES_AT: expires_at} | ({settings.ACCEPT: accept} if accept else {})
    assert route_after(database, Address("alias", "example.com"), *RELATED, tag("a", values)).reply.code == code


# Transports.


def test_an_address_chooses_a_transport_before_its_instance_does(database: Database) -> None:
    changes = (
        *RELATED,
        tag_instance("one", {settings.TRANSPORT: "desk"}),
        tag("p", {settings.TRANSPORT: "hook"}),
    )
    assert shown(route_after(database, Address("alias", "example.com"), *changes)) == [
        ("a", "DIRECT", "desk"),
        ("p", "ALIAS", "hook"),
    ]


def test_an_instance_asks_to_refuse_what_dmarc_refuses(database: Database) -> None:
    route = route_after(
        database, Address("alias", "example.com"), *RELATED, tag_instance("one", {settings.DMARC: "reject"})
    )
    assert [to.refuses_spoofs for to in route.destinations] == [True, True]
    route = route_after(database, Address("alias", "example.com"), tag_instance("one", {settings.DMARC: "mark"}))
    assert [to.refuses_spoofs for to in route.destinations] == [False, False]


# What is refused when it is tagged.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (tag("a", {"readdress:trnsport": "desk"}), "readdress:trnsport is no setting of an email address"),
        (tag("a", {"Readdress:Accept": "reject"}), "Readdress:Accept is no setting"),
        (tag("a", {settings.DMARC: "reject"}), "is no setting of an email address"),
        (tag_instance("one", {settings.ACCEPT: "reject"}), "is no setting of an instance"),
        (tag("a", {settings.TRANSPORT: "/var/mail"}), "one of desk, hook, inbox"),
        (tag("a", {settings.TRANSPORT: "discard"}), "one of desk, hook, inbox"),
        (tag("a", {settings.ACCEPT: "maybe"}), "one of accept, reject, tempfail, discard"),
        (tag("a", {settings.CATCH_ALL: "yes"}), "has to be true"),
        (tag("a", {settings.EXPIRES_AT: "tomorrow"}), "a date or a time"),
        (tag_instance("one", {settings.DMARC: "quarantine"}), "one of mark, reject"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_and_nothing_is_tagged(
    database: Database, change: Callable[..., None], words: str
) -> None:
    with pytest.raises(InvalidParameterException, match=words):
        route_after(database, Address("alias", "example.com"), *RELATED, change)
    assert route_after(database, Address("alias", "example.com")).reply.enhanced == "5.7.1"  # all was undone


def test_other_tags_are_nobody_s_business(database: Database) -> None:
    route = route_after(
        database, Address("alias", "example.com"), *RELATED, tag("a", {"readdressed": "x", "team": "y"})
    )
    assert shown(route) == [("a", "DIRECT", ""), ("p", "ALIAS", "")]
