"""Builds every part of the program from a Config, and runs it: the only place that wires.

HTTP, SMTP and the database live in one process and one event loop, or in several such processes (`workers`). SIGTERM or
SIGINT stops it: no new connections, work in hand is finished or refused with 421 or 503, within `drain_ms`; what was
acknowledged is on disk already.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from readdress import console_door, logs, mail_doors, onward
from readdress.api import access
from readdress.api.access import Quotas
from readdress.api.catalogue import OPERATIONS
from readdress.api.policy import ALLOW_EVERYTHING
from readdress.api.rates import Rate, Rates
from readdress.clock import Clock
from readdress.config import UNIX_PREFIX, Config, ConfigError, split_host_port
from readdress.console.mount import PREFIX, Mount
from readdress.databases import find_connections_max, has_text_index, is_postgres, open_database
from readdress.directory import instances, routing, settings
from readdress.faults import Faults
from readdress.gateway.app import Gateway, Settings
from readdress.gateway.faulty import ERRORS
from readdress.gateway.pages import Application
from readdress.gateway.protocol import HttpSettings
from readdress.gateway.server import HttpServer
from readdress.gateway.wire import HttpRequest, HttpResponse
from readdress.inbox.arrivals import Arrivals
from readdress.listening import Listening, Sockets, listen
from readdress.mail.intake import Intake
from readdress.mail.notices import Notifier
from readdress.mail.socketmap import SocketmapServer
from readdress.maintenance import Maintenance
from readdress.metrics import counted
from readdress.smtp.backend import Backend
from readdress.smtp.faulty import FaultyBackend
from readdress.smtp.peers import Peers
from readdress.smtp.server import Door, SmtpServer, Timeouts
from readdress.smtp.session import Limits
from readdress.smtp.tarpit import Tarpit
from readdress.smtp.tls import Certificate
from readdress.store.counted import CountedDatabase
from readdress.store.database import Database, SchemaError, Transaction
from readdress.telemetry import traces
from readdress.workers import Worker, run_workers

if TYPE_CHECKING:
    from readdress.gateway.exposition import Exposition

log = logging.getLogger("readdress")

DEV_KEY = "test"
DEV_INSTANCE = "12345678-1234-1234-1234-123456789012"
DOORS = ("http", "smtp", "lmtp", "smtp_tls", "socketmap", "metrics")  # the settings that say where to listen

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
    metrics: str
    console: str
    new_key: NewKey | None


def serve(config: Config, on_ready: Callable[[Ready], None]) -> int:
    """Run the service in this process, or in `workers` others, until it is told to stop; gives the status to end with.

    Raises ConfigError, SchemaError, KeyFileError, ListenError, OSError, and nothing more once it is ready.
    """
    service = Service(config)
    try:
        listening = listen(places(config), workers=config.workers)
        service.prepare()  # now that nothing is in the way of showing the first key
    except BaseException:
        service.database.close()
        raise
    places_taken = {setting: listening.addresses.get(setting, "") for setting in DOORS}
    pages = console_door.find_pages(config, places_taken["http"])
    ready = Ready(new_key=service.new_key, console=pages, **places_taken)
    if is_postgres(config):
        _warn_of_the_server(config)
    if config.workers == 1:
        run_in_loop(service.run(listening.sockets[0], lambda: on_ready(ready)))
        return 0
    service.database.close()  # it has done once what has to be done once, and no worker may inherit a connection
    return run_workers(
        config.workers,
        partial(_be_worker, config, listening),
        on_ready=lambda: on_ready(ready),
        on_stop=listening.close,
        stops_on=frozenset({signal.SIGTERM, signal.SIGINT} | (set() if config.tls_certificate else {signal.SIGHUP})),
    )


def _be_worker(config: Config, listening: Listening, worker: Worker) -> int:
    """One of several processes, with a database, an event loop and sockets of its own."""
    logs.set_up(worker=worker.number + 1, log_format=config.log_format)
    counted.clear()
    own = listening.sockets[worker.number]
    listening.close(keep=own)
    try:
        service = Service(config)
    except (ConfigError, SchemaError, access.KeyFileError, OSError) as error:
        log.error("cannot start: %s", error)  # noqa: TRY400 - the text says all
        return 1
    run_in_loop(service.run(own, worker.tell_ready, lifeline=worker.lifeline))
    return 0


class Service:
    """The whole program, built and not yet serving."""

    def __init__(self, config: Config, clock: Clock | None = None, *, database: Database | None = None) -> None:
        """Opens the database, unless one is given, and closes it when `run` ends.

        Raises ConfigError, SchemaError, KeyFileError.
        """
        self.config = config
        self.clock = clock or Clock()
        _check_doors(config)
        data = Path(config.data)
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.keyring = access.load_keyring(config.key_path)
        self.database = CountedDatabase(database or open_database(config, self.clock))
        self.new_key: NewKey | None = None
        self.arrivals = Arrivals()
        names = {operation.name for operation in OPERATIONS}
        self.faults = Faults(operations=names, errors=ERRORS) if config.dev else None
        self._quotas = AWS_QUOTAS if config.aws_limits else Quotas()
        self._transports = frozenset({settings.INBOX, *config.transports})
        self._stop = asyncio.Event()
        self._is_ready = False
        self._is_orphan = False
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
        self._certificate = certificate = mail_doors.build_certificate(config)
        peers, tarpit = mail_doors.build_peers(config), mail_doors.build_tarpit(config)
        door = partial(self._mail_server, certificate=certificate, peers=peers, tarpit=tarpit)
        self._smtp = door("smtp")
        self._lmtp = door("lmtp") if config.lmtp else None
        self._smtp_tls = door("smtp_tls") if config.smtp_tls else None
        self._socketmap = self._socketmap_server() if config.socketmap else None
        self.gateway = self._build_gateway()
        has_pages = console_door.is_open(config)
        http = HttpSettings(
            connections_max=config.http_connections_max,
            request_s=config.request_timeout_ms / 1000,
            body_bytes_max=config.request_bytes_max,
            answer_call=self.gateway.answer,
            pages=PREFIX.encode() if has_pages else None,
            application=Mount(self._build_console) if has_pages else None,
        )
        drain_s = config.drain_ms / 1000
        self._http = HttpServer(http, drain_s=drain_s)
        scrapes = http._replace(answer_call=self._answer_scrape, pages=None)
        self._metrics = HttpServer(scrapes, drain_s=drain_s) if config.metrics else None

    def _mail_server(self, name: str, *, certificate: Certificate | None, peers: Peers, tarpit: Tarpit) -> SmtpServer:
        """The door that the setting of that name opens."""
        config = self.config
        door = Door(
            name,
            self._intake(),
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
        return SmtpServer(door, proxy_from=mail_doors.read_networks("proxy_from", config.proxy_from))

    def _intake(self) -> Backend:
        intake = Intake(
            self.database,
            hostname=self._hostname,
            dispatcher=self._dispatcher,
            notifier=self._notifier,
            checks=self._checks,
            on_queued=self._runner.wake,
            waiting=self.arrivals,
        )
        return intake if self.faults is None else FaultyBackend(intake, self.faults)

    def _socketmap_server(self) -> SocketmapServer:
        return SocketmapServer(
            self.database,
            connections_max=self.config.connections_max,
            request_s=self.config.command_timeout_ms / 1000,
            drain_s=self.config.drain_ms / 1000,
        )

    async def run(self, sockets: Sockets, on_ready: Callable[[], None], *, lifeline: int | None = None) -> None:
        """Serve who comes to the sockets until `stop`, SIGTERM or SIGINT, or until a `lifeline` is cut."""
        self._hear_signals(lifeline)
        maintenance = Maintenance(
            self.database,
            name=f"{self._hostname} ({os.getpid()})",
            token_retention_days=self.config.token_retention_days,
        )
        maintenance.start()
        traces.start(os.environ)
        runner = asyncio.create_task(self._runner.run())
        try:
            await self._open_doors(sockets)
            on_ready()
            await self._stop.wait()
            self._is_ready = False
            if not self._is_orphan:
                await asyncio.sleep(self.config.drain_notice_ms / 1000)  # so that a load balancer sees it first
        finally:
            self._is_ready = False
            self.arrivals.close()
            doors = (self._http, self._smtp, self._lmtp, self._smtp_tls, self._socketmap, self._metrics)
            await asyncio.gather(*(door.stop() for door in doors if door))
            self._runner.stop(self.config.drain_ms / 1000)
            await runner
            await maintenance.stop()
            if self._checks:
                self._checks.close()
            self.database.close()
            traces.close()

    def stop(self) -> None:
        """End `run` as a signal would; to be called on its event loop."""
        self._stop.set()

    def _hear_signals(self, lifeline: int | None) -> None:
        """SIGHUP has the certificate's files looked at, as the next handshake would; without one it stops."""
        loop = asyncio.get_running_loop()
        hang_up = self._certificate.context if self._certificate else self.stop
        for number, act in ((signal.SIGTERM, self.stop), (signal.SIGINT, self.stop), (signal.SIGHUP, hang_up)):
            # Windows; not the main thread, as each kind of loop says it.
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                loop.add_signal_handler(number, act)

        def stop_as_orphan() -> None:
            """At once, for whoever takes the parent's place wants our ports."""
            assert lifeline is not None
            loop.remove_reader(lifeline)
            log.error("the parent has died, so this worker stops")
            self._is_orphan = True
            self.stop()

        if lifeline is not None:
            loop.add_reader(lifeline, stop_as_orphan)

    async def _open_doors(self, sockets: Sockets) -> None:
        await self._http.start(sockets["http"])
        await self._smtp.start(sockets["smtp"])
        if self._lmtp:
            await self._lmtp.start(sockets["lmtp"])
        if self._socketmap:
            await self._socketmap.start(sockets["socketmap"])
        if self._smtp_tls:
            await self._smtp_tls.start(sockets["smtp_tls"])
        if self._metrics:
            await self._metrics.start(sockets["metrics"])
        self._is_ready = True

    def _build_gateway(self) -> Gateway:
        config = self.config
        return Gateway(
            database=self.database,
            operations=OPERATIONS,
            keyring=self.keyring,
            rates=Rates(AWS_RATE if config.aws_limits else None),
            clock=Clock(),  # callers sign by the time of day, whatever time the service is told
            settings=Settings(
                region=config.region,
                request_bytes_max=config.request_bytes_max,
                token_retention_days=config.token_retention_days,
                quotas=self._quotas,
                transports=self._transports,
                logs_access=config.access_log,
            ),
            is_ready=lambda: self._is_ready,
            show_metrics=self._show_metrics if config.dev else None,
            faults=self.faults,
            arrivals=self.arrivals,
        )

    def _build_console(self) -> Application:
        dev_key = DEV_KEY if self.config.dev else ""
        return console_door.build(
            self.config,
            self.database,
            self.keyring,
            quotas=self._quotas,
            transports=self._transports,
            dev_key=dev_key,
            arrivals=self.arrivals,
        )

    async def _show_metrics(self) -> HttpResponse:
        return await self._exposition.show()

    async def _answer_scrape(self, request: HttpRequest) -> HttpResponse:
        return await self._exposition.answer(request)

    @cached_property
    def _exposition(self) -> "Exposition":
        """Made when it is wanted, for it takes a while to import."""
        from readdress.gateway.exposition import Exposition

        transports = {settings.INBOX, settings.DISCARD, routing.RETURN, *self.config.transports}
        return Exposition(
            counted,
            self.database,
            connections=self._count_connections,
            transports=transports,
            workers=self.config.workers,
        )

    def _count_connections(self) -> dict[str, int]:
        mail_doors = (self._smtp, self._lmtp, self._smtp_tls)
        found = {each.door.name: len(each.door.connections) for each in mail_doors if each}
        if self._socketmap:
            found["socketmap"] = self._socketmap.connections
        return {"http": self._http.connections, **found}

    def prepare(self) -> None:
        """Make what the database has to hold from the start, once for all workers.

        The first key is in `new_key`, and nobody can show it again. Raises KeyFileError.
        """
        self.new_key = self.database.run(self._prepare)

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
                instances.create(tx, dev_instance(DEV_INSTANCE, account=account, alias="development", now_ms=tx.now_ms))
            return None
        keys = [key for key in access.list_keys(tx) if key.id != DEV_KEY]
        if keys:
            self.keyring.open(keys[0].id, keys[0].sealed_secret)  # on another node it may be another key file
            return None
        made = access.create_key(tx, self.keyring, account=account, name="administrator", policy=ALLOW_EVERYTHING)
        return NewKey(*made)


