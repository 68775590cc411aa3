"""The arguments of MAIL and RCPT: a path, and the parameters of the extensions that were offered.

SIZE (RFC 1870), BODY (RFC 6152, 3030), SMTPUTF8 (RFC 6531), and RET, ENVID, NOTIFY and ORCPT (RFC 3461). What can't be
read is a Reply that says so; after HELO nothing was offered, so that every parameter is an unknown one.
"""

import re
from typing import Final, cast

from readdress.smtp import grammar, reply
from readdress.smtp.envelope import Body, Envelope, Recipient
from readdress.smtp.reply import Reply

# In characters (RFC 3461 §4.2, §4.4).
ENVELOPE_ID_CHARACTERS_MAX = 100
ORIGINAL_CHARACTERS_MAX = 500

_BODIES = frozenset({"7BIT", "8BITMIME", "BINARYMIME"})
_MAIL = frozenset({"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID"})
_RCPT = frozenset({"NOTIFY", "ORCPT"})
_NONE: Final[frozenset[str]] = frozenset()
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})

# RFC 3461 §4: a hexchar is in capitals, and what it stands for has to be printable ASCII or white space (§4.2, §4.4):
# nothing that could begin another line of a notice.
_XTEXT = r"(?:[!-*,-<>-~]|\+(?:09|[2-6][0-9A-F]|7[0-9A-E]))+"
_ENVELOPE_ID = re.compile(_XTEXT)
_ORIGINAL = re.compile(rf"(?P<type>[A-Za-z0-9!#$%&'*/?^_`{{|}}~-]+);{_XTEXT}")
# RFC 6533 §3: an address of type utf-8 escapes as \x{HEX}, or has its characters as they are.
_ORIGINAL_UTF_8 = re.compile(r"utf-8;(?:[!-*,-<>-\[\]-~]|\\x\{[0-9A-F]{2,6}\}|[^\x00-\x9f])+", re.IGNORECASE)


def read_mail(rest: str, *, is_extended: bool, message_bytes_max: int) -> Envelope | Reply:
    """The argument of MAIL; `is_extended` says that EHLO or LHLO offered the extensions."""
    if rest[:5].upper() != "FROM:":
        return reply.SYNTAX_ERROR
    parsed = grammar.parse_sender(rest[5:].lstrip(" "))
    if parsed is None:
        return reply.BAD_SENDER
    sender, tail = parsed
    parameters = grammar.parse_parameters(tail)
    refusal = _refuse_mail(parameters, is_extended=is_extended, message_bytes_max=message_bytes_max)
    if refusal or parameters is None:
        return refusal or reply.SYNTAX_ERROR
    smtputf8 = "SMTPUTF8" in parameters
    if sender.needs_smtputf8 and not smtputf8:
        return reply.SENDER_NEEDS_SMTPUTF8
    return Envelope(
        sender,
        smtputf8=smtputf8,
        body=cast("Body", parameters.get("BODY", "7BIT").upper()),
        ret=parameters.get("RET", "").upper(),
        envelope_id=parameters.get("ENVID", ""),
    )


def read_rcpt(rest: str, *, is_extended: bool, smtputf8: bool) -> Recipient | Reply:
    """The argument of RCPT; `smtputf8` says that MAIL asked for it."""
    if rest[:3].upper() != "TO:":
        return reply.SYNTAX_ERROR
    parsed = grammar.parse_recipient(rest[3:].lstrip(" "))
    if parsed is None:
        return reply.BAD_RECIPIENT
    path, tail = parsed
    parameters = grammar.parse_parameters(tail)
    if parameters is None:
        return reply.SYNTAX_ERROR
    if parameters and parameters.keys() - (_RCPT if is_extended else _NONE):
        return reply.UNKNOWN_PARAMETER
    if path.needs_smtputf8 and not smtputf8:
        return reply.RECIPIENT_NEEDS_SMTPUTF8
    if not parameters:
        return Recipient(path)
    notify = _notify(parameters["NOTIFY"]) if "NOTIFY" in parameters else ""
    original = parameters.get("ORCPT", "")
    if notify is None or ("ORCPT" in parameters and not _is_original(original, smtputf8=smtputf8)):
        return reply.SYNTAX_ERROR
    return Recipient(path, notify, original)


def _refuse_mail(parameters: dict[str, str] | None, *, is_extended: bool, message_bytes_max: int) -> Reply | None:
    if parameters is None:
        return reply.SYNTAX_ERROR
    if not parameters:
        return None
    if parameters.keys() - (_MAIL if is_extended else _NONE):
        return reply.UNKNOWN_PARAMETER
    size = parameters.get("SIZE", "0")
    if not (size.isascii() and size.isdigit() and len(size) <= 20):
        return reply.SYNTAX_ERROR
    if parameters.get("BODY", "7BIT").upper() not in _BODIES or parameters.get("SMTPUTF8"):
        return reply.SYNTAX_ERROR
    if parameters.get("RET", "FULL").upper() not in {"FULL", "HDRS"}:  # RFC 3461 §4.3
        return reply.SYNTAX_ERROR
    if "ENVID" in parameters and not _is_envelope_id(parameters["ENVID"]):
        return reply.SYNTAX_ERROR
    return reply.TOO_BIG if int(size) > message_bytes_max else None  # RFC 1870 §6.1


def _is_envelope_id(text: str) -> bool:
    return len(text) <= ENVELOPE_ID_CHARACTERS_MAX and _ENVELOPE_ID.fullmatch(text) is not None


def _notify(text: str) -> str | None:
    """RFC 3461 §4.1: NEVER alone, or any of three keywords, each kept once; None for anything else."""
    keywords = dict.fromkeys(text.upper().split(","))
    return ",".join(keywords) if keywords.keys() <= _NOTIFY or list(keywords) == ["NEVER"] else None


def _is_original(text: str, *, smtputf8: bool) -> bool:
    if len(text) > ORIGINAL_CHARACTERS_MAX or not (smtputf8 or text.isascii()):
        return False
    match = _ORIGINAL.fullmatch(text)
    if match is None or match["type"].lower() == "utf-8":
        return _ORIGINAL_UTF_8.fullmatch(text) is not None
    return True
