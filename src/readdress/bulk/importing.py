"""Takes entries into the directory, in transactions of bounded size beside whoever else writes; memory stays flat.

An entry whose primary is not there yet waits in a temporary file until all lines are read. A transaction that fails
leaves nothing, and those before it stay: the same import again goes on, for what is there already is left as it is.
"""

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from time import monotonic, sleep
from typing import Any, Final, NamedTuple

import msgspec

from readdress.bulk.entry import Entry, Numbered, key_of
from readdress.bulk.planning import Item, Known, Plan, Rules, State, make_plan
from readdress.clock import new_id
from readdress.directory import addresses, aliases, instances, settings, tags, texts
from readdress.store.database import StoreChanged, Transaction, Work
from readdress.store.queries import Query, load_queries

sql = load_queries(__package__, "bulk.sql")

# Without a name they are not prepared: PostgreSQL would keep the plan that was best when the tables were still small.
_FIND_KNOWN: Final = Query(sql.find_known.locking)
_LOCK_KNOWN: Final = Query(sql.lock_known.locking)
_LIST_TAGS: Final = Query(sql.list_tags.locking)

# What a transaction may take, which is how long others may have to wait for it; its size follows from the last ones.
HOLD_S: Final = 0.04
BATCH_ROWS_MIN: Final = 500
BATCH_ROWS_MAX: Final = 4_000
BATCH_BYTES_MAX: Final = 1_048_576
# Between two transactions: long enough for a writer of another process, which waits in line, to wake and begin.
PAUSE_S: Final = 0.002


class Counts(msgspec.Struct):
    """What an import did so far; `next_line` is where to go on, with everything before it done."""

    lines: int = 0
    created: int = 0
    updated: int = 0
    associated: int = 0
    unchanged: int = 0
    refused: int = 0
    next_line: int = 1


class Source(NamedTuple):
    """Whose import it is, for the audit."""

    account: str
    file: str


def select(entries: Iterable[Numbered], *, from_line: int, tags: Mapping[str, str]) -> Iterator[Numbered]:
    """The entries from a line on, each with some tags more."""
    for line, entry in entries:
        if line < from_line:
            continue
        if tags and isinstance(entry, Entry):
            entry.tags = {**(entry.tags or {}), **tags}
        yield line, entry


def find_instance(tx: Transaction, *, account: str, name: str) -> str | None:
    """The id of the account's instance with that id or alias."""
    row = tx.one(sql.find_instance, account=account, name=name)
    return str(row[0]) if row else None


class Importer:
    """One import; `run` runs a work, given the keys it asks for, and `on_refused` hears why a line is not taken."""

    def __init__(
        self,
        run: Callable[[Work[Plan], Collection[str]], Plan],
        rules: Rules,
        source: Source,
        *,
        on_refused: Callable[[int, str], None],
        on_batch: Callable[[Counts], None],
    ) -> None:
        self.counts = Counts()
        self._run = run
        self._rules = rules
        self._source = source
        self._on_refused = on_refused
        self._on_batch = on_batch
        self._id = new_id()
        self._ended_at = 0.0
        self._batch_rows = min(500, BATCH_ROWS_MAX)
        self._first_deferred = 0
        self._deferred = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed by `take`

    def take(self, entries: Iterable[Numbered]) -> Counts:
        """Everything, to the last line. Raises StoreError, and what reading raises."""
        with self._deferred as deferred:
            for batch in self._batches(entries):
                self._take(batch, is_last=False)
            deferred.seek(0)
            for batch in self._batches(_read_back(deferred)):
                self._take(batch, is_last=True)
        return self.counts

    def _batches(self, entries: Iterable[Numbered]) -> Iterator[list[Item]]:
        """Items of different addresses, so that a batch is a set of changes whose order does not matter."""
        batch: list[Item] = []
        keys: set[str] = set()
        size = 0
        for line, entry in entries:
            if isinstance(entry, str):
                self._refuse(line, entry)
                continue
            key = key_of(entry.email_address)
            if key in keys or len(batch) >= self._batch_rows or size > BATCH_BYTES_MAX:
                yield batch
                batch, keys, size = [], set(), 0
            keys.add(key)
            size += len(entry.description or "") + (sum(map(len, entry.tags.values())) if entry.tags else 0)
            batch.append(Item(line, entry, key, key_of(entry.alias_of) if entry.alias_of else None))
        if batch:
            yield batch

    def _take(self, batch: list[Item], *, is_last: bool) -> None:
        left = self._ended_at + PAUSE_S - monotonic()
        if left > 0:
            sleep(left)
        keys = {key for item in batch for key in (item.key, item.primary_key) if key}
        began_at = monotonic()
        plan = self._run(lambda tx: self._work(tx, batch, keys, is_last=is_last), keys)
        self._ended_at = monotonic()
        self._batch_rows = _next_size(len(batch), self._ended_at - began_at)
        for line, reason in plan.refused:
            self._refuse(line, reason)
        self._add(self.counts, plan)
        for item in plan.deferred:
            self._first_deferred = self._first_deferred or item.line
            self._deferred.write(msgspec.json.encode((item.line, item.entry)) + b"\n")
        if not is_last:
            self.counts.lines = batch[-1].line
            self.counts.next_line = self._first_deferred or batch[-1].line + 1
        self._on_batch(self.counts)

    def _refuse(self, line: int, reason: str) -> None:
        self.counts.refused += 1
        self._on_refused(line, reason)

    def _add(self, counts: Counts, plan: Plan) -> None:
        counts.created += len(plan.created)
        counts.updated += plan.updated
        counts.associated += len(plan.relations)
        counts.unchanged += plan.unchanged

    def _work(self, tx: Transaction, batch: Sequence[Item], keys: Collection[str], *, is_last: bool) -> Plan:
        plan = _change(tx, batch, keys, self._rules, is_last=is_last)
        if plan.created or plan.updated or plan.relations:
            self._audit(tx, plan)
        return plan

    def _audit(self, tx: Transaction, plan: Plan) -> None:
        so_far = msgspec.structs.replace(self.counts)
        self._add(so_far, plan)
        detail = {
            "InstanceId": self._rules.instance_id,
            "File": self._source.file,
            "Created": so_far.created,
            "Updated": so_far.updated,
            "Associated": so_far.associated,
        }
        tx.execute(
            sql.put_audit,
            request_id=self._id,
            at_ms=tx.now_ms,
            account=self._source.account,
            operation="ImportAddresses",
            detail=msgspec.json.encode(detail).decode(),
        )


