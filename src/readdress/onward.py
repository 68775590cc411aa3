"""Builds what takes mail on from here out of a Config: the transports by their names, and the runner of the queue."""

import ssl
from functools import partial
from pathlib import Path

import msgspec

from readdress.clock import Clock
from readdress.config import (
    UNIX_PREFIX,
    AnyTransport,
    Config,
    ConfigError,
    LmtpConfig,
    MaildirConfig,
    SmtpConfig,
    WebhookConfig,
    split_host_port,
)
from readdress.directory import routing
from readdress.mail.dispatch import Dispatcher
from readdress.mail.mx import OwnHost
from readdress.mail.notices import Notifier
from readdress.mail.queue_runner import QueueRunner, Schedule
from readdress.mail.resolver import Resolver
from readdress.mail.sender_checks import SenderChecks
from readdress.mail.transports import Transport
from readdress.mail.transports.maildir import Maildir
from readdress.mail.transports.relay import Lmtp, NextDomain, Smtp
from readdress.mail.transports.webhook import Webhook
from readdress.smtp.outgoing import ClientTimeouts, Target
from readdress.store.database import Database


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
    next_domain = NextDomain(database, _resolver(config), OwnHost(names=(hostname,)), seal.seal if seal else None)
    transports = {
        name: _transport(f"transports.{name}", transport, next_domain, hostname=hostname, clock=clock)
        for name, transport in config.transports.items()
    }
    if config.return_transport:
        transports[routing.RETURN] = transports[config.return_transport]
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


def _transport(
    setting: str, transport: AnyTransport, next_domain: NextDomain, *, hostname: str, clock: Clock
) -> Transport:
    try:
        match transport:
            case MaildirConfig():
                return Maildir(transport.path, concurrency=transport.concurrency, keep_content=transport.keep_content)
            case LmtpConfig():
                return Lmtp(
                    _lmtp_target(setting, transport.address),
                    hostname=hostname,
                    timeouts=ClientTimeouts(),
                    concurrency=transport.concurrency,
                    keep_content=transport.keep_content,
                )
            case SmtpConfig():
                return _smtp(setting, transport, next_domain, hostname=hostname)
            case WebhookConfig():
                return Webhook(
                    transport.url,
                    secret=_secret(setting, transport.secret, transport.secret_file),
                    timeout_s=transport.timeout_ms / 1000,
                    allow_private=transport.allow_private,
                    ca_file=transport.ca_file,
                    concurrency=transport.concurrency,
                    keep_content=transport.keep_content,
                    clock=clock,
                )
    except (ValueError, OSError) as error:
        raise ConfigError(f"{setting}: {error}") from error


def _smtp(setting: str, transport: SmtpConfig, next_domain: NextDomain, *, hostname: str) -> Smtp:
    if transport.ca_file:
        ssl.create_default_context(cafile=transport.ca_file)  # a mistake is seen at the start
    to_host = partial(
        Target,
        port=transport.port,
        tls=transport.tls,
        verify=transport.verify,
        ca_file=transport.ca_file,
        username=transport.username,
        password=_secret(setting, transport.password, transport.password_file),
    )
    return Smtp(
        to_host(host=transport.host) if transport.host else None,
        to_host=to_host,
        domain_concurrency=transport.domain_concurrency,
        recipient=transport.recipient,
        allow_private=transport.allow_private,
        next_domain=next_domain,
        hostname=hostname,
        timeouts=ClientTimeouts(),
        concurrency=transport.concurrency,
        keep_content=transport.keep_content,
    )


def _lmtp_target(setting: str, address: str) -> Target:
    if address.startswith(UNIX_PREFIX):
        return Target(unix_path=address.removeprefix(UNIX_PREFIX), lmtp=True, tls="none")
    host, port = split_host_port(f"{setting}.address", address)
    return Target(host=host, port=port, lmtp=True)


def _secret(setting: str, text: str, file: str) -> str:
    """Given as it is, or in a file, whose last line end does not count."""
    if text and file:
        raise ConfigError(f"{setting}: give the secret itself or the file it is in, and not both")
    return Path(file).read_text("utf-8").removesuffix("\n") if file else text


def _resolver(config: Config) -> Resolver:
    try:
        return Resolver(config.nameservers)
    except ValueError as error:
        raise ConfigError(f"resolver: {error}") from error


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
