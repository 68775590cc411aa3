"""Delivery to another mail system: to a mail store by LMTP, or to a mail server by SMTP, perhaps in another domain.

Mail that leaves our domains gets an envelope sender of ours (SRS), so that bounces find back and SPF holds, and an ARC
seal, so that the next host can see what ours found. Both only then: inside our domains the sender stays as it was.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, cast
from weakref import WeakValueDictionary

from readdress.address import split_address
from readdress.directory import routing
from readdress.inbox import messages
from readdress.inbox.messages import Delivery
from readdress.mail import srs
from readdress.mail.mx import NoHosts, OwnHost, find_hosts
from readdress.mail.resolver import Resolver
from readdress.mail.transports import Job, Outcome, Result
from readdress.smtp import grammar
from readdress.smtp.client import send
from readdress.smtp.grammar import Path
from readdress.smtp.outgoing import ClientTimeouts, OutgoingMail, SendResult, Target
from readdress.smtp.session import Body, Recipient
from readdress.store.database import Database

log = logging.getLogger("readdress.mail")

# A message beyond this is read whole for its seal only while no other one is.
LARGE_BYTES: Final = 1_048_576

# The stages at which a host's answer is about the mail; before them, the domain's next host may do better.
_ABOUT_THE_MAIL: Final = frozenset({"mail", "rcpt", "data", "content"})


class Lmtp:
    """A mail store that does the final delivery: Dovecot, Cyrus, another Readdress."""

    def __init__(
        self, target: Target, *, hostname: str, timeouts: ClientTimeouts, concurrency: int, keep_content: bool
    ) -> None:
        self._target = target
        self._hostname = hostname
        self._timeouts = timeouts
        self.concurrency = concurrency
        self.keep_content = keep_content

    async def deliver(self, job: Job) -> Result:
        recipient = job.delivery.next_hop
        mail = await _outgoing(job, sender=job.message.sender, recipient=recipient, seal=b"")
        if isinstance(mail, Result):
            return mail
        sent = await send(self._target, mail, timeouts=self._timeouts, hostname=self._hostname)
        return _result(sent, recipient, is_final=True)


@dataclass(frozen=True)
class NextDomain:
    """What a mail needs when it leaves our domains.

    `seal` gives the ARC fields for a whole message and the verdicts of its arrival, or nothing.
    """

    database: Database
    resolver: Resolver
    own: OwnHost
    seal: Callable[[bytes, str], bytes] | None
    large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))


class Smtp:
    """A mail server: the target's host or, where it has none, those that the MX records of the domain name.

    `recipient`, if there is one, is whom mail is for from there on; `{local_part}` and `{domain}` are the address's.
    `to_host` makes the target of a host that MX records name; no more than `domain_concurrency` go to one domain at a
    time.
    """

    def __init__(
        self,
        target: Target | None,
        *,
        to_host: Callable[..., Target] = Target,
        domain_concurrency: int = 5,
        recipient: str,
        allow_private: bool,
        next_domain: NextDomain,
        hostname: str,
        timeouts: ClientTimeouts,
        concurrency: int,
        keep_content: bool,
    ) -> None:
        self._target = target
        self._to_host = to_host
        self._domain_concurrency = domain_concurrency
        self._domains: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._recipient = recipient
        self._allow_private = allow_private
        self._next_domain = next_domain
        self._hostname = hostname
        self._timeouts = timeouts
        self.concurrency = concurrency
        self.keep_content = keep_content

    async def deliver(self, job: Job) -> Result:
        recipient = self._recipient_of(job.delivery)
        address = grammar.parse_mailbox(recipient)
        if address is None:
            return Result(Outcome.PERMANENT, "the recipient for the next host is no mailbox", "5.1.3")
        sender, seal = await self._for_next_domain(job, recipient, address.domain)
        mail = await _outgoing(job, sender=sender, recipient=recipient, seal=seal)
        if isinstance(mail, Result):
            return mail
        if self._target is not None:
            sent = await send(self._target, mail, timeouts=self._timeouts, hostname=self._hostname)
            return _result(sent, recipient, is_final=False)
        domain = address.domain.lower()
        turn = self._domains.setdefault(domain, asyncio.Semaphore(self._domain_concurrency))
        async with turn:
            return await self._send_by_mx(domain, recipient, mail)

    def _recipient_of(self, delivery: Delivery) -> str:
        local_part, _, domain = delivery.next_hop.rpartition("@")
        if not self._recipient or delivery.is_released:  # who releases a mail says whom it is for
            return delivery.next_hop
        return self._recipient.replace("{local_part}", local_part).replace("{domain}", domain)

    async def _for_next_domain(self, job: Job, recipient: str, domain: str) -> tuple[str, bytes]:
        """The envelope sender, and the fields that go on top; both as they are where the mail stays in our domains."""
        next_domain, message = self._next_domain, job.message
        is_local = await next_domain.database.read(lambda tx: routing.is_local(tx, domain))
        if is_local or job.delivery.address_id == routing.RETURN:
            return message.sender, b""
        seal = await self._seal(job, recipient)
        sender_domain = split_address(message.sender).domain
        our_domain = split_address(job.delivery.address or job.delivery.next_hop).domain
        if not message.sender:
            return "", seal
        if await next_domain.database.read(lambda tx: routing.is_local(tx, sender_domain)):
            return message.sender, seal
        return await next_domain.database.write(lambda tx: srs.rewrite(tx, message.sender, our_domain)), seal

    async def _seal(self, job: Job, recipient: str) -> bytes:
        """The fields of the seal; without one the mail goes on all the same, and the log says why."""
        seal, message = self._next_domain.seal, job.message
        if not seal or not message.verdicts:
            return b""
        async with self._next_domain.large if message.size_bytes > LARGE_BYTES else contextlib.nullcontext():
            trace = messages.onward_trace(message, job.delivery, recipient).encode()
            content = b"".join([trace, *[piece async for piece in job.content()]])
            try:
                return await asyncio.to_thread(seal, content, message.verdicts)
            except Exception:
                log.exception("message %s goes on without a seal", message.id)
                return b""

    async def _send_by_mx(self, domain: str, recipient: str, mail: OutgoingMail) -> Result:
        """One host after the other, as long as none has said anything about the mail itself (RFC 5321 §5.1)."""
        try:
            hosts = await find_hosts(
                domain,
                resolver=self._next_domain.resolver,
                own=self._next_domain.own,
                allow_private=self._allow_private,
            )
        except NoHosts as error:
            return Result(Outcome(error.outcome.name), error.text, error.enhanced)
        result = Result(Outcome.TEMPORARY, "no host was tried", "4.4.1")
        for host in hosts:
            target = self._to_host(host=host.name, addresses=host.addresses)
            sent = await send(target, mail, timeouts=self._timeouts, hostname=self._hostname)
            result = _result(sent, recipient, is_final=False)
            if result.outcome is not Outcome.TEMPORARY or sent.recipients[0].stage in _ABOUT_THE_MAIL:
                break
        return result


async def _outgoing(job: Job, *, sender: str, recipient: str, seal: bytes) -> OutgoingMail | Result:
    """The mail as the client takes it, or why it can't be sent at all."""
    message = job.message
    trace = seal + messages.onward_trace(message, job.delivery, recipient).encode()

    async def content() -> AsyncIterator[bytes]:
        yield trace
        async for piece in job.content():
            yield piece

    try:
        return OutgoingMail(
            sender=sender,
            recipients=_recipients(job.delivery, recipient),
            content=content,
            size_bytes=len(trace) + message.size_bytes,
            body=cast("Body", message.body),
            smtputf8=await _needs_smtputf8(job, sender, recipient, trace),
            ret=message.ret,
            envelope_id=message.envelope_id,
        )
    except ValueError as error:
        return Result(Outcome.PERMANENT, str(error), "5.6.7")


