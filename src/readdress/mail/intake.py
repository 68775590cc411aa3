"""Accepting mail: every recipient is routed again inside the transaction that stores the message, and 250 follows it.

Contract 6: one transaction stores the message once and one delivery per inbox; its commit comes before the reply.
What we can't do now is a 4xx and nothing is stored. A message longer than one part is staged part by part while it
comes in, so that none is held in memory; the accepting transaction makes it visible, or it is swept.
"""

import logging
from collections.abc import Awaitable, Callable, Collection
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import msgspec

from readdress.address import Address
from readdress.clock import new_id, rfc_5322
from readdress.directory import routing
from readdress.inbox import messages
from readdress.inbox.arrivals import Arrivals
from readdress.logs import Line
from readdress.mail.dispatch import Arrival, Dispatcher, arrivals, is_looping, passed_on_before
from readdress.mail.header import HEADER_BYTES_MAX, RECEIVED_MAX, HeaderFacts, look_at_header
from readdress.mail.notices import Action, Notifier
from readdress.mail.sender_checks import SenderChecks
from readdress.mail.transports import Outcome, Result
from readdress.metrics import counted
from readdress.smtp import reply
from readdress.smtp.backend import UNIX_PEER, Peer
from readdress.smtp.envelope import Envelope
from readdress.smtp.grammar import Path
from readdress.smtp.reply import Reply
from readdress.store.database import Database, StoreError, StoreFull, Together, Transaction
from readdress.telemetry import Part, traces

if TYPE_CHECKING:
    from readdress.mail.authentication.verdicts import Verdicts

log = logging.getLogger("readdress.mail")

MESSAGE_LINE = Line("readdress.mail", "message %(message_id)s from <%(sender)s> (%(peer)s): %(reply)s")

T = TypeVar("T")

PART_BYTES_MAX = HEADER_BYTES_MAX  # so that a first part shows the whole of a header
STAGING_MS_MAX = 3_600_000
# No message reads what another one writes.
TOGETHER = Together("mail")


class _RouteRefused(Exception):
    def __init__(self, answers: list[Reply]) -> None:
        super().__init__()
        self.answers = answers


class Intake:
    """The Backend of the SMTP server."""

    def __init__(
        self,
        database: Database,
        *,
        hostname: str,
        dispatcher: Dispatcher | None = None,
        notifier: Notifier | None = None,
        checks: SenderChecks | None = None,
        on_queued: Callable[[], None] = lambda: None,
        waiting: Arrivals | None = None,
    ) -> None:
        """Without `checks` no sender is checked; `on_queued` hears when something is in the spool.

        Who is `waiting` for an inbox is told once something is in it.
        """
        self.database = database
        self.hostname = hostname
        self.dispatcher = dispatcher or Dispatcher()
        self.notifier = notifier or Notifier(hostname=hostname, dispatcher=self.dispatcher)
        self.checks = checks
        self.on_queued = on_queued
        self.waiting = waiting

    async def check_recipient(self, recipient: Path) -> Reply:
        try:
            return await routing.check(self.database, _address(recipient))
        except StoreError:
            log.warning("cannot look up a recipient", exc_info=True)
            return reply.STORE_TROUBLE

    def begin_message(self, envelope: Envelope, peer: Peer) -> "Incoming":
        return Incoming(self, envelope, peer)


