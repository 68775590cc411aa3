"""DMARC (RFC 9989): whether the domain that a reader sees vouches for the message, and what it asks for if not.

The Organizational Domain is found by walking up the DNS tree; there is no public suffix list.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from readdress.mail.authentication.resolver import DnsTemporaryError, Lookups
from readdress.mail.authentication.verdicts import DkimVerdict, DmarcVerdict, SpfVerdict

_LABELS_KEPT = 7  # RFC 9989 §4.10, step 4: eight queries at most
POLICIES = ("none", "quarantine", "reject")

_VERSION = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[^\s,]+")


class Record(NamedTuple):
    """A DMARC Policy Record at the domain that publishes it; its policies are in force."""

    domain: str
    policy: str
    subdomain_policy: str
    absent_subdomain_policy: str
    is_strict_dkim: bool
    is_strict_spf: bool
    is_testing: bool


class Found(NamedTuple):
    """What one walk found: records from the longest name to the shortest, and whether DNS trouble ended it."""

    start: str
    tags: list[tuple[str, dict[str, str]]]
    trouble: str


class Discovery(NamedTuple):
    """The policy that applies to an Author Domain, and its Organizational Domain; None where DNS doesn't tell."""

    domain: str
    record: Record | None
    organizational_domain: str | None
    trouble: str


def discover(domain: str, lookups: Lookups) -> Discovery:
    """RFC 9989 §4.10.1. `trouble` is set when DNS trouble keeps the policy or the Organizational Domain unknown."""
    found = _walk(domain, lookups)
    own = found.tags[0][1] if found.tags and found.tags[0][0] == domain else None
    if found.trouble:
        return Discovery(domain, _record(domain, own) if own else None, None, found.trouble)
    organizational = _organizational_domain(found)
    # The author's own record, else that of its Organizational Domain, else that of the public suffix above it.
    by_name = dict(found.tags)
    suffix = next((name for name, tags in found.tags if tags.get("psd") == "y"), None)
    for name in (domain, organizational, suffix):
        if name in by_name:
            return Discovery(domain, _record(name, by_name[name]), organizational, "")
    return Discovery(domain, None, organizational, "")


def check_dmarc(
    discovery: Discovery, lookups: Lookups, *, spf: SpfVerdict, dkim: Iterable[DkimVerdict]
) -> DmarcVerdict:
    """RFC 9989 §5.3.4 to §5.3.6."""
    domain, record = discovery.domain, discovery.record
    if record is None:
        if discovery.trouble:
            return DmarcVerdict(result="temperror", domain=domain, reason=discovery.trouble)
        return DmarcVerdict(result="none", domain=domain)
    identifiers = [("spf", spf.result, spf.domain, record.is_strict_spf)]
    identifiers += [("dkim", verdict.result, verdict.domain, record.is_strict_dkim) for verdict in dkim]
    aligned: list[str] = []
    trouble = ""
    for method, result, identifier, is_strict in identifiers:
        if result not in ("pass", "temperror") or not identifier:
            continue
        try:
            if not _is_aligned(discovery, identifier, lookups, is_strict=is_strict):
                continue
        except DnsTemporaryError as error:
            trouble = trouble or str(error)
            continue
        if result == "pass":
            aligned.append(method)
        else:
            trouble = trouble or f"the {method} check of {identifier} was kept from its end"
    return _verdict(discovery, record, lookups, aligned=tuple(dict.fromkeys(aligned)), trouble=trouble)


def _verdict(
    discovery: Discovery, record: Record, lookups: Lookups, *, aligned: tuple[str, ...], trouble: str
) -> DmarcVerdict:
    """RFC 9989 §5.3.6: with DNS trouble in the way of a pass, a message has neither passed nor failed."""
    domain = discovery.domain
    if not aligned and trouble:
        return DmarcVerdict(result="temperror", domain=domain, policy_domain=record.domain, reason=trouble)
    try:
        policy = _applicable_policy(record, domain, lookups)
    except DnsTemporaryError as error:
        if not aligned:
            return DmarcVerdict(result="temperror", domain=domain, policy_domain=record.domain, reason=str(error))
        policy = record.policy
    return DmarcVerdict(
        result="pass" if aligned else "fail",
        domain=domain,
        policy=policy,
        policy_domain=record.domain,
        aligned=aligned,
        reason="" if aligned else "no domain that passed is aligned",
    )


