"""Our own ListMessages, GetMessage, GetMessageContent, ResolveRecipient: inboxes, why, and where mail would go."""

import base64
import re
import uuid
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from harness.http_client import HttpAnswer
from harness.instance import UNKNOWN_ID, Instance, Published
from harness.process import DEV_INSTANCE
from harness.smtp_client import SmtpClient

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SENDER = "customer@sender.example"


def get(instance: Instance, path: str, **query: Any) -> HttpAnswer:
    """GET below the instance's own path; ids in `path` are encoded by who passes them."""
    text = "?" + urlencode(query, quote_via=quote) if query else ""
    return instance.http.call("GET", f"/_readdress/instances/{quote(instance.id, safe='')}/{path}{text}")


def inbox_path(address_id: str) -> str:
    return f"email-addresses/{quote(address_id, safe='')}/messages"


def resolve(instance: Instance, recipient: str) -> dict[str, Any]:
    answer = get(instance, "resolve", recipient=recipient)
    assert answer.status == 200, answer
    resolved: dict[str, Any] = answer.json
    return resolved


def assert_refused(answer: HttpAnswer, status: int, code: str, *words: str) -> None:
    assert (answer.status, answer.code) == (status, code), answer
    for word in words:
        assert word in answer.json["Message"]


# Shape.


def test_a_listed_message_says_who_what_when_and_why(instance: Instance, primary: Published) -> None:
    message_id = instance.send(primary.text, subject="hello")
    answer = get(instance, inbox_path(primary.id))
    (listed,) = answer.json["Messages"]
    assert set(answer.json) == {"Messages"}
    assert TIMESTAMP.fullmatch(listed.pop("ReceivedTimestamp"))
    assert str(uuid.UUID(listed["DeliveryId"])) == listed.pop("DeliveryId")
    assert listed == {
        "MessageId": message_id,  # contract 6: the id of the SMTP reply
        "Sender": SENDER,
        "Recipients": [primary.text],
        "Reasons": [{"Reason": "DIRECT"}],
        "Subject": "hello",
        "SizeBytes": len("Subject: hello\r\n\r\nbody\r\n"),
        "Transport": "inbox",
        "State": "DELIVERED",
    }


def test_a_message_tells_its_envelope_its_deliveries_and_its_connection(
    instance: Instance, primary: Published, alias: Published
) -> None:
    message_id = instance.send(alias.text)
    answer = get(instance, f"messages/{message_id}")
    message = answer.json
    assert answer.status == 200
    assert message["MessageId"] == message_id
    assert TIMESTAMP.fullmatch(message["ReceivedTimestamp"])
    assert message["Envelope"] == {"Sender": SENDER, "Recipients": [alias.text]}
    assert message["Connection"] == {"Peer": "127.0.0.1", "Ehlo": "sender.example"}
    deliveries = {delivery["EmailAddressId"]: delivery for delivery in message["Deliveries"]}
    assert set(deliveries) == {primary.id, alias.id}
    assert deliveries[primary.id]["EmailAddress"] == primary.text
    assert deliveries[primary.id]["Reasons"] == [{"Reason": "ALIAS", "AliasId": alias.id}]
    assert deliveries[alias.id]["Reasons"] == [{"Reason": "DIRECT"}]


def test_ids_may_be_arns(instance: Instance, primary: Published) -> None:
    instance.send(primary.text)
    path = f"/_readdress/instances/{quote(instance.arn(), safe='')}/{inbox_path(instance.arn(primary.id))}"
    assert len(instance.http.call("GET", path).json["Messages"]) == 1


def test_both_wires_say_the_same(instance: Instance, primary: Published) -> None:
    message_id = instance.send(primary.text)
    rpc = instance.http.rpc("ListMessages", {"InstanceId": instance.id, "EmailAddressId": primary.id})
    assert rpc.json == get(instance, inbox_path(primary.id)).json
    rpc = instance.http.rpc("GetMessageContent", {"InstanceId": instance.id, "MessageId": message_id})
    assert base64.b64decode(rpc.json["Content"]) == get(instance, f"messages/{message_id}/content").body


# Behaviour: inboxes.


def test_mail_for_an_alias_is_in_both_inboxes_with_the_reason(
    instance: Instance, primary: Published, alias: Published
) -> None:
    instance.send(alias.text, subject="to the alias")
    instance.send(primary.text, subject="to the primary")
    newest, oldest = instance.http.inbox(instance.id, primary.id)  # newest first
    assert (newest["Subject"], newest["Reasons"]) == ("to the primary", [{"Reason": "DIRECT"}])
    assert (oldest["Subject"], oldest["Reasons"]) == ("to the alias", [{"Reason": "ALIAS", "AliasId": alias.id}])
    (own,) = instance.http.inbox(instance.id, alias.id)
    assert own["MessageId"] == oldest["MessageId"]
    assert own["DeliveryId"] != oldest["DeliveryId"]


