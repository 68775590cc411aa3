"""SMTP and LMTP on sockets: connections, time-outs and limits around the sans-IO session; storage is behind `Backend`.

A connection is one task. What the backend can't do now is a 4xx to the sender, who will come again; an error of our
own is logged and answered the same way, never with its text.
"""

import asyncio
import logging
import os
import select
import sys
from dataclasses import dataclass
from typing import Protocol, cast

from readdress.smtp import reply
from readdress.smtp.events import (
    Closed,
    ContentReceived,
    MessageAbandoned,
    MessageEnded,
    MessageStarted,
    NeedData,
    RecipientGiven,
    TlsAgreed,
)
from readdress.smtp.grammar import Path
from readdress.smtp.reply import Reply
from readdress.smtp.session import IN_MESSAGE, Envelope, Limits, Session, State
from readdress.smtp.session import Protocol as SmtpProtocol
from readdress.smtp.tls import Certificate

log = logging.getLogger("readdress.smtp")

# A connection holds about this much of a message at a time; past it, the sender waits.
READ_BYTES_MAX = 262_144
SWEEP_INTERVAL_S = 1.0
# What stands for an address when the connection came over a socket in the file system.
UNIX_PEER = "unix"


@dataclass(frozen=True)
class Peer:
    """The other end of a connection, as a Received field wants it."""

    address: str
    ehlo: str
    protocol: SmtpProtocol
    tls: str | None = None


class IncomingMessage(Protocol):
    """A message on its way in; ends with `accept` or `abort`."""

    async def add(self, content: bytes) -> None:
        """Take the next piece. Keeps failures for `accept`."""

    async def accept(self) -> list[Reply]:
        """Make the message durable, or refuse it: one reply per recipient."""

    async def abort(self) -> None:
        """Forget what was taken."""


class Backend(Protocol):
    """What a server asks of the program behind it."""

    async def check_recipient(self, recipient: Path) -> Reply:
        """Whether mail for the recipient would be accepted at this instant."""

    def begin_message(self, envelope: Envelope, peer: Peer) -> IncomingMessage:
        """Content follows."""


@dataclass(frozen=True)
class Timeouts:
    """How long a connection may keep us waiting (RFC 5321 §4.5.3.2), in seconds."""

    command_s: float = 300
    content_s: float = 180
    message_s: float = 3_600
    drain_s: float = 10


class SmtpServer:
    """Every connection of one listening socket."""

    def __init__(
        self,
        backend: Backend,
        *,
        hostname: str,
        limits: Limits,
        timeouts: Timeouts,
        connections_max: int,
        lmtp: bool = False,
        certificate: Certificate | None = None,
        implicit_tls: bool = False,
    ) -> None:
        """With a certificate STARTTLS is offered; with `implicit_tls` a connection begins with the handshake."""
        self.backend = backend
        self.hostname = hostname
        self.limits = limits
        self.timeouts = timeouts
        self.connections_max = connections_max
        self.lmtp = lmtp
        self.certificate = certificate
        self.implicit_tls = implicit_tls
        self.connections: set[Connection] = set()
        self.is_draining = False
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start_unix(self, path: str) -> None:
        """Listen on a socket in the file system; who may reach it is decided by the folder it is in."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_unix_server(lambda: Connection(self), path, backlog=1024)
        os.chmod(path, 0o666)  # noqa: PTH101, S103 - the folder decides who comes so far
        self._sweep()

    async def start(self, host: str, port: int) -> int:
        """Listen; gives the port."""
        loop = asyncio.get_running_loop()
        tls = self.certificate.listening_context() if self.certificate and self.implicit_tls else None
        self._listener = await loop.create_server(lambda: Connection(self), host, port, backlog=1024, ssl=tls)
        self._sweep()
        port_taken: int = self._listener.sockets[0].getsockname()[1]
        return port_taken

    async def stop(self) -> None:
        """No new connections; what is idle hears 421, a message in hand is finished, `drain_s` at most."""
        self.is_draining = True
        if self._listener:
            self._listener.close()
        for connection in list(self.connections):
            connection.drain()
        tasks = [connection.task for connection in self.connections if connection.task]
        if tasks:
            await asyncio.wait(tasks, timeout=self.timeouts.drain_s)
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper:
            self._sweeper.cancel()

    def _sweep(self) -> None:
        """One timer looks at all connections: cheaper than a timer for every command."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.connections):
            if now > connection.deadline:
                connection.time_out()
        self._sweeper = loop.call_later(SWEEP_INTERVAL_S, self._sweep)