def _next_size(rows: int, seconds: float) -> int:
    """How many rows the next transaction may have, after one of so many took so long: at most twice as many."""
    fitting = int(rows * min(HOLD_S / max(seconds, 1e-6), 2))
    return min(max(fitting, BATCH_ROWS_MIN), BATCH_ROWS_MAX)


def _read_back(deferred: Iterable[bytes]) -> Iterator[Numbered]:
    decode = msgspec.json.Decoder(tuple[int, Entry]).decode
    return map(decode, deferred)


def _change(tx: Transaction, batch: Sequence[Item], keys: Collection[str], rules: Rules, *, is_last: bool) -> Plan:
    """Plan what the batch changes and write it, if what it is planned on holds still."""
    room = None
    if rules.addresses_max is not None:
        instances.lock(tx, rules.instance_id)
        room = rules.addresses_max - addresses.count(tx, rules.instance_id)
    rows = _find(tx, keys)
    known = {key: Known(*row) for key, row in rows.items()}
    state = State(
        known,
        list_tags(tx, [known[item.key].id for item in batch if item.entry.tags and item.key in known]),
        lambda domain: settings.find_catch_all(tx, domain),
        room,
        tx.now_ms,
    )
    plan = make_plan(batch, state, rules, is_last=is_last)
    if plan.touched:
        tx.lock(_LOCK_KNOWN, texts=texts_of(plan.touched))
        if _find(tx, plan.touched) != {key: rows[key] for key in plan.touched}:
            raise StoreChanged
    _write(tx, plan)
    return plan


def _write(tx: Transaction, plan: Plan) -> None:
    plan.created.sort(key=lambda row: row["address_key"])
    if tx.execute_all(addresses.sql.insert_address, plan.created) < len(plan.created):
        raise StoreChanged  # others have published one of them meanwhile
    texts.number(tx, [row["id"] for row in plan.created])
    tx.execute_all(addresses.sql.update_display_name, plan.display_names)
    tx.execute_all(addresses.sql.update_description, plan.descriptions)
    tx.execute_all(tags.sql.put_tag, plan.tags)
    if plan.relations:
        tx.execute_all(aliases.sql.insert_alias, plan.relations)
        tx.execute_all(aliases.sql.insert_history, [_history(row) for row in plan.relations])


def _history(relation: dict[str, Any]) -> dict[str, Any]:
    return {
        "alias_id": relation["alias_id"],
        "id": new_id(),
        "primary_id": relation["primary_id"],
        "at_ms": relation["created_ms"],
        "change": aliases.ASSOCIATED,
        "request_id": "",
    }


def _find(tx: Transaction, keys: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    return {row[0]: row[1:] for row in tx.all(_FIND_KNOWN, texts=texts_of(keys))}


def list_tags(tx: Transaction, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    if ids:
        for address_id, key, value in tx.all(_LIST_TAGS, texts=texts_of(ids)):
            found.setdefault(address_id, {})[key] = value
    return found


def texts_of(values: Iterable[str]) -> str:
    """What `{texts}` takes."""
    return msgspec.json.encode(sorted(values)).decode()
