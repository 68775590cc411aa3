"""Instances: the scopes of the API, each owned by one account."""

from typing import NamedTuple

from readdress.directory import tags
from readdress.errors import InvalidRequestException, ResourceNotFoundException
from readdress.store.database import Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "directory.sql")


class Instance(NamedTuple):
    id: str
    account: str
    alias: str | None
    identity_management_type: str
    directory_id: str | None
    inbound_calls: int
    outbound_calls: int
    created_ms: int


def create(tx: Transaction, instance: Instance) -> None:
    """Raises InvalidRequestException when its alias is taken."""
    if not tx.execute(sql.insert_instance, **instance._asdict()):
        raise InvalidRequestException(
            f"An instance with the alias {instance.alias} exists already. Choose another InstanceAlias."
        )


def find(tx: Transaction, *, account: str, instance_id: str) -> Instance | None:
    row = tx.one(sql.find_instance, id=instance_id, account=account)
    return Instance(*row) if row else None


def get(tx: Transaction, *, account: str, instance_id: str) -> Instance:
    """Raises ResourceNotFoundException: the account has no such instance."""
    instance = find(tx, account=account, instance_id=instance_id)
    if instance is None:
        raise ResourceNotFoundException(f"The instance {instance_id} does not exist in account {account}.")
    return instance


def lock(tx: Transaction, instance_id: str) -> None:
    """Hold the instance still until this transaction commits."""
    tx.lock(sql.lock_instance, id=instance_id)


def list_page(tx: Transaction, *, account: str, after: str, limit: int) -> list[Instance]:
    """The account's instances with an id beyond `after`, by id."""
    return [Instance(*row) for row in tx.all(sql.list_instances, account=account, after=after, limit=limit)]


def delete(tx: Transaction, instance_id: str) -> None:
    """The instance, its addresses, their relations and tags."""
    lock(tx, instance_id)
    tx.lock(sql.lock_addresses_of_instance, instance_id=instance_id)
    tx.send(sql.delete_tags_of_addresses, instance_id=instance_id)
    tx.send(sql.delete_addresses_of_instance, instance_id=instance_id)
    tags.delete_all(tx, instance_id)
    tx.send(sql.delete_instance, id=instance_id)
