"""What has come, as pages: listed, read, downloaded, emptied, and seen as it comes (docs/console.md, Inbox)."""

import http.client
import json
import smtplib
from email.message import EmailMessage
from email.policy import SMTP

import pytest

from harness.access_keys import create_key, disable_key
from harness.browser import Browser
from harness.instance import Instance, Published
from harness.process import ServiceProcess
from harness.stored import wait_until
from readdress.console.inbox import STREAMS_MAX, STREAMS_OF_A_SESSION_MAX, Streams, file_name

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e"
SOURCE = "arn:aws:connect:us-east-1:123456789012:instance/*"


def _send(instance: Instance, recipient: Published, message: EmailMessage | bytes, sender: str = "a@b.example") -> None:
    content = message if isinstance(message, bytes) else message.as_bytes(policy=SMTP)
    with smtplib.SMTP(*instance.service.smtp_address, timeout=30) as smtp:
        smtp.ehlo("sender.example")
        smtp.sendmail(sender, [recipient.text], content)


def _message(**headers: str) -> EmailMessage:
    message = EmailMessage()
    for name, value in ({"From": "Åsa <asa@example.com>", "Subject": "hello"} | headers).items():
        message[name] = value
    message.set_content("plain words\n")
    return message


def _inbox(home: str, address: Published) -> str:
    return f"{home}/addresses/{address.id}/inbox"


def test_listed_read_and_why(person: Browser, instance: Instance, home: str) -> None:
    primary, alias = instance.publish("support"), instance.publish("help")
    instance.associate(primary=primary.id, alias=alias.id)
    message = _message(Subject="Größe")
    message.add_alternative("<p>rich <b>words</b></p>", subtype="html")
    message.add_attachment(b"a,b\n", maintype="text", subtype="csv", filename="größe.csv")
    _send(instance, alias, message)

    page = person.get(_inbox(home, primary))
    assert f"a@b.example by its alias {alias.text}" in page.text
    page = person.get(page.link("Größe"))
    assert "From Åsa <asa@example.com>" in page.text
    assert "plain words" in page.text
    assert f"by its alias {alias.text}" in page.text
    assert "The sender was not checked." in page.text or "SPF" in page.text

    html = person.get(page.link("HTML"))
    frame = next(given for tag, given in html.tags if tag == "iframe")
    assert "allow-scripts" not in frame["sandbox"]
    assert "allow-same-origin" not in frame["sandbox"]
    inner = person.get(frame["src"])
    assert inner.text.endswith("rich words")
    assert "sandbox" in inner.headers["content-security-policy"]
    assert "default-src 'none'" in inner.headers["content-security-policy"]
    assert "Content-Type" in person.get(page.link("Headers")).text
    assert "Received: from" in person.get(page.link("Raw")).text

    attachments = person.get(page.link("Attachments (1)"))
    saved = person.get(attachments.link("größe.csv"))
    assert saved.body == b"a,b\n"
    assert saved.headers["content-type"] == "application/octet-stream"
    assert saved.headers["content-disposition"] == (
        "attachment; filename=\"gr__e.csv\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.csv"
    )
    raw = person.get(person.get(page.link("Raw")).link("Download"))
    assert b"Subject: =?utf-8?" in raw.body
    assert raw.headers["content-disposition"].startswith("attachment;")
    assert "sandbox" in raw.headers["content-security-policy"]


def test_pages_of_an_inbox(person: Browser, instance: Instance, home: str) -> None:
    address = instance.publish()
    for number in range(60):
        instance.send(address.text, subject=f"number {number}.")
    first = person.get(_inbox(home, address))
    assert first.has_link("number 59.")
    assert not first.has_link("number 9.")
    older = person.get(first.link("Older"))
    assert older.has_link("number 9.")
    assert not older.has_link("Older")


def test_nothing_of_a_stranger_becomes_markup(person: Browser, instance: Instance, home: str) -> None:
    """Stored XSS by every field that a sender controls: subject, names, header names, attachments, text, kinds."""
    address = instance.publish()
    hostile = HOSTILE.encode()
    _send(
        instance,
        address,
        b"From: " + hostile + b" <x@example.com>\r\nTo: " + hostile + b"\r\nSubject: " + hostile + b"\r\n"
        b"X-<script>alert(1)</script>: " + hostile + b"\r\nDate: " + hostile + b"\r\n"
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n" + hostile + b"\r\n"
        b'--x\r\nContent-Type: text/<script>; name="<script>alert(1)</script>"\r\n\r\nx\r\n'
        b"--x\r\nContent-Type: text/html\r\n\r\n" + hostile + b"\r\n--x--\r\n",
        sender='"<script>alert(1)</script>"@b.example',
    )  # fmt: skip
    inbox = person.get(_inbox(home, address))
    path = next(href for href, _ in inbox.links if "/messages/" in href)
    pages = [inbox, *(person.get(f"{path}?show={show}") for show in ("text", "html", "headers", "raw", "attachments"))]
    for page in [*pages, person.get(f"{path}/html")]:
        assert page.status == 200
        scripts = [given.get("src", "") for tag, given in page.tags if tag == "script"]
        assert all(source.startswith("/_console/static/") for source in scripts), page.path
        assert not any(name.startswith("on") for _, given in page.tags for name in given), page.path
    assert not any("\u202e" in page.text for page in pages)  # the frame alone shows a message as it is


