"""The Authentication-Results field: ours, in which no value can leave its place, and those that only claim to be ours.

Nothing here raises for anything that a message holds.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from readdress.address import fold_domain, split_address

# Longer values, which no mail in order has, are cut.
_VALUE_CHARACTERS_MAX = 320
_REASON_CHARACTERS_MAX = 200
_LINE_CHARACTERS = 78
_AUTHSERV_ID_BYTES_MAX = 1_020  # 255 characters, at most four octets each

_TOKEN = re.compile(r"[A-Za-z0-9!#$&'*+\-.^_`{|}~]+")  # RFC 2045 §5.1, without the percent sign
_ADDRESS = re.compile(r"[A-Za-z0-9!#$&'*+\-.^_`{|}~]+@[A-Za-z0-9\-.]+")
_WHITE_SPACE = re.compile(rb"[ \t]+")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")

_NAME = b"authentication-results"
_TOKEN_BYTES = frozenset(
    byte for byte in range(33, 256) if byte != 0x7F and byte not in b'()<>@,;:\\"/[]?='
)  # RFC 2045 §5.1, and the octets of UTF-8 (RFC 6532)


class Result(NamedTuple):
    """One `method=result reason="…" property=value`; properties without a value are left out."""

    method: str
    result: str
    reason: str
    properties: Mapping[str, str]


def field(authserv_id: str, results: Iterable[Result]) -> str:
    """RFC 8601 §2.2. One property a line where they don't fit on one."""
    lines = [f"Authentication-Results: {_quote(fold_domain(authserv_id))}"]
    for result in results:
        lines[-1] += ";"
        lines.extend(_fold(result))
    return "\r\n".join(lines) + "\r\n"


def _fold(result: Result) -> list[str]:
    words = [f"{result.method}={result.result}"]
    if result.reason:
        words.append(f"reason={_quoted(result.reason[:_REASON_CHARACTERS_MAX])}")
    words += [f"{name}={_value(value)}" for name, value in result.properties.items() if value]
    lines = [f"\t{words[0]}"]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) > _LINE_CHARACTERS:
            lines.append(f"\t {word}")
        else:
            lines[-1] += f" {word}"
    return lines


def _value(text: str) -> str:
    """An address, a domain or a token as it is, anything else in quotes; nothing but ASCII (RFC 8601 §5)."""
    address = split_address(text)
    if address.local_part and "@" in text:
        domain = fold_domain(address.domain)
        if domain and not text.rpartition("@")[0].isascii():
            return _quote(domain)  # RFC 8601 §2.7.2: the domain alone is enough
        text = f"{text.rpartition('@')[0]}@{domain}"
    elif not text.isascii():
        text = fold_domain(text)
    return text if len(text) <= _VALUE_CHARACTERS_MAX and _ADDRESS.fullmatch(text) else _quote(text)


def _quote(text: str) -> str:
    text = text[:_VALUE_CHARACTERS_MAX]
    return text if _TOKEN.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    escaped = _UNPRINTABLE.sub("?", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def strip_results(header: bytes, authserv_id: str) -> bytes:
    """The header without the Authentication-Results fields that claim to be ours (RFC 8601 §5), else unchanged.

    Looks up to the empty line. Whose a field is its first word says, without comments and quotes, in any letter case.
    """
    own = fold_domain(authserv_id)
    kept: list[bytes] = []
    taken = False
    lines = header.split(b"\r\n")
    for number, line in enumerate(lines):
        if not line:
            kept += lines[number:]
            break
        if line[:1] not in b" \t":
            name, colon, _ = line.partition(b":")
            taken = bool(colon) and name.rstrip(b" \t").lower() == _NAME and _claims(lines, number, own)
        if not taken:
            kept.append(line)
    return b"\r\n".join(kept)


def _claims(lines: list[bytes], number: int, own: str) -> bool:
    end = number + 1
    while end < len(lines) and lines[end][:1] and lines[end][:1] in b" \t":
        end += 1
    value = b"".join([lines[number].partition(b":")[2], *lines[number + 1 : end]])
    word = authserv_id_of(value)
    return len(word) <= _AUTHSERV_ID_BYTES_MAX and fold_domain(word.decode("utf-8", "replace")) == own


def authserv_id_of(value: bytes) -> bytes:
    """The first word of an unfolded Authentication-Results value; empty where there is none."""
    at = _skip_comments(value)
    if value[at : at + 1] == b'"':
        return _unquote(value, at + 1)
    end = at
    while end < len(value) and value[end] in _TOKEN_BYTES:
        end += 1
    return value[at:end]


def _skip_comments(value: bytes) -> int:
    """Where the first word begins, behind white space and nested comments (RFC 5322 §3.2.2)."""
    depth, at = 0, 0
    while at < len(value):
        character = value[at : at + 1]
        if character == b"(":
            depth += 1
        elif depth and character == b")":
            depth -= 1
        elif depth and character == b"\\":
            at += 1
        elif character in b" \t":
            at = _end_of_white_space(value, at)
            continue
        elif not depth:
            break
        at += 1
    return at


def _end_of_white_space(value: bytes, at: int) -> int:
    match = _WHITE_SPACE.match(value, at)
    return match.end() if match else at


def _unquote(value: bytes, at: int) -> bytes:
    word = bytearray()
    while at < len(value) and value[at] != 0x22:
        if value[at] == 0x5C:
            at += 1
        word += value[at : at + 1]
        at += 1
    return bytes(word)
