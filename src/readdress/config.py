"""One frozen Config out of defaults, a TOML file, the environment and the command line, each over the one before.

Every limit is here with its unit. An unknown name or a value out of bounds stops the start, and the text names it.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

ENVIRONMENT_PREFIX = "READDRESS_"

# In front of the host, or among the parameters behind it.
_PASSWORD = re.compile(r"(://[^/@:]*:)(?:[^?]*|[^/@]*)(?=@)|([?&](?:ssl)?password=)[^&]*")

Count = Annotated[int, Meta(ge=1)]
CountOrNone = Annotated[int, Meta(ge=0)]  # 0 is no limit


class ConfigError(Exception):
    """The configuration can't be used; the text names the setting and says what it has to be."""


class TransportConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """A way by which mail goes on; `concurrency` is how many deliveries a node tries by it at a time."""

    concurrency: Annotated[int, Meta(ge=1, le=1_000)] = 10
    keep_content: bool = False


class MaildirConfig(TransportConfig, frozen=True, tag="maildir"):
    """A Maildir for each address, or one for all; `{address_id}` and `{instance_id}` in the path are filled in."""

    path: Annotated[str, Meta(min_length=1)]


class LmtpConfig(TransportConfig, frozen=True, tag="lmtp"):
    """Another mail store: HOST:PORT or unix:PATH."""

    address: Annotated[str, Meta(min_length=1)]


class SmtpConfig(TransportConfig, frozen=True, tag="smtp"):
    """Another mail server: `host`, or where MX records point when there is none.

    `recipient` names whom the mail is for there; `{local_part}` and `{domain}` in it are the address's own.
    """

    host: str = ""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 25
    tls: Literal["none", "may", "require", "implicit"] = "may"
    verify: bool = True
    ca_file: str = ""
    username: str = ""
    password: str = ""
    password_file: str = ""
    recipient: str = ""
    allow_private: bool = False
    domain_concurrency: Annotated[int, Meta(ge=1, le=1_000)] = 5


class WebhookConfig(TransportConfig, frozen=True, tag="webhook"):
    """An HTTP endpoint; what is posted is signed with the secret."""

    url: Annotated[str, Meta(pattern=r"\Ahttps?://")]
    secret: str = ""
    secret_file: str = ""
    timeout_ms: Annotated[int, Meta(ge=100, le=600_000)] = 30_000
    ca_file: str = ""
    allow_private: bool = False


AnyTransport = MaildirConfig | LmtpConfig | SmtpConfig | WebhookConfig
TransportName = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9\-]{0,62}\Z")]

# What every deployment has, or means something else: no transport of the configuration has such a name.
RESERVED_TRANSPORTS = frozenset({"inbox", "discard", "return"})


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every setting of the service; the names are those of the TOML file, and READDRESS_<NAME> in the environment."""

    data: str = "readdress-data"
    database: str = ""
    database_connections: Annotated[int, Meta(ge=4, le=1_000)] = 10
    key_file: str = ""
    http: str = "127.0.0.1:4780"
    smtp: str = "127.0.0.1:2525"
    lmtp: str = ""
    smtp_tls: str = ""
    socketmap: str = ""
    metrics: str = ""
    console: str = ""
    log_format: Literal["text", "json"] = "text"
    access_log: bool = False
    tls_certificate: str = ""
    tls_key: str = ""
    dev: bool = False
    workers: Annotated[int, Meta(ge=1, le=100)] = 1
    hostname: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9.\-]{0,255}\Z")] = ""
    region: Annotated[str, Meta(pattern=r"\A[a-z]{2}(-[a-z]+){1,2}-[0-9]\Z")] = "us-east-1"
    account: Annotated[str, Meta(pattern=r"\A[0-9]{12}\Z")] = "123456789012"
    aws_limits: bool = False

    lock_wait_ms: Count = 5_000
    token_retention_days: Count = 7
    request_bytes_max: Annotated[int, Meta(ge=1_024)] = 1_048_576
    request_timeout_ms: Count = 60_000
    http_connections_max: Count = 1_000
    drain_ms: Count = 10_000
    drain_notice_ms: CountOrNone = 0

    message_bytes_max: Annotated[int, Meta(ge=65_536)] = 40 * 1024 * 1024
    recipients_max: Annotated[int, Meta(ge=100)] = 100  # RFC 5321 §4.5.3.1.8
    messages_per_session_max: Annotated[int, Meta(ge=0, le=999_999)] = 1_000  # RFC 9422: six digits
    connections_max: Count = 1_000
    command_line_bytes_max: Annotated[int, Meta(ge=512)] = 2_048  # RFC 5321 §4.5.3.1.4, and its extensions
    content_line_bytes_max: Annotated[int, Meta(ge=1_000)] = 65_536  # RFC 5321 §4.5.3.1.6; mail has longer lines
    session_errors_max: Count = 20
    tarpit_after_errors: Count = 5
    tarpit_ms: Annotated[int, Meta(ge=0, le=60_000)] = 2_000
    command_timeout_ms: Count = 300_000  # RFC 5321 §4.5.3.2.7
    content_timeout_ms: Count = 180_000  # RFC 5321 §4.5.3.2.5
    message_timeout_ms: Count = 3_600_000  # for the whole content, however it drips

    proxy_from: str = ""
    unlimited_peers: str = "127.0.0.0/8, ::1"
    peer_connections_max: CountOrNone = 50
    peer_connections_per_minute: CountOrNone = 300
    peer_messages_per_minute: CountOrNone = 1_000
    peer_bad_recipients_per_minute: CountOrNone = 60

    transports: dict[TransportName, AnyTransport] = {}
    default_transport: str = "inbox"
    return_transport: str = ""
    resolver: str = ""
    retry_min_ms: Count = 60_000
    retry_max_ms: Count = 3_600_000
    retry_for_ms: Count = 5 * 86_400_000  # RFC 5321 §4.5.4.1
    delay_notice_ms: Count = 4 * 3_600_000
    lease_ms: Annotated[int, Meta(ge=1_000)] = 60_000
    sender_checks: Literal["auto", "on", "off"] = "auto"
    check_budget_ms: Annotated[int, Meta(ge=100, le=60_000)] = 10_000
    seal_domain: str = ""
    seal_selector: str = ""
    seal_key: str = ""

    @property
    def checks_senders(self) -> bool:
        """Unless told otherwise, a laptop's mail is not worth asking DNS for."""
        return self.sender_checks == "on" or (self.sender_checks == "auto" and not self.dev)

    @property
    def nameservers(self) -> list[str]:
        return [server.strip() for server in self.resolver.split(",") if server.strip()]

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{Path(self.data) / 'readdress.db'}"

    @property
    def database_shown(self) -> str:
        """The URL for people and logs: without a password."""
        return _PASSWORD.sub(lambda found: f"{found[1] or found[2]}***", self.database_url)

    @property
    def key_path(self) -> Path:
        return Path(self.key_file) if self.key_file else Path(self.data) / "secret.key"


