"""Who is signed in: a random token in the browser's cookie, of which the database keeps a digest, for half a day.

A session is a row, so that it counts on every node and ends for good. It stands for an access key, which is looked up
for every request: what disables a key, or narrows its policy, holds at once.
"""

import hashlib
import hmac
import os
import secrets
from typing import Final

from readdress.api.access import AccessKey, Keyring
from readdress.store.database import Database, Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "sessions.sql")

LIFETIME_MS: Final = 12 * 3_600_000
_SWEPT_MAX = 1_000  # in one transaction


def is_secret(keyring: Keyring, key: AccessKey | None, given: str) -> bool:
    """Whether that is the key's secret: both sign a challenge, and it takes as long whatever is wrong."""
    secret = keyring.open(key.id, key.sealed_secret) if key else secrets.token_urlsafe()
    challenge = os.urandom(32)
    expected = hmac.digest(secret.encode(), challenge, "sha256")
    return hmac.compare_digest(hmac.digest(given.encode(), challenge, "sha256"), expected) and key is not None


async def begin(database: Database, access_key_id: str) -> str:
    """A new session's token, never one that a browser brought along."""
    token = secrets.token_urlsafe(32)

    def insert(tx: Transaction) -> None:
        tx.send(sql.insert_session, id=_digest(token), access_key_id=access_key_id, now_ms=tx.now_ms)

    await database.write(insert)
    return token


async def find(database: Database, token: str, *, now_ms: int) -> str | None:
    """The id of the access key that the session stands for."""
    row = await database.find(sql.find_session, id=_digest(token), expired_ms=now_ms - LIFETIME_MS)
    return str(row[0]) if row else None


async def end(database: Database, token: str) -> None:
    await database.write(lambda tx: tx.send(sql.delete_session, id=_digest(token)))


def delete_expired(tx: Transaction) -> int:
    """How many were forgotten; to be called again while there are some."""
    return tx.execute(sql.delete_expired_sessions, expired_ms=tx.now_ms - LIFETIME_MS, limit=_SWEPT_MAX)


def form_token(token: str) -> str:
    """What every form of the session carries, and no other site can know (CSRF)."""
    return hmac.new(token.encode(), b"form", "sha256").hexdigest()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
