"""Builds what decides who may come in by mail, out of a Config; what is no use stops the start with a ConfigError."""

from pathlib import Path

from readdress.config import Config, ConfigError
from readdress.smtp.peers import Network, PeerLimits, Peers, parse_networks
from readdress.smtp.tarpit import Tarpit
from readdress.smtp.tls import Certificate, CertificateError


def build_certificate(config: Config) -> Certificate | None:
    """Raises ConfigError for half a certificate, or for one that is wanted and missing."""
    if bool(config.tls_certificate) != bool(config.tls_key):
        raise ConfigError("tls_certificate and tls_key go together: give both, or neither")
    if not config.tls_certificate:
        if config.smtp_tls:
            raise ConfigError("smtp_tls wants a certificate: give tls_certificate and tls_key")
        return None
    try:
        return Certificate(Path(config.tls_certificate), Path(config.tls_key))
    except CertificateError as error:
        raise ConfigError(str(error)) from error


def build_peers(config: Config) -> Peers:
    """Raises ConfigError."""
    limits = PeerLimits(
        connections_max=config.peer_connections_max,
        connections_per_minute=config.peer_connections_per_minute,
        messages_per_minute=config.peer_messages_per_minute,
        bad_recipients_per_minute=config.peer_bad_recipients_per_minute,
    )
    return Peers(limits, unlimited=read_networks("unlimited_peers", config.unlimited_peers))


def build_tarpit(config: Config) -> Tarpit:
    return Tarpit(after_errors=config.tarpit_after_errors, delay_s=config.tarpit_ms / 1000)


def read_networks(setting: str, text: str) -> tuple[Network, ...]:
    """Raises ConfigError."""
    try:
        return parse_networks(text)
    except ValueError as error:
        raise ConfigError(f"{setting} has to be networks between commas, as in 10.0.0.0/8, ::1: {error}") from None
