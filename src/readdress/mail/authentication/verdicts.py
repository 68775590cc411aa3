"""The verdicts of the checks, as they are stored with a message and shown by the API: their JSON is the wire's.

Result names are those of RFC 8601 §2.7 and RFC 8617 §10.1. `reason` is ours, for people; texts that a sender wrote are
bounded, and are to be quoted by whoever shows them.
"""

import msgspec

from readdress.mail.authentication import results

# RFC 6376 §6.1: a verifier may bound the work that one message makes.
SIGNATURES_MAX = 10


class SpfVerdict(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """RFC 7208. `identity` is `mailfrom`, or `helo` for the null sender; `sender` is what was checked."""

    result: str
    identity: str
    sender: str
    domain: str
    reason: str = ""


class DkimVerdict(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """RFC 6376: one signature. `signature` is the beginning of b=, which tells two signatures apart (RFC 6008)."""

    result: str
    domain: str = ""
    selector: str = ""
    algorithm: str = ""
    signature: str = ""
    reason: str = ""


class ArcVerdict(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """RFC 8617: the chain as it arrived, with the number of its sets and who sealed it last."""

    result: str
    sets: int = 0
    domain: str = ""
    reason: str = ""


class DmarcVerdict(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """RFC 9989. `domain` is the Author Domain, `policy_domain` where the record was found.

    `policy` is what the owner asks for mail that fails: none, quarantine or reject, after np, sp and t. `aligned` names
    the mechanisms that passed for an aligned domain.
    """

    result: str
    domain: str = ""
    policy: str = "none"
    policy_domain: str = ""
    aligned: tuple[str, ...] = ()
    reason: str = ""


class Verdicts(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What was found out about one message; without a signature `dkim` is one verdict `none`."""

    spf: SpfVerdict
    dkim: tuple[DkimVerdict, ...]
    arc: ArcVerdict
    dmarc: DmarcVerdict

    def results_field(self, authserv_id: str) -> str:
        """One Authentication-Results field (RFC 8601 §2.2), folded, with CRLF at its end."""
        return results.field(authserv_id, [self._spf(), *map(_dkim, self.dkim), self._dmarc(), self._arc()])

    def _spf(self) -> results.Result:
        properties = {f"smtp.{self.spf.identity}": self.spf.sender}
        return results.Result("spf", self.spf.result, self.spf.reason, properties)

    def _dmarc(self) -> results.Result:
        policy = self.dmarc.policy if self.dmarc.policy_domain else ""
        properties = {"header.from": self.dmarc.domain, "policy.dmarc": policy}
        return results.Result("dmarc", self.dmarc.result, self.dmarc.reason, properties)

    def _arc(self) -> results.Result:
        return results.Result("arc", self.arc.result, self.arc.reason, {})


def _dkim(verdict: DkimVerdict) -> results.Result:
    properties = {
        "header.d": verdict.domain,
        "header.s": verdict.selector,
        "header.a": verdict.algorithm,
        "header.b": verdict.signature,
    }
    return results.Result("dkim", verdict.result, verdict.reason, properties)
