"""Mail transactions over an open conversation: what MAIL, RCPT and the content get for replies, recipient by recipient.

A recipient's result stands once it is noted. A Failure leaves the others without one, and its reason is theirs.
"""

import logging
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import Final

from readdress.smtp.content_writer import ContentWriter, LineGuard, StrayByte
from readdress.smtp.conversation import Conversation
from readdress.smtp.dialogue import RemoteReply, check_sendable, mail_command, rcpt_command
from readdress.smtp.outgoing import Failure, Outcome, OutgoingMail, RecipientResult

log = logging.getLogger("readdress.smtp")

CHUNK_BYTES_MAX = 262_144
_DATA: Final = b"DATA\r\n"


class Transfer:
    """One mail over one conversation: in one mail transaction, or in several where the host limits recipients."""

    def __init__(self, conversation: Conversation, mail: OutgoingMail) -> None:
        self._conversation = conversation
        self._mail = mail
        self.results: list[RecipientResult | None] = [None] * len(mail.recipients)

    async def run(self) -> None:
        """Note a result for every recipient. Raises Failure for those that have none."""
        conversation, features = self._conversation, self._conversation.features
        conversation.stage = "mail"
        check_sendable(self._mail, features)
        for number, group in enumerate(self._groups(features.recipients_max)):
            if self.results[group.start] is not None:
                return  # the sender was refused
            if number:
                conversation.stage = "mail"
                if features.transactions_max and number >= features.transactions_max:
                    raise Failure("4.5.3", "the next host takes no more recipients over one connection")
                await self._reset()
            await self._transact(group)

    async def _reset(self) -> None:
        """Harmless after a finished transaction, needed after any other (RFC 5321 §4.1.1.5)."""
        reply = await self._conversation.ask(b"RSET\r\n")
        if not reply.is_positive:
            raise self._conversation.wrong(reply)

    def _groups(self, recipients_max: int) -> Iterator[range]:
        count = len(self._mail.recipients)
        for start in range(0, count, recipients_max):
            yield range(start, min(start + recipients_max, count))

    async def _transact(self, group: range) -> None:
        conversation, features = self._conversation, self._conversation.features
        is_pipelined, has_chunks = features.offers("PIPELINING"), features.offers("CHUNKING")
        recipients = (self._mail.recipients[index] for index in group)
        commands = [
            mail_command(self._mail, features),
            *(rcpt_command(recipient, features, smtputf8=self._mail.smtputf8) for recipient in recipients),
        ]
        if is_pipelined:
            last = [] if has_chunks else [_DATA]
            await conversation.say(b"".join(commands + last))
            accepted = await self._hear_envelope(group)
        else:
            accepted = await self._say_envelope(group, commands)
        if has_chunks:
            is_ready = bool(accepted)
        elif is_pipelined:
            is_ready = await self._hear_data(accepted)
        else:
            is_ready = bool(accepted) and await self._say_data(accepted)
        if is_ready:
            await self._send_message(accepted)

    # The envelope.

    async def _say_envelope(self, group: range, commands: list[bytes]) -> list[int]:
        """One command after the other; gives who was accepted."""
        conversation = self._conversation
        conversation.stage = "mail"
        if not self._note_sender(group, await conversation.ask(commands[0])):
            return []
        conversation.stage = "rcpt"
        accepted: list[int] = []
        for index, command in zip(group, commands[1:], strict=True):
            self._note_recipient(index, await conversation.ask(command), accepted)
        return accepted

    async def _hear_envelope(self, group: range) -> list[int]:
        """The replies to commands sent at once (RFC 2920 §3.1); gives who was accepted."""
        conversation = self._conversation
        conversation.stage = "mail"
        has_sender = self._note_sender(group, await conversation.hear())
        conversation.stage = "rcpt"
        accepted: list[int] = []
        for index in group:
            reply = await conversation.hear()
            if has_sender:
                self._note_recipient(index, reply, accepted)
            elif not reply.is_refusal:
                raise conversation.wrong(reply)  # a recipient of a mail whose sender was refused
        return accepted

    def _note_sender(self, group: range, reply: RemoteReply) -> bool:
        if reply.is_positive:
            return True
        if not reply.is_refusal:
            raise self._conversation.wrong(reply)
        self._note(range(group.start, len(self.results)), reply)  # it would be refused again
        return False

    def _note_recipient(self, index: int, reply: RemoteReply, accepted: list[int]) -> None:
        if reply.is_positive:
            accepted.append(index)
        elif reply.code == 552 and accepted and reply.enhanced in {"", "5.5.3"}:
            # RFC 5321 §4.5.3.1.10: some hosts still say so of too many recipients, as RFC 821 had it.
            self._note([index], reply._replace(code=452, enhanced="4.5.3"), said=str(reply))
        elif reply.is_refusal:
            self._note([index], reply)
        else:
            raise self._conversation.wrong(reply)

    # The content.

    async def _say_data(self, accepted: list[int]) -> bool:
        self._conversation.stage = "data"
        return self._note_data(accepted, await self._conversation.ask(_DATA, self._conversation.timeouts.data_init_s))

    async def _hear_data(self, accepted: list[int]) -> bool:
        """The reply to a DATA sent before the replies to RCPT were known."""
        conversation = self._conversation
        conversation.stage = "data"
        reply = await conversation.hear(conversation.timeouts.data_init_s)
        if accepted:
            return self._note_data(accepted, reply)
        if reply.code == 354:
            await self._end_nothing()
        elif not reply.is_refusal:
            raise conversation.wrong(reply)
        return False

    def _note_data(self, accepted: list[int], reply: RemoteReply) -> bool:
        if reply.code == 354:
            return True
        if reply.is_positive:
            raise self._conversation.wrong(reply)
        self._note(accepted, reply)
        return False

    async def _end_nothing(self) -> None:
        """The host wants content for nobody: a lone dot ends that, and is refused (RFC 2920 §3.1)."""
        conversation = self._conversation
        if conversation.target.lmtp:  # there is a reply for each recipient accepted, hence none
            raise conversation.fail("4.5.0", "the next host wanted content for no recipient")
        await conversation.ask(b".\r\n", conversation.timeouts.final_s)

    async def _send_message(self, accepted: list[int]) -> None:
        """Whatever goes wrong in it closes the connection, or the next command would be content."""
        conversation = self._conversation
        conversation.stage = "content"
        try:
            if conversation.features.offers("CHUNKING"):
                is_sent = await self._send_chunks(accepted)
            else:
                is_sent = await self._send_content(accepted)
            if is_sent:
                await self._hear_final(accepted)
        except StrayByte:
            conversation.abort()
            text = "the message has a CR, LF or NUL outside a line end CRLF"
            raise Failure("5.6.0", text, outcome=Outcome.PERMANENT) from None
        except Failure:
            conversation.abort()
            raise

    async def _send_content(self, accepted: list[int]) -> bool:
        """By DATA; the last piece waits until the end is known to be sound. Raises StrayByte and Failure."""
        writer, waiting = ContentWriter(), b""
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                if waiting:
                    await self._send(waiting, accepted)
                waiting = writer.feed(piece)
        await self._send(waiting + writer.end(), accepted)
        return True

    async def _send_chunks(self, accepted: list[int]) -> bool:
        """By BDAT (RFC 3030 §2); False if a chunk before the last was refused. Raises StrayByte and Failure."""
        guard = None if self._mail.body == "BINARYMIME" else LineGuard()
        waiting = b""
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                if waiting and len(waiting) + len(piece) > CHUNK_BYTES_MAX:
                    await self._send(b"BDAT %d\r\n%b" % (len(waiting), waiting), accepted)
                    waiting = b""
                    if not self._note_chunk(accepted, await self._conversation.hear()):
                        return False
                waiting += guard.check(piece) if guard else piece
        if guard:
            guard.check_end()
        await self._send(b"BDAT %d LAST\r\n%b" % (len(waiting), waiting), accepted)
        return True

    def _note_chunk(self, accepted: list[int], reply: RemoteReply) -> bool:
        if reply.is_positive:
            return True
        if not reply.is_refusal:
            raise self._conversation.wrong(reply)
        self._note(accepted, reply)
        return False

    async def _send(self, data: bytes, accepted: list[int]) -> None:
        """Some of the message. A refusal that does not wait for the end is one, an acceptance is none."""
        reply = await self._conversation.send_content(data)
        if reply is None:
            return
        if not reply.is_refusal:
            raise self._conversation.wrong(reply)
        self._note(accepted, reply)
        raise Failure("4.4.2", "the next host refused the message before its end")

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        """The content; what ails it is our own trouble, and nobody else hears what."""
        size_bytes = 0
        pieces = self._mail.content()
        try:
            async for piece in pieces:
                size_bytes += len(piece)
                yield piece
        except Exception:
            log.exception("the content of a message that was being sent cannot be read")
            raise Failure("4.3.0", "the message cannot be read now") from None
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()
        if size_bytes < self._mail.size_bytes:
            log.error("%d octets of a message of %d are there", size_bytes, self._mail.size_bytes)
            raise Failure("4.3.0", "the message cannot be read now")

    async def _hear_final(self, accepted: list[int]) -> None:
        """The reply that counts: in SMTP one for all, in LMTP one for each who was accepted (RFC 2033 §4.2)."""
        conversation = self._conversation
        for indexes in [[index] for index in accepted] if conversation.target.lmtp else [accepted]:
            reply = await conversation.hear(conversation.timeouts.final_s)
            if not (reply.is_positive or reply.is_refusal):
                raise conversation.wrong(reply)
            self._note(indexes, reply)
        try:
            await conversation.check_silent()
        except Failure as failure:
            if not failure.is_remote:  # a reply too many: the one we took may have been meant for something before
                for index in accepted:
                    self.results[index] = None
            raise

    def _note(self, indexes: Iterable[int], reply: RemoteReply, *, said: str = "") -> None:
        for index in indexes:
            self.results[index] = RecipientResult(
                reply.outcome, said or str(reply), reply.status, self._conversation.stage, is_remote=True
            )
