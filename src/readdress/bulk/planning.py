"""What a batch of entries changes in a directory of which the part that matters is known; no storage in here.

An entry is taken as a whole or refused: an alias whose relation is not possible is not published either. One whose
primary is nowhere yet is deferred, for the primary may come further down in the file.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from readdress.address import fold
from readdress.bulk.entry import Entry, Refused
from readdress.clock import new_id
from readdress.directory import addresses, aliases, settings
from readdress.directory.tags import TAGS_MAX
from readdress.errors import InvalidParameterException


class Item(NamedTuple):
    """An entry with its line, and the keys of its address and its primary."""

    line: int
    entry: Entry
    key: str
    primary_key: str | None


class Rules(NamedTuple):
    """Where entries go: `publish` are the domains whose targets are published where nothing else publishes them."""

    instance_id: str
    transports: Collection[str]
    publish: Collection[str] = ()
    addresses_max: int | None = None


class Known:
    """An address as it is, or will be with the plan."""

    __slots__ = ("address", "alias_id", "description", "display_name", "id", "instance_id", "is_new", "primary_id")

    def __init__(
        self,
        id: str,  # noqa: A002
        instance_id: str,
        address: str,
        display_name: str | None,
        description: str | None,
        primary_id: str | None,
        alias_id: str | None,
        *,
        is_new: bool = False,
    ) -> None:
        self.id = id
        self.instance_id = instance_id
        self.address = address
        self.display_name = display_name
        self.description = description
        self.primary_id = primary_id
        self.alias_id = alias_id
        self.is_new = is_new


class State(NamedTuple):
    """What the directory says of the batch's keys; `room` is how many addresses may still be created."""

    known: dict[str, Known]
    tags: Mapping[str, Mapping[str, str]]  # by the id of the address
    catch_all: Callable[[str], str | None]  # of a domain
    room: int | None
    now_ms: int