def _applicable_policy(record: Record, domain: str, lookups: Lookups) -> str:
    """RFC 9989 §4.10.1: p= at home, np= and sp= for those below; t=y lowers it by one step (§4.7)."""
    policy = record.policy
    if record.domain != domain:
        policy = record.subdomain_policy
        if record.absent_subdomain_policy != policy and not lookups.exists(domain):
            policy = record.absent_subdomain_policy
    return POLICIES[max(0, POLICIES.index(policy) - 1)] if record.is_testing else policy


def _is_aligned(discovery: Discovery, identifier: str, lookups: Lookups, *, is_strict: bool) -> bool:
    """RFC 9989 §4.10.2. Raises DnsTemporaryError where the walk that decides it did not come to its end."""
    if identifier == discovery.domain:
        return True
    if is_strict:
        return False
    organizational = discovery.organizational_domain
    if organizational is None:
        if not _may_share_an_organization(discovery.domain, identifier):
            return False
        raise DnsTemporaryError(discovery.trouble)
    if not _is_within(identifier, organizational):
        return False  # an Organizational Domain is the name itself or above it
    found = _walk(identifier, lookups)
    if found.trouble:
        raise DnsTemporaryError(found.trouble)
    return _organizational_domain(found) == organizational


def _is_within(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}")


def _may_share_an_organization(one: str, other: str) -> bool:
    """Two names without a label in common at the end never do, whatever DNS would say."""
    return one.rpartition(".")[2] == other.rpartition(".")[2]


def _walk(domain: str, lookups: Lookups) -> Found:
    """RFC 9989 §4.10: up the tree until psd=y or psd=n, or no labels are left."""
    labels = domain.split(".")
    tags: list[tuple[str, dict[str, str]]] = []
    while labels:
        name = ".".join(labels)
        try:
            records = [text for text in lookups.texts(f"_dmarc.{name}") if _VERSION.match(text)]
        except DnsTemporaryError as error:
            return Found(domain, tags, str(error))
        if len(records) == 1:  # several count as none
            tags.append((name, parse_record(records[0])))
            if tags[-1][1].get("psd") in ("y", "n"):
                break
        labels = labels[-_LABELS_KEPT:] if len(labels) > _LABELS_KEPT else labels[1:]
    return Found(domain, tags, "")


def _organizational_domain(found: Found) -> str:
    """RFC 9989 §4.10.2, steps 1 to 3."""
    for name, tags in found.tags:
        if tags.get("psd") == "n":
            return name
        if tags.get("psd") == "y" and name != found.start:
            below = len(name.split(".")) + 1
            return ".".join(found.start.split(".")[-below:])
    return found.tags[-1][0] if found.tags else found.start


def parse_record(text: bytes) -> dict[str, str]:
    """RFC 9989 §4.8: the tags in lower case, and of one that is said twice the first; what is no tag is ignored."""
    tags: dict[str, str] = {}
    for spec in text.decode("ascii", "replace").split(";"):
        name, equals, value = spec.partition("=")
        if equals:
            name = name.strip(" \t").lower()
            value = value.strip(" \t")
            tags.setdefault(name, value if name in ("v", "rua", "ruf") else value.lower())
    return tags


def _record(domain: str, tags: dict[str, str]) -> Record | None:
    """None where the record asks for nothing: no valid policies, and no reports wanted (RFC 9989 §4.10.1)."""
    policies = {name: tags[name] for name in ("p", "sp", "np") if name in tags}
    if "p" not in policies or not set(policies.values()) <= set(POLICIES):
        if not any(_URI.fullmatch(uri.strip()) for uri in tags.get("rua", "").split(",")):
            return None
        policies = {"p": "none"}
    subdomain_policy = policies.get("sp", policies["p"])
    return Record(
        domain=domain,
        policy=policies["p"],
        subdomain_policy=subdomain_policy,
        absent_subdomain_policy=policies.get("np", subdomain_policy),
        is_strict_dkim=tags.get("adkim") == "s",
        is_strict_spf=tags.get("aspf") == "s",
        is_testing=tags.get("t") == "y",
    )
