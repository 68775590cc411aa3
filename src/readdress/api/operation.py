"""What an operation is, and the only way to call one: decode → access → rate → token → handler, audit row.

An operation is a function `(tx, caller, request) -> answer`; its types and its binding are its declaration. Wires,
validation, the access check, idempotency, the audit and the documents derive from it.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, TypeAlias, TypeVar, get_type_hints

import msgspec

from readdress.api import idempotency
from readdress.api.access import Caller
from readdress.api.arn import Scope, parse_arn
from readdress.api.rates import Rates
from readdress.api.shapes import Answer, Request, WaitingRequest
from readdress.errors import (
    AccessDeniedException,
    IdempotencyException,
    InternalServiceException,
    InvalidParameterException,
    InvalidRequestException,
    ResourceNotFoundException,
    ServiceError,
    ThrottlingException,
)
from readdress.inbox.arrivals import Arrivals
from readdress.store.database import Database, Together, Transaction

OWN_PREFIX = "/_readdress/"

COMMON_ERRORS: tuple[type[ServiceError], ...] = (
    InvalidParameterException,
    InvalidRequestException,
    AccessDeniedException,
    ResourceNotFoundException,
    ThrottlingException,
    InternalServiceException,
)

Handler: TypeAlias = Callable[[Transaction, Caller, Any], Any]
H = TypeVar("H", bound=Handler)


class Kind(Enum):
    """How an operation uses the database."""

    READ = "look up by key"
    SCAN = "read of unknown length"
    WRITE = "change"


@dataclass(frozen=True)
class Binding:
    """Where REST carries each member: method, path template, query name → member; the rest is the body."""

    method: str
    path: str
    query: dict[str, str]

    @property
    def path_members(self) -> tuple[str, ...]:
        return tuple(re.findall(r"{(\w+)}", self.path))

    @classmethod
    def parse(cls, text: str) -> "Binding":
        """`GET /a/{B}?c={D}` in its parts."""
        method, _, target = text.partition(" ")
        path, _, query = target.partition("?")
        pairs = (part.split("=", 1) for part in query.split("&") if part)
        return cls(method, path, {name: member.strip("{}") for name, member in pairs})


@dataclass(frozen=True)
class Operation:
    """A declared operation: all that a wire, a check or a document has to know of it."""

    name: str
    binding: Binding
    request: type[Request]
    answer: type[Answer]
    errors: tuple[type[ServiceError], ...]
    kind: Kind
    resources: tuple[str, ...]  # format strings over the request
    touches: tuple[str, ...] | None  # the same
    handler: Handler

    @cached_property
    def action(self) -> str:
        """What a policy calls it: `connect:…`, or `readdress:…` for what is our own."""
        prefix = "readdress" if self.binding.path.startswith(OWN_PREFIX) else "connect"
        return f"{prefix}:{self.name}"

    def refusal(self, preferred: type[ServiceError], message: str) -> ServiceError:
        """The preferred error where the model has it, InvalidRequestException where it lacks it."""
        return preferred(message) if preferred in self.errors else InvalidRequestException(message)


class Operations:
    """The declared operations of one module or of the whole program, in order of declaration."""

    def __init__(self, *parts: "Operations") -> None:
        self._operations: dict[str, Operation] = {}
        for part in parts:
            self._operations.update({operation.name: operation for operation in part})

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations.values())

    def __getitem__(self, name: str) -> Operation:
        return self._operations[name]

    def find(self, name: str) -> Operation | None:
        return self._operations.get(name)

    def declare(
        self,
        binding: str,
        *errors: type[ServiceError],
        kind: Kind,
        resources: Sequence[str],
        touches: Sequence[str] | None = None,
        common: tuple[type[ServiceError], ...] = COMMON_ERRORS,
    ) -> Callable[[H], H]:
        """Declare the function below as an operation.

        `errors` come on top of the `common` ones; `resources` are ARN templates over the request's members, relative
        to the caller's scope, and the caller must be allowed every one of them. `touches` are templates, too: all that
        a change reads or writes besides what is only its own, where that can be said beforehand (`Together`).
        """

        def declare(handler: H) -> H:
            name = "".join(word.capitalize() for word in handler.__name__.split("_"))
            hints = get_type_hints(handler)
            self._operations[name] = Operation(
                name=name,
                binding=Binding.parse(binding),
                request=hints["request"],
                answer=hints["return"],
                errors=(*common, *errors),
                kind=kind,
                resources=_templates(resources),
                touches=None if touches is None else _templates(touches),
                handler=handler,
            )
            return handler

        return declare


def _templates(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(text.replace("{", "{0.") for text in texts)


# Decoding: from the values that a wire read to a typed request.

_REASONS = (
    (re.compile(r"Expected `(str|array|object)` of length (>=|<=) (\d+)"), "has to have {1} {2} {0}"),
    (re.compile(r"Expected `(?:str|int|float)` (>=|<=) (-?\d+)"), "has to be {0} {1}"),
    (
        re.compile(r"Expected `str` matching regex.*", re.DOTALL),
        "has a form or holds characters that are not allowed",
    ),
    (re.compile(r"Invalid enum value ('.*')", re.DOTALL), "is not one of the values allowed"),
    (re.compile(r"Expected `([^`]+)`, got `([^`]+)`"), "has to be {0}, not {1}"),
)
_WORDS = {
    ">=": "at least", "<=": "at most", "str": "characters", "array": "members", "object": "entries",
}  # fmt: skip
_TYPES = {
    "str": "a string", "int": "an integer", "bool": "a boolean", "array": "a list", "object": "an object",
    "null": "null", "float": "a number", "str | null": "a string", "int | null": "an integer",
    "array | null": "a list", "object | null": "an object",
}  # fmt: skip
_MISSING = re.compile(r"Object missing required field `([^`]+)`")


def decode(operation: Operation, values: dict[str, Any], scope: Scope) -> Request:
    """The typed request.

    Raises InvalidParameterException naming the member, and ResourceNotFoundException for a foreign ARN.
    """
    present = {name: value for name, value in values.items() if value is not None}
    try:
        request = msgspec.convert(present, operation.request)
    except msgspec.ValidationError as error:
        raise operation.refusal(InvalidParameterException, explain(str(error))) from None
    _arns_to_ids(request, scope)
    return request


def explain(text: str) -> str:
    """Msgspec's words, as a sentence that begins with the member."""
    reason, found, place = text.rpartition(" - at ")  # the reason may quote the caller, the place never does
    if not found:
        reason, place = text, ""
    member = place.replace("`key` in ", "").strip("`").removeprefix("$").removeprefix(".")
    missing = _MISSING.match(reason)
    if missing:
        name = f"{member}.{missing[1]}" if member else missing[1]
        return f"{name}: is required. Give it a value."
    for pattern, sentence in _REASONS:
        match = pattern.match(reason)
        if match:
            words = _TYPES if "not" in sentence else _WORDS
            said = sentence.format(*(words.get(group, group) for group in match.groups()))
            return f"{member or 'The request'}: {said}."
    return f"{member or 'The request'}: {reason}."