class Incoming:
    """One message on its way in, under the id that it will have."""

    def __init__(self, intake: Intake, envelope: Envelope, peer: Peer) -> None:
        self._intake = intake
        self._envelope = envelope
        self._peer = peer
        self.id = new_id()
        self._began = monotonic()
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._size_bytes = 0
        self._parts_staged = 0
        self._facts: HeaderFacts | None = None
        self._verdicts: Verdicts | None = None
        self._trouble: Reply | None = None

    async def add(self, content: bytes) -> None:
        self._pieces.append(content)
        self._pieces_bytes += len(content)
        if self._pieces_bytes > PART_BYTES_MAX:
            await self._stage()

    async def accept(self) -> list[Reply]:
        last_part, facts = self._take_part(is_last=True)
        refusal = self._trouble or _refuse(facts)
        if self._intake.checks and not refusal:
            self._verdicts = await self._intake.checks.check(
                lambda: self._load(last_part), self._size_bytes, envelope=self._envelope, peer=self._peer
            )
        answers = [refusal] * len(self._envelope.recipients) if refusal else await self._store(last_part, facts)
        if self._parts_staged and not any(answer.is_positive for answer in answers):
            await self.abort()
        said = " / ".join(map(str, dict.fromkeys(answers)))
        MESSAGE_LINE.write(self.id, self._envelope.sender.text, self._peer.address, said)
        if traces.is_on:
            self._trace_span(answers)
        return answers

    async def abort(self) -> None:
        self._pieces.clear()
        if self._parts_staged:
            self._parts_staged = 0
            # What can't be dropped now is swept when its time is over.
            await _or_reply(self._intake.database.write(lambda tx: messages.drop_staged(tx, self.id)))

    def _trace_span(self, answers: list[Reply]) -> None:
        """From the first byte of content to the reply; of several replies the worst is told."""
        code = max(answer.code for answer in answers)
        traces.add(
            "message",
            Part.SERVER,
            monotonic() - self._began,
            {
                "message_id": self.id,
                "protocol": self._peer.protocol,
                "code": code,
                "size_bytes": self._size_bytes,
                "recipients": len(answers),
            },
            failure="" if code < 400 else str(code),
        )

    def _take_part(self, *, is_last: bool) -> tuple[bytes, HeaderFacts]:
        """The pieces so far as a part; the first loses the results that claim to be ours (RFC 8601 §5)."""
        content = b"".join(self._pieces)
        self._pieces.clear()
        self._pieces_bytes = 0
        if self._facts is None:
            self._facts = look_at_header(content, is_whole=is_last)
            if self._facts.has_results:
                from readdress.mail.authentication.results import strip_results

                content = strip_results(content, self._intake.hostname)
        self._size_bytes += len(content)
        return content, self._facts

    async def _load(self, last_part: bytes) -> bytes:
        """The whole content, of which all but the last part is in the database."""
        parts = [
            await self._intake.database.read(lambda tx, part=part: messages.part_of(tx, self.id, part))  # type: ignore[misc]
            for part in range(self._parts_staged)
        ]
        return b"".join([*(part for part in parts if part is not None), last_part])

    async def _stage(self) -> None:
        part = self._parts_staged
        content, _ = self._take_part(is_last=False)
        if self._trouble:
            return

        def stage(tx: Transaction) -> None:
            messages.stage_content(
                tx, message_id=self.id, part=part, content=content, expires_ms=tx.now_ms + STAGING_MS_MAX
            )

        self._parts_staged += 1
        self._trouble = await _or_reply(self._intake.database.write(stage, together=TOGETHER))

    async def _store(self, last_part: bytes, facts: HeaderFacts) -> list[Reply]:
        def store(tx: Transaction) -> tuple[list[Reply], list[messages.Delivery]]:
            arrived, answers = self._route_all(tx, facts)
            message = self._message(tx, facts)
            messages.insert(tx, message)
            deliveries = self._intake.dispatcher.deliver(tx, self.id, arrived)
            if self._parts_staged:
                messages.unstage_content(tx, self.id)
            messages.insert_content(tx, message_id=self.id, part=self._parts_staged, content=last_part)
            self._confirm(tx, message, deliveries)
            if all(delivery.state is messages.State.DISCARDED for delivery in deliveries):
                messages.delete_content(tx, self.id)
            return answers, deliveries

        try:
            stored = await _or_reply(self._intake.database.write(store, together=TOGETHER))
        except _RouteRefused as refused:
            return refused.answers
        if isinstance(stored, Reply):
            return [stored] * len(self._envelope.recipients)
        answers, deliveries = stored
        for delivery in deliveries:
            if delivery.state is messages.State.QUEUED:
                self._intake.on_queued()
            else:
                counted.stored[delivery.transport] += 1
        if self._intake.waiting is not None:
            self._intake.waiting.tell(delivery.address_id for delivery in deliveries)
        return answers

    def _confirm(self, tx: Transaction, message: messages.Message, deliveries: list[messages.Delivery]) -> None:
        """Tell the sender what is in an inbox by now, where they asked for it (RFC 3461 §4.1)."""
        for delivery in deliveries:
            if delivery.notices and delivery.state is messages.State.DELIVERED:
                done = Result(Outcome.DELIVERED, "", "2.1.5")
                self._intake.notifier.tell(tx, Action.DELIVERED, message, delivery, done)

    def _route_all(self, tx: Transaction, facts: HeaderFacts) -> tuple[list[Arrival], list[Reply]]:
        """Every destination once, whatever leads to it, and a reply for every recipient. Raises _RouteRefused for none.

        LMTP says of each recipient whether it is gone by now. SMTP has one reply for all: when only some are gone the
        sender is asked to come again, and then hears at RCPT which. What would only come again the same is refused: a
        loop, and a mail whose author's domain disowns it, if one recipient's instance refuses such mail.
        """
        recipients = [(given, _address(given.path)) for given in self._envelope.recipients]
        routing.lock(tx, (address for _, address in recipients))
        passed_on = passed_on_before(tx, facts.received_ids)
        routes = [
            (given, self._judge(routing.route(tx, address, holds=True), facts, passed_on))
            for given, address in recipients
        ]
        good = reply.accepted(self.id)
        if self._peer.protocol != "LMTP" and not all(route.destinations for _, route in routes):
            refusals = {route.reply for _, route in routes if not route.destinations}
            good = next((final for final in (reply.LOOP, reply.SPOOFED) if final in refusals), reply.ROUTE_CHANGED)
        answers = [good if route.destinations else route.reply for _, route in routes]
        if not any(answer.is_positive for answer in answers):
            raise _RouteRefused(answers)
        return arrivals(routes), answers

    def _judge(self, route: routing.Route, facts: HeaderFacts, passed_on: Collection[str]) -> routing.Route:
        """The route, or a refusal by what the message says of itself."""
        if (facts.delivered_to or passed_on) and any(
            is_looping(found, delivered_to=facts.delivered_to, passed_on=passed_on) for found in route.destinations
        ):
            return routing.Route((), reply.LOOP)
        if self._verdicts and any(found.refuses_spoofs for found in route.destinations):
            dmarc = self._verdicts.dmarc
            # Without one author's domain there is no policy to ask for: who could not be spoofed so, only had to try.
            if (dmarc.result, dmarc.policy) == ("fail", "reject") or (dmarc.result == "permerror" and not dmarc.domain):
                return routing.Route((), reply.SPOOFED)
        return route

    def _message(self, tx: Transaction, facts: HeaderFacts) -> messages.Message:
        return messages.Message(
            id=self.id,
            received_ms=tx.now_ms,
            sender=self._envelope.sender.text,
            subject=facts.subject,
            size_bytes=self._size_bytes,
            trace=self._trace(tx.now_ms),
            peer=self._peer.address,
            ehlo=self._peer.ehlo,
            tls=self._peer.tls,
            body=self._envelope.body,
            smtputf8=self._envelope.smtputf8,
            ret=self._envelope.ret,
            envelope_id=self._envelope.envelope_id,
            verdicts=msgspec.json.encode(self._verdicts).decode() if self._verdicts else "",
        )

    def _trace(self, now_ms: int) -> str:
        """What we put on top: what we found out about the message, and how it came."""
        results = self._verdicts.results_field(self._intake.hostname) if self._verdicts else ""
        return results + self._received_field(now_ms)

    def _received_field(self, now_ms: int) -> str:
        """RFC 5321 §4.4; one recipient may be named, several would betray each other."""
        protocol: str = self._peer.protocol
        if self._envelope.smtputf8:
            protocol = "UTF8LMTP" if protocol == "LMTP" else "UTF8SMTP"  # RFC 6531 §4.3
        if self._peer.tls and protocol != "SMTP":
            protocol += "S"  # RFC 3848
        recipients = self._envelope.recipients
        named = f"\r\n\tfor <{recipients[0].path.text}>" if len(recipients) == 1 else ""
        return (
            f"Received: from {self._peer.ehlo}{_literal(self._peer.address)}\r\n"
            f"\tby {self._intake.hostname} with {protocol} id {self.id}{named};\r\n\t{rfc_5322(now_ms)}\r\n"
        )


