"""Failures that a test asks for: calls that are refused, slow or lost, and mail that is put off; gone with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from readdress.faults import VERBS, Fault, FaultError

if TYPE_CHECKING:
    from readdress.faults import Faults


class FaultsOfTest:
    """The faults of the service while the test runs."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def fail(
        self,
        target: str,
        error: str | None = None,
        *,
        times: int | None = None,
        reply: int | None = None,
        connection_lost: bool = False,
        applied: bool = False,
        delay_ms: int = 0,
        retry_after_ms: int | None = None,
        probability: float = 1.0,
    ) -> Fault:
        """Let the next `times` calls of an operation fail, or RCPT or DATA in SMTP; without `times`, all of them.

        `error` is the name of an exception, for operations; `reply` a code such as 451, for SMTP. `applied` has the
        work done all the same, so that only its answer is lost. `retry_after_ms` is what the answer tells SDKs to wait.
        Gives the fault, whose `times` are those that are left. Raises ValueError for what can't be meant.
        """
        asked = {
            "Verb" if target.upper() in VERBS else "Operation": target.upper() if target.upper() in VERBS else target,
            "Error": error,
            "Reply": reply,
            "ConnectionLost": connection_lost,
            "Applied": applied,
            "DelayMs": delay_ms,
            "RetryAfterMs": retry_after_ms,
            "Times": times,
            "Probability": probability,
        }
        try:
            return self._faults.add(msgspec.convert(asked, Fault))
        except (msgspec.ValidationError, FaultError) as mistake:
            raise ValueError(str(mistake)) from None

    def list(self) -> list[Fault]:
        """Those that are left."""
        return self._faults.list()

    def clear(self) -> None:
        self._faults.clear()
