"""People at the console with Chromium: by mouse, by keyboard, at a phone's width, in the dark (docs/console.md)."""

import json
import os
import uuid
from typing import Any

import pytest

from harness.access_keys import create_key
from harness.chromium import play
from harness.hostile_mail import friendly_message, hostile_messages
from harness.instance import Instance
from harness.process import ServiceProcess
from readdress.console.inbox import VIEWS


def _text(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:12]}@example.com"


@pytest.mark.parametrize("way", ["mouse", "keyboard"])
def test_the_story(service: ServiceProcess, instance: Instance, home: str, way: str) -> None:
    """Two addresses are published, associated and disassociated, each change after its preview (contract 2.2)."""
    primary, alias = _text("support"), _text("help")
    seen = play(service, f"story_by_{way}", home=home, primary=primary, alias=alias)
    assert f"Mail for {alias} goes to its own inbox and to {primary}" in seen["preview"]
    assert f"Mail for {alias} goes to {primary} as well" in seen["associated"]
    assert f"Mail for {alias} reaches its own inbox alone" in seen["disassociated"]
    addresses = instance.connect.search_email_addresses(InstanceId=instance.id)["EmailAddresses"]
    assert {one["EmailAddress"] for one in addresses} == {primary, alias}
    assert not any(one["AliasConfigurations"] for one in addresses)


def test_hits_come_as_one_types(service: ServiceProcess, instance: Instance, home: str) -> None:
    first, second = instance.publish("support"), instance.publish("billing")
    seen = play(
        service,
        "search_as_one_types",
        home=home,
        texts=["", "b", second.text[:12], "nobody"],
        expected=["2 addresses", "One address", "One address", "0 addresses"],
    )
    assert sorted(seen["seen"][0]) == sorted([first.text, second.text])
    assert seen["seen"][1:] == [[second.text], [second.text], []]
    assert "q=nobody" in seen["path"]


def test_a_conflict_is_told_and_nothing_offered(service: ServiceProcess, instance: Instance, home: str) -> None:
    primary, alias, third = (instance.publish(name) for name in ("support", "help", "billing"))
    instance.associate(primary=primary.id, alias=alias.id)
    seen = play(service, "conflict", home=home, third=third.id, alias=alias.text)
    assert alias.text in seen["told"]
    assert seen["buttons"] == []


def test_what_a_key_may_not_do_is_not_offered_and_refused(
    service: ServiceProcess, instance: Instance, home: str
) -> None:
    primary, alias = instance.publish("support"), instance.publish("help")
    reading = ["connect:DescribeEmailAddress", "connect:SearchEmailAddresses", "connect:ListInstances"]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": reading, "Resource": "*"}]}
    key, secret = create_key(service, json.dumps(policy))
    forced: list[tuple[str, dict[str, str]]] = [
        ("/addresses", {"EmailAddress": _text("forced")}),
        (f"/addresses/{primary.id}/edit", {"DisplayName": "forced"}),
        (f"/addresses/{primary.id}/delete", {}),
        ("/alias", {"change": "associate", "primary": primary.id, "alias": alias.id}),
    ]
    seen = play(service, "refused", home=home, address=primary.id, key=key, secret=secret, forced=forced)
    assert seen["offered"] == []
    assert seen["answers"] == [[403, True]] * len(forced)
    assert instance.aliases_of(primary.id) == []


def test_new_mail_appears_by_itself(service: ServiceProcess, instance: Instance, home: str) -> None:
    address = instance.publish()
    inbox = f"{home}/addresses/{address.id}/inbox"
    seen = play(service, "live", home=home, inbox=inbox, address=address.text)
    assert "Nothing has come yet." in seen["before"]
    assert seen["news"] == "New mail has come."
    assert "hello" in seen["message"]


def test_hostile_mail_runs_nothing_and_reaches_nowhere(service: ServiceProcess, instance: Instance, home: str) -> None:
    """`play` holds that no request left the service, no dialog opened and no policy was broken."""
    address = instance.publish()
    messages = [instance.send_content(content, address.text) for content in hostile_messages()]
    seen = play(service, "hostile", home=home, messages=messages)
    assert seen["frames"][0].startswith("Dear customer")


def test_every_page_is_for_everybody(service: ServiceProcess, instance: Instance, home: str) -> None:
    """axe-core finds nothing, and no page is wider than a phone, in light and dark."""
    pages = _pages(instance, home)
    seen: dict[str, Any] = play(service, "judge", home=home, pages=pages, folder=os.environ.get("CONSOLE_PICTURES", ""))
    assert seen["found"] == []


def _pages(instance: Instance, home: str) -> dict[str, str]:
    """By name, an instance with something in it."""
    primary = instance.publish("support", DisplayName="Support", Tags={"team": "support", "tier": "1"})
    alias = instance.publish("help", DisplayName="Help desk", Description="An alias of support.")
    third = instance.publish("billing", DisplayName="Billing")
    instance.associate(primary=primary.id, alias=alias.id)
    message_id = instance.send_content(friendly_message(), alias.text)
    instance.send(primary.text, subject="Where is my order?", sender="customer@shop.example")
    return {
        "sign-in": "/_console/sign-in",
        "start": "/_console/",
        "addresses": f"{home}/addresses",
        "nothing-found": f"{home}/addresses?q=nobody-at-all",
        "publish": f"{home}/addresses/new",
        "address": f"{home}/addresses/{primary.id}",
        "alias": f"{home}/addresses/{alias.id}",
        "alone": f"{home}/addresses/{third.id}",
        "edit": f"{home}/addresses/{primary.id}/edit",
        "retire": f"{home}/addresses/{primary.id}/delete",
        "choose": f"{home}/alias",
        "preview": f"{home}/alias?change=disassociate&primary={primary.id}&alias={alias.id}",
        "conflict": f"{home}/alias?change=associate&primary={third.id}&alias={alias.id}",
        "inbox": f"{home}/addresses/{primary.id}/inbox",
        "empty": f"{home}/addresses/{third.id}/inbox",
        "empty-inbox": f"{home}/addresses/{primary.id}/inbox/empty",
        **{f"message-{show}": f"{home}/messages/{message_id}?show={show}" for show in VIEWS},
        "overview": f"{home}/overview",
        "trace": f"{home}/trace?recipient={alias.text}",
        "trace-asked": f"{home}/trace?address={primary.id}&event=RECEIVED&since=2024-01-01T00:00",
        "trace-refused": f"{home}/trace?event=SEEN",
        "drop": f"{home}/spool/any/drop",
        "missing": "/_console/nowhere",
    }
