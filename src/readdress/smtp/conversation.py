"""A connection as a host that sends mail sees it: greeted, introduced, under TLS and known by name as the target asks.

Up to there nothing is said of any mail, so whatever goes wrong is temporary, a greeting of 554 too (RFC 5321 §3.1):
another host of the domain may think differently, and what ails a fixed relay or its password an operator mends.
"""

import base64
import ssl
from functools import lru_cache
from pathlib import Path

from readdress.smtp.channel import Channel, connect
from readdress.smtp.dialogue import Features, RemoteReply, parse_features
from readdress.smtp.outgoing import ClientTimeouts, Failure, Stage, Target, TlsFailure


class Conversation:
    """One connection to a target; after `open`, mail transactions may follow each other."""

    def __init__(self, target: Target, *, timeouts: ClientTimeouts, hostname: str) -> None:
        self.target = target
        self.timeouts = timeouts
        self.stage: Stage = "connect"
        self.features = Features()
        self.channel: Channel | None = None
        self._hostname = hostname

    async def open(self) -> None:
        """Raises Failure."""
        try:
            await self._open(encrypt=self.target.tls != "none")
        except TlsFailure:
            if self.target.tls != "may":
                raise
            await self._open(encrypt=False)

    async def quit(self) -> None:
        """Say goodbye where that makes sense, and be gone whatever the host says to it."""
        channel = self.channel
        if channel is None:
            return
        try:
            if not channel.is_lost and not channel.has_input:
                channel.write(b"QUIT\r\n")
                await channel.read_reply(self.timeouts.quit_s)
        except Failure:
            return
        await channel.close(self.timeouts.quit_s)

    def abort(self) -> None:
        if self.channel:
            self.channel.abort()

    # What the stages say and hear.

    async def ask(self, line: bytes, timeout_s: float | None = None) -> RemoteReply:
        """A command and its reply. Raises Failure."""
        await self.say(line)
        return await self.hear(timeout_s)

    async def say(self, lines: bytes) -> None:
        """Commands, once all that came before are answered. Raises Failure."""
        await self.check_silent()
        self._channel.write(lines)

    async def hear(self, timeout_s: float | None = None) -> RemoteReply:
        """The next reply; 421 is the end wherever it comes (RFC 5321 §3.8). Raises Failure."""
        reply = await self._channel.read_reply(timeout_s or self.timeouts.command_s)
        if reply.code == 421:
            self.abort()
            raise _refused(reply)
        return reply

    async def check_silent(self) -> None:
        """Raises Failure when the host has said something that nobody asked for: 421, or what makes no sense."""
        if self._channel.has_input:
            await self.hear()
            raise self.fail("4.5.0", "the next host gave a reply too many")

    def fail(self, enhanced: str, reply: str) -> Failure:
        return self._channel.fail(enhanced, reply)

    def wrong(self, reply: RemoteReply) -> Failure:
        """For a reply of a class that has no meaning at its place."""
        return self.fail("4.5.0", f"the next host gave a reply that makes no sense here: {reply}"[:500])

    async def send_content(self, data: bytes) -> RemoteReply | None:
        """Some of a message; a reply if the host did not want to wait for its end. Raises Failure."""
        if await self._channel.write_content(data, self.timeouts.block_s):
            return None
        return await self.hear()

    @property
    def _channel(self) -> Channel:
        assert self.channel is not None
        return self.channel

    # Up to where mail may follow.

    async def _open(self, *, encrypt: bool) -> None:
        target = self.target
        self.features = Features()
        self.stage = "connect"
        self.channel = None
        self.channel = await connect(target, connect_s=self.timeouts.connect_s)
        if target.tls == "implicit":
            await self._start_tls()
        self.stage = "greeting"
        self._expect(await self.hear(self.timeouts.greeting_s))
        await self._introduce()
        if encrypt and target.tls in {"may", "require"}:
            await self._negotiate_tls()
        if target.username:
            self.stage = "auth"
            await authenticate(self)

    async def _introduce(self) -> None:
        self.stage = "ehlo"
        verb = "LHLO" if self.target.lmtp else "EHLO"
        reply = await self.ask(f"{verb} {self._hostname}\r\n".encode())
        if reply.code >= 500 and verb == "EHLO":
            # RFC 5321 §3.2: some hosts know HELO alone.
            self._expect(await self.ask(f"HELO {self._hostname}\r\n".encode()))
            self.features = Features()
            return
        self._expect(reply)
        self.features = parse_features(reply)

    async def _negotiate_tls(self) -> None:
        self.stage = "tls"
        is_required = self.target.tls == "require"
        if not self.features.offers("STARTTLS"):
            if is_required:
                raise Failure("4.7.4", "the next host does not offer STARTTLS, which is required")
            return
        reply = await self.ask(b"STARTTLS\r\n")
        if reply.is_refusal and not is_required:
            return
        self._expect(reply)
        await self._start_tls()
        # RFC 3207 §4.2: what was offered in clear counts no more.
        self.features = Features()
        await self._introduce()

    async def _start_tls(self) -> None:
        self.stage = "tls"
        target = self.target
        try:
            context = client_context(target)
        except OSError:  # ssl.SSLError is one
            raise Failure("4.7.5", "the certificate authorities cannot be read") from None
        await self._channel.start_tls(context, host=target.host, timeout_s=self.timeouts.command_s)

    def _expect(self, reply: RemoteReply) -> None:
        """Raises Failure."""
        if reply.is_refusal:
            raise _refused(reply)
        if not reply.is_positive:
            raise self.wrong(reply)


def _refused(reply: RemoteReply) -> Failure:
    return Failure(reply.temporary_status, str(reply), is_remote=True)


async def authenticate(conversation: Conversation) -> None:
    """PLAIN (RFC 4616), or else LOGIN, which old hosts know alone. Raises Failure.

    The password goes only where nobody else can read it: through TLS that is required, or to this machine. Who can
    take STARTTLS out of an offer, or put a certificate of his own in, would otherwise be given it.
    """
    target, channel = conversation.target, conversation.channel
    assert channel is not None
    if not (channel.is_local or (channel.tls and target.tls in {"require", "implicit"})):
        raise Failure("4.7.0", "credentials are not sent without TLS that is required")
    mechanisms = conversation.features.auth_mechanisms
    username, password = target.username.encode(), target.password.encode()
    if "PLAIN" in mechanisms:
        reply = await conversation.ask(
            b"AUTH PLAIN " + base64.b64encode(b"\0".join((b"", username, password))) + b"\r\n"
        )
    elif "LOGIN" in mechanisms:
        reply = await conversation.ask(b"AUTH LOGIN\r\n")
        for answer in (username, password):
            if reply.code == 334:
                reply = await conversation.ask(base64.b64encode(answer) + b"\r\n")
    else:
        raise Failure("4.7.0", "the next host offers neither AUTH PLAIN nor LOGIN")
    if reply.is_refusal:
        raise _refused(reply)
    if reply.code != 235:
        raise conversation.wrong(reply)


def client_context(target: Target) -> ssl.SSLContext:
    """TLS 1.2 at least; made once for all targets alike, and again when the file changes. Raises OSError."""
    verify = target.verify and target.tls != "may"
    stamp = Path(target.ca_file).stat().st_mtime_ns if verify and target.ca_file else 0
    return _context(verify=verify, ca_file=target.ca_file if verify else "", stamp=stamp)


@lru_cache(maxsize=16)
def _context(*, verify: bool, ca_file: str, stamp: int) -> ssl.SSLContext:  # noqa: ARG001 - the stamp is for the cache
    if verify:
        context = ssl.create_default_context(cafile=ca_file or None)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
