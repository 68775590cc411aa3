"""The HTTP door: a request in, an answer out, and the pipeline of every call from top to bottom in one function.

The order of the checks is contract: size → signature → operation → shape → access → rate → token → state. Whatever
fails inside is logged with the request's id, and the caller reads InternalServiceException and nothing more.
"""

import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, NamedTuple

from readdress.api import access
from readdress.api.access import Caller, Keyring, Quotas
from readdress.api.operation import Operations, call, decode
from readdress.api.rates import Rates
from readdress.clock import Clock
from readdress.errors import (
    InternalServiceException,
    RequestEntityTooLargeException,
    ServiceError,
    ServiceUnavailableException,
    ThrottlingException,
    UnrecognizedClientException,
)
from readdress.faults import ConnectionLost, Faults
from readdress.gateway import faulty, json_1_1, rest_json, sigv4
from readdress.gateway.wire import JSON, JSON_1_1, HttpRequest, HttpResponse, write_error
from readdress.inbox.arrivals import Arrivals
from readdress.logs import Line
from readdress.metrics import SUCCESS, counted
from readdress.store.database import Database, StoreBusy, StoreError
from readdress.telemetry import Part, traces

log = logging.getLogger("readdress.gateway")

ACCESS_LINE = Line(
    "readdress.access",
    "request %(request_id)s peer=%(peer)s key=%(key_id)s operation=%(operation)s code=%(code)s "
    "duration_ms=%(duration_ms).1f",
)

HEALTH_PATH = b"/_readdress/health"
LIVE_PATH = b"/_readdress/live"
METRICS_PATH = b"/_readdress/metrics"
SERVICE = "connect"

_FINE = HttpResponse(200, JSON, b'{"Status":"OK"}')


class Settings(NamedTuple):
    """What the door has to know; sizes in bytes."""

    region: str
    request_bytes_max: int
    token_retention_days: int
    quotas: Quotas
    transports: frozenset[str]
    logs_access: bool = False


