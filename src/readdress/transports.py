"""Builds the transports that a Config names."""

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

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
from readdress.mail.mx import OwnHost
from readdress.mail.resolver import Resolver
from readdress.mail.transports import Transport
from readdress.mail.transports.maildir import Maildir
from readdress.mail.transports.relay import Lmtp, NextDomain, Smtp
from readdress.mail.transports.webhook import Webhook
from readdress.smtp.outgoing import ClientTimeouts, Target
from readdress.store.database import Database


def build_transports(
    config: Config,
    database: Database,
    *,
    hostname: str,
    clock: Clock,
    seal: Callable[[bytes, str], bytes] | None,
) -> dict[str, Transport]:
    """By their names. Raises ConfigError for one that can't be used."""
    next_domain = NextDomain(database, _resolver(config), OwnHost(names=(hostname,)), seal)
    transports = {
        name: _transport(f"transports.{name}", transport, next_domain, hostname=hostname, clock=clock)
        for name, transport in config.transports.items()
    }
    if config.return_transport:
        transports[routing.RETURN] = transports[config.return_transport]
    return transports


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
