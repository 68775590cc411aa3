"""Delivery into a Maildir: its files as readers of a Maildir expect them, and once, whatever is tried again."""

import asyncio
import mailbox
import os
import re
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.jobs import RECEIVED_MS, make_delivery, make_job
from readdress.mail.transports import Job, Outcome, Result
from readdress.mail.transports.maildir import Maildir

TRACE = (
    b"Return-Path: <ann@sender.example>\n"
    b"Delivered-To: help@example.com\n"
    b"X-Original-To: Help@example.com\n"
    b"Received: from sender.example ([192.0.2.7])\n\tby mx.example with ESMTP id 1\n"
)


def deliver(folder: Path, *jobs: Job) -> list[Result]:
    """All at once."""
    maildir = Maildir(str(folder), concurrency=10, keep_content=False)

    async def all_of_them() -> list[Result]:
        return await asyncio.gather(*(maildir.deliver(job) for job in jobs))

    return asyncio.run(all_of_them())


def again(job: Job, attempt: int) -> Job:
    return Job(job.delivery, job.message, attempt, job.content)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def only_file(folder: Path) -> Path:
    (file,) = files(folder)
    return file


def test_a_file_has_the_deliverys_name_its_size_and_lf(tmp_path: Path) -> None:
    # The name is unique without asking anybody, and S= spares a reader from looking at the file's size.
    job = make_job(b"Subject: t\r\n\r\n.\r\none\r\n\r\ntwo")
    (result,) = deliver(tmp_path / "box", job)
    file = only_file(tmp_path / "box")
    assert file.parent.name == "new"
    assert file.read_bytes() == TRACE + b"Subject: t\n\n.\none\n\ntwo"
    assert file.name == f"{RECEIVED_MS // 1000}.R{job.delivery.id}.readdress,S={file.stat().st_size}"
    assert result == Result(Outcome.DELIVERED, f"stored as new/{file.name}", "2.0.0")


def test_pythons_reader_finds_the_mail_and_its_parts(tmp_path: Path) -> None:
    deliver(tmp_path / "box", make_job(), make_job(b"Subject: other\r\n\r\nx\r\n"))
    found = {message["Subject"]: message for message in mailbox.Maildir(tmp_path / "box")}
    assert sorted(found) == ["hello", "other"]
    assert found["hello"]["Return-Path"] == "<ann@sender.example>"
    assert found["hello"].get_payload() == "body\n.\n"


def test_folders_and_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    deliver(tmp_path / "deep" / "in" / "box", make_job())
    assert sorted(path.name for path in (tmp_path / "deep" / "in" / "box").iterdir()) == ["cur", "new", "tmp"]
    for path in (tmp_path / "deep").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_path_may_have_the_ids_of_address_and_instance(tmp_path: Path) -> None:
    job = make_job()
    deliver(tmp_path / "{instance_id}" / "{address_id}" / "box", job)
    assert only_file(tmp_path / job.delivery.instance_id / job.delivery.address_id / "box" / "new")


def test_crlf_becomes_lf_wherever_the_pieces_are_cut(tmp_path: Path) -> None:
    content = b"Subject: t\r\n\r\n" + b"a line\r\n" * 20_000 + b"\r"
    for shift in range(3):
        deliver(tmp_path / str(shift), make_job(b"x" * shift + content))
        stored = only_file(tmp_path / str(shift)).read_bytes()
        assert stored == TRACE + b"x" * shift + content.replace(b"\r\n", b"\n")


def test_binary_content_keeps_every_byte(tmp_path: Path) -> None:
    # RFC 3030 §3: in BINARYMIME CR and LF have no meaning of their own.
    content = b"Subject: t\r\n\r\n" + bytes(range(256)) * 1_000 + b"\r\n\r"
    deliver(tmp_path, make_job(content, body="BINARYMIME"))
    assert only_file(tmp_path).read_bytes() == TRACE + content


@pytest.mark.parametrize("moved_to", ["", "cur/{}:2,", "cur/{}:2,FRS"], ids=["unread", "seen", "flagged"])
def test_a_second_try_finds_the_first(tmp_path: Path, moved_to: str) -> None:
    job = make_job()
    deliver(tmp_path, job)
    first = only_file(tmp_path)
    if moved_to:
        first.rename(tmp_path / moved_to.format(first.name))
    (result,) = deliver(tmp_path, again(job, 2))
    assert only_file(tmp_path).read_bytes().startswith(TRACE)
    assert result.outcome is Outcome.DELIVERED
    assert "is there already" in result.reply


