"""The real operations, called without a wire: decode, access, rate, token, handler and audit on a real database."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import msgspec

from readdress.api.access import Caller, Quotas
from readdress.api.arn import Scope
from readdress.api.catalogue import OPERATIONS
from readdress.api.operation import call, decode
from readdress.api.policy import ALLOW_EVERYTHING, parse_policy
from readdress.api.rates import Rate, Rates
from readdress.clock import new_id
from readdress.store.database import Database, Transaction

ACCOUNT = "123456789012"
REGION = "us-east-1"
SCOPE = Scope(account=ACCOUNT, region=REGION)


class ApiCaller:
    """One access key's calls, each waited for; members and answers are named as on the wire."""

    def __init__(
        self,
        database: Database,
        *,
        policy: str = ALLOW_EVERYTHING,
        account: str = ACCOUNT,
        rate: Rate | None = None,
        quotas: Quotas = Quotas(),  # noqa: B008 - frozen
        access_key_id: str = "AKIATEST",
        transports: frozenset[str] = frozenset({"inbox"}),
    ) -> None:
        self.database = database
        self.caller = Caller(access_key_id, Scope(account, REGION), parse_policy(policy), quotas, transports)
        self._rates = Rates(rate)
        self._runner = asyncio.Runner()
        self.request_id = ""  # of the last call

    def __call__(self, operation: str, **members: Any) -> dict[str, Any]:
        """The answer's members; raises what the operation raises."""
        self.request_id = new_id()
        declared = OPERATIONS[operation]
        answer = self._runner.run(
            call(
                self.database,
                declared,
                decode(declared, members, self.caller.scope),
                self.caller,
                rates=self._rates,
                request_id=self.request_id,
                token_retention_days=7,
            )
        )
        built: dict[str, Any] = msgspec.to_builtins(answer)
        return built

    def create_instance(self) -> str:
        made = self(
            "CreateInstance",
            IdentityManagementType="CONNECT_MANAGED",
            InboundCallsEnabled=True,
            OutboundCallsEnabled=True,
        )
        return str(made["Id"])

    def create_address(self, instance_id: str, text: str, **members: Any) -> str:
        made = self("CreateEmailAddress", InstanceId=instance_id, EmailAddress=text, **members)
        return str(made["EmailAddressId"])

    def run(self, work: Callable[[Transaction], Any]) -> Any:
        return self.database.run(work)

    def close(self) -> None:
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def alias_members(instance_id: str, *, primary_id: str, alias_id: str, **members: Any) -> dict[str, Any]:
    """What Associate and Disassociate take (contract 2.1)."""
    return {
        "InstanceId": instance_id,
        "EmailAddressId": primary_id,
        "AliasConfiguration": {"EmailAddressId": alias_id},
        **members,
    }
