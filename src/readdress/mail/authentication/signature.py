"""One DKIM signature, or one of the like fields of ARC: its tags, what it covers, and whether its key made it.

Whatever a sender wrote ends as a SignatureProblem with the RFC's kind of failure; DNS trouble is DnsTemporaryError.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from readdress.address import fold_domain
from readdress.mail.authentication.canonical import BodyHash, canonical_field, hash_body
from readdress.mail.authentication.keys import KeyProblem, PublicKey, find_keys
from readdress.mail.authentication.message import Field, Message
from readdress.mail.authentication.resolver import Lookups, is_dns_name

RSA = "rsa-sha256"
ED25519 = "ed25519-sha256"
_ALGORITHMS = (RSA, ED25519)  # RFC 8301 §3.1: rsa-sha1 no more; RFC 8463

_TAG_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
_DOMAIN = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_DIGITS = re.compile(rb"[0-9]{1,12}")
_WHITE_SPACE = re.compile(rb"[ \t\r\n]+")


class SignatureProblem(Exception):
    """Why a signature is not good; `result` is `fail`, `policy` or `permerror` (RFC 8601 §2.7.1)."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


class Signature(NamedTuple):
    """The tags that DKIM and ARC share, read; a seal has no names and no body hash."""

    domain: str
    selector: str
    algorithm: str
    signature: bytes
    relaxed_header: bool
    relaxed_body: bool
    body_hash: bytes
    body_length: int | None
    names: tuple[bytes, ...]


class HashedMessage:
    """A message whose canonical parts are made once, however many signatures ask for them."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self._bodies: dict[bool, BodyHash] = {}
        self._fields: dict[tuple[int, bool], bytes] = {}
        self._places: dict[bytes, list[int]] = {}
        for place, field in enumerate(message.fields):
            self._places.setdefault(field.name, []).append(place)

    def count(self, name: bytes) -> int:
        return len(self._places.get(name, ()))

    def body(self, *, relaxed: bool) -> BodyHash:
        if relaxed not in self._bodies:
            self._bodies[relaxed] = hash_body(self.message.body, relaxed=relaxed)
        return self._bodies[relaxed]

    def hash_bodies(self) -> None:
        """Hash the body in both forms, if anything signs it, and let go of it."""
        if self.count(b"dkim-signature") or self.count(b"arc-message-signature"):
            for relaxed in (False, True):
                self.body(relaxed=relaxed)
        self.message = self.message._replace(body=memoryview(b""))

    def signed_fields(self, names: Sequence[bytes], *, relaxed: bool) -> list[bytes]:
        """RFC 6376 §5.4.2: of each name the lowest field that is not taken yet, and nothing where there is none."""
        taken: dict[bytes, int] = {}
        found = []
        for name in names:
            places = self._places.get(name, [])
            nth = taken.get(name, 0) + 1
            if nth <= len(places):
                taken[name] = nth
                found.append(self._canonical(places[-nth], relaxed))
        return found

    def _canonical(self, place: int, relaxed: bool) -> bytes:
        key = (place, relaxed)
        if key not in self._fields:
            self._fields[key] = canonical_field(self.message.fields[place].raw, relaxed=relaxed)
        return self._fields[key]


def parse_tags(value: bytes) -> dict[str, bytes]:
    """RFC 6376 §3.2: a tag list; values without white space around them. Raises SignatureProblem."""
    specs = value.split(b";")
    if not specs[-1].strip(b" \t\r\n"):
        specs.pop()
    tags: dict[str, bytes] = {}
    for spec in specs:
        name, equals, text = spec.partition(b"=")
        name = name.strip(b" \t\r\n")
        if not equals or not _TAG_NAME.fullmatch(name):
            raise SignatureProblem("permerror", "what is no list of tags")
        key = name.decode("ascii")
        if key in tags:
            raise SignatureProblem("permerror", f"two tags {key[:20]}=")
        tags[key] = text.strip(b" \t\r\n")
    return tags


def parse_signature(
    tags: Mapping[str, bytes], *, is_seal: bool = False, canonicalization: bytes = b"simple/simple"
) -> Signature:
    """The tags that RFC 6376 §3.5 asks for; ARC-Seal has no h=, bh= and c= (RFC 8617 §4.1.3).

    `canonicalization` is what a signature without c= means. Raises SignatureProblem.
    """
    required = ["a", "b", "d", "s"] if is_seal else ["a", "b", "bh", "d", "h", "s"]
    for name in required:
        if not tags.get(name) and (name != "h" or name not in tags):
            raise SignatureProblem("permerror", f"no tag {name}=")
    algorithm = _text(tags["a"]).lower()
    if algorithm not in _ALGORITHMS:
        raise SignatureProblem("permerror", f"a={algorithm[:40]} is not a known algorithm, or one of the past")
    if "q" in tags and b"dns/txt" not in _split(tags["q"]):
        raise SignatureProblem("permerror", "no way to the key that is known (q=)")
    relaxed_header, relaxed_body = (True, True) if is_seal else _canonicalization(tags.get("c", canonicalization))
    return Signature(
        domain=_domain(tags["d"], "d"),
        selector=_domain(tags["s"], "s"),
        algorithm=algorithm,
        signature=decode_base64(tags["b"], "b"),
        relaxed_header=relaxed_header,
        relaxed_body=relaxed_body,
        body_hash=b"" if is_seal else decode_base64(tags["bh"], "bh"),
        body_length=_number(tags, "l"),
        names=() if is_seal else tuple(_split(tags["h"])),
    )


def verify_content(hashed: HashedMessage, signature: Signature, own: Field, keys: list[PublicKey]) -> None:
    """RFC 6376 §6.1.3: the body's hash, then the header's signature. Raises SignatureProblem."""
    body = hashed.body(relaxed=signature.relaxed_body)
    if signature.body_length is not None and signature.body_length > body.length_bytes:
        raise SignatureProblem("permerror", "l= is longer than the body")
    if signature.body_length is not None and signature.body_length < body.length_bytes:
        # RFC 6376 §8.2: anything could stand behind what is signed, so that nothing may rest on it.
        raise SignatureProblem("policy", "l= leaves a part of the body unsigned")
    if signature.body_hash != body.digest:
        raise SignatureProblem("fail", "the body is not what was signed")
    if 0 < signature.names.count(b"from") < hashed.count(b"from"):
        # RFC 6376 §8.15: a reader might see the one that nobody signed.
        raise SignatureProblem("policy", "a From field is not signed")
    covered = hashed.signed_fields(signature.names, relaxed=signature.relaxed_header)
    verify_fields(covered, own, signature, keys)


def verify_fields(covered: Sequence[bytes], own: Field, signature: Signature, keys: list[PublicKey]) -> None:
    """The header hash of RFC 6376 §3.7: fields, and the signature's own without b= and its CRLF."""
    digest = hash_fields(covered, own, relaxed=signature.relaxed_header)
    if not any(key.verify(signature.signature, digest) for key in keys):
        raise SignatureProblem("fail", "the signature is not by that key, or not of this header")


