"""Page tokens: where the next page begins, bound to the query that gave them; opaque, and no state in the server."""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from readdress.errors import InvalidParameterException

_VERSION = 1


class _Token(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    query: str
    after: str


def encode_token(after: str, *query: object) -> str:
    token = _Token(_VERSION, _digest(query), after)
    return urlsafe_b64encode(msgspec.json.encode(token)).decode().rstrip("=")


def decode_token(text: str | None, *query: object) -> str | None:
    """Where to go on, None at the first page. Raises InvalidParameterException for a token of another query."""
    if text is None:
        return None
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        token = msgspec.json.decode(raw, type=_Token)
    except (ValueError, UnicodeEncodeError):
        token = None
    if token is None or token.version != _VERSION or token.query != _digest(query):
        raise InvalidParameterException(
            "NextToken: it does not belong to this query. Repeat the query with the token that its last page gave, "
            "or begin again without one."
        )
    return token.after


def _digest(query: tuple[object, ...]) -> str:
    return hashlib.sha256(msgspec.json.encode(query, order="deterministic")).hexdigest()[:16]