def dev_instance(instance_id: str, *, account: str, alias: str | None, now_ms: int) -> instances.Instance:
    return instances.Instance(
        id=instance_id,
        account=account,
        alias=alias,
        identity_management_type="CONNECT_MANAGED",
        directory_id=None,
        inbound_calls=1,
        outbound_calls=1,
        created_ms=now_ms,
    )


def _check_doors(config: Config) -> None:
    """Raises ConfigError for one that must not be open."""
    if config.dev:
        _require_loopback("http", config.http)
        _require_loopback("smtp", config.smtp)
        for setting, text in (("lmtp", config.lmtp), ("socketmap", config.socketmap)):
            if text and not text.startswith(UNIX_PREFIX):
                _require_loopback(setting, text)
        for setting, text in (("smtp_tls", config.smtp_tls), ("metrics", config.metrics)):
            if text:
                _require_loopback(setting, text)
    _require_no_mail_port(config.lmtp)


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


def _require_no_mail_port(lmtp: str) -> None:
    """RFC 2033 §5: a server on port 25 that speaks LMTP would be taken for one of SMTP."""
    if lmtp and not lmtp.startswith(UNIX_PREFIX) and split_host_port("lmtp", lmtp)[1] == 25:
        raise ConfigError("LMTP is never spoken on port 25: give lmtp another port, or unix:PATH")


def places(config: Config) -> dict[str, str]:
    """Where to listen, by setting."""
    return {setting: place for setting in DOORS if (place := getattr(config, setting))}


def _warn_of_the_server(config: Config) -> None:
    if not has_text_index(config):
        log.warning(
            "a search for a part of a text reads every address: install the extension pg_trgm, which comes with "
            "PostgreSQL's contrib modules, and run `readdress migrate`"
        )
    wanted, allowed = config.workers * config.database_connections, find_connections_max(config)
    if wanted > allowed:
        log.warning(
            "workers × database_connections is %d, and the server takes %d in all: "
            "lower the one or the other, or raise max_connections there",
            wanted,
            allowed,
        )


def run_in_loop(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def secure_umask() -> None:
    """What the service writes, mail above all, is for its own user."""
    os.umask(0o077)
