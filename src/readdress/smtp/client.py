"""The SMTP and LMTP client by which mail leaves: one mail, one connection, and a result for every recipient.

It never raises for what a host does. Who was not answered for good is TEMPORARY, so mail may come twice when a last
reply is lost, and is never lost with it (RFC 5321 §4.5.4.1).
"""

import asyncio

from readdress.smtp import grammar
from readdress.smtp.conversation import Conversation
from readdress.smtp.mail_transaction import Transfer
from readdress.smtp.outgoing import ClientTimeouts, Failure, OutgoingMail, RecipientResult, SendResult, Target


async def send(target: Target, mail: OutgoingMail, *, timeouts: ClientTimeouts, hostname: str) -> SendResult:
    """Hand the mail to the target; `hostname` is what EHLO says. Raises ValueError for a hostname that is none."""
    if not grammar.is_ehlo_name(hostname):
        raise ValueError(f"{hostname!r} is neither a domain nor an address literal")
    conversation = Conversation(target, timeouts=timeouts, hostname=hostname)
    transfer = Transfer(conversation, mail)
    try:
        failure = await _converse(conversation, transfer)
        stage = conversation.stage
        await conversation.quit()
    finally:
        conversation.abort()
    rest = RecipientResult(failure.outcome, failure.reply, failure.enhanced, stage, is_remote=failure.is_remote)
    channel = conversation.channel
    return SendResult(
        recipients=tuple(result or rest for result in transfer.results),
        host=target.host,
        address=channel.address if channel else "",
        tls=channel.tls if channel else None,
        has_dsn=conversation.features.offers("DSN"),
    )


async def _converse(conversation: Conversation, transfer: Transfer) -> Failure:
    """What holds for the recipients that have no result of their own."""
    timeouts = conversation.timeouts
    try:
        async with asyncio.timeout(timeouts.total_s):
            await conversation.open()
            await transfer.run()
    except Failure as failure:
        return failure
    except TimeoutError:
        conversation.abort()
        return Failure("4.4.2", f"the next host took more than {timeouts.total_s:g} s for one mail")
    return Failure("4.3.0", "the mail was not sent")
