"""Failures that somebody asked for, so that a program's retries can be tested; there are none but in development.

Which call or command one is for, what it does, and how often. Doors ask `take` of each call; without `--dev` they hold
no Faults at all. What can't be meant is a FaultError whose text says what can.
"""

import difflib
import random
import threading
from collections.abc import Callable, Collection
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

VERBS = ("RCPT", "DATA")
FAULTS_MAX = 1_000


class FaultError(Exception):
    """A fault that can't be meant; the text says what to ask for instead."""


class ConnectionLost(Exception):
    """A fault: whoever serves the connection drops it at once, without a word."""


class Fault(msgspec.Struct, rename="pascal", omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What happens to the next `times` calls of an operation, or commands of SMTP; to all of them without `times`.

    An operation fails with `error`, the name of an exception, a command with `reply`, a code of 4xx or 5xx; or else
    the connection is lost. With `applied` the work is done all the same, and only its answer is another one. A delay
    comes first, and may come alone.
    """

    operation: str | None = None
    verb: Literal["RCPT", "DATA"] | None = None
    error: str | None = None
    reply: Annotated[int, Meta(ge=400, le=599)] | None = None
    connection_lost: bool = False
    applied: bool = False
    delay_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0
    retry_after_ms: Annotated[int, Meta(ge=0, le=60_000)] | None = None
    times: Annotated[int, Meta(ge=1)] | None = None
    probability: Annotated[float, Meta(gt=0, le=1)] = 1.0

    @property
    def target(self) -> str:
        return self.operation or self.verb or ""


class Faults:
    """The faults of one service; those of one target are tried in the order in which they were asked for."""

    def __init__(
        self, *, operations: Collection[str], errors: Collection[str], draw: Callable[[], float] = random.random
    ) -> None:
        """The names that a fault may give; `draw` gives numbers from 0 up to 1, for probabilities."""
        self._operations = operations
        self._errors = errors
        self._draw = draw
        self._lock = threading.Lock()
        self._by_target: dict[str, list[Fault]] = {}

    def add(self, fault: Fault) -> Fault:
        """Raises FaultError."""
        self._check(fault)
        with self._lock:
            if sum(map(len, self._by_target.values())) >= FAULTS_MAX:
                raise FaultError(f"there are {FAULTS_MAX} faults already: clear them first")
            self._by_target.setdefault(fault.target, []).append(fault)
        return fault

    def list(self) -> list[Fault]:
        """Those that are left, with the `times` that they have left."""
        with self._lock:
            return [fault for faults in self._by_target.values() for fault in faults]

    def clear(self) -> None:
        with self._lock:
            self._by_target.clear()

    def take(self, target: str) -> Fault | None:
        """What has to happen to this call or command, one time less from now on."""
        if target not in self._by_target:
            return None
        with self._lock:
            for fault in self._by_target.get(target, ()):
                if fault.probability < 1 and self._draw() >= fault.probability:
                    continue
                self._count_down(fault)
                return fault
        return None

    def _count_down(self, fault: Fault) -> None:
        if fault.times is None:
            return
        fault.times -= 1
        if not fault.times:
            left = self._by_target[fault.target]
            left.remove(fault)
            if not left:
                del self._by_target[fault.target]

    def _check(self, fault: Fault) -> None:
        if bool(fault.operation) == bool(fault.verb):
            raise FaultError(f"a fault is for an operation or for a verb of SMTP ({' or '.join(VERBS)}): name one")
        if fault.operation:
            _require_known("operation", fault.operation, self._operations)
        if fault.error:
            _require_known("error", fault.error, self._errors)
        if (fault.operation and fault.reply) or (fault.verb and fault.error):
            raise FaultError("an operation fails with an error, a verb of SMTP with a reply")
        if fault.connection_lost and (fault.error or fault.reply):
            raise FaultError("a lost connection carries neither error nor reply: choose one of them")
        if not (fault.error or fault.reply or fault.connection_lost or fault.delay_ms):
            raise FaultError("say what happens: an error, a reply, a lost connection or a delay")
        if fault.applied and fault.verb == "RCPT":
            raise FaultError("nothing is done at RCPT that could be applied: give DATA")


def _require_known(what: str, name: str, names: Collection[str]) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=3)
    listed = f"is {' or '.join(near)} meant?" if near else f"choose one of {', '.join(sorted(names))}"
    raise FaultError(f"there is no {what} {name!r}: {listed}")