def _recipients(delivery: Delivery, recipient: str) -> Sequence[Recipient]:
    """One: the address, or who stands for it at the next host, with what was asked about the first that named it."""
    path = Path(recipient, grammar.parse_mailbox(recipient))
    asked = delivery.notices[0] if delivery.notices else None
    return [Recipient(path, asked.notify, asked.original) if asked else Recipient(path)]


async def _needs_smtputf8(job: Job, sender: str, recipient: str, trace: bytes) -> bool:
    """RFC 6531 §3.4: for an address or a header outside ASCII; a body is no reason.

    The addresses may be ours, so that a mail needs the extension which came without it. A header that came with raw
    bytes and did not say so goes on as it is.
    """
    if not (sender.isascii() and recipient.isascii() and trace.isascii()):
        return True
    if not job.message.smtputf8:
        return False
    async for piece in job.content():
        return not piece.partition(b"\r\n\r\n")[0].isascii()
    return False


def _result(sent: SendResult, recipient: str, *, is_final: bool) -> Result:
    (answer,) = sent.recipients
    remote = f"{sent.host} ({sent.address})" if sent.host and sent.address else sent.host or sent.address
    return Result(
        Outcome(answer.outcome.name),
        answer.reply,
        answer.enhanced,
        remote,
        sent.tls or "",
        is_remote=answer.is_remote,
        recipient=recipient,
        is_final=is_final,
        has_passed_on_notices=sent.has_dsn,
    )
