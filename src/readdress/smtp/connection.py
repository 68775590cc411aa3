"""One connection of a mail door: its socket, its session, its deadlines, and the task that carries one to the other.

What the backend can't do now is a 4xx to the sender, who will come again; an error of our own is logged and answered
the same way, never with its text. Every session leaves one line in the log.
"""

import asyncio
import logging
import select
import sys
from dataclasses import dataclass, field
from typing import cast

from readdress.faults import ConnectionLost
from readdress.metrics import counted
from readdress.smtp import reply
from readdress.smtp.backend import UNIX_PEER, Backend, IncomingMessage, Peer
from readdress.smtp.envelope import Envelope
from readdress.smtp.events import (
    Closed,
    ContentReceived,
    Event,
    MessageAbandoned,
    MessageEnded,
    MessageStarted,
    NeedData,
    RecipientGiven,
    TlsAgreed,
)
from readdress.smtp.grammar import Path
from readdress.smtp.peers import PeerRecord, Peers
from readdress.smtp.reply import Reply
from readdress.smtp.session import IN_MESSAGE, Limits, Session, State
from readdress.smtp.tally import Tally, end_of
from readdress.smtp.tarpit import Tarpit
from readdress.smtp.tls import Certificate

log = logging.getLogger("readdress.smtp")

# A connection holds about this much of a message at a time; past it, the sender waits.
READ_BYTES_MAX = 65_536
TLS_HANDSHAKE_S_MAX = 60.0


@dataclass(frozen=True)
class Timeouts:
    """How long a connection may keep us waiting (RFC 5321 §4.5.3.2), in seconds."""

    command_s: float = 300
    content_s: float = 180
    message_s: float = 3_600
    drain_s: float = 10


@dataclass
class Door:
    """What the connections of one listening socket share; `name` is what the log calls it.

    With a certificate STARTTLS is offered; with `implicit_tls` a connection begins with the handshake.
    """

    name: str
    backend: Backend
    hostname: str
    limits: Limits
    timeouts: Timeouts
    connections_max: int
    peers: Peers
    tarpit: Tarpit
    lmtp: bool = False
    certificate: Certificate | None = None
    implicit_tls: bool = False
    connections: "set[Connection]" = field(default_factory=set)
    is_draining: bool = False

    def __post_init__(self) -> None:
        self.counts = counted.doors[self.name]


