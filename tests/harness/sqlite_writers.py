"""Who else may be writing a SQLite file while ours is at it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from readdress.store.sqlite.file_lock import FileLock


@contextmanager
def other_writer(path: Path) -> Iterator[sqlite3.Connection]:
    """A program that knows nothing of our lock: it holds the write lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


@contextmanager
def other_process(path: Path) -> Iterator[None]:
    """One of ours that has the lock, and has begun nothing yet."""
    lock = FileLock(path)
    assert lock.acquire(blocking=False)
    yield
    lock.close()
