"""Fail the first statement, the second, the third …: whatever fails, nothing is left behind and a retry succeeds."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest

from conftest import ManualClock
from harness.api_calls import ACCOUNT, REGION, ApiCaller, alias_members
from harness.engine import POSTGRES, Engine
from harness.failing_database import FailingDatabase, Failure
from harness.spooled import put_in_spool
from harness.tables import check_promises, dump
from readdress.address import split_address
from readdress.api.catalogue import OPERATIONS
from readdress.api.operation import Kind
from readdress.inbox import messages
from readdress.mail import intake
from readdress.mail.intake import Intake
from readdress.smtp.grammar import Path
from readdress.smtp.reply import Reply
from readdress.smtp.server import Peer
from readdress.smtp.session import Envelope, Recipient
from readdress.store.database import Database, StoreUnavailable

STATEMENTS_MAX = 200


# Operations.


class Scene:
    """An instance with three addresses, two of them in a relation, with tags."""

    def __init__(self, api: ApiCaller, name: str) -> None:
        self.name = name
        self.instance_id = api.create_instance()
        self.primary, self.alias, self.free = (
            api.create_address(self.instance_id, f"{word}-{name}@example.com", Tags={"team": word})
            for word in ("primary", "alias", "free")
        )
        api("AssociateEmailAddressAlias", **self.pair())

    def pair(self, **members: Any) -> dict[str, Any]:
        return alias_members(self.instance_id, primary_id=self.primary, alias_id=self.alias, **members)

    def named(self, address_id: str, **members: Any) -> dict[str, Any]:
        return {"InstanceId": self.instance_id, "EmailAddressId": address_id, **members}

    def with_mail(self, api: ApiCaller) -> dict[str, Any]:
        """A message is in the inbox of the primary, and in another one."""
        recipients = [f"{word}-{self.name}@example.com" for word in ("alias", "free")]
        _, replies = asyncio.run(send(api.database, SMALL, recipients))
        assert replies[0].is_positive
        return self.named(self.primary)

    def spooled(self, api: ApiCaller, **members: Any) -> dict[str, Any]:
        """A delivery waits."""
        delivery_id = f"delivery-{self.name}"
        api.database.run(
            lambda tx: put_in_spool(tx, instance_id=self.instance_id, address_id=self.primary, delivery_id=delivery_id)
        )
        return {"InstanceId": self.instance_id, "DeliveryId": delivery_id, **members}

    def released(self, api: ApiCaller) -> dict[str, Any]:
        """A message is there to be sent on."""
        return {
            "InstanceId": self.instance_id,
            "MessageId": self.spooled(api)["DeliveryId"],
            "Recipient": "somebody@elsewhere.example",
            "ClientToken": self.name,
        }

    def tagged(self, **members: Any) -> dict[str, Any]:
        resource = f"instance/{self.instance_id}/email-address/{self.primary}"
        return {"resourceArn": f"arn:aws:connect:{REGION}:{ACCOUNT}:{resource}", **members}


CASES: dict[str, Callable[[Scene, ApiCaller], dict[str, Any]]] = {
    "CreateEmailAddress": lambda scene, _: {
        "InstanceId": scene.instance_id,
        "EmailAddress": f"new-{scene.name}@example.com",
        "Tags": {"a": "1", "b": "2"},
        "ClientToken": scene.name,
    },
    "UpdateEmailAddressMetadata": lambda scene, _: scene.named(
        scene.primary, DisplayName="name", Description="description", ClientToken=scene.name
    ),
    "DeleteEmailAddress": lambda scene, _: scene.named(scene.primary),
    "AssociateEmailAddressAlias": lambda scene, api: (
        api("DisassociateEmailAddressAlias", **scene.pair()) or scene.pair(ClientToken=scene.name)
    ),
    "DisassociateEmailAddressAlias": lambda scene, _: scene.pair(ClientToken=scene.name),
    "CreateInstance": lambda scene, _: {
        "IdentityManagementType": "SAML",
        "InboundCallsEnabled": True,
        "OutboundCallsEnabled": True,
        "Tags": {"a": "1", "b": "2"},
        "ClientToken": scene.name,
    },
    "DeleteMessages": lambda scene, api: scene.with_mail(api),
    "RetryDelivery": lambda scene, api: scene.spooled(api),
    "ReleaseMessage": lambda scene, api: scene.released(api),
    "DropDelivery": lambda scene, api: scene.spooled(api, Reason="moved"),
    "DeleteInstance": lambda scene, _: {"InstanceId": scene.instance_id, "ClientToken": scene.name},
    "TagResource": lambda scene, _: scene.tagged(tags={"a": "1", "team": "other"}),
    "UntagResource": lambda scene, _: scene.tagged(tagKeys=["team", "none"]),
}


@pytest.fixture
def api(database: Database, clock: ManualClock) -> Iterator[ApiCaller]:
    with ApiCaller(database, access_key_id="AKIATEST", transports=frozenset({"inbox", "relay"})) as caller:
        yield caller


def test_every_operation_that_writes_is_here() -> None:
    assert CASES.keys() == {operation.name for operation in OPERATIONS if operation.kind is Kind.WRITE}


@pytest.mark.parametrize("after", [False, True], ids=["instead of it", "after it"])
@pytest.mark.parametrize("operation", CASES)
def test_an_operation_that_fails_at_any_statement_leaves_nothing_and_can_be_repeated(
    database: Database, api: ApiCaller, operation: str, after: bool
) -> None:
    # contract 3: the token row and the effect commit in one transaction; only successes are kept.
    for at in count(1):
        assert at < STATEMENTS_MAX
        members = CASES[operation](Scene(api, f"{at}"), api)
        before = dump(database)
        failure = Failure(at, after=after)
        api.database = FailingDatabase(database, failure)
        if not fails(api, operation, members):
            break
        assert dump(database) == before
        check_promises(database)
        api.database = database
        answer = api(operation, **members)
        succeeded = dump(database)
        assert len(succeeded["audit"]) == len(before["audit"]) + 1
        assert len(succeeded["idempotency_token"]) == len(before["idempotency_token"]) + ("ClientToken" in members)
        if "ClientToken" in members:
            assert api(operation, **members) == answer
            assert dump(database) == succeeded
    assert at > 2
    assert not failure.happened


def fails(api: ApiCaller, operation: str, members: dict[str, Any]) -> bool:
    try:
        api(operation, **members)
    except StoreUnavailable:
        return True
    return False


# Mail.

RECIPIENTS = ["alias-mail@example.com", "free-mail@example.com"]
PEER = Peer("192.0.2.1", "sender.example", protocol="ESMTP")
PIECE = (b"x" * 76 + b"\r\n") * 1_700  # about half a part
SMALL = [b"Subject: small\r\n\r\nbody\r\n"]
STAGED = [b"Subject: large\r\n\r\n", *[PIECE] * 7]  # three parts and a rest


async def send(database: Database, pieces: list[bytes], to: Sequence[str] = RECIPIENTS) -> tuple[str, list[Reply]]:
    recipients = [Recipient(Path(text, split_address(text))) for text in to]
    incoming = Intake(database, hostname="mx.example").begin_message(
        Envelope(Path("", None), smtputf8=False, recipients=recipients), PEER
    )
    for piece in pieces:
        await incoming.add(piece)
    return incoming.id, await incoming.accept()


def sweep(database: Database, clock: ManualClock) -> None:
    clock.advance(intake.STAGING_MS_MAX + 1)
    while database.run(messages.sweep_staged):
        pass


def check_stored(database: Database, message_id: str, pieces: list[bytes], scene: Scene) -> None:
    assert database.run(lambda tx: messages.content_of(tx, message_id)) == b"".join(pieces)
    inboxes = [row[0] for row in dump(database)["delivery"] if row[2] == message_id]
    assert sorted(inboxes) == sorted([scene.alias, scene.primary, scene.free])


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("after", [False, True], ids=["instead of it", "after it"])
@pytest.mark.parametrize("pieces", [SMALL, STAGED], ids=["small", "staged"])
def test_mail_that_fails_at_any_statement_is_refused_for_now_and_leaves_nothing(
    engine: Engine,
    database: Database,
    clock: ManualClock,
    api: ApiCaller,
    pieces: list[bytes],
    after: bool,
    lasting: bool,
) -> None:
    # contract 6: store trouble is 451 or 421, never 5xx; nothing half-stored.
    scene = Scene(api, "mail")
    for at in count(1):
        assert at < STATEMENTS_MAX
        before = dump(database)
        failure = Failure(at, after=after, lasting=lasting)
        message_id, replies = asyncio.run(send(FailingDatabase(database, failure), pieces))
        if not failure.happened:
            break
        if engine.name == POSTGRES and not lasting and {reply.code for reply in replies} == {250}:
            # A work that fails in a transaction with others runs again by itself, and has succeeded then.
            check_promises(database)
            check_stored(database, message_id, pieces, scene)
            continue
        assert {reply.code for reply in replies} == {451}
        check_promises(database)
        if lasting:
            sweep(database, clock)  # what could not even be dropped
        assert dump(database) == before
        message_id, replies = asyncio.run(send(database, pieces))
        assert [reply.code for reply in replies] == [250] * len(RECIPIENTS)
        check_stored(database, message_id, pieces, scene)
    assert at > 5
    assert [reply.code for reply in replies] == [250] * len(RECIPIENTS)


@pytest.mark.parametrize("at", [1, 3], ids=["while it comes", "at its end"])
@pytest.mark.parametrize("pieces", [SMALL, STAGED], ids=["small", "staged"])
def test_every_recipient_has_a_reply_of_its_own(
    database: Database, api: ApiCaller, pieces: list[bytes], at: int
) -> None:
    # contract 6: LMTP gives one reply per recipient.
    Scene(api, "mail")
    _, replies = asyncio.run(send(FailingDatabase(database, Failure(at, lasting=True)), pieces))
    assert [reply.code for reply in replies] == [451] * len(RECIPIENTS)


def test_a_connection_that_breaks_leaves_nothing(database: Database, api: ApiCaller) -> None:
    Scene(api, "mail")
    before = dump(database)

    async def break_off() -> None:
        incoming = Intake(database, hostname="mx.example").begin_message(
            Envelope(Path("", None), smtputf8=False, recipients=[]), PEER
        )
        for piece in STAGED:
            await incoming.add(piece)
        assert dump(database)["staged_content"]
        await incoming.abort()

    asyncio.run(break_off())
    assert dump(database) == before


@pytest.mark.parametrize("sweep_after", [3, 5, 8], ids=["one part", "two parts", "all"])
def test_a_message_whose_beginning_was_swept_is_not_accepted_without_it(
    database: Database, clock: ManualClock, api: ApiCaller, sweep_after: int
) -> None:
    # contract 6: the raw bytes are kept as received; a sender may be slower than the sweep.
    scene = Scene(api, "mail")
    before = dump(database)

    async def send_slowly() -> tuple[str, list[Reply]]:
        recipients = [Recipient(Path(text, split_address(text))) for text in RECIPIENTS]
        incoming = Intake(database, hostname="mx.example").begin_message(
            Envelope(Path("", None), smtputf8=False, recipients=recipients), PEER
        )
        for number, piece in enumerate(STAGED, 1):
            await incoming.add(piece)
            if number == sweep_after:
                assert dump(database)["staged_content"]
                sweep(database, clock)
        return incoming.id, await incoming.accept()

    message_id, replies = asyncio.run(send_slowly())
    check_promises(database)
    if replies[0].is_positive:
        check_stored(database, message_id, STAGED, scene)
    else:
        assert {reply.code for reply in replies} == {451}
        assert dump(database) == before
