"""The console as a configuration has it: whether there are pages, at which origin, and with what they are built.

What it takes to make pages is imported when somebody first asks for one.
"""

from typing import TYPE_CHECKING

from readdress.api.access import Keyring, Quotas
from readdress.api.catalogue import OPERATIONS
from readdress.clock import Clock
from readdress.config import Config, ConfigError
from readdress.console.mount import PREFIX, Application
from readdress.inbox.arrivals import Arrivals
from readdress.store.database import Database

if TYPE_CHECKING:
    from readdress.console.guard import Origin


def is_open(config: Config) -> bool:
    """Whether there are pages. Raises ConfigError where they could not be served."""
    if config.console:
        _origin(config)
    return bool(config.console) or config.dev


def find_pages(config: Config, http: str) -> str:
    """Where a browser finds them, "" for nowhere; `http` is where the API listens."""
    if config.console:
        return f"{config.console}{PREFIX}/"
    return f"http://{http}{PREFIX}/" if config.dev else ""


def build(
    config: Config,
    database: Database,
    keyring: Keyring,
    *,
    quotas: Quotas,
    transports: frozenset[str],
    dev_key: str,
    arrivals: Arrivals,
) -> Application:
    from readdress.console.app import build_console
    from readdress.console.client import Settings
    from readdress.console.desk import Desk

    return build_console(
        Desk(
            database=database,
            operations=OPERATIONS,
            keyring=keyring,
            settings=Settings(config.region, quotas, transports, config.token_retention_days),
            clock=Clock(),
            origin=_origin(config),
            dev_key=dev_key,
            arrivals=arrivals,
        )
    )


def _origin(config: Config) -> "Origin":
    from readdress.console.guard import DEVELOPMENT, parse_origin

    if not config.console:
        return DEVELOPMENT
    try:
        return parse_origin(config.console)
    except ValueError as error:
        raise ConfigError(f"console {error}") from None
