"""The addresses of an instance as pages: found, published, changed, retired, and only as far as the key may."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from harness.access_keys import create_key
from harness.browser import Browser, Page
from harness.process import ServiceProcess

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def _new(person: Browser, home: str, **values: str) -> Page:
    page = person.get(f"{home}/addresses/new")
    return person.submit(page, page.form("/addresses"), **values)


def _find(person: Browser, home: str, **query: str) -> Page:
    return person.get(f"{home}/addresses?{urlencode(query)}")


def test_published_found_changed_and_retired(
    person: Browser, home: str, connect: Any, instance_id: str, new_address: Callable[[str], str]
) -> None:
    text = new_address("help")
    page = _new(person, home, EmailAddress=text, DisplayName="Help desk", Tags="team=help\nkind=public")
    assert page.status == 200
    assert text in page.text
    assert page.has_link("team=help")

    for query in ({"q": text[2:9]}, {"q": text[:2]}, {"q": "DESK"}, {"tag": "team"}, {"tag": "team=help"}):
        assert _find(person, home, **query).has_link(text), query
    for query in ({"q": "nothing-like-that"}, {"tag": "team=other"}):
        assert not _find(person, home, **query).has_link(text), query

    edit = person.get(page.link("Edit"))
    page = person.submit(edit, edit.form(), DisplayName="", Description="two\r\nlines", Tags="kind=private\nnew=1")
    address_id = page.path.rsplit("/", 1)[1]
    described = connect.describe_email_address(InstanceId=instance_id, EmailAddressId=address_id)
    assert described["DisplayName"] == ""
    assert described["Description"] == "two\nlines"
    assert described["Tags"] == {"kind": "private", "new": "1"}

    gone = person.get(page.link("Retire…"))
    assert person.submit(gone, gone.form()).path == f"{home}/addresses"
    with pytest.raises(connect.exceptions.ResourceNotFoundException):
        connect.describe_email_address(InstanceId=instance_id, EmailAddressId=address_id)
    assert person.get(page.path).status == 404


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"EmailAddress": ""}, "EmailAddress"),
        ({"EmailAddress": "no-address"}, "EmailAddress"),
        ({"EmailAddress": "a@example.com", "DisplayName": "d" * 257}, "DisplayName"),
        ({"EmailAddress": "a@example.com", "Tags": "aws:x=1"}, "Tags"),
        ({"EmailAddress": "a@example.com", "Tags": "no equals sign"}, "Tags"),
    ],
)
def test_the_apis_own_words_stand_beside_the_field(
    person: Browser, home: str, values: dict[str, str], field: str
) -> None:
    page = _new(person, home, **values)
    assert page.status == 400
    wrong = [given["id"] for tag, given in page.tags if given.get("aria-invalid") == "true"]
    assert wrong == [field]
    assert any(given.get("id") == f"{field}-problem" for _, given in page.tags)
    assert page.form("/addresses").fields["EmailAddress"] == values["EmailAddress"]  # nothing has to be typed again


def test_an_address_that_is_taken(person: Browser, home: str, create: Callable[..., tuple[str, str]]) -> None:
    _, text = create("help")
    page = _new(person, home, EmailAddress=text.upper())
    assert page.status == 409
    assert "exists already" in page.text


def test_a_form_that_is_sent_twice_publishes_once(
    person: Browser, home: str, new_address: Callable[[str], str]
) -> None:
    page = person.get(f"{home}/addresses/new")
    values = {"EmailAddress": new_address("twice")}
    first = person.submit(page, page.form("/addresses"), **values)
    assert person.submit(page, page.form("/addresses"), **values).path == first.path


def test_pages_of_many(person: Browser, home: str, create: Callable[..., tuple[str, str]]) -> None:
    texts = [create(f"n{number}")[1] for number in range(60)]
    seen, page = [], _find(person, home, q="n")
    while True:
        seen += [words for href, words in page.links if "/addresses/" in href and "@" in words]
        if not page.has_link("Next page"):
            break
        page = person.get(page.link("Next page"))
    assert seen == texts


def test_what_others_wrote_is_text(person: Browser, home: str, create: Callable[..., tuple[str, str]]) -> None:
    """Stored XSS through name, description and tags, and reflected by what is searched for."""
    address_id, _ = create("hostile", DisplayName=HOSTILE, Description=HOSTILE, Tags={"k": HOSTILE})
    pages = [
        person.get(f"{home}/addresses"),
        person.get(f"{home}/addresses/{address_id}"),
        person.get(f"{home}/addresses/{address_id}/edit"),
        person.get(f"{home}/addresses/{address_id}/delete"),
        _find(person, home, q=HOSTILE, tag=HOSTILE),
        person.get(f"/_console/instances/{quote(HOSTILE, safe='')}/addresses"),
        person.get(f"{home}/addresses/{quote(HOSTILE, safe='')}"),
        person.get(f"{home}/alias?{urlencode({'primary': HOSTILE, 'alias': HOSTILE})}"),
    ]
    for page in pages:
        assert [given.get("src") for tag, given in page.tags if tag == "script"] == [
            "/_console/static/htmx-2.0.11.min.js",
            "/_console/static/console.js",
        ], page.path
        assert not [tag for tag, given in page.tags if tag == "img" and given["src"] == "x"], page.path
        assert not [name for _, given in page.tags for name in given if name.startswith("on")], page.path
    assert any(HOSTILE in page.text for page in pages)


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


READ = {"Effect": "Allow", "Action": ["connect:Describe*", "connect:Search*", "connect:List*"], "Resource": "*"}


def test_what_a_key_may_not_do_is_not_offered_and_refused_when_forced(
    service: ServiceProcess, browser: Browser, home: str, create: Callable[..., tuple[str, str]]
) -> None:
    address_id, text = create("help")
    browser.sign_in(*create_key(service, _policy(READ)))
    page = browser.get(f"{home}/addresses")
    assert page.has_link(text)
    assert not page.has_link("Publish an address")
    page = browser.get(f"{home}/addresses/{address_id}")
    assert not page.has_link("Edit")
    assert not page.has_link("Retire…")
    assert [form.action for form in page.forms] == ["/_console/sign-out"]

    token = {"form_token": page.forms[0].fields["form_token"]}
    forced = {
        f"{home}/addresses": {"EmailAddress": "forced@example.com"},
        f"{home}/addresses/{address_id}/edit": {"DisplayName": "forced", "Description": "", "Tags": ""},
        f"{home}/addresses/{address_id}/delete": {},
        f"{home}/alias": {"change": "associate", "primary": address_id, "alias": address_id},
    }
    for path, fields in forced.items():
        refused = browser.post(path, fields | token)
        assert refused.status == 403, path
        assert "AccessDeniedException" in refused.text
    assert browser.get(f"{home}/addresses/{address_id}").has_link(text) is False
    assert text in browser.get(f"{home}/addresses").text


def test_a_key_that_may_not_list_instances_names_its_own(
    service: ServiceProcess, browser: Browser, instance_id: str, home: str
) -> None:
    browser.sign_in(*create_key(service, _policy(READ | {"Resource": f"arn:aws:connect:*:*:instance/{instance_id}*"})))
    page = browser.get("/_console/")
    assert "may not list instances" in page.text
    assert browser.submit(page, page.forms[-1], instance_id=instance_id).path == f"{home}/addresses"
    other = "12345678-1234-1234-1234-123456789012"
    assert browser.get(f"/_console/instances/{other}/addresses").status == 403


def test_what_is_not_there(person: Browser, home: str) -> None:
    nobody = "11111111-1111-1111-1111-111111111111"
    assert person.get(f"{home}/addresses/{nobody}").status == 404
    assert person.get(f"/_console/instances/{nobody}/addresses").status == 404
    assert person.get("/_console/nowhere").status == 404
    assert person.get("/_console").path == "/_console/"
    assert person.get("/_consoles").status == 404