def hash_fields(covered: Sequence[bytes], own: Field, *, relaxed: bool) -> bytes:
    digest = hashlib.sha256(b"".join(covered))
    digest.update(canonical_field(without_b(own.raw), relaxed=relaxed).removesuffix(b"\r\n"))
    return digest.digest()


def keys_of(signature: Signature, lookups: Lookups, *, identity_domain: str | None = None) -> list[PublicKey]:
    """The keys that may have made the signature. Raises SignatureProblem and DnsTemporaryError."""
    try:
        return find_keys(
            lookups,
            f"{signature.selector}._domainkey.{signature.domain}",
            key_type=signature.algorithm.partition("-")[0],
            is_identity_domain=identity_domain in (None, signature.domain),
        )
    except KeyProblem as problem:
        raise SignatureProblem(problem.result, problem.reason) from None


def without_b(raw: bytes) -> bytes:
    """RFC 6376 §3.7: the field with the value of its b= deleted, white space around it included."""
    name, _, value = raw.partition(b":")
    specs = value.removesuffix(b"\r\n").split(b";")
    for number, spec in enumerate(specs):
        tag, equals, _ = spec.partition(b"=")
        if equals and tag.strip(b" \t\r\n") == b"b":
            specs[number] = tag + b"="
    return name + b":" + b";".join(specs) + b"\r\n"


def decode_base64(value: bytes, tag: str) -> bytes:
    try:
        return base64.b64decode(_WHITE_SPACE.sub(b"", value), validate=True)
    except binascii.Error:
        raise SignatureProblem("permerror", f"{tag}= is not base64") from None


def _canonicalization(value: bytes) -> tuple[bool, bool]:
    """Whether header and body are relaxed; one word stands for the header, and the body is simple then."""
    header, _, body = _text(value).lower().partition("/")
    body = body or "simple"
    if not {header, body} <= {"simple", "relaxed"}:
        raise SignatureProblem("permerror", "c= is not a known canonicalization")
    return header == "relaxed", body == "relaxed"


def _domain(value: bytes, tag: str) -> str:
    """In A-labels (RFC 8616 §5)."""
    domain = fold_domain(_text(value)) if len(value) <= 1_000 else ""
    if not is_domain(domain):
        raise SignatureProblem("permerror", f"{tag}= is not a domain name")
    return domain


def is_domain(text: str) -> bool:
    """Whether d= or s= may be that: lower-case A-labels."""
    return bool(_DOMAIN.fullmatch(text)) and is_dns_name(text)


def _number(tags: Mapping[str, bytes], tag: str) -> int | None:
    if tag not in tags:
        return None
    if not _DIGITS.fullmatch(tags[tag]):
        raise SignatureProblem("permerror", f"{tag}= is not a number")
    return int(tags[tag])


def times(tags: Mapping[str, bytes]) -> tuple[int | None, int | None]:
    """t= and x=, in seconds since 1970. Raises SignatureProblem."""
    made, expires = _number(tags, "t"), _number(tags, "x")
    if made is not None and expires is not None and expires <= made:
        raise SignatureProblem("permerror", "x= is not after t=")
    return made, expires


def _split(value: bytes) -> list[bytes]:
    return [part.strip(b" \t\r\n").lower() for part in value.split(b":")]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
