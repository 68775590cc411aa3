"""A backend with faults in front of it, for development: what was asked for happens, all else goes through."""

import asyncio

from readdress.faults import ConnectionLost, Fault, Faults
from readdress.smtp.backend import Backend, IncomingMessage, Peer
from readdress.smtp.envelope import Envelope
from readdress.smtp.grammar import Path
from readdress.smtp.reply import Reply

_TEXT = "this failure was asked for"


class FaultyBackend:
    """The same backend but for its faults at RCPT, and at the end of the content that follows DATA or BDAT."""

    def __init__(self, backend: Backend, faults: Faults) -> None:
        self._backend = backend
        self._faults = faults

    async def check_recipient(self, recipient: Path) -> Reply:
        fault = self._faults.take("RCPT")
        refusal = await _strike(fault) if fault else None
        return refusal or await self._backend.check_recipient(recipient)

    def begin_message(self, envelope: Envelope, peer: Peer) -> IncomingMessage:
        return _FaultyMessage(self._backend.begin_message(envelope, peer), envelope, self._faults)


class _FaultyMessage:
    def __init__(self, message: IncomingMessage, envelope: Envelope, faults: Faults) -> None:
        self._message = message
        self._envelope = envelope
        self._faults = faults

    async def add(self, content: bytes) -> None:
        await self._message.add(content)

    async def accept(self) -> list[Reply]:
        fault = self._faults.take("DATA")
        if fault is None:
            return await self._message.accept()
        accepted = await self._message.accept() if fault.applied else None
        refusal = await _strike(fault)
        if refusal is None:
            return accepted or await self._message.accept()
        if accepted is None:
            await self._message.abort()
        return [refusal] * len(self._envelope.recipients)

    async def abort(self) -> None:
        await self._message.abort()


async def _strike(fault: Fault) -> Reply | None:
    """What to say instead, or None after a mere delay. Raises ConnectionLost."""
    await asyncio.sleep(fault.delay_ms / 1000)
    if fault.connection_lost:
        raise ConnectionLost
    return Reply(fault.reply, f"{fault.reply // 100}.0.0", _TEXT) if fault.reply else None
