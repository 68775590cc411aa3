"""A lock between processes that write one SQLite file: the system wakes who waits for it.

SQLite's own lock keeps writers apart as well, but who finds it taken has to sleep and ask again, and finds it taken
again. Whoever ends, however it ends, gives this one back.
"""

import fcntl
import os
from pathlib import Path

from readdress.store.database import StoreUnavailable


class FileLock:
    """Of one process; the file beside the database is empty, and stays."""

    def __init__(self, database: Path) -> None:
        """Raises OSError."""
        self._file: int | None = os.open(f"{database}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.geteuid() == 0:  # as SQLite does with its files: root's command must not lock the service out
            owner = database.stat()
            os.fchown(self._file, owner.st_uid, owner.st_gid)

    def acquire(self, *, blocking: bool) -> bool:
        """False if another process has it, and this one does not wait for it, however long. Raises StoreUnavailable."""
        if self._file is None:
            raise StoreUnavailable("the database is closed")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreUnavailable(f"the database cannot be locked: {error}") from error
        return True

    def release(self) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
