"""The service in a thread of the test process, with a database of its own in a temporary folder.

Whatever keeps it from starting is raised where it was asked for, and no test waits for ever on a service that died.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from readdress.config import load_config
from readdress.listening import listen
from readdress.service import DEV_KEY, Service, places, run_in_loop
from readdress.store.sqlite.database import SqliteDatabase
from readdress.testing.clock import AdvancedClock
from readdress.testing.exchange import connect_directly

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from readdress.store.database import Transaction

T = TypeVar("T")

START_S_MAX = 30.0
STOP_S_MAX = 10.0
CALL_S_MAX = 30.0

_SETTINGS: dict[str, Any] = {
    "dev": True,
    "http": "127.0.0.1:0",
    "smtp": "127.0.0.1:0",
    "hostname": "readdress.test",
    "drain_ms": 1_000,
    "tarpit_ms": 0,  # a test that is refused is not to wait for it
}


class RunningService:
    """One service, from its start to `stop`."""

    def __init__(self, data: Path, settings: Mapping[str, Any]) -> None:
        """Raises ConfigError for settings that are none."""
        config = load_config(None, {}, {"data": str(data), **_SETTINGS, **settings})
        self.region = config.region
        self.clock = AdvancedClock()
        data.mkdir(parents=True, exist_ok=True)
        database = SqliteDatabase(
            data / "readdress.db", clock=self.clock, lock_wait_ms=config.lock_wait_ms, is_durable=False
        )
        self.service = Service(config, self.clock, database=database)
        self.service.prepare()
        assert self.service.faults is not None, "there are faults in development"
        self.faults = self.service.faults
        try:
            listening = listen(places(config), workers=1)
        except BaseException:
            self.service.database.close()
            raise
        self.http, self.smtp = listening.addresses["http"], listening.addresses["smtp"]
        self._connect: Any = None
        self._loop: asyncio.AbstractEventLoop
        self._failure: BaseException | None = None
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(listening.sockets[0],), name="readdress", daemon=True)
        self._thread.start()
        if not self._has_begun.wait(START_S_MAX) or self._failure:
            listening.close()
            database.close()
            raise RuntimeError("the service did not start; its log says why") from self._failure

    def _serve(self, sockets: Any) -> None:
        try:
            run_in_loop(self.service.run(sockets, self._note_ready))
        except BaseException as error:  # noqa: BLE001 - raised by whoever asks for the service
            self._failure = error
        finally:
            self._has_begun.set()

    def _note_ready(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._has_begun.set()

    @property
    def client_options(self) -> dict[str, str]:
        return {
            "endpoint_url": f"http://{self.http}",
            "region_name": self.region,
            "aws_access_key_id": DEV_KEY,
            "aws_secret_access_key": DEV_KEY,
        }

    @property
    def connect(self) -> Any:
        """A boto3 client, the same for all tests: making one takes longer than most of them."""
        if self._connect is None:
            import boto3
            from botocore.config import Config

            # Whatever proxy the environment names, nothing leaves this machine. And boto3 would put its own name
            # together anew for every request, which takes it as long as the answer takes us.
            config = Config(proxies={}, user_agent="readdress-testing")
            self._connect = boto3.session.Session().client("connect", config=config, **self.client_options)
            connect_directly(self._connect, self.service.gateway, self.begin)
        return self._connect

    def change(self, work: Callable[[Transaction], T]) -> T:
        """Run a writing transaction, which no fault and no policy is in the way of."""
        return self.service.database.run(work)

    def look(self, work: Callable[[Transaction], T]) -> T:
        return self.wait(self.service.database.scan(work))

    def wait(self, work: Coroutine[Any, Any, T], *, timeout_s: float = CALL_S_MAX) -> T:
        """What a coroutine gives on the service's event loop; it ends when nobody waits for it any more."""
        future = self.begin(work)
        try:
            return future.result(timeout_s)
        finally:
            future.cancel()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the service's event loop."""
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("the service has died; its log says why") from self._failure
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        if self._connect is not None:
            self._connect.close()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.service.stop)
            self._thread.join(STOP_S_MAX)
        if self._failure:
            raise RuntimeError("the service did not stop as it should; its log says why") from self._failure


class RunningServices:
    """A service for each set of settings that tests of this process asked for, started when the first one does."""

    def __init__(self, new_folder: Callable[[], Path]) -> None:
        self._new_folder = new_folder
        self._running: dict[str, RunningService] = {}

    def get(self, settings: Mapping[str, Any]) -> RunningService:
        """Raises ConfigError."""
        key = repr(sorted(settings.items()))
        if key not in self._running:
            self._running[key] = RunningService(self._new_folder(), settings)
        return self._running[key]

    def stop(self) -> None:
        for running in self._running.values():
            running.stop()
