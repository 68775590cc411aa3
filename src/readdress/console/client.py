"""The API as a page calls it: the same operations, checks and audit as over HTTP, as whoever is signed in."""

from time import monotonic
from typing import Any, NamedTuple

from readdress.api.access import Caller, Quotas
from readdress.api.operation import Operation, Operations, call, decode, may, rehearse
from readdress.api.rates import Rates
from readdress.api.shapes import Request
from readdress.clock import new_id
from readdress.errors import InternalServiceException, ServiceError
from readdress.inbox.arrivals import Arrivals
from readdress.metrics import SUCCESS, counted
from readdress.store.database import Database

# A person's clicks don't use up what programs may call.
_UNLIMITED = Rates(None)


class Settings(NamedTuple):
    """What calls have to know."""

    region: str
    quotas: Quotas
    transports: frozenset[str]
    token_retention_days: int


class Client:
    """Operations by name, with members as in the API's documentation; raises ServiceError as the API would."""

    def __init__(
        self, database: Database, operations: Operations, caller: Caller, settings: Settings, arrivals: Arrivals | None
    ) -> None:
        self._database = database
        self._operations = operations
        self._settings = settings
        self._arrivals = arrivals
        self.caller = caller

    async def call(self, name: str, request_id: str | None = None, **members: Any) -> Any:
        """The typed answer."""
        return await self.send(name, self._decode(name, members), request_id)

    async def send(self, name: str, request: Request, request_id: str | None = None) -> Any:
        """The same for a request that is typed already."""
        began, code = monotonic(), InternalServiceException.__name__
        try:
            answer = await call(
                self._database,
                self._operations[name],
                request,
                self.caller,
                rates=_UNLIMITED,
                request_id=request_id or new_id(),
                token_retention_days=self._settings.token_retention_days,
                arrivals=self._arrivals,
            )
            code = SUCCESS
        except ServiceError as error:
            code = error.code
            raise
        finally:
            counted.add_call(name, code, monotonic() - began)
        return answer

    @property
    def is_closing(self) -> bool:
        """Whether the service stops, so that nobody should wait for anything."""
        return self._arrivals is not None and self._arrivals.is_closed

    async def rehearse(self, name: str, **members: Any) -> None:
        """Raises what the change would raise now, and changes nothing."""
        await rehearse(self._database, self._operations[name], self._decode(name, members), self.caller)

    def may(self, name: str, **members: Any) -> bool:
        """Whether the policy allows it, so that a page offers it."""
        try:
            return may(self._operations[name], self._decode(name, members), self.caller)
        except ServiceError:  # what no request can name is nobody's to do
            return False

    def _decode(self, name: str, members: dict[str, Any]) -> Request:
        operation: Operation = self._operations[name]
        return decode(operation, members, self.caller.scope)
