"""SPF (RFC 7208): may this host send for this domain? Evaluated by pyspf, with our look-ups in place of its own.

pyspf keeps its state in an object for each check, and its look-up is replaced in that object, not in the module, so
that checks can run in threads side by side.
"""

import ipaddress
from typing import Any

from readdress.address import fold_domain, split_address
from readdress.mail.authentication.guard import guarded
from readdress.mail.authentication.resolver import DnsTemporaryError, Lookups, Value, is_dns_name
from readdress.mail.authentication.verdicts import SpfVerdict

VOID_LOOKUPS_MAX = 2  # RFC 7208 §4.6.4; that of ten terms is pyspf's own
# RFC 7208 §3.4 wants records that fit a datagram. pyspf's patterns take the square of a term's length.
_RECORD_BYTES_MAX = 4_096
_TERM_BYTES_MAX = 512

# Where a message comes from when another server of ours took it first: the real client is not known then.
_INTERNAL = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::/128",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
]


def check_spf(lookups: Lookups, *, peer_address: str, ehlo: str, sender: str, receiver: str) -> SpfVerdict:
    """The verdict on MAIL FROM, and on EHLO for the null sender (RFC 7208 §2.4)."""
    domain = fold_domain(split_address(sender).domain if sender else ehlo)
    client = _client(peer_address)
    if client is None:
        result, reason = "none", "the client behind this hop is not known"
    elif not _is_fqdn(domain):
        result, reason = "none", "there is no domain to check"  # RFC 7208 §4.3
    else:
        result, reason = guarded(
            "SPF", lambda: evaluate_spf(lookups, client=client, ehlo=ehlo, sender=sender, receiver=receiver)
        )
    return SpfVerdict(
        result=result,
        identity="mailfrom" if sender else "helo",
        sender=sender or ehlo,
        domain=domain,
        reason=reason,
    )


def evaluate_spf(lookups: Lookups, *, client: str, ehlo: str, sender: str, receiver: str) -> tuple[str, str]:
    """check_host() of RFC 7208 §4: its result, and why where that is an error."""
    import spf

    query = spf.query(client, _in_a_labels(sender), fold_domain(ehlo), receiver=receiver, strict=True)
    query.get_explanation = lambda _: None  # shown to nobody, so not looked up

    def look_up(name: str, rdtype: str, cnames: object = None, ignore_void: bool = False) -> list[Any]:
        _ = cnames  # followed by the resolver
        values = _resolve(spf, lookups, str(name), rdtype)
        if not values and not ignore_void:
            query.void_lookups += 1
            if query.void_lookups > VOID_LOOKUPS_MAX:
                raise spf.PermError(f"Void lookup limit of {VOID_LOOKUPS_MAX} exceeded")
        return values

    query.dns = look_up
    result, _, _ = query.check()
    return str(result), str(query.prob) if result in ("permerror", "temperror") else ""


def _resolve(spf: Any, lookups: Lookups, name: str, rdtype: str) -> list[Any]:
    try:
        values = lookups.resolve(name, rdtype).values
    except DnsTemporaryError as error:
        raise spf.TempError(str(error)) from None
    return [_as_pyspf_has_it(spf, value) for value in values]


def _as_pyspf_has_it(spf: Any, value: Value) -> Any:
    """A TXT record is a list of its strings there."""
    if not isinstance(value, bytes):
        return value
    if value[:6].lower() == b"v=spf1":
        if len(value) > _RECORD_BYTES_MAX:
            raise spf.PermError(f"the record is longer than {_RECORD_BYTES_MAX} bytes")
        if any(len(term) > _TERM_BYTES_MAX for term in value.split(b" ")):
            raise spf.PermError(f"a term of the record is longer than {_TERM_BYTES_MAX} bytes")
    return [value]


def _client(peer_address: str) -> str | None:
    """The address as text, None for one of a network of our own or of no network."""
    try:
        address = ipaddress.ip_address(peer_address)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return None if any(address in network for network in _INTERNAL) else str(address)


def _in_a_labels(sender: str) -> str:
    """RFC 8616 §4: the domain in A-labels; a local part beyond ASCII stays, and no macro with it matches."""
    local_part, at, domain = sender.rpartition("@")
    return f"{local_part}{at}{fold_domain(domain)}"


def _is_fqdn(domain: str) -> bool:
    return is_dns_name(domain) and "." in domain and not domain.startswith("[")
