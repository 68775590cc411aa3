"""A client's socket: replies in, bytes out, TLS between; every wait has its limit, and little is held in memory.

A Failure that comes from here has closed the connection already: lost, too slow, or no SMTP any more.
"""

import asyncio
import ipaddress
import os
import socket
import ssl
from typing import cast

from readdress.smtp.dialogue import BadReply, RemoteReply, ReplyReader
from readdress.smtp.outgoing import ADDRESSES_MAX, Failure, Target, TlsFailure

# Replies that nobody has asked for yet; past it, the host waits.
READ_BYTES_MAX = 65_536


class Channel(asyncio.Protocol):
    """One connection; used by one task at a time."""

    def __init__(self) -> None:
        self._replies = ReplyReader()
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._has_interrupted = False
        self._has_gone = asyncio.get_running_loop().create_future()
        self.is_lost = False
        self.address = ""
        self.is_local = False
        self.tls: str | None = None

    # From the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._use(cast("asyncio.Transport", transport))
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            host = str(peer[0])
            self.address = f"[{host}]:{peer[1]}" if ":" in host else f"{host}:{peer[1]}"
            self.is_local = ipaddress.ip_address(host.partition("%")[0]).is_loopback
        elif peer:
            self.address, self.is_local = os.fsdecode(peer), True

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        self._has_interrupted = self._has_interrupted or self._is_writing_paused
        if self._replies.input_bytes > READ_BYTES_MAX:
            self._is_reading_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.is_lost = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.is_lost = True
        if not self._has_gone.done():
            self._has_gone.set_result(None)
        self._wake()

    def pause_writing(self) -> None:
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._wake()

    # From the conversation.

    async def read_reply(self, timeout_s: float) -> RemoteReply:
        """Raises Failure. A reply that drips has no more time than one that comes at once."""
        try:
            async with asyncio.timeout(timeout_s):
                while (reply := self._replies.next_reply()) is None:
                    if self.is_lost:
                        raise self.fail("4.4.2", "the connection was lost before the next host replied")
                    self._resume_reading()
                    await self._wait()
        except TimeoutError:
            raise self.fail("4.4.2", f"no reply from the next host within {timeout_s:g} s") from None
        except BadReply as bad:
            raise self.fail("4.5.0", f"the next host does not speak SMTP: {bad}") from None
        return reply

    @property
    def has_input(self) -> bool:
        return self._replies.has_input

    def write(self, data: bytes) -> None:
        """A few commands, sent while their replies come in."""
        if not self.is_lost:
            self._transport.write(data)

    async def write_content(self, data: bytes, timeout_s: float) -> bool:
        """Hand the data over to the system; False if the host spoke or went before all of it was taken."""
        if self.has_input or self.is_lost:
            return False
        self._has_interrupted = False
        self.write(data)
        try:
            async with asyncio.timeout(timeout_s):
                while self._is_writing_paused and not self.is_lost and not self._has_interrupted:
                    await self._wait()
        except TimeoutError:
            raise self.fail("4.4.2", f"the next host took no content for {timeout_s:g} s") from None
        return not self._is_writing_paused and not self._has_interrupted

    async def start_tls(self, context: ssl.SSLContext, *, host: str, timeout_s: float) -> None:
        """Shake hands. What came in clear behind the reply to STARTTLS would be taken for what TLS protects."""
        if self.has_input:
            raise self.fail("4.7.5", "the next host sent something in clear after agreeing to TLS")
        if self.is_lost:
            raise self._fail_tls("the connection was lost")
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport, self, context, server_hostname=host or None, ssl_handshake_timeout=timeout_s
            )
        except ssl.SSLCertVerificationError as error:
            raise self._fail_tls(f"its certificate is not trusted ({error.verify_message})") from None
        except (OSError, EOFError):  # ssl.SSLError is an OSError
            raise self._fail_tls("the handshake failed") from None
        if transport is None:
            raise self._fail_tls("the connection was lost")
        self._use(transport)
        self.tls = transport.get_extra_info("ssl_object").version()

    async def close(self, timeout_s: float) -> None:
        """Send what is left to send, and wait a little for the end."""
        if not self.is_lost:
            self._transport.close()
            await asyncio.wait([self._has_gone], timeout=timeout_s)
        self.abort()

    def abort(self) -> None:
        self.is_lost = True
        self._transport.abort()

    def fail(self, enhanced: str, reply: str) -> Failure:
        """Close at once, and say why."""
        self.abort()
        return Failure(enhanced, reply)

    def _fail_tls(self, reason: str) -> TlsFailure:
        self.abort()
        return TlsFailure("4.7.5", f"no TLS with the next host: {reason}")

    def _use(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        # Writing is paused until the system has taken everything: then it is known whether a reply came too early.
        transport.set_write_buffer_limits(high=1, low=0)

    def _resume_reading(self) -> None:
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


async def connect(target: Target, *, connect_s: float) -> Channel:
    """To the first address that takes the connection. Raises Failure."""
    loop = asyncio.get_running_loop()
    last = Failure("4.4.3", f"the name {target.host} has no address now")
    for place in await _places(target, connect_s):
        try:
            async with asyncio.timeout(connect_s):
                if target.unix_path:
                    _, channel = await loop.create_unix_connection(Channel, place)
                else:
                    _, channel = await loop.create_connection(Channel, place, target.port)
                return channel
        except OSError as error:  # TimeoutError is one
            last = Failure("4.4.1", f"cannot connect to {place}: {_reason(error, connect_s)}")
    raise last


async def _places(target: Target, timeout_s: float) -> list[str]:
    """Raises Failure."""
    if target.unix_path:
        return [target.unix_path]
    return list(target.addresses) or await _resolve(target, timeout_s)


async def _resolve(target: Target, timeout_s: float) -> list[str]:
    """Raises Failure."""
    try:
        async with asyncio.timeout(timeout_s):
            found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError:  # socket.gaierror and TimeoutError are
        raise Failure("4.4.3", f"the name {target.host} cannot be resolved now") from None
    return list(dict.fromkeys(str(info[4][0]) for info in found))[:ADDRESSES_MAX]


def _reason(error: OSError, timeout_s: float) -> str:
    """In the words of the system for the error's number: an exception's text may say anything."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"no answer within {timeout_s:g} s"
    return os.strerror(error.errno).lower() if error.errno else "no connection"
