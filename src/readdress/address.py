"""The text `local_part@domain`: split, and folded into the key under which the directory finds it."""

import unicodedata
from functools import lru_cache
from typing import NamedTuple

import idna


class Address(NamedTuple):
    """An address in two halves, as typed; a quoted local part is already unquoted."""

    local_part: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local_part}@{self.domain}" if self.domain else self.local_part

    @property
    def key(self) -> str:
        """The form under which the directory finds it: `fold(local_part)@fold_domain(domain)`."""
        return _key(self)


@lru_cache(maxsize=1_024)  # it is asked for several times for each message
def _key(address: Address) -> str:
    return f"{fold(address.local_part)}@{fold_domain(address.domain)}"


def split_address(text: str) -> Address:
    """Halves at the last `@`; a local part in quotes means the same without them (RFC 5321 §4.1.2)."""
    local_part, _, domain = text.rpartition("@")
    if len(local_part) > 2 and local_part[0] == local_part[-1] == '"':
        local_part = unquote(local_part)
    return Address(local_part, domain)


def unquote(local_part: str) -> str:
    r"""`"a\ b"` → `a b` (RFC 5321 §4.1.2, Quoted-string)."""
    kept, escaped = [], False
    for character in local_part[1:-1]:
        if character == "\\" and not escaped:
            escaped = True
            continue
        kept.append(character)
        escaped = False
    return "".join(kept)


def fold(text: str) -> str:
    """Text without its letter case, in one Unicode form: what two spellings of the same word share."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def fold_domain(domain: str) -> str:
    """The lower-case A-labels of a domain; what IDNA refuses keeps its folded form, and no mail reaches it."""
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower()
    except idna.IDNAError:
        return fold(domain)
