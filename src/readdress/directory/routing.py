"""Where mail for a recipient goes: the address, then its primary. Nothing is cached; a transaction's answer counts."""

from typing import NamedTuple

from readdress.address import Address, fold, fold_domain
from readdress.smtp import grammar, reply
from readdress.store.database import Database, Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "directory.sql")

DIRECT = "DIRECT"
ALIAS = "ALIAS"

# RFC 5321 §4.5.1: mail for it is always taken, whether or not somebody has published it.
POSTMASTER = "postmaster"


class Destination(NamedTuple):
    """An inbox, and why mail for the recipient goes there; for ALIAS, `alias_id` is the alias in between."""

    address_id: str
    instance_id: str
    address: str
    reason: str
    alias_id: str | None


class Route(NamedTuple):
    """The destinations in order, or a refusal: `reply` is what SMTP says either way."""

    destinations: tuple[Destination, ...]
    reply: reply.Reply


# The inbox of a postmaster whom nobody has published: of no instance, read on the command line.
POSTMASTER_INBOX = Destination(POSTMASTER, "", POSTMASTER, DIRECT, None)


def route(tx: Transaction, recipient: Address) -> Route:
    """Where mail for the recipient goes at this instant."""
    found = _find(tx, recipient)
    if found:
        return Route(found, reply.RECIPIENT_OK)
    domain = fold_domain(recipient.domain)
    if domain and tx.one(sql.find_domain, domain=domain) is None:
        return Route((), reply.NOT_OUR_DOMAIN)
    if fold(recipient.local_part) == POSTMASTER:
        return Route((POSTMASTER_INBOX,), reply.RECIPIENT_OK)
    return Route((), reply.UNKNOWN_RECIPIENT)


async def is_published(database: Database, recipient: Address) -> bool:
    """Whether the recipient is an email address, in one look-up; `route` tells what else may take its mail."""
    return await database.find(sql.find_route, address_key=recipient.key) is not None


def route_text(tx: Transaction, recipient: str) -> Route:
    """The same for a recipient as a person types it: what RCPT would answer to it in angle brackets."""
    parsed = grammar.parse_recipient(f"<{recipient}>")
    address = parsed[0].address if parsed and not parsed[1] else None
    return route(tx, address) if address else Route((), reply.BAD_RECIPIENT)


def lock(tx: Transaction, recipient: Address) -> None:
    """Hold the recipient's relation still until this transaction commits (contract 2.8)."""
    tx.lock(sql.lock_route, address_key=recipient.key)


def _find(tx: Transaction, recipient: Address) -> tuple[Destination, ...]:
    row = tx.one(sql.find_route, address_key=recipient.key)
    if row is None:
        return ()
    address_id, instance_id, address, primary_id, primary_instance_id, primary = row
    direct = Destination(address_id, instance_id, address, DIRECT, None)
    if primary_id is None:
        return (direct,)
    return (direct, Destination(primary_id, primary_instance_id, primary, ALIAS, address_id))
