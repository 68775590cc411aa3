"""Tokens that make a retry safe: one row, written in the transaction of the effect it stands for (contract 3).

A failed call leaves no token, so it may be tried again. A stored answer is given again however late, without running
anything: an Associate that is retried after somebody disassociated must not associate again. The row is written last:
of two calls with one token at a time, the second fails to write it, is undone with all it did, and finds the answer.
"""

import hashlib
from typing import NamedTuple

import msgspec

from readdress.clock import MS_PER_DAY
from readdress.store.database import Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "api.sql")


class Token(NamedTuple):
    """Scope of a token: the account, the operation, and what the client made up."""

    account: str
    operation: str
    token: str


class Stored(NamedTuple):
    """What an earlier call with the token was about, and its answer as JSON."""

    fingerprint: str
    answer: str


def fingerprint(request: msgspec.Struct) -> str:
    """A hash of every parameter but the token."""
    members = msgspec.to_builtins(request)
    members.pop("ClientToken", None)
    return hashlib.sha256(msgspec.json.encode(members, order="deterministic")).hexdigest()


def find(tx: Transaction, token: Token, *, retention_days: int) -> Stored | None:
    """What is stored under the token; None when it is new, or so old that its answer is no longer kept."""
    row = tx.one(sql.find_token, **token._asdict())
    if row is None:
        return None
    fingerprint, answer, created_ms = row
    if created_ms > tx.now_ms - retention_days * MS_PER_DAY:
        return Stored(fingerprint, answer)
    tx.send(sql.delete_token, **token._asdict())
    return None


def store(tx: Transaction, token: Token, *, fingerprint: str, answer: bytes) -> None:
    """Keep the answer under a token of which `find` has found nothing."""
    tx.send(sql.insert_token, **token._asdict(), fingerprint=fingerprint, answer=answer.decode(), now_ms=tx.now_ms)


def delete_expired(tx: Transaction, *, retention_days: int, limit: int = 1_000) -> int:
    """Forget the oldest answers past their time, `limit` of them at most; how many went."""
    expired_ms = tx.now_ms - retention_days * MS_PER_DAY
    return tx.execute(sql.delete_expired_tokens, expired_ms=expired_ms, limit=limit)