def test_alias_and_primary_both_named_give_one_copy_with_both_reasons(
    instance: Instance, primary: Published, alias: Published
) -> None:
    instance.send(alias.text, primary.text)  # contract 6
    (entry,) = instance.http.inbox(instance.id, primary.id)
    assert sorted(reason["Reason"] for reason in entry["Reasons"]) == ["ALIAS", "DIRECT"]
    assert sorted(entry["Recipients"]) == sorted([alias.text, primary.text])
    assert len(instance.subjects(alias.id)) == 1


def test_the_same_message_id_in_two_mails_makes_two_messages(instance: Instance, primary: Published) -> None:
    with SmtpClient(instance.service.smtp_address) as smtp:
        smtp.say("EHLO sender.example")
        for _ in range(2):  # contract 6: no de-duplication across messages
            assert smtp.mail(SENDER, primary.text, content=b"Message-ID: <1@x>\r\n\r\n").startswith("250")
    assert len(instance.subjects(primary.id)) == 2


def test_an_inbox_is_paged_newest_first_while_mail_comes_in(instance: Instance, primary: Published) -> None:
    for number in range(5):
        instance.send(primary.text, subject=str(number))
    first = get(instance, inbox_path(primary.id), maxResults=2).json
    instance.send(primary.text, subject="late")
    second = get(instance, inbox_path(primary.id), maxResults=2, nextToken=first["NextToken"]).json
    third = get(instance, inbox_path(primary.id), maxResults=2, nextToken=second["NextToken"]).json
    pages = [[message["Subject"] for message in page["Messages"]] for page in (first, second, third)]
    assert pages == [["4", "3"], ["2", "1"], ["0"]]
    assert "NextToken" not in third


# Behaviour: content.


def test_the_bytes_are_as_received_below_our_received_field(instance: Instance, primary: Published) -> None:
    content = b"SUBJECT:  odd\t case\r\nX-8: \xff\xfe\r\nno colon\r\n\r\n.dot\r\n..two\r\n\r\n trailing \r\n"
    with SmtpClient(instance.service.smtp_address) as smtp:
        smtp.say("EHLO sender.example")
        reply = smtp.mail(SENDER, primary.text, content=content)
    message_id = reply.split()[-1]
    answer = get(instance, f"messages/{message_id}/content")
    assert answer.headers["content-type"] == "message/rfc822"
    trace, own = answer.body[: -len(content)], answer.body[-len(content) :]
    assert own == content
    assert trace.startswith(b"Received: from sender.example ([127.0.0.1])")
    assert trace.endswith(b"\r\n")
    assert message_id.encode() in trace  # contract 6
    assert trace.count(b"\r\nReceived:") == 0


def test_a_delivery_shows_its_own_trace_fields(instance: Instance, primary: Published, alias: Published) -> None:
    message_id = instance.send(alias.text)
    (entry,) = instance.http.inbox(instance.id, primary.id)
    answer = get(instance, f"messages/{message_id}/content", deliveryId=entry["DeliveryId"])
    header = answer.body.split(b"\r\n\r\n")[0].decode().split("\r\n")
    assert header[0] == f"Return-Path: <{SENDER}>"
    assert f"Delivered-To: {primary.text}" in header
    assert f"X-Original-To: {alias.text}" in header
    assert answer.body.endswith(get(instance, f"messages/{message_id}/content").body)


def test_a_message_stays_when_one_of_its_inboxes_goes(instance: Instance, primary: Published, alias: Published) -> None:
    message_id = instance.send(alias.text)
    instance.delete(alias.id)
    deliveries = get(instance, f"messages/{message_id}").json["Deliveries"]
    assert {delivery["EmailAddressId"]: delivery.get("EmailAddress") for delivery in deliveries} == {
        primary.id: primary.text,
        alias.id: None,
    }


# Behaviour: where mail would go.


def test_resolve_tells_both_destinations_of_an_alias(instance: Instance, primary: Published, alias: Published) -> None:
    resolved = resolve(instance, alias.text.upper())
    assert (resolved["Recipient"], resolved["Accepted"], resolved["Reply"]["Code"]) == (alias.text.upper(), True, 250)
    assert resolved["Destinations"] == [
        {"EmailAddressId": alias.id, "EmailAddress": alias.text, "Reason": "DIRECT"},
        {"EmailAddressId": primary.id, "EmailAddress": primary.text, "Reason": "ALIAS", "AliasId": alias.id},
    ]
    assert [found["EmailAddressId"] for found in resolve(instance, primary.text)["Destinations"]] == [primary.id]