def load_config(file: Path | None, environment: Mapping[str, str], options: Mapping[str, Any]) -> Config:
    """Raises ConfigError."""
    settings: dict[str, Any] = {}
    if file is not None:
        try:
            settings |= tomllib.loads(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"cannot read {file}: {error}") from error
    from_environment = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    unknown = from_environment.keys() - set(Config.__struct_fields__)
    if unknown:
        raise ConfigError(f"{ENVIRONMENT_PREFIX}{min(unknown).upper()} is no setting of Readdress")
    settings |= _typed(from_environment)
    settings |= {name: value for name, value in options.items() if value is not None}
    config = _convert(settings)
    _check_transports(config)
    return config


def _check_transports(config: Config) -> None:
    """What one setting can't tell by itself."""
    taken = RESERVED_TRANSPORTS & config.transports.keys()
    if taken:
        raise ConfigError(f"transports.{min(taken)}: the name has a meaning of its own, choose another")
    if config.default_transport not in {"inbox", *config.transports}:
        raise ConfigError(f"default_transport: there is no transport named {config.default_transport!r}")
    returning = config.transports.get(config.return_transport)
    if config.return_transport and (not isinstance(returning, SmtpConfig) or returning.recipient):
        raise ConfigError("return_transport has to name a transport of type smtp without a recipient of its own")
    for name, transport in config.transports.items():
        if isinstance(transport, SmtpConfig) and transport.recipient and not config.return_transport:
            raise ConfigError(
                f"transports.{name} sends mail on to another recipient, and what can't be delivered there has to find "
                "its way back: name a transport for that in return_transport"
            )
    if len({bool(value) for value in (config.seal_domain, config.seal_selector, config.seal_key)}) > 1:
        raise ConfigError("seal_domain, seal_selector and seal_key go together: give all of them, or none")


UNIX_PREFIX = "unix:"


def split_host_port(setting: str, text: str) -> tuple[str, int]:
    """`host:port` in two; `[::1]:25` for IPv6. Raises ConfigError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"{setting} has to be HOST:PORT, as in 127.0.0.1:4780, and not {text!r}")
    return host.strip("[]"), int(port)


def _typed(texts: dict[str, str]) -> dict[str, Any]:
    """The environment knows text only: `true`, `1` and `5000` become what the setting is."""
    try:
        config = msgspec.convert(texts, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"in the environment: {error}") from None
    return {name: getattr(config, name) for name in texts}


def _convert(settings: dict[str, Any]) -> Config:
    unknown = next((name for name in settings if name not in Config.__struct_fields__), None)
    if unknown is not None:
        import difflib  # imported here: only a mistake needs it

        near = difflib.get_close_matches(unknown, Config.__struct_fields__, n=2)
        hint = f"is {' or '.join(near)} meant?" if near else "docs/operations.md lists all settings."
        raise ConfigError(f"there is no setting {unknown}: {hint}")
    try:
        return msgspec.convert(settings, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"in the configuration: {error}") from None
