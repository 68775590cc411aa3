"""Our own signatures: an ARC set for mail that is relayed (RFC 8617 §5.1), DKIM for notices that we write (RFC 6376).

A key that can't be used raises PrivateKeyError; what is signed is only what no later hop of ours adds or changes.
"""

import base64
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from readdress.mail.authentication.arc import SEAL, SETS_MAX, Chain, cv_of, read_chain, seal_order
from readdress.mail.authentication.canonical import canonical_field
from readdress.mail.authentication.keys import RSA_BITS_MIN
from readdress.mail.authentication.message import Field, split_message
from readdress.mail.authentication.results import authserv_id_of
from readdress.mail.authentication.signature import ED25519, RSA, HashedMessage, hash_fields

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

# RFC 6376 §5.4.1, without what hops add or change: Received, Return-Path, Delivered-To, Authentication-Results.
SIGNED_NAMES = (
    b"from", b"sender", b"reply-to", b"subject", b"date", b"message-id", b"to", b"cc", b"mime-version",
    b"content-type", b"content-transfer-encoding", b"content-id", b"content-description", b"resent-date",
    b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-message-id", b"in-reply-to", b"references",
    b"auto-submitted", b"list-id", b"list-help", b"list-unsubscribe", b"list-unsubscribe-post", b"list-subscribe",
    b"list-post", b"list-owner", b"list-archive",
)  # fmt: skip

_ARC_RESULT = re.compile(r";\r\n\tarc=([a-z]+)")
_LINE_CHARACTERS = 76


class PrivateKeyError(Exception):
    """The key can't be read, or is not one to sign with; the text never holds a part of it."""


def seal(
    content: bytes, *, verdicts_field: str, domain: str, selector: str, private_key_pem: bytes, authserv_id: str
) -> bytes:
    """The ARC set to put on top of the content: ARC-Seal, ARC-Message-Signature, ARC-Authentication-Results.

    `verdicts_field` is what `Verdicts.results_field` gave when the message arrived. Empty where no set may be added:
    the chain says already that it is broken, has 50 sets, or could not be judged. A chain that was broken on its way
    here is sealed with cv=fail (RFC 8617 §5.1.2). Raises PrivateKeyError, and ValueError for results that are not ours.
    """
    value = verdicts_field.removesuffix("\r\n").partition(":")[2].strip()
    if authserv_id_of(value.encode()).decode() != authserv_id.lower():
        raise ValueError("only results of our own can be sealed")
    key = _Signer(private_key_pem)
    if key.algorithm != RSA:
        raise PrivateKeyError("ARC is sealed with an RSA key: other verifiers know no other")
    hashed = HashedMessage(split_message(content))
    chain = read_chain(hashed)
    arrived = _ARC_RESULT.search(verdicts_field)
    cv = arrived[1] if arrived else ""
    if chain.highest >= SETS_MAX or cv not in ("none", "pass", "fail") or _says_fail(chain):
        return b""
    instance = chain.highest + 1
    common = f"a={key.algorithm}; d={domain}; s={selector}; t={int(time.time())}"
    results = _field("ARC-Authentication-Results", f" i={instance}; {value}")
    names = (*_present(hashed), *[b"dkim-signature"] * hashed.count(b"dkim-signature"))
    signature = _sign_message(hashed, key, "ARC-Message-Signature", f"i={instance}; {common}", names)
    unsigned = _tags_field("ARC-Seal", f"i={instance}; cv={cv}; {common}; b=")
    # RFC 8617 §5.1.2: of a broken chain only the new set is sealed, since nobody could tell what else to hash.
    earlier = [] if cv == "fail" else seal_order(chain.sets)
    covered = [canonical_field(field.raw, relaxed=True) for field in (*earlier, results, signature)]
    own = key.sign(unsigned, covered)
    return own.raw + signature.raw + results.raw


def sign_dkim(content: bytes, domain: str, selector: str, private_key_pem: bytes) -> bytes:
    """A DKIM-Signature field to put on top of the content. Raises PrivateKeyError."""
    hashed = HashedMessage(split_message(content))
    key = _Signer(private_key_pem)
    tags = f"v=1; a={key.algorithm}; d={domain}; s={selector}; t={int(time.time())}"
    # One From more than there are, so that none can be added (RFC 6376 §8.15).
    return _sign_message(hashed, key, "DKIM-Signature", tags, (*_present(hashed), b"from")).raw


def _sign_message(hashed: HashedMessage, key: "_Signer", name: str, tags: str, names: tuple[bytes, ...]) -> Field:
    body = base64.b64encode(hashed.body(relaxed=True).digest).decode()
    listed = ":".join(signed.decode() for signed in names)
    unsigned = _tags_field(name, f"{tags}; c=relaxed/relaxed; h={listed}; bh={body}; b=")
    return key.sign(unsigned, hashed.signed_fields(names, relaxed=True))


def _present(hashed: HashedMessage) -> tuple[bytes, ...]:
    return tuple(name for name in SIGNED_NAMES for _ in range(hashed.count(name)))


def _says_fail(chain: Chain) -> bool:
    newest = chain.sets[-1].get(SEAL) if chain.sets else None
    return newest is not None and cv_of(newest) == "fail"


class _Signer:
    """A private key in PEM, and the name of its algorithm."""

    def __init__(self, private_key_pem: bytes) -> None:
        self._key, self.algorithm = _load(private_key_pem)

    def sign(self, unsigned: Field, covered: list[bytes]) -> Field:
        """The field, whose b= is empty and last, with its signature over `covered` and itself."""
        digest = hash_fields(covered, unsigned, relaxed=True)
        text = base64.b64encode(self._sign(digest)).decode()
        lines = [text[at : at + _LINE_CHARACTERS] for at in range(0, len(text), _LINE_CHARACTERS)]
        raw = unsigned.raw.removesuffix(b"\r\n") + "\r\n\t ".join(lines).encode() + b"\r\n"
        return Field(unsigned.name, raw)

    def _sign(self, digest: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
        from cryptography.hazmat.primitives.hashes import SHA256

        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(digest, PKCS1v15(), Prehashed(SHA256()))
        return self._key.sign(digest)  # RFC 8463 §3


@lru_cache(maxsize=8)  # a key is checked while it is loaded, which takes 30 ms for 2,048 bits
def _load(private_key_pem: bytes) -> "tuple[RSAPrivateKey | Ed25519PrivateKey, str]":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private_key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise PrivateKeyError("a private key has to be PEM without a password") from None
    if isinstance(key, Ed25519PrivateKey):
        return key, ED25519
    if not isinstance(key, RSAPrivateKey) or key.key_size < RSA_BITS_MIN:
        raise PrivateKeyError(f"a private key has to be RSA of {RSA_BITS_MIN} bits or more, or Ed25519")
    return key, RSA


def _field(name: str, value: str) -> Field:
    return Field(name.lower().encode(), f"{name}:{value}\r\n".encode())


def _tags_field(name: str, tags: str) -> Field:
    """Folded between tags and between the names of h=; b= stands on a line of its own."""
    lines = [""]
    for spec in tags.split("; "):
        for number, word in enumerate(spec.split(":")):
            glued = f":{word}" if number else f" {word}"
            if word == "b=" or len(name) + len(lines[-1]) + len(glued) > _LINE_CHARACTERS:
                lines.append("\t")
                glued = glued.lstrip()
            lines[-1] += glued
        lines[-1] += ";"
    return _field(name, "\r\n".join(lines).removesuffix(";"))
