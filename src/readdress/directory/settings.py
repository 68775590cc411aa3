"""Settings of an address or an instance: tags whose key begins with `readdress:`, so that any AWS SDK can set them.

A setting that is unknown, misplaced or malformed is refused when it is tagged; routing reads what is there at the
instant of each mail. Names of transports are checked too, so nobody can name a path or a host through the API.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from readdress.directory import tags
from readdress.errors import InvalidParameterException
from readdress.store.database import Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "directory.sql")

PREFIX: Final = "readdress:"
TRANSPORT: Final = "readdress:transport"
ACCEPT: Final = "readdress:accept"
EXPIRES_AT: Final = "readdress:expires-at"
CATCH_ALL: Final = "readdress:catch-all"
DMARC: Final = "readdress:dmarc"

# The transport that every deployment has: mail is kept in the address's inbox.
INBOX: Final = "inbox"

REJECT: Final = "reject"
TEMPFAIL: Final = "tempfail"
DISCARD: Final = "discard"


class Settings(NamedTuple):
    """What an address's own tags say; `accept` is "" where mail is taken."""

    accept: str = ""
    transport: str = ""


def read(values: Mapping[str, str], now_ms: int) -> Settings:
    """The settings of an address at an instant; past its `expires-at` it refuses, unless `accept` says otherwise."""
    accept = values.get(ACCEPT, "accept")
    expires = values.get(EXPIRES_AT)
    if accept == "accept":
        accept = REJECT if expires and parse_instant(expires) <= now_ms else ""
    return Settings(accept, values.get(TRANSPORT, ""))


def parse_instant(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 date or time; without a zone it is UTC. Raises ValueError."""
    instant = datetime.fromisoformat(text)
    return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1000)


def tag_address(
    tx: Transaction, address_id: str, domain: str, new: Mapping[str, str], *, transports: Collection[str]
) -> None:
    """Tag an email address of the domain. Raises InvalidParameterException, and then nothing is tagged."""
    check_address(new, transports=transports)
    if CATCH_ALL in new:
        check_catch_all(address_id, domain, find_catch_all(tx, domain))
    tags.put(tx, address_id, new)


def check_address(new: Mapping[str, str], *, transports: Collection[str]) -> None:
    """What can be said of an email address's tags without the directory. Raises InvalidParameterException."""
    _check(new, {TRANSPORT, ACCEPT, EXPIRES_AT, CATCH_ALL}, "an email address", transports)


def find_catch_all(tx: Transaction, domain: str) -> str | None:
    """The address that has the domain's other mail."""
    row = tx.one(sql.find_catch_all, domain=domain, key=CATCH_ALL)
    return str(row[0]) if row else None


def check_catch_all(address_id: str, domain: str, present_id: str | None) -> None:
    """A domain has one catch-all. Raises InvalidParameterException."""
    if present_id is not None and present_id != address_id:
        raise InvalidParameterException(
            f"tags: {CATCH_ALL}: the domain {domain} has a catch-all already, the email address {present_id}. "
            "Untag that one first."
        )


def tag_instance(tx: Transaction, instance_id: str, new: Mapping[str, str], *, transports: Collection[str]) -> None:
    """Tag an instance: `transport` is its addresses' default. Raises InvalidParameterException."""
    _check(new, {TRANSPORT, DMARC}, "an instance", transports)
    tags.put(tx, instance_id, new)


def _check(new: Mapping[str, str], allowed: Collection[str], holder: str, transports: Collection[str]) -> None:
    for key, value in new.items():
        if not key.lower().startswith(PREFIX):
            continue
        if key not in allowed:
            known = ", ".join(sorted(allowed))
            raise InvalidParameterException(f"tags: {key} is no setting of {holder}. Those are: {known}.")
        if key == TRANSPORT:
            _require(value in transports, key, value, _one_of(sorted(transports)))
        else:
            is_valid, expected = _VALUES[key]
            _require(is_valid(value), key, value, expected)


def _require(condition: bool, key: str, value: str, expected: str) -> None:
    if not condition:
        raise InvalidParameterException(f"tags: {key} has to be {expected}, and not '{value}'.")


def _one_of(values: Iterable[str]) -> str:
    return "one of " + ", ".join(values)


def _is_instant(text: str) -> bool:
    try:
        parse_instant(text)
    except (ValueError, OverflowError):
        return False
    return True


_ACCEPT_VALUES = ("accept", REJECT, TEMPFAIL, DISCARD)
_DMARC_VALUES = ("mark", REJECT)
_VALUES: Final[dict[str, tuple[Callable[[str], bool], str]]] = {
    ACCEPT: (lambda value: value in _ACCEPT_VALUES, _one_of(_ACCEPT_VALUES)),
    DMARC: (lambda value: value in _DMARC_VALUES, _one_of(_DMARC_VALUES)),
    EXPIRES_AT: (_is_instant, "a date or a time of ISO 8601, as in 2027-01-31T18:00:00Z"),
    CATCH_ALL: (lambda value: value == "true", "true"),
}
