"""Email addresses: the resources with an id, each published under one key in the whole deployment."""

from typing import Any, NamedTuple

from readdress.address import fold, split_address
from readdress.clock import new_id
from readdress.directory import instances, tags, texts
from readdress.errors import (
    DuplicateResourceException,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
)
from readdress.store.database import StoreChanged, Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "directory.sql")


class EmailAddress(NamedTuple):
    """An address as published; `alias_id` is the alias whose mail is forwarded to it, if there is one."""

    id: str
    instance_id: str
    address: str
    display_name: str | None
    description: str | None
    created_ms: int
    modified_ms: int
    alias_id: str | None


def create(
    tx: Transaction,
    *,
    address_id: str,
    instance_id: str,
    address: str,
    display_name: str | None,
    description: str | None,
    addresses_max: int | None,
) -> None:
    """Raises ServiceQuotaExceededException at `addresses_max`, DuplicateResourceException where the key is taken."""
    if addresses_max is not None:
        instances.lock(tx, instance_id)
        if count(tx, instance_id) >= addresses_max:
            raise ServiceQuotaExceededException(
                f"The instance has {addresses_max} email addresses, its quota. Delete one, or raise the quota."
            )
    row = make_row(
        address_id=address_id,
        instance_id=instance_id,
        address=address,
        address_key=split_address(address).key,
        display_name=display_name,
        description=description,
        created_ms=tx.now_ms,
    )
    if not tx.execute(sql.insert_address, **row):
        raise DuplicateResourceException(
            f"The email address {address} exists already; it is unique in the whole deployment, whatever its "
            "letter case. Use the existing one, or choose another."
        )
    texts.number(tx, [address_id])


def make_row(
    *,
    address_id: str,
    instance_id: str,
    address: str,
    address_key: str,
    display_name: str | None,
    description: str | None,
    created_ms: int,
) -> dict[str, Any]:
    """The parameters of `insert_address`."""
    return {
        "id": address_id,
        "instance_id": instance_id,
        "address": address,
        "address_key": address_key,
        "domain": address_key.rpartition("@")[2],
        "display_name": display_name,
        "description": description,
        "address_folded": fold(address),
        "display_name_folded": _fold(display_name),
        "description_folded": _fold(description),
        "created_ms": created_ms,
    }


def count(tx: Transaction, instance_id: str) -> int:
    row = tx.one(sql.count_addresses, instance_id=instance_id)
    return int(row[0]) if row else 0


def get(tx: Transaction, *, account: str, instance_id: str, address_id: str) -> EmailAddress:
    """Raises ResourceNotFoundException: the account has no such instance, or that no such address."""
    row = tx.one(sql.find_address, id=address_id, instance_id=instance_id, account=account)
    if row is None:
        instances.get(tx, account=account, instance_id=instance_id)
        raise not_found(address_id, instance_id)
    return EmailAddress(*row)


def describe(
    tx: Transaction, *, account: str, instance_id: str, address_id: str
) -> tuple[EmailAddress, dict[str, str]]:
    """The address and its tags, by one statement. Raises as `get` does."""
    rows = tx.all(sql.describe_address, id=address_id, instance_id=instance_id, account=account)
    if not rows:
        instances.get(tx, account=account, instance_id=instance_id)
        raise not_found(address_id, instance_id)
    found = {key: value for *_, key, value in rows if key is not None}
    return EmailAddress(*rows[0][:-2]), found


def lock(tx: Transaction, *, instance_id: str, address_id: str) -> None:
    """Hold the address still until this transaction commits."""
    tx.lock(sql.lock_addresses, instance_id=instance_id, one_id=address_id, other_id=address_id)


def not_found(address_id: str, instance_id: str) -> ResourceNotFoundException:
    return ResourceNotFoundException(f"The email address {address_id} does not exist in instance {instance_id}.")


def update(tx: Transaction, address_id: str, *, display_name: str | None, description: str | None) -> None:
    """What is None stays as it is; an empty text empties it."""
    for query, value in ((sql.update_display_name, display_name), (sql.update_description, description)):
        if value is not None:
            tx.send(query, id=address_id, value=value, folded=fold(value), modified_ms=tx.now_ms)


def delete(tx: Transaction, *, instance_id: str, address_id: str, request_id: str = "") -> None:
    """The address with its tags and its relation (contract 2.7), which goes by the foreign key.

    The other end is locked as well, so that mail for an alias comes before its primary ends or after (contract 2.8).
    """
    partner = tx.one(sql.find_partner, id=address_id)
    other_id = partner[0] if partner else address_id
    tx.lock(sql.lock_addresses, instance_id=instance_id, one_id=address_id, other_id=other_id)
    if tx.one(sql.find_partner, id=address_id) != partner:
        raise StoreChanged
    tags.delete_all(tx, address_id)
    tx.send(sql.note_deletion, address_id=address_id, id=new_id(), at_ms=tx.now_ms, request_id=request_id)
    if not tx.execute(sql.delete_address, id=address_id):
        raise StoreChanged


def _fold(text: str | None) -> str | None:
    return None if text is None else fold(text)
