"""Where mail for a recipient goes: the address, then its primary. Nothing is cached; a transaction's answer counts.

A recipient is looked up as given, then without its `+detail`, then as the domain's catch-all (RFC 5233, contract 6).
What the tags of an address or its instance say is read in the same transaction; see `settings`.
"""

from collections.abc import Iterable
from typing import NamedTuple

from readdress.address import Address, fold, fold_domain
from readdress.directory import settings
from readdress.smtp import grammar, reply
from readdress.store.database import Database, Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "directory.sql")

DIRECT = "DIRECT"
ALIAS = "ALIAS"
CATCH_ALL = "CATCH_ALL"
RETURN_PATH = "RETURN_PATH"

# The transport of what goes back to a sender elsewhere.
RETURN = "return"

# RFC 5321 §4.5.1: mail for it is always taken, whether or not somebody has published it.
POSTMASTER = "postmaster"

SEPARATOR = "+"

# How a rewritten envelope sender begins; what follows is a token of the database.
SRS_PREFIX = "srs0="


class Destination(NamedTuple):
    """An address that gets the mail, why, and how it is passed on.

    For ALIAS, `alias_id` is the alias in between. `transport` is a name of the configuration, "" for the deployment's
    default, or `settings.DISCARD`. `detail` is what followed the `+`. `refuses_spoofs` says that the instance wants a
    mail refused whose domain's DMARC policy says so.
    """

    address_id: str
    instance_id: str
    address: str
    reason: str
    alias_id: str | None
    transport: str = ""
    detail: str = ""
    refuses_spoofs: bool = False

    @property
    def next_hop(self) -> str:
        """The address with the recipient's detail, for who has the mail next (RFC 5233)."""
        local_part, _, domain = self.address.rpartition("@")
        if not self.detail or local_part.endswith('"'):
            return self.address
        return f"{local_part}{SEPARATOR}{self.detail}@{domain}"


class Route(NamedTuple):
    """The destinations in order, or a refusal: `reply` is what SMTP says either way."""

    destinations: tuple[Destination, ...]
    reply: reply.Reply


class _Found(NamedTuple):
    """A row of find_route: an address, its primary if it is an alias, and whether either has settings."""

    address_id: str
    instance_id: str
    address: str
    primary_id: str | None
    primary_instance_id: str | None
    primary: str | None
    has_settings: int


# The inbox of a postmaster whom nobody has published: of no instance, read on the command line.
POSTMASTER_INBOX = Destination(POSTMASTER, "", POSTMASTER, DIRECT, None, settings.INBOX)


def route(tx: Transaction, recipient: Address, *, holds: bool = False) -> Route:
    """Where mail for the recipient goes at this instant; `holds` for who accepts it, behind `lock`."""
    found = _find(tx, recipient.key)
    if found:
        return _route(tx, found, DIRECT, "")
    base, detail = _without_detail(recipient)
    found = _find(tx, base.key) if base else None
    if found:
        return _route(tx, found, DIRECT, detail)
    domain = fold_domain(recipient.domain)
    if fold(recipient.local_part).startswith(SRS_PREFIX):
        sender = tx.one(sql.find_srs_sender, token=fold(recipient.local_part).removeprefix(SRS_PREFIX))
        if sender and is_local(tx, domain):
            return Route((return_to(sender[0]),), reply.RECIPIENT_OK)
    catch_all = tx.one(sql.find_catch_all, domain=domain, key=settings.CATCH_ALL)
    if catch_all and holds:
        tx.lock(sql.lock_route, address_key=catch_all[1])
    found = _find(tx, catch_all[1]) if catch_all else None
    if found:
        return _route(tx, found, CATCH_ALL, "")
    if domain and tx.one(sql.find_domain, domain=domain) is None:
        return Route((), reply.NOT_OUR_DOMAIN)
    if fold(recipient.local_part) == POSTMASTER:
        return Route((POSTMASTER_INBOX,), reply.RECIPIENT_OK)
    return Route((), reply.UNKNOWN_RECIPIENT)


