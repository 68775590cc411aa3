"""An alias is changed after a preview that keeps its word, and mail follows (contract 2.2 to 2.6)."""

from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from harness.browser import Browser, Page
from harness.instance import Instance


def _preview(person: Browser, instance: Instance, change: str, *, primary: str, alias: str) -> Page:
    query = urlencode({"change": change, "primary": primary, "alias": alias})
    return person.get(f"/_console/instances/{instance.id}/alias?{query}")


def _confirm(person: Browser, page: Page) -> Page:
    return person.submit(page, page.form("/alias"))


def test_the_story_by_pages(person: Browser, instance: Instance) -> None:
    primary, alias = instance.publish("support"), instance.publish("help")
    page = person.get(f"/_console/instances/{instance.id}/addresses/{primary.id}")
    form = next(form for form in page.forms if "primary" in form.fields)
    page = person.submit(page, form, alias=alias.text)
    assert f"Mail for {alias.text} goes to its own inbox and to {primary.text} ." in page.text

    assert instance.aliases_of(primary.id) == []  # a preview changes nothing
    instance.send(alias.text, subject="before")
    done = _confirm(person, page)
    assert "Associated" in done.text
    history = instance.http.call(
        "GET", f"/_readdress/instances/{instance.id}/email-addresses/{alias.id}/activity"
    ).json["History"]
    assert f"From {history[0]['Timestamp']} Request" in done.text  # the exact instant from which mail follows
    instance.send(alias.text, subject="between")

    page = person.get(f"/_console/instances/{instance.id}/addresses/{alias.id}")
    assert f"to {primary.text} as well" in page.text
    page = person.get(page.link("Disassociate…"))
    assert f"Mail for {alias.text} reaches its own inbox alone" in page.text
    assert "Disassociated" in _confirm(person, page).text
    instance.send(alias.text, subject="after")

    assert instance.subjects(primary.id) == ["between"]
    assert instance.subjects(alias.id) == ["before", "between", "after"]


def test_sent_twice_the_change_is_one(person: Browser, instance: Instance) -> None:
    primary, alias = instance.publish("support"), instance.publish("help")
    page = _preview(person, instance, "associate", primary=primary.id, alias=alias.id)
    assert "Associated" in _confirm(person, page).text
    assert "Associated" in _confirm(person, page).text


@pytest.mark.parametrize("other_way", [True, False])
def test_a_conflict_is_told_before_anybody_tries(person: Browser, instance: Instance, *, other_way: bool) -> None:
    primary, alias, third = (instance.publish(name) for name in ("support", "help", "billing"))
    instance.associate(primary=primary.id, alias=alias.id)
    taken = (
        {"primary": third.text, "alias": alias.text} if other_way else {"primary": primary.text, "alias": third.text}
    )
    page = _preview(person, instance, "associate", **taken)
    assert page.status == 200
    assert "This can't be done now" in page.text
    assert "ResourceConflictException" in page.text
    assert (alias.text if other_way else primary.text) in page.text
    assert not [form for form in page.forms if form.method == "POST" and "sign-out" not in form.action]


def test_a_conflict_that_came_after_the_preview(person: Browser, instance: Instance) -> None:
    primary, alias, third = (instance.publish(name) for name in ("support", "help", "billing"))
    page = _preview(person, instance, "associate", primary=primary.id, alias=alias.id)
    instance.associate(primary=third.id, alias=alias.id)
    refused = _confirm(person, page)
    assert refused.status == 409
    assert f"{alias.text} is already an alias of another email address" in refused.text


def test_what_was_no_relation_cannot_end(person: Browser, instance: Instance) -> None:
    primary, alias = instance.publish("support"), instance.publish("help")
    assert "is not an alias of" in _preview(person, instance, "disassociate", primary=primary.id, alias=alias.id).text


def test_an_address_that_nobody_published(person: Browser, instance: Instance) -> None:
    primary = instance.publish("support")
    page = _preview(person, instance, "associate", primary=primary.id, alias="nobody@example.com")
    assert "There is no address nobody@example.com in this instance" in page.text
    assert page.form("/alias").fields["primary"] == primary.id


@pytest.mark.parametrize("change", ["", "rename", "<b>"])
def test_another_change_than_the_two(person: Browser, instance: Instance, change: str) -> None:
    assert _preview(person, instance, change, primary="a", alias="b").status == 400


def test_an_address_shows_its_side_of_the_relation(
    person: Browser, instance: Instance, create: Callable[..., tuple[str, str]]
) -> None:
    primary, alias = instance.publish("support"), instance.publish("help")
    instance.associate(primary=primary.id, alias=alias.id)
    home = f"/_console/instances/{instance.id}/addresses"
    assert person.get(f"{home}/{primary.id}").has_link(alias.text)
    assert person.get(f"{home}/{alias.id}").has_link(primary.text)
    assert person.get(home).has_link(alias.text)
