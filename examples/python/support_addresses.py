"""The support addresses of a company, kept in Amazon Connect: publish one, merge two, split them again, retire one.

Every change may be asked for twice and happens once, so whoever lost an answer just asks again.
"""

import argparse
import os
from typing import Any


class SupportAddresses:
    """The addresses of one instance; `connect` is a boto3 client, and what it raises goes through."""

    def __init__(self, connect: Any, instance_id: str) -> None:
        self._connect = connect
        self._instance_id = instance_id

    def publish(self, address: str, *, team: str) -> str:
        """The id of the address, which the team gets mail for from now on."""
        try:
            made = self._connect.create_email_address(
                InstanceId=self._instance_id, EmailAddress=address, Tags={"team": team}
            )
        except self._connect.exceptions.DuplicateResourceException:
            return self.find(address)
        return str(made["EmailAddressId"])

    def merge(self, address: str, *, into: str) -> None:
        """Mail for the address reaches the other's inbox as well."""
        primary_id, alias_id = self.find(into), self.find(address)
        if alias_id in self._aliases(primary_id):
            return
        self._connect.associate_email_address_alias(**self._pair(primary_id, alias_id))

    def split(self, address: str, *, out_of: str) -> None:
        """Mail for the address reaches its own inbox alone."""
        primary_id, alias_id = self.find(out_of), self.find(address)
        if alias_id in self._aliases(primary_id):
            self._connect.disassociate_email_address_alias(**self._pair(primary_id, alias_id))

    def retire(self, address: str) -> None:
        """Mail for the address is refused."""
        self._connect.delete_email_address(InstanceId=self._instance_id, EmailAddressId=self.find(address))

    def find(self, address: str) -> str:
        """Raises LookupError."""
        condition = {"FieldName": "EmailAddress", "Value": address, "ComparisonType": "EXACT"}
        found = self._connect.search_email_addresses(
            InstanceId=self._instance_id, SearchCriteria={"StringCondition": condition}
        )
        for email_address in found["EmailAddresses"]:
            return str(email_address["EmailAddressId"])
        raise LookupError(f"{address} is not published: publish it first")

    def _aliases(self, primary_id: str) -> list[str]:
        described = self._connect.describe_email_address(InstanceId=self._instance_id, EmailAddressId=primary_id)
        return [alias["EmailAddressId"] for alias in described.get("AliasConfigurations", [])]

    def _pair(self, primary_id: str, alias_id: str) -> dict[str, Any]:
        return {
            "InstanceId": self._instance_id,
            "EmailAddressId": primary_id,
            "AliasConfiguration": {"EmailAddressId": alias_id},
        }


def main(arguments: list[str] | None = None) -> None:
    """`support_addresses.py merge help@example.com support@example.com`."""
    import boto3

    parser = argparse.ArgumentParser(description="The support addresses of an Amazon Connect instance.")
    parser.add_argument("change", choices=["publish", "merge", "split", "retire"])
    parser.add_argument("address")
    parser.add_argument("other", nargs="?", help="for publish the team, for merge and split the other address")
    given = parser.parse_args(arguments)
    if given.other is None and given.change != "retire":
        parser.error(f"{given.change} takes two arguments")
    addresses = SupportAddresses(boto3.session.Session().client("connect"), os.environ["INSTANCE_ID"])
    if given.change == "publish":
        addresses.publish(given.address, team=given.other)
    elif given.change == "merge":
        addresses.merge(given.address, into=given.other)
    elif given.change == "split":
        addresses.split(given.address, out_of=given.other)
    else:
        addresses.retire(given.address)


if __name__ == "__main__":
    main()
