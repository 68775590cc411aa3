"""The Authenticated Received Chain of a message as it arrived (RFC 8617 §5.2).

The newest message signature and every seal are verified. A chain that DNS trouble keeps from being judged is
`temperror`, which is not among the RFC's results: such a chain is neither good nor broken.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from readdress.mail.authentication.canonical import canonical_field
from readdress.mail.authentication.guard import guarded
from readdress.mail.authentication.message import Field
from readdress.mail.authentication.resolver import Lookups
from readdress.mail.authentication.signature import (
    HashedMessage,
    SignatureProblem,
    keys_of,
    parse_signature,
    parse_tags,
    times,
    verify_content,
    verify_fields,
)
from readdress.mail.authentication.verdicts import ArcVerdict

SETS_MAX = 50  # RFC 8617 §4.2.1

RESULTS = b"arc-authentication-results"
SIGNATURE = b"arc-message-signature"
SEAL = b"arc-seal"
NAMES = (RESULTS, SIGNATURE, SEAL)  # the order in which a seal takes them (RFC 8617 §5.1.1)

_INSTANCE = re.compile(rb"i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,3})[ \t\r\n]*")


class Chain(NamedTuple):
    """The sets, oldest first: each the three fields by name. `broken` says why they are no chain, empty if they are."""

    sets: list[Mapping[bytes, Field]]
    highest: int
    broken: str


def read_chain(hashed: HashedMessage) -> Chain:
    """RFC 8617 §5.2, steps 1 to 3.A: every instance from 1 on has each field once."""
    if sum(map(hashed.count, NAMES)) > SETS_MAX * len(NAMES):
        return Chain([], SETS_MAX + 1, f"more than {SETS_MAX} sets")
    found: dict[int, dict[bytes, Field]] = {}
    broken = ""
    for field in hashed.message.fields:
        if field.name not in NAMES:
            continue
        instance = _instance(field)
        if not instance:
            broken = broken or "an ARC field has no number"
        elif field.name in found.setdefault(instance, {}):
            broken = broken or f"two fields of a kind with i={instance}"
        else:
            found[instance][field.name] = field
    highest = max(found, default=0)
    if highest > SETS_MAX:
        broken = broken or f"more than {SETS_MAX} sets"
    elif not broken and any(len(found.get(number, ())) < len(NAMES) for number in range(1, highest + 1)):
        broken = "a set is not complete"
    return Chain([found[number] for number in sorted(found)], highest, broken)


def check_arc(hashed: HashedMessage, lookups: Lookups) -> ArcVerdict:
    """`none`, `pass`, `fail` or `temperror`."""
    chain = read_chain(hashed)
    if not chain.sets and not chain.broken:
        return ArcVerdict(result="none")

    def check() -> tuple[str, str]:
        try:
            _verify(chain, hashed, lookups)
        except SignatureProblem as problem:
            return "fail", problem.reason
        return "pass", ""

    result, reason = ("fail", chain.broken) if chain.broken else guarded("ARC", check)
    return ArcVerdict(
        result="fail" if result == "permerror" else result,
        sets=len(chain.sets),
        domain=_sealer(chain),
        reason=reason,
    )


def cv_of(field: Field) -> str:
    """What a seal says of the chain before it; empty when it can't be read."""
    try:
        return parse_tags(field.value).get("cv", b"").decode("ascii", "replace").lower()
    except SignatureProblem:
        return ""


def seal_order(sets: list[Mapping[bytes, Field]]) -> list[Field]:
    return [fields[name] for fields in sets for name in NAMES]


def _verify(chain: Chain, hashed: HashedMessage, lookups: Lookups) -> None:
    """RFC 8617 §5.2, steps 2 to 6. Raises SignatureProblem."""
    for number, fields in enumerate(chain.sets, 1):
        cv = cv_of(fields[SEAL])
        if cv == "fail":
            raise SignatureProblem("fail", f"the chain was broken before i={number}")
        if cv != ("none" if number == 1 else "pass"):
            raise SignatureProblem("fail", f"the seal i={number} has a wrong cv=")
    _verify_message(chain.sets[-1][SIGNATURE], hashed, lookups)
    for count in range(len(chain.sets), 0, -1):
        _verify_seal(chain.sets[:count], lookups)


def _verify_message(field: Field, hashed: HashedMessage, lookups: Lookups) -> None:
    """RFC 8617 §4.1.2: like a DKIM signature, without v=, and never of a seal. Without c= it is relaxed, as for all."""
    tags = parse_tags(field.value)
    signature = parse_signature(tags, canonicalization=b"relaxed/relaxed")
    times(tags)
    if SEAL in signature.names:
        raise SignatureProblem("fail", "h= of a message signature names ARC-Seal")
    verify_content(hashed, signature, field, keys_of(signature, lookups))


def _verify_seal(sets: list[Mapping[bytes, Field]], lookups: Lookups) -> None:
    """RFC 8617 §4.1.3, §5.1.1: of every set so far, and of its own field at the end."""
    own = sets[-1][SEAL]
    tags = parse_tags(own.value)
    if {"h", "bh"} & tags.keys():
        raise SignatureProblem("fail", "a seal has a tag that it must not have")
    signature = parse_signature(tags, is_seal=True)
    times(tags)
    covered = [canonical_field(field.raw, relaxed=True) for field in seal_order(sets)[:-1]]
    verify_fields(covered, own, signature, keys_of(signature, lookups))


def _instance(field: Field) -> int:
    """RFC 8617 §4.2.1: 1 to 50, read here up to 999; 0 where there is none."""
    for spec in field.value.split(b";")[: 1 if field.name == RESULTS else None]:
        match = _INSTANCE.fullmatch(spec.lstrip(b" \t\r\n"))
        if match:
            return int(match[1])
    return 0


def _sealer(chain: Chain) -> str:
    """d= of the newest seal, for people to read."""
    newest = chain.sets[-1].get(SEAL) if chain.sets else None
    try:
        return parse_signature(parse_tags(newest.value), is_seal=True).domain if newest else ""
    except SignatureProblem:
        return ""
