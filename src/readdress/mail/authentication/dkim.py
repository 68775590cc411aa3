"""Every DKIM signature of a message, each with its verdict (RFC 6376, RFC 8301, RFC 8463)."""

from collections.abc import Callable
from typing import NamedTuple

from readdress.address import fold_domain
from readdress.mail.authentication.guard import guarded
from readdress.mail.authentication.message import Field
from readdress.mail.authentication.resolver import Lookups
from readdress.mail.authentication.signature import (
    HashedMessage,
    Signature,
    SignatureProblem,
    keys_of,
    parse_signature,
    parse_tags,
    times,
    verify_content,
)
from readdress.mail.authentication.verdicts import SIGNATURES_MAX, DkimVerdict

_TEXT_CHARACTERS_MAX = 253
# So many fields are read to find out which come first.
_FIELDS_MAX = 100
# RFC 6008 §4: as much of b= as tells signatures apart.
_SIGNATURE_CHARACTERS = 8


class _Shown(NamedTuple):
    domain: str
    selector: str
    algorithm: str
    signature: str


class DkimChecks:
    """The signatures of one message, at most ten; those of domains that `comes_first` names are checked on their own.

    So that signatures of others can't use up the time for them, nor for what the caller checks in between.
    """

    def __init__(
        self,
        hashed: HashedMessage,
        lookups: Lookups,
        *,
        now_s: int,
        comes_first: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._hashed = hashed
        self._lookups = lookups
        self._now_s = now_s
        self._fields = hashed.message.named(b"dkim-signature")[:_FIELDS_MAX]
        self._shown = [_show(field) for field in self._fields]
        self._comes_first = [comes_first(shown.domain) for shown in self._shown]
        self._verdicts: dict[int, DkimVerdict] = {}

    def check_first(self) -> None:
        for place in self._order():
            if self._comes_first[place]:
                self._check(place)

    def verdicts(self) -> tuple[DkimVerdict, ...]:
        """One for each signature, from top to bottom, and one that says how many were left out."""
        if not self._fields:
            return (DkimVerdict(result="none"),)
        for place in self._order():
            self._check(place)
        found = tuple(self._verdicts[place] for place in sorted(self._verdicts))
        left_out = self._hashed.count(b"dkim-signature") - len(found)
        if left_out:
            # RFC 8601 §2.7.1: neutral is what was not processed.
            found += (DkimVerdict(result="neutral", reason=f"{left_out} more signatures were not looked at"),)
        return found

    def _order(self) -> list[int]:
        return sorted(range(len(self._fields)), key=lambda place: not self._comes_first[place])[:SIGNATURES_MAX]

    def _check(self, place: int) -> None:
        if place not in self._verdicts:
            result, reason = guarded("DKIM", lambda: self._try(self._fields[place]))
            self._verdicts[place] = DkimVerdict(result=result, reason=reason, **self._shown[place]._asdict())

    def _try(self, field: Field) -> tuple[str, str]:
        try:
            _verify(field, self._hashed, self._lookups, self._now_s)
        except SignatureProblem as problem:
            return problem.result, problem.reason
        return "pass", ""


def _verify(field: Field, hashed: HashedMessage, lookups: Lookups, now_s: int) -> None:
    """RFC 6376 §6.1. Raises SignatureProblem unless the signature is good."""
    tags = parse_tags(field.value)
    if tags.get("v") != b"1":
        raise SignatureProblem("permerror", "no tag v=1")
    signature = parse_signature(tags)
    if b"from" not in signature.names:
        raise SignatureProblem("permerror", "h= does not name From")
    identity = _identity_domain(tags, signature)
    _, expires_s = times(tags)
    if expires_s is not None and expires_s < now_s:
        raise SignatureProblem("policy", "the signature is out of date (x=)")
    verify_content(hashed, signature, field, keys_of(signature, lookups, identity_domain=identity))


def _identity_domain(tags: dict[str, bytes], signature: Signature) -> str:
    """The domain of i=, which is that of d= or below it (RFC 6376 §3.5)."""
    if "i" not in tags:
        return signature.domain
    domain = fold_domain(tags["i"].rpartition(b"@")[2].decode("utf-8", "replace"))
    if domain != signature.domain and not domain.endswith(f".{signature.domain}"):
        raise SignatureProblem("permerror", "i= is not of the domain d=")
    return domain


def _show(field: Field) -> _Shown:
    """What the field says of itself, however little of it can be read."""
    tags: dict[bytes, bytes] = {}
    for spec in field.unfolded.split(b";"):
        name, _, value = spec.partition(b"=")
        tags.setdefault(name.strip(b" \t"), value.strip(b" \t"))

    def text(name: bytes) -> str:
        return tags.get(name, b"")[: 4 * _TEXT_CHARACTERS_MAX].decode("utf-8", "replace")[:_TEXT_CHARACTERS_MAX]

    return _Shown(
        domain=fold_domain(text(b"d")),
        selector=fold_domain(text(b"s")),
        algorithm=text(b"a").lower(),
        signature=text(b"b").replace(" ", "").replace("\t", "")[:_SIGNATURE_CHARACTERS],
    )
