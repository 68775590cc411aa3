"""One connection in pipeline mode: statements go out together, and their results come back in one piece.

An exchange is what goes out up to one sync. When a statement of it fails, those behind it are not run, and the exchange
fails as a whole with the StoreError of that statement. When the connection breaks, every exchange under way fails with
ConnectionLost. psycopg connects (several hosts, TLS, passwords); from there on this is libpq's own protocol.
"""

import asyncio
import select
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg import pq

from readdress.store.database import Row, StoreError, StoreUnavailable
from readdress.store.postgres.dialect import DECODERS, Ask
from readdress.store.postgres.failures import ConnectionLost, store_error

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

_BINARY = 1
PREPARED_MAX = 500

_FINE = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})


class Result(NamedTuple):
    """What a statement gave: its rows, or how many it changed."""

    raw: "PGresult"

    @property
    def changed(self) -> int:
        return self.raw.command_tuples or 0

    def rows(self) -> list[Row]:
        raw = self.raw
        decoders = [DECODERS[raw.ftype(column)] for column in range(raw.nfields)]
        get = raw.get_value
        return [
            tuple(
                None if (value := get(row, column)) is None else decode(value) for column, decode in enumerate(decoders)
            )
            for row in range(raw.ntuples)
        ]


def check_committed(results: list[Result]) -> None:
    """The last of them is a COMMIT's. Raises StoreUnavailable when it has undone what it should have kept.

    That is what the server makes of it after a statement that failed, if the work went on all the same.
    """
    status = results[-1].raw.command_status
    if status != b"COMMIT":
        raise StoreUnavailable("the transaction was undone, for one of its statements had failed")


class _Exchange:
    """Statements under way, and what came of them."""

    __slots__ = ("expected", "failure", "future", "is_over", "results", "sent_at")

    def __init__(self, future: "asyncio.Future[list[Result]] | None") -> None:
        self.expected: deque[bytes | None] = deque()  # the name that a result prepares, or None for a statement
        self.results: list[Result] = []
        self.failure: StoreError | None = None
        self.future = future
        self.is_over = False
        self.sent_at = monotonic()