def test_resolve_follows_the_relation_at_once(instance: Instance, primary: Published, alias: Published) -> None:
    instance.disassociate(primary=primary.id, alias=alias.id)
    assert [found["EmailAddressId"] for found in resolve(instance, alias.text)["Destinations"]] == [alias.id]


@pytest.mark.parametrize(
    "recipient", ["nobody-{}@example.com", "help@{}.example", "postmaster@example.com", "postmaster"]
)
def test_resolve_gives_the_reply_that_smtp_gives(instance: Instance, primary: Published, recipient: str) -> None:
    recipient = recipient.format(uuid.uuid4().hex)
    reply = resolve(instance, recipient)["Reply"]
    with SmtpClient(instance.service.smtp_address) as smtp:
        smtp.say("EHLO sender.example")
        smtp.say("MAIL FROM:<>")
        assert smtp.say(f"RCPT TO:<{recipient}>") == f"{reply['Code']} {reply['EnhancedCode']} {reply['Text']}"


def test_resolve_sends_nothing(instance: Instance, primary: Published) -> None:
    resolve(instance, primary.text)
    assert instance.subjects(primary.id) == []


def test_resolve_keeps_the_destinations_of_other_instances_to_itself(instance: Instance, primary: Published) -> None:
    other = Instance(instance.service, instance.connect, instance.http)
    assert resolve(other, primary.text)["Destinations"] == []


# Errors.


def test_what_is_unknown_is_not_found(instance: Instance, primary: Published) -> None:
    message_id = instance.send(primary.text)
    unknown = f"messages/{UNKNOWN_ID}"
    for path in (inbox_path(UNKNOWN_ID), unknown, f"{unknown}/content", f"messages/{message_id}/content?deliveryId=x"):
        assert_refused(get(instance, path), 404, "ResourceNotFoundException")
    paths = (inbox_path(primary.id), f"messages/{message_id}", f"messages/{message_id}/content", "resolve?recipient=a")
    for path in paths:
        answer = instance.http.call("GET", f"/_readdress/instances/{UNKNOWN_ID}/{path}")
        assert_refused(answer, 404, "ResourceNotFoundException", UNKNOWN_ID)
    for path in paths[:3]:  # what is another instance's is nobody's business there
        answer = instance.http.call("GET", f"/_readdress/instances/{DEV_INSTANCE}/{path}")
        assert_refused(answer, 404, "ResourceNotFoundException")


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ({"maxResults": 0}, "MaxResults"),
        ({"maxResults": 101}, "MaxResults"),
        ({"maxResults": "many"}, "MaxResults"),
        ({"nextToken": "x"}, "NextToken"),
        ({"nextToken": ""}, "NextToken"),
    ],
)
def test_a_page_is_asked_for_rightly(
    instance: Instance, primary: Published, query: dict[str, Any], member: str
) -> None:
    assert_refused(get(instance, inbox_path(primary.id), **query), 400, "InvalidParameterException", member)


def test_a_page_token_is_bound_to_its_inbox(instance: Instance, primary: Published, alias: Published) -> None:
    for _ in range(2):
        instance.send(alias.text)
    page_token = get(instance, inbox_path(primary.id), maxResults=1).json["NextToken"]
    answer = get(instance, inbox_path(alias.id), nextToken=page_token)
    assert_refused(answer, 400, "InvalidParameterException", "NextToken")


def test_resolve_needs_a_recipient(instance: Instance) -> None:
    for query in ("", "?recipient=", f"?recipient={'r' * 321}", "?recipient=a%00b"):
        assert_refused(get(instance, f"resolve{query}"), 400, "InvalidParameterException", "Recipient")


@pytest.mark.parametrize("recipient", ["a@b@c", "<a@example.com>", "a b@example.com", "@example.com", "a@"])
def test_resolve_refuses_what_is_no_recipient_as_smtp_does(instance: Instance, recipient: str) -> None:
    resolved = resolve(instance, recipient)
    assert (resolved["Accepted"], resolved["Destinations"]) == (False, [])
    assert 500 <= resolved["Reply"]["Code"] < 600


# Idempotency: all four only read, and may be repeated.


def test_reading_changes_nothing(instance: Instance, primary: Published) -> None:
    message_id = instance.send(primary.text)
    for path in (inbox_path(primary.id), f"messages/{message_id}", f"messages/{message_id}/content"):
        first, second = get(instance, path), get(instance, path)
        assert (first.status, first.body) == (second.status, second.body)