def _arns_to_ids(request: Request, scope: Scope) -> None:
    """Wherever an id is taken, its ARN is too (contract 5)."""
    instance_id = getattr(request, "instance_id", "")
    if instance_id.startswith("arn:"):
        name = parse_arn(instance_id)
        if name is None or name.scope != scope or name.address_id is not None:
            raise ResourceNotFoundException(f"InstanceId: {instance_id} is not an instance of this account.")
        request.instance_id = instance_id = name.instance_id  # type: ignore[attr-defined]
    for holder in (request, getattr(request, "alias_configuration", None)):
        address_id = getattr(holder, "email_address_id", "") or ""
        if address_id.startswith("arn:"):
            name = parse_arn(address_id)
            if name is None or name.scope != scope or name.instance_id != instance_id or not name.address_id:
                raise ResourceNotFoundException(
                    f"EmailAddressId: {address_id} is not an email address of instance {instance_id}."
                )
            holder.email_address_id = name.address_id  # type: ignore[union-attr]


# Calling.


async def call(
    database: Database,
    operation: Operation,
    request: Request,
    caller: Caller,
    *,
    rates: Rates,
    request_id: str,
    token_retention_days: int,
    arrivals: Arrivals | None = None,
) -> Answer:
    """The answer, once what it says is durable; raises a ServiceError, after which nothing has happened.

    Who asks for mail that is not there yet waits for its arrival; without `arrivals` nobody waits.
    """
    _authorize(operation, request, caller)
    await rates.take(database, account=caller.scope.account, operation=operation.name)

    def look(tx: Transaction) -> Any:
        return operation.handler(tx, caller, request)

    def change(tx: Transaction) -> Any:
        return _change(tx, operation, request, caller, request_id=request_id, token_retention_days=token_retention_days)

    if operation.kind is Kind.READ:
        answer = await database.read(look)
    elif operation.kind is Kind.SCAN:
        answer = await _scan(database, look, request, arrivals)
    else:
        answer = await database.write(change, together=_together(operation, request, caller))
    return answer  # type: ignore[no-any-return]


