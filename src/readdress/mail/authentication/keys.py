"""Public keys of DKIM and ARC as they stand in DNS (RFC 6376 §3.6, RFC 8463), and what they verify.

A key that can't be used is a KeyProblem; DNS trouble is DnsTemporaryError.
"""

import base64
import binascii
import contextlib
from typing import TYPE_CHECKING, NamedTuple

from readdress.mail.authentication.resolver import Lookups

if TYPE_CHECKING:  # loaded by the first signature, not by the start of the program
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

RSA_BITS_MIN = 1_024  # RFC 8301 §3.2
RSA_BITS_MAX = 8_192  # more than the 4,096 that it asks for; longer ones cost time and are used by nobody
# RFC 6376 §3.6.2.2 leaves several records open; a few are tried.
_RECORDS_MAX = 3
_RECORD_BYTES_MAX = 4_096


class KeyProblem(Exception):
    """Why a key is not to be used; `result` is `permerror` or `policy`."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


class PublicKey(NamedTuple):
    """One key out of DNS."""

    key: "RSAPublicKey | Ed25519PublicKey"

    def verify(self, signature: bytes, digest: bytes) -> bool:
        """Whether the key made the signature of a SHA-256 digest."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

        try:
            if isinstance(self.key, RSAPublicKey):
                _verify_rsa(self.key, signature, digest)
            else:
                self.key.verify(signature, digest)  # RFC 8463 §3: the hash is what is signed
        except InvalidSignature:
            return False
        return True


def _verify_rsa(key: "RSAPublicKey", signature: bytes, digest: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256

    key.verify(signature, digest, PKCS1v15(), Prehashed(SHA256()))


def find_keys(lookups: Lookups, name: str, *, key_type: str, is_identity_domain: bool) -> list[PublicKey]:
    """The keys at a name. Raises KeyProblem with the first one's problem when none can be used."""
    keys: list[PublicKey] = []
    problems: list[KeyProblem] = []
    for record in lookups.texts(name)[:_RECORDS_MAX]:
        try:
            keys.append(parse_key(record, key_type=key_type, is_identity_domain=is_identity_domain))
        except KeyProblem as problem:
            problems.append(problem)
    if not keys:
        raise problems[0] if problems else KeyProblem("permerror", "there is no key in DNS")
    return keys


def parse_key(record: bytes, *, key_type: str, is_identity_domain: bool) -> PublicKey:
    """RFC 6376 §3.6.1. `is_identity_domain` says whether i= is of the very domain d=."""
    if len(record) > _RECORD_BYTES_MAX:
        raise KeyProblem("permerror", "the key record is too long")
    tags = _tags(record)
    if tags.get(b"v", b"DKIM1") != b"DKIM1" or b"p" not in tags:
        raise KeyProblem("permerror", "the record in DNS is no key")
    if not tags[b"p"]:
        raise KeyProblem("permerror", "the key is revoked")
    if tags.get(b"k", b"rsa").decode("latin-1") != key_type:
        raise KeyProblem("permerror", "the key is for another algorithm")
    if b"sha256" not in _list(tags.get(b"h", b"sha256")):
        raise KeyProblem("permerror", "the key is for another hash")
    if not {b"*", b"email"} & set(_list(tags.get(b"s", b"*"))):
        raise KeyProblem("permerror", "the key is not for mail")
    if b"s" in _list(tags.get(b"t", b"")) and not is_identity_domain:
        raise KeyProblem("permerror", "the key is not for subdomains")
    return PublicKey(_load(tags[b"p"], key_type))


def _load(text: bytes, key_type: str) -> "RSAPublicKey | Ed25519PublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):
        encoded = base64.b64decode(b"".join(text.split()), validate=True)
        if key_type == "ed25519":
            return Ed25519PublicKey.from_public_bytes(encoded)
        key = load_der_public_key(encoded)
        if isinstance(key, RSAPublicKey):
            if key.key_size < RSA_BITS_MIN:
                raise KeyProblem("policy", f"the key has {key.key_size} bits, fewer than {RSA_BITS_MIN}")
            if key.key_size > RSA_BITS_MAX:
                raise KeyProblem("policy", f"the key has {key.key_size} bits, more than {RSA_BITS_MAX}")
            return key
    raise KeyProblem("permerror", "the key can't be read")


def _tags(record: bytes) -> dict[bytes, bytes]:
    """The first of each tag; what is no tag is left out, as many records hold something odd."""
    tags: dict[bytes, bytes] = {}
    for spec in record.split(b";"):
        name, equals, value = spec.partition(b"=")
        if equals:
            tags.setdefault(name.strip(), value.strip())
    return tags


def _list(value: bytes) -> list[bytes]:
    return [part.strip().lower() for part in value.split(b":")]
