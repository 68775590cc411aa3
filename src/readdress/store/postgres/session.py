"""How a connection begins: to which server, with which settings, and what a server has to be so that we can serve it.

The settings bound every wait: for a lock, for a statement, and for a node that stops in the middle of a transaction,
whose locks the server then takes back.
"""

import asyncio
import re
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from readdress.store.database import SchemaError, StoreError
from readdress.store.postgres.connection import Connection
from readdress.store.postgres.dialect import plain
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
# What libpq takes for them in a URL; the rest of a password with @ or / would be a host, a port or a name to it.
_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")


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
    """What the URL says goes before our defaults. Raises SchemaError, which holds nothing of a password."""
    if "@" in _CREDENTIALS.sub("", url.partition("?")[0]):
        raise SchemaError("the database's URL can't be read: an @ or / in a user or password is written %40 or %2F")
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error as error:
        said = str(error).strip().partition(': "')[0]  # what follows may hold the password
        raise SchemaError(f"the database's URL can't be read: {said}") from None
    return Target(make_conninfo("", **(_DEFAULTS | given)), lock_wait_ms)


async def connect(target: Target) -> Connection:
    """Raises ConnectionLost, also when the server falls silent in the middle."""
    try:
        session = await psycopg.AsyncConnection.connect(target.conninfo, autocommit=True)
    except (psycopg.Error, OSError) as error:
        raise ConnectionLost(str(error)) from error
    connection = Connection(session)
    connection.attach(asyncio.get_running_loop())
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await connection.exchange([plain(_settings(target))])
    except BaseException as error:
        connection.abort("the connection was never ready")
        if isinstance(error, StoreError | TimeoutError):
            raise ConnectionLost(str(error) or "the server does not answer") from error
        raise
    return connection


def connect_now(target: Target) -> Connection:
    """The same for a thread that may wait."""
    connection = Connection(_open_now(target))
    try:
        connection.exchange_now([plain(_settings(target))], wait_s=CONNECT_TIMEOUT_S)
    except StoreError as error:
        connection.abort("the connection was never ready")
        raise ConnectionLost(str(error)) from error
    return connection


def open_session(target: Target) -> psycopg.Connection[Any]:
    """A session of psycopg, for who looks after the schema. Raises ConnectionLost."""
    session = _open_now(target)
    try:
        session.execute(_settings(target).encode())
    except BaseException as error:
        session.close()
        if isinstance(error, psycopg.Error | OSError):
            raise ConnectionLost(str(error)) from error
        raise
    return session


def _open_now(target: Target) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(target.conninfo, autocommit=True)
    except (psycopg.Error, OSError) as error:
        raise ConnectionLost(str(error)) from error


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


def _settings(target: Target) -> str:
    # 250 means durable: a server may be told to ask more than `on` of a commit, but not less.
    return f"""
SELECT set_config('lock_timeout', '{target.lock_wait_ms}', false),
    set_config('statement_timeout', '{target.lock_wait_ms + STATEMENT_MS_MAX}', false),
    set_config('idle_in_transaction_session_timeout', '{target.lock_wait_ms + IDLE_MS_MAX}', false),
    set_config('client_encoding', 'UTF8', false),
    set_config('jit', 'off', false),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)
"""