class Connection:
    """A connection that one event loop uses, or one thread at a time."""

    def __init__(self, session: "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]") -> None:
        self._session = session  # keeps the connection open
        self._pgconn: PGconn = session.pgconn
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()
        self._socket = self._pgconn.socket
        self._reset = select.poll()
        self._reset.register(self._socket, 0)  # errors are told unasked
        self._prepared: dict[tuple[bytes, tuple[int, ...]], bytes] = {}
        self._names_given = 0
        self._exchanges: deque[_Exchange] = deque()
        self._partial: PGresult | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_writing = False
        self._on_lost: Callable[[Connection], None] = lambda _: None
        self.is_lost = False

    def attach(self, loop: asyncio.AbstractEventLoop, on_lost: "Callable[[Connection], None]" = lambda _: None) -> None:
        """From here on the loop reads; `on_lost` hears when the connection breaks, in the middle or at rest."""
        self._loop = loop
        self._on_lost = on_lost
        loop.add_reader(self._socket, self._receive)

    @property
    def waiting_since(self) -> float | None:
        """When what is still not answered went out."""
        return self._exchanges[0].sent_at if self._exchanges else None

    async def exchange(self, asks: Sequence[Ask]) -> list[Result]:
        """The results, one a statement. Raises StoreError."""
        assert self._loop
        future: asyncio.Future[list[Result]] = self._loop.create_future()
        self._send(asks, _Exchange(future))
        return await future

    def post(self, asks: Sequence[Ask]) -> None:
        """Send what nobody waits for: it is done before whatever comes next on this connection."""
        self._send(asks, _Exchange(None))

    def exchange_now(self, asks: Sequence[Ask], *, wait_s: float) -> list[Result]:
        """The same for a thread that may wait, up to `wait_s`."""
        exchange = _Exchange(None)
        self._send(asks, exchange)
        poll = select.poll()
        deadline = monotonic() + wait_s
        while not exchange.is_over:
            if monotonic() > deadline:
                self.abort("the server does not answer")
                break
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._is_writing else 0))
            if poll.poll(1_000):
                self._flush_more()
                self._receive()
        if exchange.failure:
            raise exchange.failure
        return exchange.results

    def is_at_rest(self) -> bool:
        """Whether the server has said nothing since the last answer; what it says of itself is goodbye."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def abort(self, why: str) -> None:
        """Give the connection up with all that is under way on it."""
        if self.is_lost:
            return
        self.is_lost = True
        if self._loop and not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._pgconn.finish()
        while self._exchanges:
            exchange = self._exchanges[0]
            exchange.failure = ConnectionLost(why)
            self._end()
        self._on_lost(self)

    # Out.

    def _send(self, asks: Sequence[Ask], exchange: _Exchange) -> None:
        if self.is_lost:
            raise ConnectionLost("the connection was lost")
        self._exchanges.append(exchange)
        try:
            for ask in asks:
                self._send_one(ask, exchange)
            self._pgconn.pipeline_sync()
            self._flush()
        except psycopg.Error as error:
            self.abort(str(error))
            assert exchange.failure
            raise exchange.failure from error

    def _send_one(self, ask: Ask, exchange: _Exchange) -> None:
        statement, types, values = ask
        formats = [_BINARY] * len(values)
        name = self._prepared.get((statement.text, types))
        if name is None and statement.is_kept and len(self._prepared) < PREPARED_MAX:
            name = self._prepare(ask, exchange)
        if name is not None:
            self._pgconn.send_query_prepared(name, values, formats, _BINARY)
        else:
            self._pgconn.send_query_params(statement.text, values, types, formats, _BINARY)
        exchange.expected.append(None)

    def _prepare(self, ask: Ask, exchange: _Exchange) -> bytes:
        self._names_given += 1
        name = f"r{self._names_given}".encode()
        self._prepared[ask.statement.text, ask.types] = name
        self._pgconn.send_prepare(name, ask.statement.text, ask.types)
        exchange.expected.append(name)
        return name

    def _flush(self) -> None:
        is_left = bool(self._pgconn.flush())
        if self._loop and is_left != self._is_writing:
            if is_left:
                self._loop.add_writer(self._socket, self._flush_more)
            else:
                self._loop.remove_writer(self._socket)
        self._is_writing = is_left

    def _flush_more(self) -> None:
        try:
            self._flush()
        except psycopg.Error as error:
            self.abort(str(error))

    # In.

    def _receive(self) -> None:
        try:
            self._take_what_came()
            # A loop may tell of a reset once (uvloop), and data that came before it are read first.
            while not self.is_lost and self._reset.poll(0):
                self._take_what_came()
        except psycopg.Error as error:
            self.abort(str(error))

    def _take_what_came(self) -> None:
        pgconn = self._pgconn
        if self.is_lost:
            return
        pgconn.consume_input()
        while not self.is_lost and not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                if self._partial is None:
                    break
                self._take(self._partial)
                self._partial = None
            elif result.status == pq.ExecStatus.PIPELINE_SYNC:
                failure = self._exchanges[0].failure
                self._end()
                if isinstance(failure, ConnectionLost):  # a server that takes no writes any more
                    self.abort(str(failure))
            else:
                self._partial = result

    def _take(self, result: "PGresult") -> None:
        if not self._exchanges:  # the server says goodbye
            return
        exchange = self._exchanges[0]
        name = exchange.expected.popleft() if exchange.expected else None  # goodbye comes between, too
        if result.status in _FINE:
            if name is None:
                exchange.results.append(Result(result))
            return
        if exchange.failure is None:
            sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            exchange.failure = store_error(sqlstate, result.get_error_message())
        if name is not None:
            self._forget(name)

    def _forget(self, name: bytes) -> None:
        self._prepared = {key: known for key, known in self._prepared.items() if known != name}

    def _end(self) -> None:
        """The first exchange is over: tell who waits."""
        exchange = self._exchanges.popleft()
        exchange.is_over = True
        future = exchange.future
        if future is not None and not future.done():
            if exchange.failure:
                future.set_exception(exchange.failure)
            else:
                future.set_result(exchange.results)