class Connection(asyncio.Protocol):
    """Serves one connection from its greeting to its end."""

    def __init__(self, door: Door, *, source: str | None = None, proxy: str | None = None) -> None:
        """`proxy` made the connection and says that its other end is `source`."""
        self._door = door
        self._counts = door.counts
        offers_tls = door.certificate is not None
        self._session = Session(hostname=door.hostname, limits=door.limits, lmtp=door.lmtp, offers_tls=offers_tls)
        self._proxy = proxy
        self._peer_address = source or ""
        self._record: PeerRecord | None = None
        self._tls: str | None = None
        self._message: IncomingMessage | None = None
        self._received: list[bytes] = []
        self._received_bytes = 0
        self._event: Event | None = None  # met where bytes come in, and left to the task
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._held_back: asyncio.Future[None] | None = None
        self._refusals_seen = 0
        self._is_lost = False
        self._transport: asyncio.Transport
        self._began_s = asyncio.get_running_loop().time()
        self._tally = Tally()
        self.deadline = float("inf")
        self._line_deadline = float("inf")
        self._message_deadline: float | None = None
        self.task: asyncio.Task[None] | None = None

    # From the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._peer_address:
            peer = transport.get_extra_info("peername")
            self._peer_address = peer[0] if isinstance(peer, tuple) else UNIX_PEER
        refusal = self._admit()
        if refusal:
            self._session.close(refusal)
            self._end()
            return
        self._door.connections.add(self)
        self.task = asyncio.get_running_loop().create_task(self._converse())

    def data_received(self, data: bytes) -> None:
        if self._waiter and not self._waiter.done():
            self._answer(data, self._waiter)
            return
        self._received.append(data)
        self._received_bytes += len(data)
        if self._received_bytes > READ_BYTES_MAX:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._is_lost = True
        self._hold_back_no_more()
        self._wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._is_lost = True
        self._door.connections.discard(self)
        self.resume_writing()
        self._hold_back_no_more()
        self._wake()

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable and not self._writable.done():
            self._writable.set_result(None)

    # From the server.

    def drain(self) -> None:
        """Finish the message in hand; without one, say goodbye now."""
        self._hold_back_no_more()
        if self._session.state not in IN_MESSAGE:
            self._close(reply.SHUTTING_DOWN)

    def time_out(self) -> None:
        self.deadline = float("inf")
        self._close(reply.TIMED_OUT)
        if self._writable and not self._writable.done():
            self.abort()

    def abort(self) -> None:
        self._transport.abort()

    # The beginning and the end.

    def _admit(self) -> Reply | None:
        """Why the connection can't be served, or None once it is counted."""
        door = self._door
        if door.is_draining:
            return reply.SHUTTING_DOWN
        if len(door.connections) >= door.connections_max:
            return reply.TOO_MANY_CONNECTIONS
        record = door.peers.open_connection(self._peer_address)
        if isinstance(record, Reply):
            return record
        self._record = record
        if record is None:
            self._session.messages_max = 0
        return None

    async def _converse(self) -> None:
        try:
            await self._serve()
        except asyncio.CancelledError:
            raise
        except ConnectionLost:
            self.abort()
        except Exception:
            log.exception("session with %s failed", self._peer_address)
            self._session.close(reply.STORE_TROUBLE)
        finally:
            try:
                await self._drop_message()
            except Exception:
                log.exception("what came of a message cannot be dropped now; it is swept")
            finally:
                self._end()

    def _end(self) -> None:
        self._door.connections.discard(self)
        if self._record:
            self._record.close_connection()
        self._flush()
        self._transport.close()
        self._log_end()

    def _log_end(self) -> None:
        end = end_of(self._session.last_word)
        self._counts.sessions[end] += 1
        self._tally.write(
            peer=self._peer_address,
            proxy=self._proxy,
            door=self._door.name,
            ehlo=self._session.ehlo,
            tls=self._tls,
            duration_s=asyncio.get_running_loop().time() - self._began_s,
            end=end,
        )

    # The conversation.

    async def _serve(self) -> None:
        session = self._session
        if self._door.implicit_tls:
            self._note_tls()
        if self._received or (not self._tls and _has_data(self._transport)):
            session.close(reply.EARLY_TALKER)
            return
        session.greet()
        while True:
            event, self._event = self._event or session.next_event(), None
            match event:
                case NeedData():
                    if self._door.is_draining and session.state not in IN_MESSAGE:
                        session.close(reply.SHUTTING_DOWN)
                        continue
                    if session.refusals != self._refusals_seen and not await self._hold_back():
                        continue
                    self._flush()
                    if not await self._receive():
                        return
                case RecipientGiven(recipient):
                    session.answer_recipient(await self._check_recipient(recipient))
                case MessageStarted(envelope):
                    self._begin_message(envelope)
                case ContentReceived(content):
                    assert self._message is not None
                    await self._message.add(content)
                case MessageEnded(refusal):
                    await self._end_message(refusal)
                case MessageAbandoned():
                    await self._drop_message()
                case TlsAgreed():
                    self._flush()
                    if not await self._start_tls():
                        return
                case Closed():
                    await self._hold_back()
                    return

    async def _start_tls(self) -> bool:
        """Shake hands; False when that failed. What came in clear meanwhile would be taken for what TLS protects."""
        certificate = self._door.certificate
        assert certificate is not None
        if self._received:
            log.warning("%s sent something in clear behind STARTTLS", self._peer_address)
            return False
        timeout_s = self._door.timeouts.command_s
        self.deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                certificate.context(),
                server_side=True,
                ssl_handshake_timeout=min(timeout_s, TLS_HANDSHAKE_S_MAX),
            )
        except (OSError, EOFError) as error:  # ssl.SSLError is an OSError
            log.info("no TLS with %s: %s", self._peer_address, error)
            return False
        if transport is None:
            return False
        self._transport = transport
        self._note_tls()
        return True

    def _note_tls(self) -> None:
        self._tls = self._transport.get_extra_info("ssl_object").version()
        self._session.tls_started()

    async def _check_recipient(self, recipient: Path) -> Reply:
        record = self._record
        answer = record.refuse_recipient() if record else None
        if answer is None:
            answer = await self._door.backend.check_recipient(recipient)
            if record and answer.code >= 500:
                record.count_bad_recipient()
        if answer.is_positive:
            self._tally.recipients_accepted += 1
        else:
            self._tally.recipients_refused += 1
        self._counts.recipients[answer.code] += 1
        return answer

    def _begin_message(self, envelope: Envelope) -> None:
        session = self._session
        self._message_deadline = asyncio.get_running_loop().time() + self._door.timeouts.message_s
        peer = Peer(self._peer_address, session.ehlo, session.protocol, self._tls)
        self._message = self._door.backend.begin_message(envelope, peer)

    async def _end_message(self, refusal: Reply | None) -> None:
        message = self._message
        assert message is not None
        if refusal:
            self._count_message(refusal)
            await self._drop_message()
            return
        answers = await message.accept()
        self._message = None
        self._count_message(next((answer for answer in answers if answer.is_positive), answers[0]))
        self._session.answer_message(answers)

    def _count_message(self, answer: Reply) -> None:
        """LMTP's replies count as one, by whether any recipient got the message."""
        self._counts.messages[answer.code] += 1
        if not answer.is_positive:
            self._tally.messages_refused += 1
            return
        self._tally.messages_accepted += 1
        if self._record:
            self._record.count_message()

    async def _drop_message(self) -> None:
        message, self._message = self._message, None
        if message:
            await message.abort()

    async def _hold_back(self) -> bool:
        """Let a peer that is refused again and again wait for it; False when it is sent away instead."""
        session, tarpit = self._session, self._door.tarpit
        refusals = session.refusals - self._refusals_seen
        self._refusals_seen = session.refusals
        delay_s = tarpit.delay_s(errors=session.errors, refusals=refusals) if self._record else 0
        if not delay_s or self._door.is_draining or self._is_lost:
            return True
        if tarpit.is_full:
            session.close(reply.TOO_MANY_ERRORS)
            return False
        loop = asyncio.get_running_loop()
        self._held_back = loop.create_future()
        timer = loop.call_later(delay_s, self._hold_back_no_more)
        tarpit.waiting += 1
        try:
            await self._held_back
        finally:
            tarpit.waiting -= 1
            timer.cancel()
        return True

    def _hold_back_no_more(self) -> None:
        if self._held_back and not self._held_back.done():
            self._held_back.set_result(None)

    async def _receive(self) -> bool:
        """Wait for bytes and hand them to the session, or for an event; False at the end of the connection."""
        loop = asyncio.get_running_loop()
        self.deadline = self._next_deadline(loop.time())
        if self._writable and not self._writable.done():
            await self._writable  # a peer that sends without reading our replies
        while not self._received:
            if self._is_lost:
                return False
            if self._session.state is State.CLOSED:
                return True
            self._waiter = loop.create_future()
            await self._waiter
            if self._event:
                return True
        data = self._received[0] if len(self._received) == 1 else b"".join(self._received)
        self._received.clear()
        if self._received_bytes > READ_BYTES_MAX:
            self._transport.resume_reading()
        self._received_bytes = 0
        self._hand_over(data)
        return True

    def _hand_over(self, data: bytes) -> None:
        self._tally.received_bytes += len(data)
        self._counts.received_bytes += len(data)
        self.deadline = float("inf")  # what takes time from here on is ours
        self._session.receive(data)

    def _answer(self, data: bytes, waiter: asyncio.Future[None]) -> None:
        """Answer where the bytes come in, as far as nothing has to be waited for; the task waits on and has the rest.

        Most commands ask nothing of anybody, and a turn of the event loop costs more than the answer.
        """
        try:
            self._hand_over(data)
            event = self._session.next_event()
            while isinstance(event, MessageStarted):
                self._begin_message(event.envelope)
                event = self._session.next_event()
        except Exception as error:  # noqa: BLE001 - the task fails of it
            waiter.set_exception(error)
            return
        if isinstance(event, NeedData) and self._may_go_on:
            self._flush()
            self.deadline = self._next_deadline(asyncio.get_running_loop().time())
            return
        self._event = event
        waiter.set_result(None)

    @property
    def _may_go_on(self) -> bool:
        """Whether the next bytes may be waited for at once."""
        is_blocked = self._writable is not None and not self._writable.done()
        return not is_blocked and not self._door.is_draining and self._session.refusals == self._refusals_seen

    def _next_deadline(self, now: float) -> float:
        """Bytes that come one by one buy no time: a command line has one deadline, and so has a whole message.

        So have the octets of a chunk that belongs to no message, which are swallowed.
        """
        timeouts, session = self._door.timeouts, self._session
        if session.state not in IN_MESSAGE:
            self._message_deadline = None
        elif self._message_deadline is None:
            self._message_deadline = now + timeouts.message_s
        message_deadline = float("inf") if self._message_deadline is None else self._message_deadline
        if session.state is State.CONTENT or session.state is State.CHUNK:
            return min(now + timeouts.content_s, message_deadline)
        if not session.has_partial_line:
            self._line_deadline = now + timeouts.command_s
        return min(self._line_deadline, message_deadline)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _close(self, last: Reply) -> None:
        self._session.close(last)
        self._wake()

    def _flush(self) -> None:
        replies = self._session.outgoing()
        if replies and not self._transport.is_closing():
            self._transport.write(replies)


def _has_data(transport: asyncio.Transport) -> bool:
    """Whether the peer spoke before our greeting."""
    if sys.platform == "win32":
        return False
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0))
