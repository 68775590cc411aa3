"""Notices to senders: delivery failed, takes longer, or succeeded where that was asked (RFC 3461, 3464, 6533).

Each has the null sender and is stored in the transaction that records what it tells of, so it is sent exactly when that
is so. None is written for a null sender, for mail that a program sent by itself, or to a sender that the checks show to
be forged; and none says more about the recipient than the sender wrote: not the address behind an alias, nor its host.
"""

import logging
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from readdress.address import fold_domain, split_address
from readdress.clock import new_id, rfc_5322
from readdress.inbox import messages
from readdress.inbox.messages import Delivery, Message, Notices, State
from readdress.mail.authentication.verdicts import Verdicts
from readdress.mail.dispatch import Dispatcher
from readdress.mail.transports import Result
from readdress.smtp import grammar
from readdress.smtp.grammar import Path
from readdress.smtp.session import Recipient
from readdress.spool import queue
from readdress.store.database import Transaction

log = logging.getLogger("readdress.mail")

# How much of the message comes back when all of it was asked for (RET=FULL); a longer one comes back as its header.
RETURNED_BYTES_MAX = 65_536


class Action(StrEnum):
    """RFC 3464 §2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


# What a sender who asked for nothing hears of (RFC 3461 §4.1), and the word by which each is asked for.
_WORDS: Final = {
    Action.FAILED: "FAILURE",
    Action.DELAYED: "DELAY",
    Action.DELIVERED: "SUCCESS",
    Action.RELAYED: "SUCCESS",
}
_UNASKED: Final = {Action.FAILED, Action.DELAYED}

_SUBJECTS: Final = {
    Action.FAILED: "Your mail could not be delivered",
    Action.DELAYED: "Your mail is delayed",
    Action.DELIVERED: "Your mail was delivered",
    Action.RELAYED: "Your mail was passed on",
}
_SENTENCES: Final = {
    Action.FAILED: "Your mail could not be delivered to the following recipients, and will not be tried again:",
    Action.DELAYED: (
        "Your mail could not be delivered to the following recipients yet. You need not send it again:\r\n"
        "we go on trying, and you will hear from us should it fail for good."
    ),
    Action.DELIVERED: "Your mail was delivered to the following recipients:",
    Action.RELAYED: "Your mail was passed on to a system that does not confirm deliveries, for these recipients:",
}

_SENT_BY_PROGRAM: Final = re.compile(
    rb"^(?:auto-submitted[ \t]*:(?![ \t]*no[ \t]*(?:;|\r?$))"
    rb"|precedence[ \t]*:[ \t]*(?:bulk|list|junk)"
    rb"|list-id[ \t]*:"
    rb"|x-auto-response-suppress[ \t]*:[^\r\n]*(?:all|dr\b|ndr))",
    re.IGNORECASE | re.MULTILINE,
)
_XTEXT: Final = re.compile(r"\+([0-9A-F]{2})")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class Notifier:
    """Writes notices, from MAILER-DAEMON at `hostname`."""

    def __init__(self, *, hostname: str, dispatcher: Dispatcher, sign: Callable[[bytes], bytes] | None = None) -> None:
        """`sign` gives a field to put on top of a notice (DKIM)."""
        self._sign = sign
        self._hostname = hostname
        self._dispatcher = dispatcher

    def tell(self, tx: Transaction, action: Action, message: Message, delivery: Delivery, result: Result) -> None:
        """Tell the sender what became of the delivery, if they want it and may hear it."""
        recipients = _wanting(tx, action, message, delivery)
        if not recipients:
            return
        returned = messages.part_of(tx, message.id, 0) or b""
        header = b"" if returned.startswith(b"\r\n") else returned.partition(b"\r\n\r\n")[0] + b"\r\n"
        why_not = _why_not(message, header)
        if why_not:
            log.info("no notice about message %s (%s): %s", message.id, action, why_not)
            return
        is_whole = len(returned) == message.size_bytes <= RETURNED_BYTES_MAX
        if action is Action.FAILED and message.ret == "FULL" and is_whole:
            returned_type, content = "message/rfc822" if header.isascii() else "message/global", returned
        else:
            returned_type, content = "text/rfc822-headers" if header.isascii() else "message/global-headers", header
        report = self._report(tx.now_ms, action, message, recipients, result)
        notice_id = new_id()
        names = [recipient.recipient for recipient in recipients]
        notice = _compose(self._hostname, notice_id, tx.now_ms, action, message, names, report, returned_type, content)
        if self._sign:
            notice = self._sign(notice) + notice
        stored = Message(
            id=notice_id,
            received_ms=tx.now_ms,
            sender="",
            subject=_SUBJECTS[action],
            size_bytes=len(notice),
            trace="",
            peer="",
            ehlo=self._hostname,
            tls=None,
            smtputf8=message.smtputf8,
        )
        to = Recipient(Path(message.sender, grammar.parse_mailbox(message.sender)), notify="NEVER")
        if not self._dispatcher.post(tx, stored, notice, to):
            log.warning("no way back to <%s>: set return_transport for notices to senders elsewhere", message.sender)

    def _report(
        self,
        now_ms: int,
        action: Action,
        message: Message,
        recipients: Sequence[Notices],
        result: Result,
    ) -> str:
        """The machine-readable part (RFC 3464 §2)."""
        lines = [f"Reporting-MTA: dns; {self._hostname}"]
        if message.envelope_id:
            lines.append(f"Original-Envelope-Id: {_decode_xtext(message.envelope_id)}")
        lines.append(f"Arrival-Date: {rfc_5322(message.received_ms)}")
        status = _status(action, result)
        for recipient in recipients:
            kind = "rfc822" if recipient.recipient.isascii() else "utf-8"
            lines.append("")
            if recipient.original:
                lines.append(f"Original-Recipient: {_decode_xtext(recipient.original)}")
            lines += [
                f"Final-Recipient: {kind};{recipient.recipient}",
                f"Action: {action}",
                f"Status: {status}",
            ]
            # What the next host says may name the recipient that it knows.
            if result.is_remote and result.recipient == recipient.recipient:
                lines.append(f"Diagnostic-Code: smtp; {_CONTROLS.sub(' ', result.reply)[:500]}")
            if action is not Action.DELIVERED:
                lines.append(f"Last-Attempt-Date: {rfc_5322(now_ms)}")
        return "\r\n".join(lines) + "\r\n"


def _wanting(tx: Transaction, action: Action, message: Message, delivery: Delivery) -> list[Notices]:
    """The recipients, as the sender wrote them, about whom they want to hear that, and have not heard it yet."""
    asked = {notices.recipient: notices for notices in delivery.notices}
    told: set[str] = set()  # of a recipient's two inboxes
    for other in messages.list_deliveries(tx, message.id):
        if other.id != delivery.id and _was_told(tx, action, delivery, other):
            told.update(other.recipients)
    found = []
    for recipient in delivery.recipients:
        notices = asked.get(recipient, Notices(recipient, "", ""))
        words = notices.notify.upper().split(",") if notices.notify else []
        is_wanted = _WORDS[action] in words if words else action in _UNASKED
        if is_wanted and recipient not in told:
            found.append(notices)
    return found


def _was_told(tx: Transaction, action: Action, delivery: Delivery, other: Delivery) -> bool:
    """Whether the same was told when it was so of the other delivery."""
    if action is Action.FAILED:
        return other.state is State.FAILED
    if action is Action.DELAYED:
        return queue.is_delay_told(tx, other.id)
    # Deliveries into inboxes are made, and told of, in the order of their ids and before all others.
    is_later = not delivery.next_hop and other.id > delivery.id
    return other.state is State.DELIVERED and not is_later


def _why_not(message: Message, header: bytes) -> str:
    """Why no notice may be written at all, or "" (RFC 3834 §2, contract 6)."""
    if not message.sender:
        return "it has the null sender"
    if _SENT_BY_PROGRAM.search(header):
        return "a program sent it"
    if _is_forged(message):
        return "its sender failed SPF, and no good signature is of that domain"
    return ""


def _is_forged(message: Message) -> bool:
    """Whether a notice would most likely go to somebody who never sent the mail."""
    if not message.verdicts:
        return False
    verdicts = msgspec.json.decode(message.verdicts, type=Verdicts)
    if verdicts.spf.result not in {"fail", "softfail"}:
        return False
    domain = fold_domain(split_address(message.sender).domain)
    return not any(one.result == "pass" and _are_related(one.domain, domain) for one in verdicts.dkim)


def _are_related(one: str, other: str) -> bool:
    """Whether a signature by the one domain speaks for the other: what a stranger signs proves nothing of a sender."""
    return one == other or one.endswith(f".{other}") or other.endswith(f".{one}")


def _status(action: Action, result: Result) -> str:
    """RFC 3463; the class has to be that of the action (RFC 3464 §2.3.4)."""
    digit = {Action.FAILED: "5", Action.DELAYED: "4"}.get(action, "2")
    detail = result.enhanced.partition(".")[2]
    return f"{digit}.{detail}" if re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}", detail) else f"{digit}.0.0"


def _compose(
    hostname: str,
    notice_id: str,
    now_ms: int,
    action: Action,
    message: Message,
    names: Sequence[str],
    report: str,
    returned_type: str,
    returned: bytes,
) -> bytes:
    """The whole mail (RFC 3464 §2, RFC 6522 §3, RFC 6533 §5)."""
    boundary = f"notice-{notice_id}"
    recipients = "\r\n".join(f"  {name}" for name in names)
    status_type = "message/delivery-status" if report.isascii() else "message/global-delivery-status"
    head = (
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\n"
        f"To: <{message.sender}>\r\n"
        f"Subject: {_SUBJECTS[action]}\r\n"
        f"Date: {rfc_5322(now_ms)}\r\n"
        f"Message-ID: <{notice_id}@{hostname}>\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type=delivery-status; boundary="{boundary}"\r\n'
        "\r\n"
        f"--{boundary}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Transfer-Encoding: {_encoding(recipients.encode())}\r\n"
        "\r\n"
        f"{_SENTENCES[action]}\r\n\r\n{recipients}\r\n\r\n"
        f"The mail was taken by {hostname} on {rfc_5322(message.received_ms)} as {message.id}.\r\n"
        f"\r\n--{boundary}\r\n"
        f"Content-Type: {status_type}\r\n"
        f"Content-Transfer-Encoding: {_encoding(report.encode())}\r\n"
        "\r\n"
        f"{report}"
        f"\r\n--{boundary}\r\n"
        f"Content-Type: {returned_type}\r\n"
        f"Content-Transfer-Encoding: {_encoding(returned)}\r\n"
        "\r\n"
    )
    return head.encode() + returned + f"\r\n--{boundary}--\r\n".encode()


def _encoding(content: bytes) -> str:
    return "7bit" if content.isascii() else "8bit"


def _decode_xtext(text: str) -> str:
    """RFC 3461 §4, without what could begin a new line."""
    return _CONTROLS.sub(" ", _XTEXT.sub(lambda found: chr(int(found[1], 16)), text))