def test_a_try_that_died_before_its_end_leaves_nothing_to_readers(tmp_path: Path) -> None:
    job = make_job()
    deliver(tmp_path, job)
    first = only_file(tmp_path)
    first.rename(tmp_path / "tmp" / f"{first.name.partition(',')[0]}.1")  # as it is before it is linked
    assert not list(mailbox.Maildir(tmp_path))
    deliver(tmp_path, again(job, 2))
    assert [message["Subject"] for message in mailbox.Maildir(tmp_path)] == ["hello"]
    deliver(tmp_path, again(job, 1))  # and a try of the same number is not in its own way
    assert len(list(mailbox.Maildir(tmp_path))) == 1


def test_many_tries_at_once_make_one_mail(tmp_path: Path) -> None:
    # Two nodes may try at once, when the lease of one has ended.
    job = make_job(b"Subject: t\r\n\r\n" + b"x" * 300_000)
    results = deliver(tmp_path, *(again(job, attempt) for attempt in range(1, 9)))
    assert {result.outcome for result in results} == {Outcome.DELIVERED}
    assert only_file(tmp_path).parent.name == "new"


def test_a_try_that_was_overtaken_finds_what_a_reader_has_moved(tmp_path: Path) -> None:
    # As a node does that stood still past its lease: its file is on the way while another's comes and is seen.
    maildir = Maildir(str(tmp_path), concurrency=10, keep_content=False)
    job = make_job()

    async def overtaken() -> AsyncIterator[bytes]:
        await maildir.deliver(again(job, 2))
        (first,) = (tmp_path / "new").iterdir()
        first.rename(tmp_path / "cur" / f"{first.name}:2,S")
        async for piece in job.content():
            yield piece

    result = asyncio.run(maildir.deliver(Job(job.delivery, job.message, 1, overtaken)))
    assert only_file(tmp_path).parent.name == "cur"
    assert result == Result(Outcome.DELIVERED, f"stored as cur/{only_file(tmp_path).name}", "2.0.0")


def test_two_messages_of_one_instant_are_two(tmp_path: Path) -> None:
    jobs = [make_job() for _ in range(20)]
    deliver(tmp_path, *jobs)
    assert len(files(tmp_path)) == 20


def test_content_that_ends_in_trouble_leaves_no_file(tmp_path: Path) -> None:
    job = make_job()

    async def broken() -> None:
        async def content() -> object:
            yield b"Subject: t\r\n"
            raise RuntimeError

        maildir = Maildir(str(tmp_path), concurrency=1, keep_content=False)
        await maildir.deliver(Job(job.delivery, job.message, 1, content))  # type: ignore[arg-type]

    with pytest.raises(RuntimeError):
        asyncio.run(broken())
    assert files(tmp_path) == []


@pytest.mark.parametrize("part", ["", "tmp", "new", "cur"])
def test_a_file_in_a_folders_place_is_temporary(tmp_path: Path, part: str) -> None:
    box = tmp_path / "box"
    if part:
        box.mkdir()
    (box / part).write_text("in the way")
    results = [*deliver(box, make_job()), *deliver(box, make_job(attempt=2))]
    for result in results:
        assert (result.outcome, result.enhanced, result.is_remote) == (Outcome.TEMPORARY, "4.3.0", False)
    (box / part).unlink()
    assert deliver(box, make_job())[0].outcome is Outcome.DELIVERED


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 64 KiB at the folder, where the machine lets us mount one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=65536", "tmpfs", folder], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("mounting needs an administrator")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_and_one_that_is_read_only_are_temporary(tmp_path: Path) -> None:
    box = tmp_path / "disk"
    with small_disk(box):
        (result,) = deliver(box, make_job(b"x" * 200_000))
        assert (result.outcome, result.enhanced) == (Outcome.TEMPORARY, "4.3.1")
        assert files(box) == []
        assert deliver(box, make_job())[0].outcome is Outcome.DELIVERED
        subprocess.run(["mount", "-o", "remount,ro", box], check=True)
        (result,) = deliver(box, make_job())
        assert (result.outcome, result.enhanced) == (Outcome.TEMPORARY, "4.3.0")


def test_a_folder_that_may_not_be_written_is_temporary(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("nothing is forbidden to root: the file system that is read-only stands for it")
    tmp_path.chmod(0o500)
    assert deliver(tmp_path / "box", make_job())[0].outcome is Outcome.TEMPORARY


def test_an_address_that_was_deleted_has_the_name_it_had(tmp_path: Path) -> None:
    job = make_job()
    job = Job(make_delivery(job.message.id, address=None), job.message, 1, job.content)
    deliver(tmp_path, job)
    assert re.search(rb"^Delivered-To: help@example\.com$", only_file(tmp_path).read_bytes(), re.MULTILINE)
