"""All checks of one message, in the order in which a hostile sender can do least harm, and their verdicts."""

import time

from readdress.mail.authentication.arc import check_arc
from readdress.mail.authentication.author import AuthorProblem, find_author_domain
from readdress.mail.authentication.dkim import DkimChecks
from readdress.mail.authentication.dmarc import Discovery, check_dmarc, discover
from readdress.mail.authentication.guard import guarded
from readdress.mail.authentication.message import Message, split_message
from readdress.mail.authentication.resolver import Lookups, Resolver
from readdress.mail.authentication.signature import HashedMessage
from readdress.mail.authentication.spf import check_spf
from readdress.mail.authentication.verdicts import DkimVerdict, DmarcVerdict, SpfVerdict, Verdicts


def check_sender(
    content: bytes,
    *,
    peer_address: str,
    ehlo: str,
    sender: str,
    authserv_id: str,
    resolver: Resolver,
    budget_s: float,
) -> Verdicts:
    """What the message's content (with CRLF, as received) and envelope say of who sent it; see `check_hashed`."""
    return check_hashed(
        hash_content(content),
        peer_address=peer_address,
        ehlo=ehlo,
        sender=sender,
        authserv_id=authserv_id,
        resolver=resolver,
        budget_s=budget_s,
    )


def hash_content(content: bytes) -> HashedMessage:
    """All that the checks need of the content, without DNS, so that a long one need not be kept while they wait."""
    hashed = HashedMessage(split_message(content))
    hashed.hash_bodies()
    return hashed


def check_hashed(
    hashed: HashedMessage,
    *,
    peer_address: str,
    ehlo: str,
    sender: str,
    authserv_id: str,
    resolver: Resolver,
    budget_s: float,
) -> Verdicts:
    """What a message and its envelope say of who sent it.

    `peer_address` is an IP address; for any other text, and one of an internal network, SPF is `none`. `sender` is
    empty for the null sender. Never raises for what a message or DNS holds; waits `budget_s` for DNS at most.
    """
    lookups = resolver.begin(budget_s)
    # The Author Domain's policy and signatures come first: look-ups that an attacker makes slow may cost the verdicts
    # on the attacker's own domains, and never turn a DMARC `fail` for another's domain into a `temperror`.
    author = _Author(hashed.message, lookups)
    signatures = DkimChecks(hashed, lookups, now_s=int(time.time()), comes_first=author.is_close_to)
    signatures.check_first()
    spf = check_spf(lookups, peer_address=peer_address, ehlo=ehlo, sender=sender, receiver=authserv_id)
    dkim = signatures.verdicts()
    arc = check_arc(hashed, lookups)
    return Verdicts(spf=spf, dkim=dkim, arc=arc, dmarc=author.check(lookups, spf=spf, dkim=dkim))


class _Author:
    """The domain that a reader sees, and its policy; or why there is neither."""

    def __init__(self, message: Message, lookups: Lookups) -> None:
        self._discovery: Discovery | None = None

        def find() -> tuple[str, str]:
            try:
                self._discovery = discover(find_author_domain(message), lookups)
            except AuthorProblem as problem:
                return "permerror", str(problem)
            return "", ""

        self._result, self._reason = guarded("DMARC", find)

    def is_close_to(self, domain: str) -> bool:
        """Whether a signature by that domain might be aligned."""
        if self._discovery is None:
            return False
        top = self._discovery.organizational_domain or self._discovery.domain
        return domain == top or domain.endswith(f".{top}")

    def check(self, lookups: Lookups, *, spf: SpfVerdict, dkim: tuple[DkimVerdict, ...]) -> DmarcVerdict:
        discovery = self._discovery
        if discovery is None:
            return DmarcVerdict(result=self._result, reason=self._reason)
        verdicts: list[DmarcVerdict] = []

        def check() -> tuple[str, str]:
            verdicts.append(check_dmarc(discovery, lookups, spf=spf, dkim=dkim))
            return "", ""

        result, reason = guarded("DMARC", check)
        return verdicts[0] if verdicts else DmarcVerdict(result=result, domain=discovery.domain, reason=reason)