class Gateway:
    """What answers calls, over one database and one set of operations."""

    def __init__(
        self,
        *,
        database: Database,
        operations: Operations,
        keyring: Keyring,
        rates: Rates,
        clock: Clock,
        settings: Settings,
        is_ready: Callable[[], bool],
        show_metrics: Callable[[], Awaitable[HttpResponse]] | None = None,
        faults: Faults | None = None,
        arrivals: Arrivals | None = None,
    ) -> None:
        self._database = database
        self._operations = operations
        self._router = rest_json.Router(operations)
        self._keyring = keyring
        self._rates = rates
        self._clock = clock
        self._settings = settings
        self._is_ready = is_ready
        self._show_metrics = show_metrics
        self._own_paths = (HEALTH_PATH, LIVE_PATH, faulty.PATH, *([METRICS_PATH] if show_metrics else []))
        self._faults = faults
        self._arrivals = arrivals

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Always gives an answer, but for a fault's ConnectionLost: then there is none."""
        began = monotonic()
        code = SUCCESS
        try:
            response = await self._pipeline(request)
        except ConnectionLost:
            raise
        except Exception as error:  # noqa: BLE001 - a bug's text is for the log
            refusal = error if isinstance(error, ServiceError) else _refusal_of(error, request)
            code = refusal.code
            is_rpc = request.header(b"x-amz-target") is not None
            response = write_error(refusal, JSON_1_1 if is_rpc else JSON)
        if request.operation:
            seconds = monotonic() - began
            counted.add_call(request.operation, code, seconds)
            if traces.is_on:
                _trace(request, code, seconds)
            if self._settings.logs_access:
                _log_access(request, code, seconds)
        return response

    async def _pipeline(self, request: HttpRequest) -> HttpResponse:
        """A call, from its bytes to its answer."""
        if request.is_too_large:
            bytes_max = self._settings.request_bytes_max
            raise RequestEntityTooLargeException(f"The body is larger than {bytes_max} bytes. Send a smaller request.")
        if request.path in self._own_paths:
            request.operation = ""  # it is none
            return await self._show(request)
        caller = await self._authenticate(request)
        request.key_id = caller.access_key_id
        is_rpc = json_1_1.is_json_1_1(request)
        operation, values = json_1_1.read(self._operations, request) if is_rpc else self._router.read(request)
        request.operation = operation.name
        typed = decode(operation, values, caller.scope)
        fault = self._faults.take(operation.name) if self._faults is not None else None
        if fault is not None and not fault.applied:
            await faulty.strike(fault)
        answer = await call(
            self._database,
            operation,
            typed,
            caller,
            rates=self._rates,
            request_id=request.id,
            token_retention_days=self._settings.token_retention_days,
            arrivals=self._arrivals,
        )
        if fault is not None and fault.applied:
            await faulty.strike(fault)
        return json_1_1.write(answer) if is_rpc else rest_json.write(answer)

    async def _authenticate(self, request: HttpRequest) -> Caller:
        """Who signed. A key is looked up for every request, so that disabling one takes effect at once."""
        authorization = sigv4.read_authorization(request)
        key = await access.find_key(self._database, authorization.access_key_id)
        if key is None or key.disabled_ms is not None:
            raise UnrecognizedClientException(
                "The security token included in the request is invalid: use an access key that exists and is enabled."
            )
        sigv4.verify(
            request,
            authorization,
            secret=self._keyring.open(key.id, key.sealed_secret),
            region=self._settings.region,
            service=SERVICE,
            now_ms=self._clock.now_ms(),
        )
        settings = self._settings
        return access.caller_of(key, region=settings.region, quotas=settings.quotas, transports=settings.transports)

    async def _show(self, request: HttpRequest) -> HttpResponse:
        """What needs no signature."""
        if request.path == faulty.PATH:
            return faulty.answer(self._faults, request)
        if request.path == METRICS_PATH and self._show_metrics:
            return await self._show_metrics()
        return await self._health() if request.path == HEALTH_PATH else _FINE

    async def _health(self) -> HttpResponse:
        """200 when HTTP, SMTP and the database are ready."""
        if not self._is_ready():
            raise ServiceUnavailableException("The service is starting or stopping.")
        await access.find_key(self._database, "")
        return _FINE


def _refusal_of(error: Exception, request: HttpRequest) -> ServiceError:
    """What the caller reads of a failure that is not theirs."""
    if isinstance(error, StoreBusy):
        return ThrottlingException("Others are changing the same resources; nothing was changed. Try again.")
    if isinstance(error, StoreError):
        log.error("request %(request_id)s: the store failed", _known(request), exc_info=error)
        return ServiceUnavailableException(
            "The service cannot store or read now. Try again, with the same ClientToken if there was one."
        )
    log.error("request %(request_id)s failed", _known(request), exc_info=error)
    return InternalServiceException(f"Request processing failed. Give the request id {request.id} to the operator.")


def _known(request: HttpRequest) -> dict[str, Any]:
    """What the log may say of a request."""
    return {
        "request_id": request.id,
        "peer": request.peer,
        "key_id": request.key_id,
        "operation": request.operation,
    }


def _trace(request: HttpRequest, code: str, seconds: float) -> None:
    """A part of the caller's trace, if it is known who called: a stranger is not to decide what is recorded."""
    traces.add(
        request.operation,
        Part.SERVER,
        seconds,
        {"operation": request.operation, "code": code, "request_id": request.id},
        failure="" if code == SUCCESS else code,
        fields=request.headers if request.key_id != "-" else (),
    )


def _log_access(request: HttpRequest, code: str, seconds: float) -> None:
    duration_ms = round(seconds * 1000, 1)
    ACCESS_LINE.write(request.id, request.peer, request.key_id, request.operation, code, duration_ms)
