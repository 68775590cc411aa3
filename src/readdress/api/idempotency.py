"""Tokens that make a retry safe: one row, written in the transaction of the effect it stands for (contract 3).

A failed call rolls its token back, so it may be tried again. A stored answer is given again however late, without
running anything: an Associate that is retried after somebody disassociated must not associate again.
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


def claim(tx: Transaction, token: Token, *, fingerprint: str, retention_days: int) -> Stored | None:
    """None when the token is ours now, with `{}` as its answer; else what is stored under it."""
    claimed = tx.execute(
        sql.claim_token,
        **token._asdict(),
        fingerprint=fingerprint,
        answer="{}",
        now_ms=tx.now_ms,
        expired_ms=tx.now_ms - retention_days * MS_PER_DAY,
    )
    if claimed:
        return None
    row = tx.one(sql.find_token, **token._asdict())
    return Stored(*row) if row else None


def store_answer(tx: Transaction, token: Token, answer: bytes) -> None:
    tx.send(sql.store_answer, **token._asdict(), answer=answer.decode())


def delete_expired(tx: Transaction, *, retention_days: int, limit: int = 1_000) -> int:
    """Forget the oldest answers past their time, `limit` of them at most; how many went."""
    expired_ms = tx.now_ms - retention_days * MS_PER_DAY
    return tx.execute(sql.delete_expired_tokens, expired_ms=expired_ms, limit=limit)
