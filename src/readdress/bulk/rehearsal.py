"""A dry run: the import as it would be, on a stage that gets what the real database has when it is first asked for.

So a rehearsal refuses what the import would refuse, and the real database is only read, at one instant.
"""

from collections.abc import Iterable
from typing import Final, TypeVar

from readdress.bulk.importing import list_tags, sql, texts_of
from readdress.bulk.planning import Rules
from readdress.directory import addresses, settings, tags
from readdress.store.database import Database, Transaction, Work
from readdress.store.queries import Query

T = TypeVar("T")

_RELATION: Final = ("alias_id", "primary_id", "created_ms")
_ROW: Final = ("address_id", "instance_id", "address", "address_key", "display_name", "description", "created_ms")


class Rehearsal:
    """Runs works in `stage`, which is empty at first, as if it were the database that `tx` reads."""

    def __init__(self, tx: Transaction, stage: Database, rules: Rules) -> None:
        instance_id, addresses_max = rules.instance_id, rules.addresses_max
        self._tx = tx
        self._stage = stage
        stage.run(lambda staged: staged.execute(sql.copy_instance, id=instance_id))
        if addresses_max is not None:  # so that they count against the quota
            self._copy({key for (key,) in tx.all(sql.list_keys, instance_id=instance_id, limit=addresses_max)})

    def run(self, work: Work[T], keys: Iterable[str]) -> T:
        self._copy(set(keys))
        return self._stage.run(work)

    def _copy(self, keys: set[str]) -> None:
        tx = self._tx
        for domain in {key.rpartition("@")[2] for key in keys}:
            catch_all = tx.one(settings.sql.find_catch_all, domain=domain, key=settings.CATCH_ALL)
            if catch_all:
                keys.add(catch_all[1])
        partners = {key for (key,) in tx.all(sql.find_partners, texts=texts_of(keys))}
        found = [dict(zip(_ROW, row, strict=True)) for row in tx.all(sql.find_rows, texts=texts_of(keys | partners))]
        if not found:
            return
        ids = [row["address_id"] for row in found]
        relations = [dict(zip(_RELATION, row, strict=True)) for row in tx.all(sql.find_relations, texts=texts_of(ids))]
        tagged = list_tags(tx, ids)

        def stage(staged: Transaction) -> None:
            staged.execute_all(sql.copy_instance, [{"id": row["instance_id"]} for row in found])
            staged.execute_all(addresses.sql.insert_address, [addresses.make_row(**row) for row in found])
            staged.execute_all(sql.copy_relation, relations)
            rows = [
                {"resource_id": holder, "key": key, "value": value}
                for holder, pairs in tagged.items()
                for key, value in pairs.items()
            ]
            staged.execute_all(_COPY_TAG, rows)

        self._stage.run(stage)


# What the rehearsal has changed already stays changed.
_COPY_TAG = Query(tags.sql.put_tag.partition("ON CONFLICT")[0] + "ON CONFLICT DO NOTHING", "copy_tag")
