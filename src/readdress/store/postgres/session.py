"""How a connection begins: to which server, with which settings, and what a server has to be so that we can serve it.

The settings bound every wait: for a lock, for a statement, and for a node that stops in the middle of a transaction,
whose locks the server then takes back.
"""

from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from readdress.store.database import SchemaError
from readdress.store.postgres.connection import Connection
from readdress.store.postgres.failures import ConnectionLost

SERVER_VERSION_MIN = 150_000
CONNECT_TIMEOUT_S = 2  # for each host; libpq knows no less
# The server takes the locks of a silent node back after this, besides `lock_wait_ms`.
IDLE_MS_MAX = 2_000
STATEMENT_MS_MAX = 30_000
# A line without a word for so long is dead, whatever it says.
TCP_TIMEOUT_MS = 4_000

_DEFAULTS: dict[str, str | int] = {
    "application_name": "readdress",
    "target_session_attrs": "read-write",
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "tcp_user_timeout": TCP_TIMEOUT_MS,
}


class Target(NamedTuple):
    """Where to connect: libpq's own words, and how long a lock may keep us waiting."""

    conninfo: str
    lock_wait_ms: int

    @property
    def shown(self) -> str:
        """For people and logs: without a password."""
        known = conninfo_to_dict(self.conninfo)
        return f"postgresql://{known.get('host', '')}/{known.get('dbname', '')}"


def read_url(url: str, *, lock_wait_ms: int) -> Target:
    """What the URL says goes before our defaults. Raises SchemaError."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error as error:
        said = str(error).strip().partition(': "')[0]  # what follows may hold the password
        raise SchemaError(f"the database's URL can't be read: {said}") from None
    return Target(make_conninfo("", **(_DEFAULTS | given)), lock_wait_ms)


async def connect(target: Target) -> Connection:
    """Raises ConnectionLost."""
    try:
        session = await psycopg.AsyncConnection.connect(target.conninfo, autocommit=True)
        try:
            await session.execute(_SETTINGS, _settings(target))
        except BaseException:
            session.pgconn.finish()
            raise
    except (psycopg.Error, OSError) as error:
        raise ConnectionLost(str(error)) from error
    return Connection(session)


def connect_now(target: Target) -> psycopg.Connection[Any]:
    """The same for a thread that may wait. Raises ConnectionLost."""
    try:
        session = psycopg.connect(target.conninfo, autocommit=True)
        try:
            session.execute(_SETTINGS, _settings(target))
        except BaseException:
            session.close()
            raise
    except (psycopg.Error, OSError) as error:
        raise ConnectionLost(str(error)) from error
    return session


def check_server(session: "psycopg.Connection[Any]") -> None:
    """Raises SchemaError for a server that can't keep what we promise."""
    version = session.info.server_version
    if version < SERVER_VERSION_MIN:
        raise SchemaError(
            f"the server is PostgreSQL {version // 10_000}, and Readdress needs {SERVER_VERSION_MIN // 10_000} or newer"
        )
    encoding = session.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SchemaError(
            f"the database has the encoding {encoding}, and addresses need UTF8: "
            "create it with `createdb --encoding UTF8 --template template0 NAME`"
        )


_SETTINGS = """
SELECT set_config('lock_timeout', %(lock_ms)s, false),
    set_config('statement_timeout', %(statement_ms)s, false),
    set_config('idle_in_transaction_session_timeout', %(idle_ms)s, false),
    set_config('client_encoding', 'UTF8', false),
    set_config('jit', 'off', false),
    -- 250 means durable: a server may be told to ask more than `on` of a commit, but not less.
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
"""


def _settings(target: Target) -> dict[str, str]:
    return {
        "lock_ms": str(target.lock_wait_ms),
        "statement_ms": str(target.lock_wait_ms + STATEMENT_MS_MAX),
        "idle_ms": str(target.lock_wait_ms + IDLE_MS_MAX),
    }