def _literal(address: str) -> str:
    """The peer's address as a Received field has it (RFC 5321 §4.1.3)."""
    if address == UNIX_PEER:
        return ""
    return f" ([IPv6:{address}])" if ":" in address else f" ([{address}])"


def _refuse(facts: HeaderFacts) -> Reply | None:
    if not facts.is_complete:
        return reply.HEADER_TOO_BIG
    if facts.has_bare_line_end:
        # RFC 5322 §2.2: BINARYMIME is for bodies. Behind a bare LF a field could hide from us and show to a reader.
        return reply.BARE_CONTENT
    return reply.LOOP if facts.received_count > RECEIVED_MAX else None


async def _or_reply(stored: Awaitable[T]) -> T | Reply:
    """What was stored gives; else what to tell the sender, who is never to blame for our trouble (contract 6)."""
    try:
        return await stored
    except StoreFull:
        log.exception("the disk is full")
        return reply.STORE_FULL
    except StoreError:
        log.exception("cannot store")
        return reply.STORE_TROUBLE
    except messages.StagedContentSwept:
        log.warning("a sender took too long, and what it had sent was swept")
        return reply.STORE_TROUBLE


def _address(recipient: Path) -> Address:
    assert recipient.address is not None, "a recipient is never the null path"
    return recipient.address
