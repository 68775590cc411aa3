"""Tags of instances and email addresses: at most fifty key and value pairs a resource."""

from collections.abc import Iterable, Mapping

from readdress.errors import InvalidParameterException
from readdress.store.database import Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "directory.sql")

TAGS_MAX = 50


def of(tx: Transaction, resource_id: str) -> dict[str, str]:
    return {key: value for key, value in tx.all(sql.list_tags, resource_id=resource_id)}  # noqa: C416 - rows of two


def put(tx: Transaction, resource_id: str, new: Mapping[str, str]) -> None:
    """Add or overwrite; raises InvalidParameterException past fifty."""
    if len(of(tx, resource_id).keys() | new.keys()) > TAGS_MAX:
        raise InvalidParameterException(
            f"tags: a resource has at most {TAGS_MAX} tags. Remove some with UntagResource first."
        )
    for key, value in new.items():
        tx.send(sql.put_tag, resource_id=resource_id, key=key, value=value)


def remove(tx: Transaction, resource_id: str, keys: Iterable[str]) -> None:
    for key in keys:
        tx.send(sql.delete_tag, resource_id=resource_id, key=key)


def delete_all(tx: Transaction, resource_id: str) -> None:
    tx.send(sql.delete_tags, resource_id=resource_id)