class Connection(asyncio.Protocol):
    """One connection: its socket, its session, and the task that carries one to the other."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server
        offers_tls = server.certificate is not None
        self._session = Session(hostname=server.hostname, limits=server.limits, lmtp=server.lmtp, offers_tls=offers_tls)
        self._tls: str | None = None
        self._message: IncomingMessage | None = None
        self._received: list[bytes] = []
        self._received_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._is_lost = False
        self._peer_address = ""
        self._transport: asyncio.Transport
        self.deadline = float("inf")
        self._line_deadline = float("inf")
        self._message_deadline: float | None = None
        self.task: asyncio.Task[None] | None = None

    # From the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._peer_address = peer[0] if isinstance(peer, tuple) else UNIX_PEER
        server = self._server
        if server.is_draining or len(server.connections) >= server.connections_max:
            refusal = reply.SHUTTING_DOWN if server.is_draining else reply.TOO_MANY_CONNECTIONS
            self._transport.write(refusal.encode())
            self._transport.close()
            return
        server.connections.add(self)
        self.task = asyncio.get_running_loop().create_task(self._converse())

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        self._received_bytes += len(data)
        if self._received_bytes > READ_BYTES_MAX:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._is_lost = True
        self._wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._is_lost = True
        self._server.connections.discard(self)
        self.resume_writing()
        self._wake()

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable and not self._writable.done():
            self._writable.set_result(None)

    # From the server.

    def drain(self) -> None:
        """Finish the message in hand; without one, say goodbye now."""
        if self._session.state not in IN_MESSAGE:
            self._close(reply.SHUTTING_DOWN)

    def time_out(self) -> None:
        self.deadline = float("inf")
        self._close(reply.TIMED_OUT)
        if self._writable and not self._writable.done():
            self.abort()

    def abort(self) -> None:
        self._transport.abort()

    # The conversation.

    async def _converse(self) -> None:
        try:
            await self._serve()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("session with %s failed", self._peer_address)
            self._session.close(reply.STORE_TROUBLE)
        finally:
            await self._drop_message()
            self._server.connections.discard(self)
            self._flush()
            self._transport.close()

    async def _serve(self) -> None:
        session, server = self._session, self._server
        if server.implicit_tls:
            self._note_tls()
        if self._received or (not self._tls and _has_data(self._transport)):
            session.close(reply.EARLY_TALKER)
            return
        session.greet()
        while True:
            event = session.next_event()
            match event:
                case NeedData():
                    if server.is_draining and session.state not in IN_MESSAGE:
                        session.close(reply.SHUTTING_DOWN)
                        continue
                    self._flush()
                    if not await self._receive():
                        return
                case RecipientGiven(recipient):
                    session.answer_recipient(await server.backend.check_recipient(recipient))
                case MessageStarted(envelope):
                    self._message_deadline = asyncio.get_running_loop().time() + server.timeouts.message_s
                    peer = Peer(self._peer_address, session.ehlo, session.protocol, self._tls)
                    self._message = server.backend.begin_message(envelope, peer)
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
                    return

    async def _start_tls(self) -> bool:
        """Shake hands; False when that failed. What came in clear meanwhile would be taken for what TLS protects."""
        certificate = self._server.certificate
        assert certificate is not None
        if self._received:
            log.warning("%s sent something in clear behind STARTTLS", self._peer_address)
            return False
        self.deadline = asyncio.get_running_loop().time() + self._server.timeouts.command_s
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport, self, certificate.context(), server_side=True
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

    async def _end_message(self, refusal: Reply | None) -> None:
        message = self._message
        assert message is not None
        if refusal:
            await self._drop_message()
            return
        answers = await message.accept()
        self._message = None
        self._session.answer_message(answers)

    async def _drop_message(self) -> None:
        message, self._message = self._message, None
        if message:
            await message.abort()

    async def _receive(self) -> bool:
        """Wait for bytes and hand them to the session; False at the end of the connection."""
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
        data = self._received[0] if len(self._received) == 1 else b"".join(self._received)
        self._received.clear()
        if self._received_bytes > READ_BYTES_MAX:
            self._transport.resume_reading()
        self._received_bytes = 0
        self.deadline = float("inf")  # what takes time from here on is ours
        self._session.receive(data)
        return True

    def _next_deadline(self, now: float) -> float:
        """Bytes that come one by one buy no time: a command line has one deadline, and so has a whole message.

        So have the octets of a chunk that belongs to no message, which are swallowed.
        """
        timeouts, session = self._server.timeouts, self._session
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