def test_emptied(person: Browser, instance: Instance, home: str) -> None:
    address = instance.publish()
    instance.send(address.text)
    page = person.get(person.get(_inbox(home, address)).link("Empty…"))
    assert "Nothing has come yet." in person.submit(page, page.form()).text
    assert instance.subjects(address.id) == []


def test_only_as_far_as_the_key_may(service: ServiceProcess, browser: Browser, instance: Instance, home: str) -> None:
    address = instance.publish()
    message_id = instance.send(address.text)
    statement = {"Effect": "Allow", "Action": ["connect:Describe*", "readdress:ListMessages"], "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    browser.sign_in(*create_key(service, json.dumps(policy)))
    page = browser.get(_inbox(home, address))
    assert page.status == 200
    assert not page.has_link("Empty…")
    for ending in ("", "/html", "/raw"):
        assert browser.get(f"{home}/messages/{message_id}{ending}").status == 403
    fields = page.forms[0].fields
    assert browser.post(f"{_inbox(home, address)}/empty", fields).status == 403
    assert instance.subjects(address.id) == ["hello"]


@pytest.mark.parametrize("path", ["messages/none", "messages/00000000-0000-4000-8000-000000000000/attachments/0"])
def test_a_message_that_is_not_there(person: Browser, home: str, path: str) -> None:
    assert person.get(f"{home}/{path}").status in (400, 404)


def test_an_unknown_view_is_refused(person: Browser, instance: Instance, home: str) -> None:
    message_id = instance.send(instance.publish().text)
    assert person.get(f"{home}/messages/{message_id}?show=everything").status == 400
    assert person.get(f"{home}/messages/{message_id}/attachments/7").status == 404
    assert person.get(f"{home}/messages/{message_id}/html").status == 404


class _Stream:
    """Server-sent events of an inbox."""

    def __init__(self, person: Browser, path: str) -> None:
        host, _, port = person.host.partition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=30)
        cookie = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
        self._connection.request("GET", path, headers={"Cookie": cookie})
        self.response = self._connection.getresponse()

    def next_event(self) -> str:
        """The name of the next event, "" for the end."""
        while line := self.response.readline():
            if line.startswith(b"event:"):
                return line[6:].strip().decode()
        return ""

    def close(self) -> None:
        self.response.close()
        self._connection.close()


def test_new_mail_is_told_as_it_comes(person: Browser, instance: Instance, home: str) -> None:
    address = instance.publish()
    stream = _Stream(person, f"{_inbox(home, address)}/events?seen=")
    assert stream.response.headers["content-type"].startswith("text/event-stream")
    for _ in range(2):
        instance.send(address.text)
        assert stream.next_event() == "mail"
    stream.close()


def test_a_session_listens_to_few_inboxes_at_a_time(person: Browser, instance: Instance, home: str) -> None:
    path = f"{_inbox(home, instance.publish())}/events?seen="
    streams = [_Stream(person, path) for _ in range(STREAMS_OF_A_SESSION_MAX + 1)]
    assert [stream.response.status for stream in streams] == [200] * STREAMS_OF_A_SESSION_MAX + [204]
    for stream in streams:
        stream.close()


def test_who_has_gone_leaves_room_for_others(person: Browser, instance: Instance, home: str) -> None:
    address = instance.publish()
    path = f"{_inbox(home, address)}/events?seen="
    for _ in range(STREAMS_OF_A_SESSION_MAX):
        _Stream(person, path).close()
    wait_until(lambda: _is_admitted(person, path))


def _is_admitted(person: Browser, path: str) -> bool:
    stream = _Stream(person, path)
    status = stream.response.status
    stream.close()
    return status == 200


def test_who_may_no_longer_hears_no_more(
    service: ServiceProcess, browser: Browser, instance: Instance, home: str
) -> None:
    address = instance.publish()
    key, secret = create_key(service)
    browser.sign_in(key, secret)
    stream = _Stream(browser, f"{_inbox(home, address)}/events?seen=")
    instance.send(address.text)
    assert stream.next_event() == "mail"
    disable_key(service, key)
    instance.send(address.text)  # wakes the look that began before; the next one asks who it is
    assert stream.next_event() in ("mail", "")
    assert stream.next_event() == ""
    stream.close()


def test_streams_are_bounded_in_all() -> None:
    streams = Streams()
    entered = [streams.enter(f"token-{number // 3}") for number in range(STREAMS_MAX + 5)]
    assert entered.count(True) == STREAMS_MAX
    streams.leave("token-0")
    assert streams.enter("another")


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        (".bashrc", "bashrc"),
        ('a";x="\r\nSet-Cookie: x=y', "a__x=___Set-Cookie_ x=y"),
        ("größe.pdf", "größe.pdf"),
        ("", "attachment"),
        ("x" * 300, "x" * 100),
    ],
)
def test_names_of_files_are_no_paths_and_no_headers(name: str, saved: str) -> None:
    assert file_name(name) == saved