async def check(database: Database, recipient: Address) -> reply.Reply:
    """What RCPT hears at this instant: in one look-up for an address as published, without settings."""
    row = await database.find(sql.find_route, address_key=recipient.key)
    if row is not None and not _Found(*row).has_settings:
        return reply.RECIPIENT_OK
    return (await database.read(lambda tx: route(tx, recipient))).reply


def route_text(tx: Transaction, recipient: str) -> Route:
    """The same for a recipient as a person types it: what RCPT would answer to it in angle brackets."""
    parsed = grammar.parse_recipient(f"<{recipient}>")
    address = parsed[0].address if parsed and not parsed[1] else None
    return route(tx, address) if address else Route((), reply.BAD_RECIPIENT)


def lock(tx: Transaction, recipients: Iterable[Address]) -> None:
    """Hold the recipients' relations still until this transaction commits (contract 2.8), in the order of keys."""
    held = {
        address.key for recipient in recipients for address in (recipient, _without_detail(recipient)[0]) if address
    }
    for address_key in sorted(held):
        tx.lock(sql.lock_route, address_key=address_key)


def return_to(sender: str) -> Destination:
    """A sender elsewhere, of no instance: for notices, and for what comes back to a rewritten envelope sender."""
    return Destination(RETURN, "", sender, RETURN_PATH, None, RETURN)


def is_local(tx: Transaction, domain: str) -> bool:
    """Whether a domain is ours: an address in it is published."""
    return tx.one(sql.find_domain, domain=fold_domain(domain)) is not None


def _without_detail(recipient: Address) -> tuple[Address | None, str]:
    """`local+detail` in its base and detail (RFC 5233); None where there are not both."""
    local_part, _, detail = recipient.local_part.partition(SEPARATOR)
    return (Address(local_part, recipient.domain), detail) if local_part and detail else (None, "")


def _find(tx: Transaction, address_key: str) -> _Found | None:
    row = tx.one(sql.find_route, address_key=address_key)
    return _Found(*row) if row else None


def _route(tx: Transaction, found: _Found, reason: str, detail: str) -> Route:
    direct = Destination(found.address_id, found.instance_id, found.address, reason, None, detail=detail)
    through_alias = None
    if found.primary_id and found.primary_instance_id and found.primary:
        through_alias = Destination(
            found.primary_id, found.primary_instance_id, found.primary, ALIAS, found.address_id, detail=detail
        )
    if found.has_settings:
        return _obey_settings(tx, direct, through_alias)
    return Route((direct, through_alias) if through_alias else (direct,), reply.RECIPIENT_OK)


def _obey_settings(tx: Transaction, direct: Destination, through_alias: Destination | None) -> Route:
    """The recipient's own setting decides the reply; a primary that takes no mail gets no copy of its alias's.

    Only "come again later" holds for the whole, whoever says it: what one of them would miss is not accepted.
    """
    primary = through_alias or direct
    values: dict[str, dict[str, str]] = {}
    for resource_id, key, value in tx.all(
        sql.list_settings,
        address_id=direct.address_id,
        instance_id=direct.instance_id,
        primary_id=primary.address_id,
        primary_instance_id=primary.instance_id,
    ):
        values.setdefault(resource_id, {})[key] = value
    own = settings.read(values.get(direct.address_id, {}), tx.now_ms)
    of_primary = settings.read(values.get(primary.address_id, {}), tx.now_ms)
    if own.accept == settings.REJECT:
        return Route((), reply.ADDRESS_DISABLED)
    if own.accept == settings.DISCARD:
        return Route((direct._replace(transport=settings.DISCARD),), reply.RECIPIENT_OK)
    if settings.TEMPFAIL in (own.accept, of_primary.accept):
        return Route((), reply.ADDRESS_PAUSED)
    destinations = [_configure(direct, own, values)]
    if through_alias and not of_primary.accept:
        destinations.append(_configure(through_alias, of_primary, values))
    return Route(tuple(destinations), reply.RECIPIENT_OK)


def _configure(destination: Destination, own: settings.Settings, values: dict[str, dict[str, str]]) -> Destination:
    of_instance = values.get(destination.instance_id, {})
    return destination._replace(
        transport=own.transport or of_instance.get(settings.TRANSPORT, ""),
        refuses_spoofs=of_instance.get(settings.DMARC) == settings.REJECT,
    )
