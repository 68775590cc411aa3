"""The relation between an alias and its primary: a matching, changed under the lock of both addresses.

An address takes part in at most one relation, on one side (contract 2.3). What could never be valid is a 400; what the
present state forbids is a 409 that names the reason, for the caller can change that state.
"""

from typing import NamedTuple

from readdress.clock import new_id
from readdress.directory import addresses, instances
from readdress.errors import InvalidRequestException, ResourceConflictException, ResourceNotFoundException
from readdress.store.database import Transaction
from readdress.store.queries import load_queries

ASSOCIATED = "ASSOCIATED"
DISASSOCIATED = "DISASSOCIATED"
DELETED = "DELETED"

sql = load_queries(__package__, "directory.sql")


def associate(
    tx: Transaction, *, account: str, instance_id: str, primary_id: str, alias_id: str, request_id: str = ""
) -> None:
    """From the commit on, mail for the alias goes to the primary as well; `request_id` is of the call that asked so."""
    relations = _lock(tx, account=account, instance_id=instance_id, primary_id=primary_id, alias_id=alias_id)
    if relations:
        raise ResourceConflictException(conflict(relations, primary_id=primary_id, alias_id=alias_id))
    tx.send(sql.insert_alias, alias_id=alias_id, primary_id=primary_id, created_ms=tx.now_ms)
    note(tx, alias_id=alias_id, primary_id=primary_id, change=ASSOCIATED, request_id=request_id)


def disassociate(
    tx: Transaction, *, account: str, instance_id: str, primary_id: str, alias_id: str, request_id: str = ""
) -> None:
    """From the commit on, mail for the former alias reaches its own inbox alone."""
    relations = _lock(tx, account=account, instance_id=instance_id, primary_id=primary_id, alias_id=alias_id)
    if (alias_id, primary_id) in relations:
        tx.send(sql.delete_alias, alias_id=alias_id, primary_id=primary_id)
        note(tx, alias_id=alias_id, primary_id=primary_id, change=DISASSOCIATED, request_id=request_id)
        return
    message = f"The email address {alias_id} is not an alias of {primary_id}."
    if (primary_id, alias_id) not in relations:
        message += " If you repeat a call whose answer was lost, it is done."
    if (primary_id, alias_id) in relations:
        message += (
            f" They are associated the other way round: {primary_id} is the alias and {alias_id} the primary. "
            "Swap the two identifiers."
        )
    raise ResourceNotFoundException(message)


class Change(NamedTuple):
    """A relation that began or ended; `change` is ASSOCIATED, DISASSOCIATED or DELETED, with one of its addresses.

    `request_id` is of the call of the API that did it, "" where none did.
    """

    alias_id: str
    primary_id: str
    at_ms: int
    change: str
    request_id: str


def note(tx: Transaction, *, alias_id: str, primary_id: str, change: str, request_id: str) -> None:
    tx.send(
        sql.insert_history,
        alias_id=alias_id,
        id=new_id(),
        primary_id=primary_id,
        at_ms=tx.now_ms,
        change=change,
        request_id=request_id,
    )


def list_changes(tx: Transaction, address_id: str, *, since_ms: int, until_ms: int, limit: int = 100) -> list[Change]:
    """What happened to the address's relations, on either side, the newest first."""
    rows = tx.all(sql.list_history, address_id=address_id, since_ms=since_ms, until_ms=until_ms, limit=limit)
    return [Change(*row) for row in rows]


def _lock(tx: Transaction, *, account: str, instance_id: str, primary_id: str, alias_id: str) -> set[tuple[str, str]]:
    """Hold both addresses still; every relation that one of them takes part in, each as (alias, primary)."""
    if primary_id == alias_id:
        instances.get(tx, account=account, instance_id=instance_id)
        raise InvalidRequestException(
            "AliasConfiguration.EmailAddressId: an email address cannot be its own alias. Name another address."
        )
    pair = {"instance_id": instance_id, "one_id": primary_id, "other_id": alias_id}
    tx.lock(sql.lock_addresses, **pair)
    found = {row[0]: row for row in tx.all(sql.find_pair, account=account, **pair)}
    for address_id in (primary_id, alias_id):
        if address_id not in found:
            instances.get(tx, account=account, instance_id=instance_id)
            raise addresses.not_found(address_id, instance_id)
    served = {(address_id, primary) for address_id, primary, _ in found.values() if primary}
    return served | {(alias, address_id) for address_id, _, alias in found.values() if alias}


def conflict(relations: set[tuple[str, str]], *, primary_id: str, alias_id: str) -> str:
    """Which of the present relations forbids the new one; each is (alias, primary)."""
    aliases, primaries = {alias for alias, _ in relations}, {primary for _, primary in relations}
    if (alias_id, primary_id) in relations:
        return (
            f"The email address {alias_id} is already an alias of {primary_id}. If you repeat a call whose answer was "
            "lost, it is done."
        )
    if (primary_id, alias_id) in relations:
        return (
            f"The two are associated the other way round: {primary_id} is an alias of {alias_id}. "
            "Disassociate them first."
        )
    if primary_id in primaries:
        return (
            f"The email address {primary_id} already has an alias, and it can have one only. Disassociate that one "
            "first; DescribeEmailAddress names it."
        )
    if alias_id in aliases:
        return f"The email address {alias_id} is already an alias of another email address. Disassociate it first."
    if primary_id in aliases:
        return (
            f"The email address {primary_id} is itself an alias, and aliases cannot be chained. Name its primary, or "
            "disassociate it first."
        )
    return (
        f"The email address {alias_id} has an alias of its own, and aliases cannot be chained. Disassociate that one "
        "first."
    )
