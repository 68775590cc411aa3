"""Delivery into a Maildir, exactly once: the file's name is the delivery's, so a second try finds the first one's.

Written into `tmp`, synced, linked into `new`, and the folder synced before it counts. Lines end with LF, as readers of
a Maildir expect; only BINARYMIME keeps its bytes. A reader that removes a message before its delivery is recorded may
see it once more, should the node die in between or stand still past its lease.
"""

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from readdress.inbox import messages
from readdress.mail.transports import Job, Outcome, Result


class Maildir:
    """`path` may hold `{address_id}` and `{instance_id}`, both UUIDs; folders that are missing are made."""

    def __init__(self, path: str, *, concurrency: int, keep_content: bool) -> None:
        self._path = path
        self.concurrency = concurrency
        self.keep_content = keep_content

    async def deliver(self, job: Job) -> Result:
        delivery, message = job.delivery, job.message
        folder = Path(
            self._path.replace("{address_id}", delivery.address_id).replace("{instance_id}", delivery.instance_id)
        )
        name = f"{message.received_ms // 1000}.R{delivery.id}.readdress"
        try:
            if job.attempt > 1:
                found = await asyncio.to_thread(_find, folder, name, "new", "cur")
                if found:
                    return Result(Outcome.DELIVERED, f"is there already as {found}")
            file = await self._write(job, folder, f"{name}.{job.attempt}")
            stored = await asyncio.to_thread(_publish, folder, file, name, message.received_ms)
        except OSError as error:
            is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            what = "no room left" if is_full else f"cannot write to {folder}: {error.strerror}"
            return Result(Outcome.TEMPORARY, what, "4.3.1" if is_full else "4.3.0")
        return Result(Outcome.DELIVERED, f"stored as {stored}", "2.0.0")

    async def _write(self, job: Job, folder: Path, name: str) -> Path:
        """The message in `tmp`, on disk."""
        path = folder / "tmp" / name
        file = await asyncio.to_thread(_create, folder, path)
        is_text = job.message.body != "BINARYMIME"
        held = b""
        try:
            trace = messages.final_trace(job.message, job.delivery).encode()
            await asyncio.to_thread(file.write, trace.replace(b"\r\n", b"\n"))
            async for piece in job.content():
                text = held + piece
                held = text[-1:] if is_text and text.endswith(b"\r") else b""
                text = text[: len(text) - len(held)]
                await asyncio.to_thread(file.write, text.replace(b"\r\n", b"\n") if is_text else text)
            file.write(held)
            await asyncio.to_thread(_sync, file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            file.close()
        return path


def _find(folder: Path, name: str, *subfolders: str) -> str | None:
    """Where another try put it: `new`, or `cur` once a reader has seen it."""
    for subfolder in subfolders:
        for entry in _names(folder / subfolder):
            if entry.startswith(f"{name},"):
                return f"{subfolder}/{entry}"
    return None


def _names(folder: Path) -> Iterator[str]:
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.name


def _create(folder: Path, path: Path) -> BinaryIO:
    """For the service's own user, whatever the umask is."""
    for subfolder in ("tmp", "new", "cur"):
        _make_folder(folder / subfolder)
    path.unlink(missing_ok=True)  # a try that died
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _make_folder(folder: Path) -> None:
    """With its parents, and each of them on disk: a power cut must not take a folder with mail in it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _publish(folder: Path, file: Path, name: str, received_ms: int) -> str:
    """Make it visible to readers, under a name that can exist once.

    Our lease may have ended meanwhile, and a reader may have moved what another node put there; then `cur` has changed.
    """
    if (folder / "cur").stat().st_mtime_ns >= received_ms * 1_000_000:
        found = _find(folder, name, "cur")
        if found:
            file.unlink(missing_ok=True)
            return found
    final = folder / "new" / f"{name},S={file.stat().st_size}"
    try:
        final.hardlink_to(file)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}:
            raise
        file.rename(final)  # a file system without hard links
    file.unlink(missing_ok=True)
    _sync_folder(final.parent)
    return f"new/{final.name}"
