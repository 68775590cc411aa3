"""Faults at the HTTP door, for development: how one strikes a call, and the path by which they are asked for.

`/_readdress/faults` is for this machine alone and takes no signature, as the health checks do not: GET lists what is
left, POST adds one, DELETE clears them.
"""

import asyncio
import ipaddress

import msgspec

from readdress.errors import AccessDeniedException, InvalidParameterException, ServiceError, UnknownOperationException
from readdress.faults import ConnectionLost, Fault, FaultError, Faults
from readdress.gateway.wire import JSON, HttpRequest, HttpResponse

PATH = b"/_readdress/faults"

ERRORS: dict[str, type[ServiceError]] = {error.__name__: error for error in ServiceError.__subclasses__()}


async def strike(fault: Fault) -> None:
    """Raises what the fault says, if it is more than a delay."""
    await asyncio.sleep(fault.delay_ms / 1000)
    if fault.connection_lost:
        raise ConnectionLost
    if fault.error:
        error = ERRORS[fault.error]("This failure was asked for.")
        error.retry_after_ms = fault.retry_after_ms
        raise error


def answer(faults: Faults | None, request: HttpRequest) -> HttpResponse:
    """Raises UnknownOperationException where there are no faults, AccessDeniedException from elsewhere."""
    if faults is None:
        raise UnknownOperationException("There are faults in development only: start the service with --dev.")
    if not _is_here(request.peer):
        raise AccessDeniedException("Faults are asked for on the service's own machine.")
    if request.method == "GET":
        return HttpResponse(200, JSON, msgspec.json.encode({"Faults": faults.list()}))
    if request.method == "POST":
        return HttpResponse(200, JSON, msgspec.json.encode(_add(faults, request.body)))
    if request.method == "DELETE":
        faults.clear()
        return HttpResponse(200, JSON, b"{}")
    raise UnknownOperationException("Faults are listed by GET, asked for by POST and cleared by DELETE.")


def _is_here(peer: str) -> bool:
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False


def _add(faults: Faults, body: bytes) -> Fault:
    try:
        return faults.add(msgspec.json.decode(body, type=Fault))
    except (msgspec.DecodeError, FaultError) as error:  # a ValidationError is a DecodeError
        raise InvalidParameterException(f"No such fault: {error}.") from None
