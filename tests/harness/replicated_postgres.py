"""A PostgreSQL primary and its synchronous standby, as real processes that sync to the disk; one can take over."""

import os
import signal
import time
from typing import Self

from harness.postgres import PostgresServer, new_folder
from harness.process import free_port

DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "max_connections": "60"}
WAIT_S_MAX = 30


class ReplicatedPostgres:
    """Two ports that stay the same; who serves which one changes."""

    def __init__(self) -> None:
        self.ports = [free_port(), free_port()]
        self.primary = PostgresServer(DURABLE, port=self.ports[0])
        self.standby: PostgresServer | None = None
        self.name = self.primary.create_database()
        try:
            self.add_standby()
        except BaseException:
            self.remove()
            raise

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"postgresql://postgres@{hosts}/{self.name}?target_session_attrs=read-write"

    def add_standby(self) -> None:
        """A copy of the primary; from here on nothing is committed that is not on both disks."""
        (port,) = set(self.ports) - {self.primary.port}
        folder = new_folder()
        source = f"host=127.0.0.1 port={self.primary.port} user=postgres"
        self.primary.run("pg_basebackup", "-d", source, "-D", str(folder), "-R", "-X", "stream", "-c", "fast",
                         "--no-sync")  # fmt: skip
        with (folder / "postgresql.auto.conf").open("a") as settings:
            settings.write("synchronous_standby_names = ''\n")  # when it has taken over, it is alone at first
        self.standby = PostgresServer(DURABLE, port=port, folder=folder)
        self._wait_for_standby("*", "sync")

    def let_standby_fall_behind(self) -> None:
        """It is asynchronous from here on, and gets nothing any more until the primary is killed."""
        self._wait_for_standby("", "async")
        ((sender,),) = self.primary.execute("SELECT pid FROM pg_stat_replication")
        os.kill(sender, signal.SIGSTOP)

    def kill_primary(self) -> None:
        self.primary.kill()

    def promote(self) -> None:
        """The standby takes over, alone."""
        assert self.standby
        killed, self.primary, self.standby = self.primary, self.standby, None
        self.primary.run("pg_ctl", "promote", "-D", str(self.primary.folder), "-w", "-t", str(WAIT_S_MAX))
        killed.remove()

    def remove(self) -> None:
        for server in (self.standby, self.primary):
            if server:
                server.remove()

    def _wait_for_standby(self, names: str, state: str) -> None:
        self.primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        self.primary.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + WAIT_S_MAX
        while self.primary.execute("SELECT sync_state FROM pg_stat_replication") != [(state,)]:
            assert time.monotonic() < deadline, f"the standby never became {state}"
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
