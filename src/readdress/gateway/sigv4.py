"""AWS Signature Version 4, verified: pure functions from a request's bytes to a yes or a typed no.

The canonical request is rebuilt from what arrived, with the hash of the body as received: an `x-amz-content-sha256`
header is checked, never trusted. Source: the Signature Version 4 test suite, and what SDKs send.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from readdress.errors import (
    IncompleteSignatureException,
    InvalidSignatureException,
    MissingAuthenticationTokenException,
)
from readdress.gateway.wire import HttpRequest

ALGORITHM = "AWS4-HMAC-SHA256"
WINDOW_MS = 300_000
AUTHORIZATION_BYTES_MAX = 4_096

_UNRESERVED = "-_.~"
_NEEDED = ("host", "x-amz-date")
# Without dots, empty segments or what is encoded: it stands for itself, as a path with ids does.
_PLAIN_PATH = re.compile(rb"(?:/[A-Za-z0-9_~-]+)+")
# Parsed by hand, since strptime takes longer than the whole signature.
_TIMESTAMP = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)


class Authorization(NamedTuple):
    """The parts of an Authorization header."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def read_authorization(request: HttpRequest) -> Authorization:
    """Raises MissingAuthenticationTokenException, IncompleteSignatureException."""
    header = request.header(b"authorization")
    if header is None:
        raise MissingAuthenticationTokenException(
            "Missing Authentication Token: sign the request with Signature Version 4."
        )
    before, found, signature = header.rpartition(", Signature=")
    if found and signature and "," not in signature:  # last, as in SDKs: all before it is the same for a day
        return Authorization(*_parse_once(f"{before}, Signature=-")[:-1], signature)
    return _parse_authorization(header)


def _parse_authorization(header: str) -> Authorization:
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM or len(header) > AUTHORIZATION_BYTES_MAX:
        raise IncompleteSignatureException(f"Authorization header requires the algorithm {ALGORITHM}.")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    credential = parts.get("Credential", "").split("/")
    signed_headers = tuple(name for name in parts.get("SignedHeaders", "").split(";") if name)
    signature = parts.get("Signature", "")
    if len(credential) != 5 or credential[4] != "aws4_request" or not signed_headers or not signature:
        raise IncompleteSignatureException(
            "Authorization header requires Credential=<key>/<date>/<region>/<service>/aws4_request, SignedHeaders and "
            "Signature."
        )
    access_key_id, date, region, service, _ = credential
    return Authorization(access_key_id, date, region, service, signed_headers, signature)


_parse_once = lru_cache(maxsize=1024)(_parse_authorization)


def verify(
    request: HttpRequest, authorization: Authorization, *, secret: str, region: str, service: str, now_ms: int
) -> None:
    """Raises IncompleteSignatureException or InvalidSignatureException; returns when the request is the key's own."""
    timestamp = request.header(b"x-amz-date") or ""
    _check_scope(authorization, timestamp, region=region, service=service)
    _check_signed_headers(request, authorization.signed_headers)
    _check_time(timestamp, now_ms)
    body_hash = hashlib.sha256(request.body).hexdigest()
    claimed_hash = request.header(b"x-amz-content-sha256")
    text = string_to_sign(canonical_request(request, authorization.signed_headers, body_hash), authorization, timestamp)
    key = signing_key(secret, authorization.date, authorization.region, authorization.service)
    expected = hmac.digest(key, text.encode(), "sha256").hex()
    if not hmac.compare_digest(expected.encode(), authorization.signature.encode()):
        raise InvalidSignatureException(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method."
        )
    if claimed_hash is not None and claimed_hash != body_hash:
        raise InvalidSignatureException(
            "The header x-amz-content-sha256 is not the SHA-256 of the body. Sign the body that is sent."
        )


def canonical_request(request: HttpRequest, signed_headers: Sequence[str], body_hash: str) -> str:
    headers = "".join([f"{name}:{request.canonical_header(name)}\n" for name in signed_headers])
    path, query = canonical_path(request.path), canonical_query(request.query)
    return f"{request.method}\n{path}\n{query}\n{headers}\n{';'.join(signed_headers)}\n{body_hash}"


def string_to_sign(canonical: str, authorization: Authorization, timestamp: str) -> str:
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{ALGORITHM}\n{timestamp}\n{authorization.scope}\n{digest}"


@lru_cache(maxsize=1024)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key of a day; deriving it costs more than all the rest, and it is the same for every request of the day."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def canonical_path(path: bytes) -> str:
    """Dot segments removed, then every byte encoded again: SDKs sign the path as sent, so what was encoded is twice."""
    if _PLAIN_PATH.fullmatch(path):
        return path.decode()
    if b"//" in path or b"/." in path:
        path = _normalize(path)
    return quote(path, safe="/" + _UNRESERVED)


def canonical_query(query: bytes) -> str:
    if not query:
        return ""
    pairs = (part.partition(b"=") for part in query.split(b"&") if part)
    encoded = sorted((_encode_query(name), _encode_query(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _encode_query(text: bytes) -> str:
    return quote(unquote_to_bytes(text), safe=_UNRESERVED)


def _normalize(path: bytes) -> bytes:
    """RFC 3986 §5.2.4, and no empty segments."""
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in {b"", b"."}:
            kept.append(segment)
    trailing = b"/" if kept and path.endswith((b"/", b"/.", b"/..")) else b""
    return b"/" + b"/".join(kept) + trailing


def _check_scope(authorization: Authorization, timestamp: str, *, region: str, service: str) -> None:
    if authorization.service != service:
        raise InvalidSignatureException(f"Credential should be scoped to correct service: '{service}'.")
    if authorization.region != region:
        raise InvalidSignatureException(
            f"Credential should be scoped to a valid region, '{region}'. Set the client's region to it."
        )
    if not timestamp or authorization.date != timestamp[:8]:
        raise InvalidSignatureException(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from X-Amz-Date."
        )


def _check_signed_headers(request: HttpRequest, signed_headers: Sequence[str]) -> None:
    """What decides the meaning of a request must be signed: host and date, and in JSON 1.1 the operation."""
    needed = _NEEDED if request.header(b"x-amz-target") is None else (*_NEEDED, "x-amz-target")
    missing = [name for name in needed if name not in signed_headers]
    if missing:
        raise IncompleteSignatureException(f"SignedHeaders has to name {', '.join(missing)}.")


@lru_cache(maxsize=1024)
def _to_ms(timestamp: str) -> int:
    match = _TIMESTAMP.fullmatch(timestamp)
    try:
        year, month, day, hour, minute, second = map(int, match.groups() if match else ())
        signed_at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise IncompleteSignatureException("X-Amz-Date has to be like 20150830T123600Z.") from None
    return int(signed_at.timestamp() * 1000)


def _check_time(timestamp: str, now_ms: int) -> None:
    signed_ms = _to_ms(timestamp)
    if signed_ms < now_ms - WINDOW_MS:
        earliest = _basic_iso(now_ms - WINDOW_MS)
        raise InvalidSignatureException(
            f"Signature expired: {timestamp} is now earlier than {earliest} ({_basic_iso(now_ms)} - 5 min.)"
        )
    if signed_ms > now_ms + WINDOW_MS:
        latest = _basic_iso(now_ms + WINDOW_MS)
        raise InvalidSignatureException(
            f"Signature not yet current: {timestamp} is still later than {latest} ({_basic_iso(now_ms)} + 5 min.)"
        )


def _basic_iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
