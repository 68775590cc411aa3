"""Keys for tests, their records in DNS, and mail signed by dkimpy, which shares no code with ours."""

import base64
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from harness.dns_zone import txt

SELECTOR = "s1"

MAIL = (
    b"From: A <a@example.com>\r\n"
    b"To: b@example.net\r\n"
    b"Subject:  a   folded\r\n\t subject \r\n"
    b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.com>\r\n"
    b"\r\n"
    b"Hello  there \t \r\n\r\nBye\r\n\r\n\r\n"
)


@cache
def rsa_key(bits: int = 1_024, name: str = "") -> rsa.RSAPrivateKey:
    """One a run for each name; small, since a test waits for it."""
    _ = name
    return rsa.generate_private_key(65_537, bits)


@cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    encoded: bytes = key.private_bytes(Encoding.PEM, form, NoEncryption())
    return encoded


def key_text(key: Any, tags: str = "v=DKIM1; ") -> str:
    """A key's record."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"{tags}k=ed25519; p={base64.b64encode(raw).decode()}"
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"{tags}p={base64.b64encode(der).decode()}"


def short_key_text(bits: int) -> str:
    """The record of an RSA key that nobody would make any more."""
    key = rsa.RSAPublicNumbers(65_537, (1 << bits - 1) + 1).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; p={base64.b64encode(der).decode()}"


def key_zone(
    key: Any, domain: str = "example.com", *, selector: str = SELECTOR, tags: str = "v=DKIM1; "
) -> dict[str, list[tuple[str, str] | str]]:
    return {f"{selector}._domainkey.{domain}": [txt(key_text(key, tags))]}


def sign(content: bytes, key: Any = None, domain: str = "example.com", **options: Any) -> bytes:
    """The content with a signature by dkimpy on top; `options` are those of dkim.sign."""
    import dkim

    key = key or rsa_key()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        options |= {"signature_algorithm": b"ed25519-sha256"}
        private = base64.b64encode(raw)
    else:
        private = pem(key, PrivateFormat.TraditionalOpenSSL)
    field: bytes = dkim.sign(content, SELECTOR.encode(), domain.encode(), private, **options)
    return field + content
