"""The trace, asked for a part of what happened."""

from urllib.parse import quote

import pytest

from harness.browser import Browser, Page
from harness.instance import UNKNOWN_ID, Instance

HOSTILE = '"><script>alert(1)</script>'


def asked(person: Browser, home: str, **filters: str) -> Page:
    """By the form, as it is on the page."""
    page = person.get(f"{home}/trace")
    form = next(form for form in page.forms if "since" in form.fields)
    return person.submit(page, form, **filters)


def test_only_what_is_about_an_address(person: Browser, instance: Instance, home: str) -> None:
    one, other = instance.publish("one"), instance.publish("other")
    instance.send(one.text, subject="for one")
    instance.send(other.text, subject="for another")
    for named in (one.text, one.id):
        page = asked(person, home, address=named)
        assert "for one" in page.text
        assert "for another" not in page.text
    address = person.get(f"{home}/addresses/{one.id}")
    assert person.get(next(href for href, text in address.links if "trace?address" in href)).text == page.text


def test_only_a_kind_a_message_or_a_time(person: Browser, instance: Instance, home: str) -> None:
    address = instance.publish()
    message_id = instance.send(address.text, subject="this mail")
    assert "CreateEmailAddress" not in asked(person, home, event="RECEIVED").text
    assert "this mail" in asked(person, home, event="RECEIVED").text
    assert "this mail" not in asked(person, home, event="CHANGED").text
    assert "this mail" in asked(person, home, message=message_id).text
    assert "this mail" in asked(person, home, since="2020-01-01T00:00").text
    assert "Nothing of that kind has happened." in asked(person, home, until="2020-01-01T00:00:30").text
    assert "Nothing of that kind has happened." in asked(person, home, event="ATTEMPTED").text


def test_further_pages_are_asked_for_the_same(person: Browser, instance: Instance, home: str) -> None:
    address, other = instance.publish(), instance.publish("other")
    for number in range(51):
        instance.send(address.text, subject=f"number {number}")
    instance.send(other.text, subject="other mail")
    first = asked(person, home, address=address.text, event="RECEIVED")
    second = person.get(first.link("Earlier"))
    assert "number 0 " in second.text
    assert "number 1 " not in second.text
    assert "other mail" not in first.text + second.text
    assert not second.has_link("Earlier")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("address", "nobody@elsewhere.example", "There is no address nobody@elsewhere.example"),
        ("address", UNKNOWN_ID, UNKNOWN_ID),
        ("event", "SEEN", "Event:"),
        ("since", "yesterday", "Since:"),
        ("message", "x" * 101, "MessageId: has to have at most 100 characters."),
        ("next", "forged", "NextToken:"),
    ],
)
def test_what_can_not_be_asked_for_is_told_on_the_page(
    person: Browser, instance: Instance, home: str, name: str, value: str, said: str
) -> None:
    page = person.get(f"{home}/trace?{name}={quote(value)}")
    assert page.status in (400, 404)
    assert said in page.text
    assert "Where would this go?" in page.text


@pytest.mark.parametrize("name", ["address", "message", "event", "since", "until", "recipient"])
def test_what_is_asked_for_is_shown_as_text(person: Browser, home: str, name: str) -> None:
    page = person.get(f"{home}/trace?{name}={quote(HOSTILE)}")
    assert b"<script>alert" not in page.body
