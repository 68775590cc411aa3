"""Builds every part of the program from a Config, and runs it: the only place that wires.

HTTP, SMTP and the database live in one process and one event loop. SIGTERM or SIGINT stops it: no new connections, work
in hand is finished or refused with 421 or 503, within `drain_ms`; what was acknowledged is on disk already.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import uvicorn

from readdress import onward
from readdress.api import access, idempotency
from readdress.api.access import Quotas
from readdress.api.catalogue import OPERATIONS
from readdress.api.policy import ALLOW_EVERYTHING
from readdress.api.rates import Rate, Rates
from readdress.clock import Clock
from readdress.config import UNIX_PREFIX, Config, ConfigError, split_host_port
from readdress.databases import open_database
from readdress.directory import instances, settings, texts
from readdress.gateway.app import Gateway, Settings
from readdress.gateway.protocol import HttpProtocol
from readdress.inbox import messages
from readdress.mail import srs
from readdress.mail.intake import Intake
from readdress.mail.notices import Notifier
from readdress.mail.socketmap import SocketmapServer
from readdress.smtp.peers import Network, PeerLimits, Peers, parse_networks
from readdress.smtp.server import Door, SmtpServer, Timeouts
from readdress.smtp.session import Limits
from readdress.smtp.tarpit import Tarpit
from readdress.smtp.tls import Certificate, CertificateError
from readdress.store.database import StoreError, Transaction

log = logging.getLogger("readdress")

DEV_KEY = "test"
DEV_INSTANCE = "12345678-1234-1234-1234-123456789012"
MAINTENANCE_INTERVAL_S = 60
INDEX_INTERVAL_S = 1

# Amazon Connect's published figures, for `aws_limits` (contract 5).
AWS_QUOTAS = Quotas(addresses_max=100, instances_max=2)
AWS_RATE = Rate(per_second=2, burst=5)


class NewKey(NamedTuple):
    """An administrator's key that the first start made; its secret is shown once."""

    access_key_id: str
    secret: str


class Ready(NamedTuple):
    """Where the service listens."""

    http: str
    smtp: str
    lmtp: str
    smtp_tls: str
    socketmap: str
    new_key: NewKey | None


