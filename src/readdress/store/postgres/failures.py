"""What PostgreSQL's failures mean: one table from SQLSTATE to the ways in which storing can fail."""

from readdress.store.database import StoreBusy, StoreChanged, StoreError, StoreFull, StoreUnavailable

# The codes are those of the manual's appendix "PostgreSQL Error Codes".
_MEANINGS: dict[str, type[StoreError]] = {
    "55P03": StoreBusy,  # lock_not_available: lock_timeout has passed
    "40001": StoreChanged,  # serialization_failure
    "40P01": StoreChanged,  # deadlock_detected
    "23503": StoreChanged,  # foreign_key_violation: what was read has been deleted meanwhile
    "23505": StoreChanged,  # unique_violation: what was missing has been made meanwhile
    "53100": StoreFull,  # disk_full
}
# A server that stops, starts, or has become a standby: the next connection finds the right one.
_LOST_CLASSES = ("08", "57P")
_READ_ONLY = "25006"


class ConnectionLost(StoreUnavailable):
    """The connection can't be used any more; whether a commit under way has happened is not known."""


def store_error(sqlstate: str, message: str) -> StoreError:
    if sqlstate.startswith(_LOST_CLASSES) or sqlstate == _READ_ONLY:
        return ConnectionLost(f"{sqlstate}: {message}")
    return _MEANINGS.get(sqlstate, StoreUnavailable)(f"{sqlstate}: {message}")
