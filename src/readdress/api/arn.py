"""Amazon Resource Names: `arn:aws:connect:<region>:<account>:instance/<id>[/email-address/<id>]`."""

import re
from typing import NamedTuple

# One partition only: the same resource under two ARNs would slip past a policy that names one of them.
_ARN = re.compile(
    r"arn:aws:connect:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):"
    r"instance/(?P<instance>[^/]+)(?:/email-address/(?P<address>[^/]+))?",
)


class Scope(NamedTuple):
    """Whose resources, and where: the part of an ARN that every resource of a caller shares."""

    account: str
    region: str

    def arn(self, resource: str) -> str:
        return f"arn:aws:connect:{self.region}:{self.account}:{resource}"

    def instance_arn(self, instance_id: str) -> str:
        return self.arn(f"instance/{instance_id}")

    def address_arn(self, instance_id: str, address_id: str) -> str:
        return self.arn(f"instance/{instance_id}/email-address/{address_id}")


class ResourceName(NamedTuple):
    """An ARN in its parts; without an address it names the instance."""

    scope: Scope
    instance_id: str
    address_id: str | None


def parse_arn(text: str) -> ResourceName | None:
    """The parts, or None where the text is no ARN of a resource that exists here."""
    match = _ARN.fullmatch(text)
    if match is None:
        return None
    scope = Scope(account=match["account"], region=match["region"])
    return ResourceName(scope, match["instance"], match["address"])