class Service:
    """The whole program, built and not yet listening."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        """Opens the database. Raises ConfigError, SchemaError, KeyFileError."""
        self.config = config
        self.clock = clock or Clock()
        if config.dev:
            _require_loopback("http", config.http)
            _require_loopback("smtp", config.smtp)
            for setting, text in (("lmtp", config.lmtp), ("socketmap", config.socketmap)):
                if text and not text.startswith(UNIX_PREFIX):
                    _require_loopback(setting, text)
            if config.smtp_tls:
                _require_loopback("smtp_tls", config.smtp_tls)
        _require_no_mail_port(config.lmtp)
        data = Path(config.data)
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.keyring = access.load_keyring(config.key_path)
        self.database = open_database(config, self.clock)
        self._new_key = self.database.run(self._prepare)
        self._is_ready = False
        self._hostname = config.hostname or socket.gethostname()
        self._dispatcher = onward.build_dispatcher(config)
        seal = onward.build_seal(config, authserv_id=self._hostname)
        self._checks = onward.build_checks(config, authserv_id=self._hostname)
        self._notifier = Notifier(
            hostname=self._hostname, dispatcher=self._dispatcher, sign=seal.sign if seal else None
        )
        self._runner = onward.build_runner(
            config, self.database, self._notifier, hostname=self._hostname, clock=self.clock, seal=seal
        )
        certificate = _certificate(config)
        peers, tarpit = _peers(config), _tarpit(config)
        door = partial(self._mail_server, certificate=certificate, peers=peers, tarpit=tarpit)
        self._smtp = door("smtp")
        self._lmtp = door("lmtp") if config.lmtp else None
        self._smtp_tls = door("smtp_tls") if config.smtp_tls else None
        self._socketmap = self._socketmap_server() if config.socketmap else None
        http_protocol = HttpProtocol.with_limits(
            connections_max=config.http_connections_max, request_s=config.request_timeout_ms / 1000
        )
        self._http = _HttpServer(self._gateway(), http_protocol, drain_s=config.drain_ms / 1000)

    def _mail_server(self, name: str, *, certificate: Certificate | None, peers: Peers, tarpit: Tarpit) -> SmtpServer:
        """The door that the setting of that name opens."""
        config = self.config
        door = Door(
            name,
            Intake(
                self.database,
                hostname=self._hostname,
                dispatcher=self._dispatcher,
                notifier=self._notifier,
                checks=self._checks,
                on_queued=self._runner.wake,
            ),
            hostname=self._hostname,
            lmtp=name == "lmtp",
            certificate=certificate,
            implicit_tls=name == "smtp_tls",
            limits=Limits(
                command_line_bytes_max=config.command_line_bytes_max,
                content_line_bytes_max=config.content_line_bytes_max,
                message_bytes_max=config.message_bytes_max,
                recipients_max=config.recipients_max,
                messages_max=config.messages_per_session_max,
                errors_max=config.session_errors_max,
            ),
            timeouts=Timeouts(
                command_s=config.command_timeout_ms / 1000,
                content_s=config.content_timeout_ms / 1000,
                message_s=config.message_timeout_ms / 1000,
                drain_s=config.drain_ms / 1000,
            ),
            connections_max=config.connections_max,
            peers=peers,
            tarpit=tarpit,
        )
        return SmtpServer(door, proxy_from=_networks("proxy_from", config.proxy_from))

    def _socketmap_server(self) -> SocketmapServer:
        return SocketmapServer(
            self.database,
            connections_max=self.config.connections_max,
            request_s=self.config.command_timeout_ms / 1000,
            drain_s=self.config.drain_ms / 1000,
        )

    async def run(self, on_ready: Callable[[Ready], None], stop: asyncio.Event | None = None) -> None:
        """Listen until SIGTERM, SIGINT or `stop`."""
        stop = stop or asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, ValueError):  # Windows; not the main thread
                loop.add_signal_handler(number, stop.set)
        maintenance = asyncio.create_task(self._maintain())
        indexing = asyncio.create_task(self._index_texts())
        runner = asyncio.create_task(self._runner.run())
        try:
            on_ready(await self._listen())
            await stop.wait()
            self._is_ready = False
            await asyncio.sleep(self.config.drain_notice_ms / 1000)  # so that a load balancer sees it first
        finally:
            self._is_ready = False
            maintenance.cancel()
            indexing.cancel()
            doors = (self._http, self._smtp, self._lmtp, self._smtp_tls, self._socketmap)
            await asyncio.gather(*(door.stop() for door in doors if door))
            self._runner.stop(self.config.drain_ms / 1000)
            await runner
            if self._checks:
                self._checks.close()
            self.database.close()

    async def _listen(self) -> Ready:
        """Open every door; a port of 0 is a free one."""
        http_host, http_port = split_host_port("http", self.config.http)
        smtp_host, smtp_port = split_host_port("smtp", self.config.smtp)
        http = _join(http_host, await self._http.start(http_host, http_port))
        smtp = _join(smtp_host, await self._smtp.start(smtp_host, smtp_port))
        lmtp = await _start("lmtp", self._lmtp, self.config.lmtp)
        socketmap = await _start("socketmap", self._socketmap, self.config.socketmap)
        smtp_tls = ""
        if self._smtp_tls:
            host, port = split_host_port("smtp_tls", self.config.smtp_tls)
            smtp_tls = _join(host, await self._smtp_tls.start(host, port))
        self._is_ready = True
        return Ready(http=http, smtp=smtp, lmtp=lmtp, smtp_tls=smtp_tls, socketmap=socketmap, new_key=self._new_key)

    def _gateway(self) -> Gateway:
        config = self.config
        return Gateway(
            database=self.database,
            operations=OPERATIONS,
            keyring=self.keyring,
            rates=Rates(AWS_RATE if config.aws_limits else None),
            clock=self.clock,
            settings=Settings(
                region=config.region,
                request_bytes_max=config.request_bytes_max,
                token_retention_days=config.token_retention_days,
                quotas=AWS_QUOTAS if config.aws_limits else Quotas(),
                transports=frozenset({settings.INBOX, *config.transports}),
            ),
            is_ready=lambda: self._is_ready,
        )

    def _prepare(self, tx: Transaction) -> NewKey | None:
        """The first key; in development, the well-known one and the instance of the documentation."""
        account = self.config.account
        if self.config.dev:
            access.create_key(
                tx,
                self.keyring,
                account=account,
                name="development",
                policy=ALLOW_EVERYTHING,
                access_key_id=DEV_KEY,
                secret=DEV_KEY,
            )
            if instances.find(tx, account=account, instance_id=DEV_INSTANCE) is None:
                instances.create(tx, _dev_instance(account, tx.now_ms))
            return None
        keys = [key for key in access.list_keys(tx) if key.id != DEV_KEY]
        if keys:
            self.keyring.open(keys[0].id, keys[0].sealed_secret)  # on another node it may be another key file
            return None
        made = access.create_key(tx, self.keyring, account=account, name="administrator", policy=ALLOW_EVERYTHING)
        return NewKey(*made)

    async def _maintain(self) -> None:
        """Forget what is past its time, a little at a time."""
        retention_days = self.config.token_retention_days

        def tidy(tx: Transaction) -> int:
            expired = idempotency.delete_expired(tx, retention_days=retention_days)
            return expired + messages.sweep_staged(tx) + srs.forget_unused(tx)

        while True:
            try:
                while await self.database.write(tidy):
                    await asyncio.sleep(0.1)
            except StoreError:
                log.warning("maintenance is put off", exc_info=True)
            await asyncio.sleep(MAINTENANCE_INTERVAL_S)

    async def _index_texts(self) -> None:
        """Tell the index of texts of new addresses, on a thread: a batch takes some ten milliseconds."""
        while await self.database.read(lambda tx: tx.has_text_table):
            try:
                while await self.database.read(texts.is_due):
                    await asyncio.to_thread(self.database.run, texts.index_some)
            except StoreError:
                log.warning("the index of texts is put off", exc_info=True)
            await asyncio.sleep(INDEX_INTERVAL_S)


class _HttpServer:
    """uvicorn in an event loop that is not its own, with the signals left to the service."""

    def __init__(self, gateway: Gateway, protocol: type[HttpProtocol], *, drain_s: float) -> None:
        config = uvicorn.Config(
            gateway,
            loop="none",
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, int(drain_s)),
            backlog=1024,
        )
        self._server = _QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; gives the port."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.001)
        port_taken: int = listener.getsockname()[1]
        return port_taken

    async def stop(self) -> None:
        if self._task:
            self._server.should_exit = True
            await self._task


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _dev_instance(account: str, now_ms: int) -> instances.Instance:
    return instances.Instance(
        id=DEV_INSTANCE,
        account=account,
        alias="development",
        identity_management_type="CONNECT_MANAGED",
        directory_id=None,
        inbound_calls=1,
        outbound_calls=1,
        created_ms=now_ms,
    )


def _require_loopback(setting: str, text: str) -> None:
    """Everyone knows the development key, so nobody but this machine may reach it (contract 4)."""
    host, _ = split_host_port(setting, text)
    with contextlib.suppress(ValueError):
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return
    raise ConfigError(
        f"--dev listens on loopback only, for everyone knows its key: {setting} = {text} has to be 127.0.0.1:PORT. "
        "Or start without --dev."
    )


def _certificate(config: Config) -> Certificate | None:
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


def _peers(config: Config) -> Peers:
    """Raises ConfigError."""
    limits = PeerLimits(
        connections_max=config.peer_connections_max,
        connections_per_minute=config.peer_connections_per_minute,
        messages_per_minute=config.peer_messages_per_minute,
        bad_recipients_per_minute=config.peer_bad_recipients_per_minute,
    )
    return Peers(limits, unlimited=_networks("unlimited_peers", config.unlimited_peers))


def _tarpit(config: Config) -> Tarpit:
    return Tarpit(after_errors=config.tarpit_after_errors, delay_s=config.tarpit_ms / 1000)


def _networks(setting: str, text: str) -> tuple[Network, ...]:
    """Raises ConfigError."""
    try:
        return parse_networks(text)
    except ValueError as error:
        raise ConfigError(f"{setting} has to be networks between commas, as in 10.0.0.0/8, ::1: {error}") from None


def _require_no_mail_port(lmtp: str) -> None:
    """RFC 2033 §5: a server on port 25 that speaks LMTP would be taken for one of SMTP."""
    if lmtp and not lmtp.startswith(UNIX_PREFIX) and split_host_port("lmtp", lmtp)[1] == 25:
        raise ConfigError("LMTP is never spoken on port 25: give lmtp another port, or unix:PATH")


async def _start(setting: str, door: SmtpServer | SocketmapServer | None, text: str) -> str:
    """Listen on host:port, or on the socket of `unix:` and a path; gives where."""
    if door is None:
        return ""
    if text.startswith(UNIX_PREFIX):
        await door.start_unix(text.removeprefix(UNIX_PREFIX))
        return text
    host, port = split_host_port(setting, text)
    return _join(host, await door.start(host, port))


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def secure_umask() -> None:
    """What the service writes, mail above all, is for its own user."""
    os.umask(0o077)
