"""A directory in the tests' words: each change is a work on a transaction, and many make one."""

from collections.abc import Callable, Mapping

from readdress.address import Address
from readdress.directory import addresses, aliases, instances, routing, settings
from readdress.store.database import Database, Transaction

ACCOUNT = "123456789012"
TRANSPORTS = frozenset({"inbox", "desk", "hook"})
Change = Callable[[Transaction], None]


def publish(address_id: str, text: str, instance_id: str = "one") -> Change:
    def change(tx: Transaction) -> None:
        if instances.find(tx, account=ACCOUNT, instance_id=instance_id) is None:
            instances.create(tx, instances.Instance(instance_id, ACCOUNT, None, "SAML", None, 1, 1, 0))
        addresses.create(
            tx,
            address_id=address_id,
            instance_id=instance_id,
            address=text,
            display_name=None,
            description=None,
            addresses_max=None,
        )

    return change


def associate(alias_id: str, primary_id: str) -> Change:
    return lambda tx: aliases.associate(
        tx, account=ACCOUNT, instance_id="one", primary_id=primary_id, alias_id=alias_id
    )


def disassociate(alias_id: str, primary_id: str) -> Change:
    return lambda tx: aliases.disassociate(
        tx, account=ACCOUNT, instance_id="one", primary_id=primary_id, alias_id=alias_id
    )


def delete(address_id: str) -> Change:
    return lambda tx: addresses.delete(tx, instance_id="one", address_id=address_id)


def tag(address_id: str, values: Mapping[str, str], domain: str = "example.com") -> Change:
    return lambda tx: settings.tag_address(tx, address_id, domain, values, transports=TRANSPORTS)


def tag_instance(instance_id: str, values: Mapping[str, str]) -> Change:
    return lambda tx: settings.tag_instance(tx, instance_id, values, transports=TRANSPORTS)


def route_after(database: Database, recipient: Address, *changes: Change) -> routing.Route:
    def work(tx: Transaction) -> routing.Route:
        for change in changes:
            change(tx)
        return routing.route(tx, recipient)

    return database.run(work)
