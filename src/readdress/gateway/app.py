"""The HTTP door: one ASGI application, and the pipeline of every call from top to bottom in one function.

The order of the checks is contract: size → signature → operation → shape → access → rate → token → state. Whatever
fails inside is logged with the request's id, and the caller reads InternalServiceException and nothing more.
"""

import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

from readdress.api import access
from readdress.api.access import Caller, Keyring, Quotas
from readdress.api.operation import Operations, call, decode
from readdress.api.rates import Rates
from readdress.clock import Clock, new_id
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
from readdress.gateway.sigv4 import HttpRequest
from readdress.gateway.wire import JSON, JSON_1_1, HttpResponse, write_error
from readdress.inbox.arrivals import Arrivals
from readdress.metrics import SUCCESS, UNKNOWN, counted
from readdress.store.database import Database, StoreBusy, StoreError
from readdress.telemetry import Part, traces

log = logging.getLogger("readdress.gateway")
access_log = logging.getLogger("readdress.access")

HEALTH_PATH = b"/_readdress/health"
LIVE_PATH = b"/_readdress/live"
METRICS_PATH = b"/_readdress/metrics"
SERVICE = "connect"

_FINE = HttpResponse(200, JSON, b'{"Status":"OK"}')

AsgiScope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]


class Settings(NamedTuple):
    """What the door has to know; sizes in bytes."""

    region: str
    request_bytes_max: int
    token_retention_days: int
    quotas: Quotas
    transports: frozenset[str]
    logs_access: bool = False


class Gateway:
    """The ASGI application over one database and one set of operations."""

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

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = new_id()
        began = monotonic()
        code = SUCCESS
        try:
            response = await self._pipeline(scope, receive, request_id)
        except ConnectionLost:
            scope["extensions"][faulty.ABORT]["abort"]()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        except Exception as error:  # noqa: BLE001 - a bug's text is for the log
            refusal = error if isinstance(error, ServiceError) else _refusal_of(error, scope, request_id)
            code = refusal.code
            is_rpc = any(name == b"x-amz-target" for name, _ in scope["headers"])
            response = write_error(refusal, JSON_1_1 if is_rpc else JSON)
        await _send(send, response, request_id)
        operation = scope.get("operation", UNKNOWN)
        if operation:
            seconds = monotonic() - began
            counted.add_call(operation, code, seconds)
            if traces.is_on:
                _trace(scope, request_id, code, seconds)
            if self._settings.logs_access:
                _log_access(_known(scope, request_id), code, seconds)

    async def _pipeline(self, scope: AsgiScope, receive: Receive, request_id: str) -> HttpResponse:
        """A call, from its bytes to its answer."""
        request = HttpRequest(scope["method"], scope["raw_path"], scope["query_string"], scope["headers"])
        request.body = await _read_body(request, receive, self._settings.request_bytes_max)
        if request.path in self._own_paths:
            scope["operation"] = ""  # it is none
            return await self._show(request, scope)
        caller = await self._authenticate(request)
        scope["key_id"] = caller.access_key_id
        is_rpc = json_1_1.is_json_1_1(request)
        operation, values = json_1_1.read(self._operations, request) if is_rpc else self._router.read(request)
        scope["operation"] = operation.name
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
            request_id=request_id,
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

    async def _show(self, request: HttpRequest, scope: AsgiScope) -> HttpResponse:
        """What needs no signature."""
        if request.path == faulty.PATH:
            return faulty.answer(self._faults, request, scope["client"])
        if request.path == METRICS_PATH and self._show_metrics:
            return await self._show_metrics()
        return await self._health() if request.path == HEALTH_PATH else _FINE

    async def _health(self) -> HttpResponse:
        """200 when HTTP, SMTP and the database are ready."""
        if not self._is_ready():
            raise ServiceUnavailableException("The service is starting or stopping.")
        await access.find_key(self._database, "")
        return _FINE


def _refusal_of(error: Exception, scope: AsgiScope, request_id: str) -> ServiceError:
    """What the caller reads of a failure that is not theirs."""
    if isinstance(error, StoreBusy):
        return ThrottlingException("Others are changing the same resources; nothing was changed. Try again.")
    if isinstance(error, StoreError):
        log.error("request %(request_id)s: the store failed", _known(scope, request_id), exc_info=error)
        return ServiceUnavailableException(
            "The service cannot store or read now. Try again, with the same ClientToken if there was one."
        )
    log.error("request %(request_id)s failed", _known(scope, request_id), exc_info=error)
    return InternalServiceException(f"Request processing failed. Give the request id {request_id} to the operator.")


def _known(scope: AsgiScope, request_id: str) -> dict[str, Any]:
    """What the log may say of a request; `operation` and `key_id` are in the scope once they have been checked."""
    return {
        "request_id": request_id,
        "peer": scope["client"][0] if scope["client"] else "-",
        "key_id": scope.get("key_id", "-"),
        "operation": scope.get("operation", UNKNOWN),
    }


def _trace(scope: AsgiScope, request_id: str, code: str, seconds: float) -> None:
    """A part of the caller's trace, if it is known who called: a stranger is not to decide what is recorded."""
    operation = scope.get("operation", UNKNOWN)
    traces.add(
        operation,
        Part.SERVER,
        seconds,
        {"operation": operation, "code": code, "request_id": request_id},
        failure="" if code == SUCCESS else code,
        fields=scope["headers"] if "key_id" in scope else (),
    )


def _log_access(known: dict[str, Any], code: str, seconds: float) -> None:
    access_log.info(
        "request %(request_id)s peer=%(peer)s key=%(key_id)s operation=%(operation)s code=%(code)s "
        "duration_ms=%(duration_ms).1f",
        known | {"code": code, "duration_ms": round(seconds * 1000, 1)},
    )


async def _read_body(request: HttpRequest, receive: Receive, bytes_max: int) -> bytes:
    """The whole body. Raises RequestEntityTooLargeException as soon as it is known to be too large."""
    length = request.header(b"content-length") or ""
    if length.isdecimal() and int(length) > bytes_max:
        raise _too_large(bytes_max)
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > bytes_max:
            raise _too_large(bytes_max)
        more = message.get("more_body", False)
    return b"".join(pieces)


def _too_large(bytes_max: int) -> RequestEntityTooLargeException:
    return RequestEntityTooLargeException(f"The body is larger than {bytes_max} bytes. Send a smaller request.")


async def _send(send: Send, response: HttpResponse, request_id: str) -> None:
    headers = [
        (b"x-amzn-requestid", request_id.encode()),
        (b"content-type", response.content_type.encode()),
        (b"content-length", b"%d" % len(response.body)),
    ]
    if response.headers:
        headers += [(name.encode(), value.encode()) for name, value in response.headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
