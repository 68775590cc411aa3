"""A primary and its synchronous standby, real servers that keep what they say; the one dies, the other leads."""

from typing import Self

from harness.postgres import PostgresServer, new_folder

# Durable, unlike the servers of other tests.
SETTINGS = {"max_connections": "100", "wal_level": "replica", "hot_standby": "on"}


class ReplicatedPostgres:
    """`primary` is the one that takes writes now; a commit waits until the standby has it on disk, too."""

    def __init__(self) -> None:
        self.primary = PostgresServer(SETTINGS)
        self.database = self.primary.create_database()
        self.standby = self._make_standby(0)
        self._ports = (self.primary.port, self.standby.port)

    @property
    def url(self) -> str:
        """Both servers, of which libpq finds the one that takes writes."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        return f"postgresql://postgres@{hosts}/{self.database}?target_session_attrs=read-write"

    def fail_over(self) -> None:
        """Promote the standby; the dead primary's folder goes away."""
        self.standby.execute("SELECT pg_promote()")
        self._dead, self.primary = self.primary, self.standby

    def replace_standby(self) -> None:
        """A new standby where the old primary was."""
        port = self._dead.port
        self._dead.remove()
        self.standby = self._make_standby(port)

    def _make_standby(self, port: int) -> PostgresServer:
        folder = new_folder() / "data"
        primary = self.primary
        primary.run(
            "pg_basebackup", "-D", str(folder), "-R", "-X", "stream", "-c", "fast", "--no-sync",
            "-h", primary.host, "-p", str(primary.port), "-U", "postgres",
        )  # fmt: skip
        standby = PostgresServer(SETTINGS, folder=folder, port=port)
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        return standby

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self.primary, self.standby):
            server.remove()
