"""Access keys, and the callers they make: who signs, in which account, with which policy.

Secrets are kept sealed with a key file of mode 0600; without that file the database alone opens nothing.
"""

import contextlib
import os
import secrets
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from readdress.api.arn import Scope
from readdress.api.policy import Policy, parse_policy
from readdress.errors import AccessDeniedException
from readdress.store.database import Database, Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "api.sql")

_KEY_BYTES = 32
_NONCE_BYTES = 12
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class KeyFileError(Exception):
    """The key file can't be used; the text says what to do."""


class AccessKey(NamedTuple):
    """A row of access_key; the secret in it is sealed."""

    id: str
    account: str
    name: str
    sealed_secret: bytes
    policy: str
    created_ms: int
    disabled_ms: int | None


class Quotas(NamedTuple):
    """What an account may have; None is without a limit."""

    addresses_max: int | None = None
    instances_max: int | None = None


class Caller(NamedTuple):
    """Who called, with a verified signature; `transports` are the names that an address may choose among.

    `request_id` is of the change that is being made, "" outside of one.
    """

    access_key_id: str
    scope: Scope
    policy: Policy
    quotas: Quotas
    transports: frozenset[str]
    request_id: str = ""

    def check(self, action: str, resource: str) -> None:
        """Raises AccessDeniedException naming both."""
        if not self.policy.allows(action, resource):
            raise AccessDeniedException(
                f"The access key {self.access_key_id} is not authorized to perform: {action} on resource: "
                f"{resource}. Ask for a policy that allows it."
            )


@lru_cache(maxsize=1024)
def caller_of(key: AccessKey, *, region: str, quotas: Quotas, transports: frozenset[str]) -> Caller:
    """Who calls with that key, once it is known that they have its secret."""
    return Caller(key.id, Scope(key.account, region), parse_policy(key.policy), quotas, transports)


class Keyring:
    """Seals and opens the secrets of access keys (AES-256-GCM, bound to the key's id)."""

    def __init__(self, key: bytes) -> None:
        # Imported here: 20 ms that commands which never touch a secret need not spend.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(key)
        self.open = lru_cache(maxsize=1024)(self._open)

    def seal(self, access_key_id: str, secret: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), access_key_id.encode())

    def _open(self, access_key_id: str, sealed: bytes) -> str:
        from cryptography.exceptions import InvalidTag

        try:
            opened = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], access_key_id.encode())
        except InvalidTag:
            raise KeyFileError(
                "the key file is not the one that sealed this database's access keys: put back the right one"
            ) from None
        return opened.decode()


def load_keyring(path: Path) -> Keyring:
    """The keyring of the file, which is made when missing. Raises KeyFileError when others could read it."""
    if not path.exists():
        _make_key_file(path)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise KeyFileError(f"{path} has mode {mode:04o} and others can read it: chmod 600 it")
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise KeyFileError(f"{path} does not hold a key of {_KEY_BYTES} bytes: restore it from your backup")
    return Keyring(key)


def _make_key_file(path: Path) -> None:
    """Whole or not at all, and on disk before any secret is sealed with it; who comes second uses the first one's."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        Path(path).hardlink_to(temporary)
    Path(temporary).unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def create_key(
    tx: Transaction,
    keyring: Keyring,
    *,
    account: str,
    name: str,
    policy: str,
    access_key_id: str | None = None,
    secret: str | None = None,
) -> tuple[str, str]:
    """A new key's id and secret; with an id and secret given, that key unless it exists. Raises PolicyError."""
    parse_policy(policy)
    access_key_id = access_key_id or "AKIA" + "".join(secrets.choice(_ID_LETTERS) for _ in range(16))
    secret = secret or secrets.token_urlsafe(30)
    tx.send(
        sql.insert_access_key,
        id=access_key_id,
        account=account,
        name=name,
        sealed_secret=keyring.seal(access_key_id, secret),
        policy=policy,
        created_ms=tx.now_ms,
    )
    return access_key_id, secret


async def find_key(database: Database, access_key_id: str) -> AccessKey | None:
    row = await database.find(sql.find_access_key, id=access_key_id)
    return AccessKey(*row) if row else None


def list_keys(tx: Transaction) -> list[AccessKey]:
    return [AccessKey(*row) for row in tx.all(sql.list_access_keys)]


def disable_key(tx: Transaction, access_key_id: str) -> bool:
    """From the commit on its signatures are refused; False when there was no such enabled key."""
    return tx.execute(sql.disable_access_key, id=access_key_id, disabled_ms=tx.now_ms) > 0