class _Rehearsed(Exception):
    """It would have gone well; raised so that nothing of it stays."""


async def rehearse(database: Database, operation: Operation, request: Request, caller: Caller) -> None:
    """Raises the ServiceError that a change would raise now, and changes nothing."""
    _authorize(operation, request, caller)

    def attempt(tx: Transaction) -> None:
        operation.handler(tx, caller, request)
        raise _Rehearsed

    with contextlib.suppress(_Rehearsed):
        await database.write(attempt)


def may(operation: Operation, request: Request, caller: Caller) -> bool:
    """Whether the caller's policy allows it."""
    return all(caller.policy.allows(operation.action, name) for name in _resources(operation, request, caller))


def _authorize(operation: Operation, request: Request, caller: Caller) -> None:
    """Raises AccessDeniedException."""
    for name in _resources(operation, request, caller):
        caller.check(operation.action, name)


def _resources(operation: Operation, request: Request, caller: Caller) -> Iterator[str]:
    """The ARN of everything that the policy has to allow, or `*`."""
    for template in operation.resources:
        name = template.format(request)
        yield name if name == "*" or name.startswith("arn:") else caller.scope.arn(name)


async def _scan(
    database: Database, look: Callable[[Transaction], Any], request: Request, arrivals: Arrivals | None
) -> Any:
    if arrivals is None or not isinstance(request, WaitingRequest) or not request.wait_ms:
        return await database.scan(look)
    return await arrivals.look_until(
        request.email_address_id, lambda: database.scan(look), request.is_met, timeout_s=request.wait_ms / 1000
    )


def _together(operation: Operation, request: Request, caller: Caller) -> Together | None:
    if operation.touches is None:
        return None
    touches = [template.format(request) for template in operation.touches]
    token = _token(operation, request, caller)
    return Together("api", frozenset([*touches, "\0".join(token)] if token else touches))


def _change(
    tx: Transaction,
    operation: Operation,
    request: Request,
    caller: Caller,
    *,
    request_id: str,
    token_retention_days: int,
) -> Answer:
    token = _token(operation, request, caller)
    if token is None:
        return _run_and_audit(tx, operation, request, caller, request_id)
    fingerprint = idempotency.fingerprint(request)
    stored = idempotency.find(tx, token, retention_days=token_retention_days)
    if stored:
        return _replay(operation, stored, fingerprint)
    try:
        answer = _run_and_audit(tx, operation, request, caller, request_id)
    except ServiceError:
        # Another call with the token may have done it, while this one waited for the same rows.
        stored = idempotency.find(tx, token, retention_days=token_retention_days)
        if stored:
            return _replay(operation, stored, fingerprint)
        raise
    idempotency.store(tx, token, fingerprint=fingerprint, answer=msgspec.json.encode(answer))
    return answer


def _token(operation: Operation, request: Request, caller: Caller) -> idempotency.Token | None:
    client_token = getattr(request, "client_token", None)
    return idempotency.Token(caller.scope.account, operation.name, client_token) if client_token else None


def _run_and_audit(tx: Transaction, operation: Operation, request: Request, caller: Caller, request_id: str) -> Answer:
    answer: Answer = operation.handler(tx, caller._replace(request_id=request_id), request)
    tx.send(
        idempotency.sql.insert_audit,
        at_ms=tx.now_ms,
        account=caller.scope.account,
        access_key_id=caller.access_key_id,
        request_id=request_id,
        operation=operation.name,
        detail=msgspec.json.encode({"Request": request, "Answer": answer}).decode(),
    )
    return answer


def _replay(operation: Operation, stored: idempotency.Stored, fingerprint: str) -> Answer:
    if stored.fingerprint != fingerprint:
        raise operation.refusal(
            IdempotencyException,
            "ClientToken: it was used before with other parameters. Repeat the call as it was, or give a new token.",
        )
    return msgspec.json.decode(stored.answer, type=operation.answer)
