"""What the maps answer to a key: where its mail goes, whether it is ours, and never an error for what is only odd."""

import asyncio
from typing import Any

import pytest

from readdress.address import split_address
from readdress.directory import addresses, aliases, instances, routing
from readdress.mail import socketmap
from readdress.mail.socketmap import Answer, find_destinations, find_domain, find_mailbox
from readdress.smtp.grammar import parse_mailbox
from readdress.smtp.reply import RECIPIENT_OK, Reply
from readdress.store.database import Database, Transaction

NOT_FOUND = Answer("NOTFOUND")
# Id and address; "strange" is one that the API takes and no envelope can name.
PUBLISHED = {
    "a": "alias@example.com",
    "p": "Primary@Example.com",
    "o": "odd,one@example.com",
    "q": '"qu\\"oted"@example.com',
    "c": "paren(these)s@example.com",
    "u": "müller@bücher.example",
    "x": "to-strange@example.com",
    "strange": "strange@exam(ple.com",
}


@pytest.fixture
def directory(database: Database) -> Database:
    def publish(tx: Transaction) -> None:
        instances.create(tx, instances.Instance("i", "123456789012", None, "SAML", None, 1, 1, 0))
        for address_id, text in PUBLISHED.items():
            addresses.create(
                tx,
                address_id=address_id,
                instance_id="i",
                address=text,
                display_name=None,
                description=None,
                addresses_max=None,
            )
        for alias_id, primary_id in (("a", "p"), ("o", "c"), ("x", "strange")):
            aliases.associate(tx, account="123456789012", instance_id="i", primary_id=primary_id, alias_id=alias_id)

    database.run(publish)
    return database


def ask(database: Database, look_up: socketmap.Map, key: str) -> Answer:
    return asyncio.run(database.read(lambda tx: look_up(tx, key)))


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("alias@example.com", "alias@example.com, Primary@example.com"),
        ("ALIAS@EXAMPLE.COM", "alias@example.com, Primary@example.com"),
        ("primary@example.com", "Primary@example.com"),
        # Postfix asks for the quoted form, then for the other; the answer is a list of addresses (RFC 5322 §3.4)
        ('"odd,one"@example.com', '"odd,one"@example.com, "paren(these)s"@example.com'),
        ("odd,one@example.com", '"odd,one"@example.com, "paren(these)s"@example.com'),
        ('"qu\\"oted"@example.com', '"qu\\"oted"@example.com'),
        # the domain in A-labels, so that it needs no SMTPUTF8; the key in either form (RFC 6531 §3.2)
        ("müller@bücher.example", "müller@xn--bcher-kva.example"),
        ("MÜLLER@xn--bcher-kva.example", "müller@xn--bcher-kva.example"),
        # RFC 5321 §4.5.1: nobody has published it
        ("Postmaster@example.com", "Postmaster@example.com"),
    ],
)
def test_an_alias_gives_itself_and_its_primary_and_any_other_address_itself(
    directory: Database, key: str, data: str
) -> None:
    assert ask(directory, find_destinations, key) == Answer("OK", data)


@pytest.mark.parametrize("address", PUBLISHED.values())
def test_every_address_of_an_answer_gives_itself_when_asked_again(directory: Database, address: str) -> None:
    """So an expansion that asks for each result again, as Postfix' does, ends; and it ends with the same list."""
    answer = ask(directory, find_destinations, address)
    if answer.status == "OK":
        for result in answer.text.split(", "):
            assert ask(directory, find_destinations, result).text.split(", ")[0] == result


@pytest.mark.parametrize(
    ("key", "address_id"),
    [
        ("alias@example.com", "a"),
        ("primary@example.com", "p"),
        ("odd,one@example.com", "o"),
        ("to-strange@example.com", "x"),
        ("postmaster@example.com", "postmaster"),
    ],
)
def test_a_mailbox_is_the_id_of_the_inbox(directory: Database, key: str, address_id: str) -> None:
    assert ask(directory, find_mailbox, key) == Answer("OK", address_id)


@pytest.mark.parametrize("key", ["example.com", "EXAMPLE.com", "bücher.example", "xn--bcher-kva.example"])
def test_a_domain_is_ours_when_it_has_an_address(directory: Database, key: str) -> None:
    assert ask(directory, find_domain, key).status == "OK"


ODD = [
    "",
    " ",
    "@",
    "alias",
    "alias@",
    "@example.com",
    "postmaster",
    "nobody@example.com",
    "alias@elsewhere.example",
    "postmaster@elsewhere.example",
    "alias@example.com@example.com",
    "alias@example.com\0",
    "al ias@example.com",
    "x" * 65 + "@example.com",
    "alias@" + "x." * 200 + "example.com",
    "%s@example.com",
    "' OR 1=1 --@example.com",
    "alias@[127.0.0.1]",
    "strange@exam(ple.com",
    ".example.com",
    "com",
    "127.0.0.1",
    "\ufffd",
]


@pytest.mark.parametrize("key", ODD)
def test_what_is_not_known_or_only_odd_is_not_found(directory: Database, key: str) -> None:
    for look_up in (find_destinations, find_mailbox, find_domain):
        assert ask(directory, look_up, key) == NOT_FOUND


def test_an_address_is_not_a_domain_nor_the_other_way_round(directory: Database) -> None:
    assert ask(directory, find_domain, "alias@example.com") == NOT_FOUND
    assert ask(directory, find_destinations, "example.com") == NOT_FOUND
    assert ask(directory, find_mailbox, "example.com") == NOT_FOUND


def test_a_destination_that_no_envelope_can_name_is_said_and_no_copy_is_left_out(directory: Database) -> None:
    assert ask(directory, find_destinations, "to-strange@example.com") == socketmap.NO_ENVELOPE


def test_a_change_is_in_the_next_answer(directory: Database) -> None:
    directory.run(
        lambda tx: aliases.disassociate(tx, account="123456789012", instance_id="i", primary_id="p", alias_id="a")
    )
    assert ask(directory, find_destinations, "alias@example.com") == Answer("OK", "alias@example.com")
    directory.run(lambda tx: addresses.delete(tx, instance_id="i", address_id="a"))
    assert ask(directory, find_destinations, "alias@example.com") == NOT_FOUND
    assert ask(directory, find_mailbox, "alias@example.com") == NOT_FOUND


@pytest.mark.parametrize("look_up", [find_destinations, find_mailbox])
@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Reply(450, "4.2.1", "disabled for now"), "TEMP"),
        (Reply(550, "5.2.1", "disabled"), "NOTFOUND"),
        (RECIPIENT_OK, "NOTFOUND"),  # accepted, and for nobody
    ],
)
def test_a_temporary_refusal_is_never_not_found(
    directory: Database, monkeypatch: pytest.MonkeyPatch, look_up: socketmap.Map, refusal: Reply, status: str
) -> None:
    def refuse(*_: Any) -> routing.Route:
        return routing.Route((), refusal)

    monkeypatch.setattr(routing, "route", refuse)
    assert ask(directory, look_up, "alias@example.com").status == status


@pytest.mark.parametrize("text", ["a@b.example", '"a b"@b.example', '"\\"\\\\"@b.example', '".a..b"@b.example'])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert socketmap.encode_address(split_address(text)) == text
    assert parse_mailbox(text) == split_address(text)
