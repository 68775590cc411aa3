"""Builds what takes mail on from here out of a Config: what signs, what checks, and the runner of the queue."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from readdress.clock import Clock
from readdress.config import Config, ConfigError
from readdress.mail.dispatch import Dispatcher
from readdress.mail.notices import Notifier
from readdress.mail.queue_runner import QueueRunner, Schedule
from readdress.mail.sender_checks import SenderChecks
from readdress.store.database import Database

if TYPE_CHECKING:
    from readdress.mail.transports import Transport


class Seal:
    """Our own signatures with one key: ARC for mail that leaves our domains, DKIM for notices."""

    def __init__(self, config: Config, *, authserv_id: str) -> None:
        """Raises ConfigError for a key that can't be used."""
        from readdress.mail.authentication.sealing import PrivateKeyError, seal
        from readdress.mail.authentication.signature import is_domain

        for setting, name in (("seal_domain", config.seal_domain), ("seal_selector", config.seal_selector)):
            if not is_domain(name.lower()):
                raise ConfigError(f"{setting} has to be a domain name in ASCII, and not {name!r}")
        self._domain = config.seal_domain
        self._selector = config.seal_selector
        self._authserv_id = authserv_id
        try:
            self._key = Path(config.seal_key).read_bytes()
            seal(  # a mistake is seen at the start
                b"From: a@example.com\r\n\r\n",
                verdicts_field=f"Authentication-Results: {authserv_id};\r\n\tarc=none\r\n",
                domain=self._domain,
                selector=self._selector,
                private_key_pem=self._key,
                authserv_id=authserv_id,
            )
        except (OSError, PrivateKeyError) as error:
            raise ConfigError(f"seal_key: {error}") from error

    def seal(self, content: bytes, verdicts: str) -> bytes:
        """The ARC set for a message with the verdicts of its arrival, or nothing; see `sealing.seal`."""
        from readdress.mail.authentication.sealing import seal
        from readdress.mail.authentication.verdicts import Verdicts

        found = msgspec.json.decode(verdicts, type=Verdicts)
        return seal(
            content,
            verdicts_field=found.results_field(self._authserv_id),
            domain=self._domain,
            selector=self._selector,
            private_key_pem=self._key,
            authserv_id=self._authserv_id,
        )

    def sign(self, notice: bytes) -> bytes:
        from readdress.mail.authentication.sealing import sign_dkim

        return sign_dkim(notice, self._domain, self._selector, self._key)


def build_dispatcher(config: Config) -> Dispatcher:
    return Dispatcher(default_transport=config.default_transport, can_return=bool(config.return_transport))


def build_runner(
    config: Config, database: Database, notifier: Notifier, *, hostname: str, clock: Clock, seal: Seal | None
) -> QueueRunner:
    """Raises ConfigError for a transport that can't be used."""
    transports: dict[str, Transport] = {}
    if config.transports or config.nameservers:
        from readdress.transports import build_transports  # which imports much that nobody else needs

        transports = build_transports(
            config, database, hostname=hostname, clock=clock, seal=seal.seal if seal else None
        )
    return QueueRunner(
        database,
        transports,
        notifier=notifier,
        schedule=Schedule(
            first_ms=config.retry_min_ms,
            last_ms=max(config.retry_min_ms, config.retry_max_ms),
            give_up_ms=config.retry_for_ms,
            delay_notice_ms=config.delay_notice_ms,
        ),
        lease_ms=config.lease_ms,
        clock=clock,
    )


def build_seal(config: Config, *, authserv_id: str) -> Seal | None:
    """Raises ConfigError."""
    return Seal(config, authserv_id=authserv_id) if config.seal_key else None


def build_checks(config: Config, *, authserv_id: str) -> SenderChecks | None:
    """Raises ConfigError."""
    if not config.checks_senders:
        return None
    try:
        return SenderChecks(config.nameservers, authserv_id=authserv_id, budget_s=config.check_budget_ms / 1000)
    except ValueError as error:
        raise ConfigError(f"resolver: {error}") from error
