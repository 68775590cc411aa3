"""The little that intake has to know of a message's header; it is looked at and never rewritten."""

import contextlib
import re
from email.errors import MessageError
from email.header import decode_header, make_header
from typing import NamedTuple

from readdress.address import split_address
from readdress.smtp.content import has_bare_line_end

# How far the end of a header is looked for, its empty line included.
HEADER_BYTES_MAX = 262_144
SUBJECT_CHARACTERS_MAX = 998
# RFC 5321 §6.3 asks for 100 at least where loops are found by counting alone; contract 6 says 50.
RECEIVED_MAX = 50
# Decoding takes the square of a hostile subject's length; an honest one of 998 characters fits.
_SUBJECT_BYTES_MAX = 8_192

_SUBJECT = re.compile(
    rb"^subject[ \t]*:((?:[^\r\n]|\r\n[ \t]){0,%d})" % _SUBJECT_BYTES_MAX,
    re.IGNORECASE | re.MULTILINE,
)
_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_DELIVERED_TO = re.compile(rb"^delivered-to[ \t]*:[ \t]*<?([^\r\n>]{1,512}?)>?[ \t]*\r$", re.IGNORECASE | re.MULTILINE)
_RESULTS = re.compile(rb"^authentication-results[ \t]*:", re.IGNORECASE | re.MULTILINE)
_DELIVERED_TO_MAX = 100
# The id that a Readdress gives in its Received fields; others give no UUID there, or one that is not known.
_RECEIVED_ID = re.compile(
    rb"^received[ \t]*:(?:[^\r\n]|\r\n[ \t]){0,2000}?[ \t]id[ \t]+([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b",
    re.IGNORECASE | re.MULTILINE,
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class HeaderFacts(NamedTuple):
    """`is_complete` is False where the header does not end within `HEADER_BYTES_MAX`.

    `delivered_to` are the keys of the addresses to which the message says that it was delivered before (RFC 9228), and
    `received_ids` the ids that its Received fields give, where these have the form of ours. `has_results` says that
    somebody has put results of checks on it, who may claim to be us (RFC 8601 §5), `has_bare_line_end` that readers may
    disagree about where its fields begin.
    """

    subject: str
    received_count: int
    is_complete: bool
    delivered_to: frozenset[str]
    received_ids: frozenset[str]
    has_results: bool
    has_bare_line_end: bool


def look_at_header(content: bytes, *, is_whole: bool) -> HeaderFacts:
    """Facts from the beginning of a message; `is_whole` says that nothing follows."""
    end = 0 if content.startswith(b"\r\n") else content.find(b"\r\n\r\n", 0, HEADER_BYTES_MAX)
    header = content[:end] if end >= 0 else content
    # To find a word takes a tenth of what the pattern of its field takes, and most of the fields are not there.
    words = header.lower()
    subject = _SUBJECT.search(header) if b"subject" in words else None
    received_count = len(_RECEIVED.findall(header)) if b"received" in words else 0
    # With more of them than any honest mail has, looking into each takes too long, and the mail is refused anyway.
    received_ids = _RECEIVED_ID.findall(header) if 0 < received_count <= RECEIVED_MAX else []
    delivered_to = _DELIVERED_TO.findall(header + b"\r\n") if b"delivered-to" in words else []
    return HeaderFacts(
        subject=_decode(subject[1]) if subject else "",
        received_count=received_count,
        is_complete=end >= 0 or is_whole,
        has_results=b"authentication-results" in words and _RESULTS.search(header) is not None,
        has_bare_line_end=has_bare_line_end(header),
        delivered_to=frozenset(map(_key, delivered_to[:_DELIVERED_TO_MAX])),
        received_ids=frozenset(found.decode().lower() for found in received_ids),
    )


def _key(raw: bytes) -> str:
    return split_address(raw.decode("utf-8", "replace")).key


def _decode(raw: bytes) -> str:
    """RFC 2047 words and raw UTF-8 as text; what can't be decoded stays as it is."""
    text = raw.replace(b"\r\n", b"").decode("utf-8", "replace")
    if "=?" in text:
        with contextlib.suppress(MessageError, LookupError, ValueError):
            text = str(make_header(decode_header(text)))
    text = text.encode("utf-8", "replace").decode("utf-8")
    return _CONTROLS.sub(" ", text).strip()[:SUBJECT_CHARACTERS_MAX]