class Plan:
    """The rows to write, what waits for its primary, and what is refused."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.display_names: list[dict[str, Any]] = []
        self.descriptions: list[dict[str, Any]] = []
        self.tags: list[dict[str, Any]] = []
        self.relations: list[dict[str, Any]] = []
        self.touched: set[str] = set()  # keys of addresses that are there and will be other than they are
        self.updated = 0
        self.unchanged = 0
        self.deferred: list[Item] = []
        self.refused: list[tuple[int, str]] = []


_NOTHING: Final[Mapping[str, str]] = {}
_ELSEWHERE: Final = "{} belongs to another instance, and an address is published once in a deployment. Leave it out."


def make_plan(items: Sequence[Item], state: State, rules: Rules, *, is_last: bool) -> Plan:
    """`is_last` says that no line is left, so that nothing is deferred."""
    planner = _Planner(state, rules, is_last=is_last)
    for item in items:  # first what others may be aliases of
        if item.primary_key is None:
            planner.take(item)
    for item in items:
        if item.primary_key is not None:
            planner.take(item)
    planner.plan.refused.sort()
    return planner.plan


class _Planner:
    def __init__(self, state: State, rules: Rules, *, is_last: bool) -> None:
        self._state = state
        self._rules = rules
        self._is_last = is_last
        self._room = state.room
        self._catch_alls: dict[str, str | None] = {}
        self.plan = Plan()

    def take(self, item: Item) -> None:
        try:
            self._take(item)
        except Refused as refused:
            self.plan.refused.append((item.line, str(refused)))
        except InvalidParameterException as error:
            self.plan.refused.append((item.line, error.message))

    def _take(self, item: Item) -> None:
        """Nothing is planned before all of it is known to be possible."""
        known, entry, new = self._state.known, item.entry, []
        address = known.get(item.key)
        if address is None:
            address = self._make(entry.email_address, entry.display_name, entry.description)
            new.append((item.key, address))
        elif address.instance_id != self._rules.instance_id:
            raise Refused(_ELSEWHERE.format(address.address))
        primary = None
        if entry.alias_of is not None and item.primary_key is not None:
            primary = known.get(item.primary_key)
            if primary is None and item.primary_key != item.key:
                if not self._is_last:
                    self.plan.deferred.append(item)
                    return
                primary = self._make_primary(entry.alias_of, item.primary_key)
                new.append((item.primary_key, primary))
            primary = self._check_relation(address, primary)
        if self._room is not None and len(new) > self._room:
            raise Refused(f"the instance has {self._rules.addresses_max} email addresses, its quota. Raise the quota.")
        tags = self._changed_tags(address, item.key, entry.tags) if entry.tags else _NOTHING
        for key, each in new:
            self._create(key, each)
        self._apply(item, address, primary, tags)

    def _make(self, address: str, display_name: str | None, description: str | None) -> Known:
        instance_id = self._rules.instance_id
        return Known(new_id(), instance_id, address, display_name, description, None, None, is_new=True)

    def _make_primary(self, address: str, key: str) -> Known:
        """Raises Refused unless targets in its domain are to be published."""
        domain = key.rpartition("@")[2]
        if domain not in self._rules.publish:
            raise Refused(
                f"AliasOf: {address} is not published here. Publish it first, or all such targets of its domain with "
                f"--publish-targets {domain}; mail for an address elsewhere goes by a transport, not by an alias."
            )
        return self._make(address, None, None)

    def _check_relation(self, alias: Known, primary: Known | None) -> Known | None:
        """The primary, or None where they are associated already. Raises Refused (contract 2.3)."""
        if primary is None or primary is alias:
            raise Refused("AliasOf: an email address cannot be its own alias. Name another address.")
        if primary.alias_id == alias.id:
            return None
        if primary.instance_id != self._rules.instance_id:
            raise Refused(_ELSEWHERE.format(primary.address))
        if not (alias.primary_id or alias.alias_id or primary.primary_id or primary.alias_id):
            return primary
        names = {alias.id: alias.address, primary.id: primary.address}
        pairs = [
            *((one.id, one.primary_id) for one in (alias, primary) if one.primary_id),
            *((one.alias_id, one.id) for one in (alias, primary) if one.alias_id),
        ]
        relations = {(names.get(one, one), names.get(other, other)) for one, other in pairs}
        raise Refused(
            f"AliasOf: {aliases.conflict(relations, primary_id=primary.address, alias_id=alias.address)} "
            "Leave one of the relations out, or disassociate the present one."
        )

    def _changed_tags(self, address: Known, key: str, new: Mapping[str, str]) -> Mapping[str, str]:
        """The tags that are not there yet. Raises Refused, InvalidParameterException."""
        settings.check_address(new, transports=self._rules.transports)
        present = _NOTHING if address.is_new else self._state.tags.get(address.id, _NOTHING)
        if len(present.keys() | new.keys()) > TAGS_MAX:
            raise Refused(
                f"Tags: an address has at most {TAGS_MAX}, with those that are there already. Leave some out."
            )
        if settings.CATCH_ALL in new:
            domain = key.rpartition("@")[2]
            if domain not in self._catch_alls:
                self._catch_alls[domain] = self._state.catch_all(domain)
            settings.check_catch_all(address.id, domain, self._catch_alls[domain])
            self._catch_alls[domain] = address.id
        return {name: value for name, value in new.items() if present.get(name) != value}

    # What has been found possible.

    def _create(self, key: str, address: Known) -> None:
        self._state.known[key] = address
        if self._room is not None:
            self._room -= 1
        self.plan.created.append(
            addresses.make_row(
                address_id=address.id,
                instance_id=address.instance_id,
                address=address.address,
                address_key=key,
                display_name=address.display_name,
                description=address.description,
                created_ms=self._state.now_ms,
            )
        )

    def _apply(self, item: Item, address: Known, primary: Known | None, tags: Mapping[str, str]) -> None:
        plan = self.plan
        is_other = False
        if not address.is_new:
            is_other = self._rename(item.entry, address)
        if tags:
            plan.tags += [{"resource_id": address.id, "key": name, "value": value} for name, value in tags.items()]
        if primary is not None and item.primary_key is not None:
            address.primary_id, primary.alias_id = primary.id, address.id
            plan.relations.append({"alias_id": address.id, "primary_id": primary.id, "created_ms": self._state.now_ms})
            plan.touched.update(
                key for key, each in ((item.key, address), (item.primary_key, primary)) if not each.is_new
            )
        if not address.is_new:
            if is_other or tags:
                plan.updated += 1
                plan.touched.add(item.key)
            elif primary is None:
                plan.unchanged += 1

    def _rename(self, entry: Entry, address: Known) -> bool:
        is_other = False
        for value, present, rows in (
            (entry.display_name, address.display_name, self.plan.display_names),
            (entry.description, address.description, self.plan.descriptions),
        ):
            if value is not None and value != present:
                rows.append(
                    {"id": address.id, "value": value, "folded": fold(value), "modified_ms": self._state.now_ms}
                )
                is_other = True
        return is_other
