"""What the program asks of a database: transactions, and the ways in which storing can fail.

A transaction is an ordinary function `work(tx) -> value` without effects outside `tx`: the database may run it again.
When a call returns, what it wrote is durable; when it raises, nothing was written.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from readdress.store.queries import Query

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]


class StoreError(Exception):
    """The database could not do it now; the same call may succeed later. Nothing was written."""


class StoreBusy(StoreError):
    """Others held what this transaction needs for longer than `lock_wait_ms`."""


class StoreChanged(StoreBusy):
    """Others changed what this transaction had read before it could lock it: the database runs its work again.

    A work may raise it, too; who asked sees it only when that happens many times in a row.
    """


class StoreFull(StoreError):
    """No room is left on the disk."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, read or written."""


class SchemaError(Exception):
    """The database is not one that this program can serve; the text says what to do."""


class Transaction(Protocol):
    """One transaction: all of it happens, at one instant in the order of all commits, or none of it."""

    @property
    def has_text_table(self) -> bool:
        """Whether this engine looks texts up in the table `address_text`, and not in an index of `email_address`."""

    @property
    def now_ms(self) -> int:
        """The one time of this transaction."""

    def one(self, query: Query, **parameters: Any) -> Row | None:
        """The only row of the answer, or None."""

    def all(self, query: Query, **parameters: Any) -> list[Row]:
        """Every row of the answer; the statement itself has to bound them."""

    def execute(self, query: Query, **parameters: Any) -> int:
        """How many rows the statement changed."""

    def send(self, query: Query, **parameters: Any) -> None:
        """Change what nobody asks the number of: the statement may travel with the next one."""

    def execute_all(self, query: Query, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run an INSERT of one row of VALUES, or an UPDATE, for each of many rows at once; how many rows it changed."""

    def lock(self, query: Query, **parameters: Any) -> None:
        """Lock rows before the next statement looks at them; nothing where one writer holds everything."""


class Together(NamedTuple):
    """Says that a work may take turns in one transaction with others of its kind that touch nothing it touches.

    Works of one kind share nothing but what they name in `touches`: none reads there what another writes.
    """

    kind: str
    touches: frozenset[str] = frozenset()


Work: TypeAlias = Callable[[Transaction], T]


class Database(Protocol):
    """Runs transactions. `run` blocks; `write`, `read` and `scan` are for an event loop."""

    def run(self, work: Work[T]) -> T:
        """A writing transaction, from a thread that may wait."""

    async def write(self, work: Work[T], *, together: Together | None = None) -> T:
        """A writing transaction; durable when it returns, and grouped with others that wait."""

    async def read(self, work: Work[T]) -> T:
        """Look up a few rows by key, at one instant, without waiting for writers."""

    async def find(self, query: Query, **parameters: Any) -> Row | None:
        """Look up one row: a `read` of a single statement."""

    async def scan(self, work: Work[T]) -> T:
        """Read of unknown length, at one instant, away from the event loop."""

    def close(self) -> None:
        """Finish the transaction in hand and let go of the database; what has not begun is StoreUnavailable."""
