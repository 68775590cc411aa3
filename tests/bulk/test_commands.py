"""`import` and `export` as they are called: statuses, reports, dry runs, and imports that are broken off or watched."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.bulk_files import command, directory, json_lines, make_instance, prepare_data, readdress
from harness.engine import Engine, engine_in_use, open_beside
from harness.process import ServiceProcess
from harness.stored import wait_until
from harness.tables import check_promises, dump
from readdress.clock import Clock

LINES = [
    {"EmailAddress": "help@example.com", "AliasOf": "support@example.com"},
    {"EmailAddress": "support@example.com", "DisplayName": "Support"},
]


@pytest.fixture
def data(engine: Engine, tmp_path: Path) -> Path:
    """A folder whose database has one instance."""
    prepare_data(tmp_path / "data")
    return tmp_path / "data"


def write(path: Path, lines: Any) -> Path:
    path.write_text(json_lines(lines), "utf-8")
    return path


def test_import_and_export_of_a_file(data: Path, tmp_path: Path) -> None:
    done = readdress(data, "import", write(tmp_path / "a.jsonl", LINES))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 created, 0 updated, 1 associated, 0 as they were, 0 refused\n"
    done = readdress(data, "export", tmp_path / "out.csv")
    assert (done.returncode, done.stdout) == (0, "2 addresses are exported\n")
    assert (tmp_path / "out.csv").read_bytes() == (
        b"EmailAddress,DisplayName,Description,AliasOf,Tags\r\n"
        b"support@example.com,Support,,,\r\n"
        b"help@example.com,,,support@example.com,\r\n"
    )
    assert (tmp_path / "out.csv").stat().st_mode & 0o077 == 0
    done = readdress(data, "export")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [LINES[1], LINES[0]]
    done = readdress(data, "export", tmp_path / "out.csv")
    assert done.returncode == 2
    assert "exists" in done.stderr


def test_standard_input_wants_to_hear_its_format(data: Path) -> None:
    done = readdress(data, "import", "-", stdin=json_lines(LINES))
    assert done.returncode == 2
    assert "--format" in done.stderr
    done = readdress(data, "import", "-", "--format", "jsonl", stdin=json_lines(LINES))
    assert done.returncode == 0, done.stderr
    assert len(directory(data)) == 2


def test_refused_lines_are_shown_reported_and_told_by_the_status(data: Path, tmp_path: Path) -> None:
    lines = [{"EmailAddress": f"no\n{number}"} for number in range(30)]
    file = write(tmp_path / "a.jsonl", [*lines, *LINES])
    done = readdress(data, "import", file, "--report", tmp_path / "report")
    assert done.returncode == 1
    assert "30 refused" in done.stdout
    assert "10 more lines were refused: the report has them all" in done.stderr
    report = (tmp_path / "report").read_text().splitlines()
    assert [line.split("\t")[0] for line in report] == [f"line {number}" for number in range(1, 31)]
    assert all("EmailAddress: has a form" in line for line in report)
    assert done.stderr.splitlines()[:20] == report[:20]
    assert len(directory(data)) == 2


def test_a_dry_run_says_the_same_and_writes_nothing(data: Path, tmp_path: Path) -> None:
    assert readdress(data, "import", write(tmp_path / "a.jsonl", LINES)).returncode == 0
    lines = [
        {"EmailAddress": "support@example.com", "DisplayName": "Other", "Tags": {"readdress:catch-all": "true"}},
        {"EmailAddress": "new@example.com"},
        {"EmailAddress": "second@example.com", "AliasOf": "support@example.com"},
        {"EmailAddress": "third@example.com", "AliasOf": "new@example.com"},
        {"EmailAddress": "fourth@example.com", "AliasOf": "new@example.com"},
        {"EmailAddress": "fifth@example.com", "Tags": {"readdress:catch-all": "true"}},
        {"EmailAddress": "help@example.com", "AliasOf": "support@example.com"},
    ]
    file = write(tmp_path / "b.jsonl", lines)
    before = dump(data)
    rehearsed = readdress(data, "import", file, "--dry-run")
    assert dump(data) == before
    done = readdress(data, "import", file)
    assert (done.returncode, rehearsed.returncode) == (1, 1)
    assert "2 created, 1 updated, 1 associated, 1 as they were, 3 refused" in done.stdout
    assert rehearsed.stdout == f"dry run, nothing is changed: {done.stdout}"

    def without_ids(text: str) -> list[str]:
        return [line.partition("the email address")[0] for line in text.splitlines()]

    assert without_ids(rehearsed.stderr) == without_ids(done.stderr)
    assert dump(data) != before


def test_lines_before_one_are_passed_over(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("EmailAddress\na@example.com\nb@example.com\n")
    assert readdress(data, "import", file, "--from-line", 3).returncode == 0
    assert directory(data).keys() == {"b@example.com"}


def test_addresses_alone_with_a_transport(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "aliases.csv"
    file.write_text("alias,note,enabled,mailboxes\na@example.com,,True,me@gmx.example you@gmx.example\n")
    done = readdress(data, "import", file, "--addresses-only", "--tag", "readdress:transport=inbox")
    assert done.returncode == 0, done.stderr
    assert directory(data) == {"a@example.com": (None, None, None, {"readdress:transport": "inbox"})}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["missing.jsonl"], "does not exist"),
        (["a.txt"], "--format"),
        (["a.csv"], "the header is no CSV"),
        (["virtual.csv"], "no table that is known"),
        (["a.jsonl", "--instance", "nobody"], "no instance nobody"),
        (["a.jsonl", "--tag", "x"], "KEY=VALUE"),
        (["a.jsonl", "--tag", "readdress:transport=x"], "has to be one of inbox"),
        (["a.jsonl", "--report", "/nowhere/report"], "/nowhere/report"),
    ],
)
def test_mistakes_end_with_status_2(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "a.csv", "a.jsonl"):
        write(Path(name), LINES)
    Path("virtual.csv").write_text("a@example.com b@example.com\n")
    done = readdress(data, "import", *options)
    assert done.returncode == 2, done.stderr
    assert reason in " ".join(done.stderr.split())
    assert directory(data) == {}


def test_of_several_instances_one_is_chosen(data: Path, tmp_path: Path) -> None:
    database = engine_in_use().open(data, Clock())
    make_instance(database, "22222222-2222-4222-8222-222222222222", "other")
    database.close()
    file = write(tmp_path / "a.jsonl", LINES)
    assert "--instance" in readdress(data, "import", file).stderr
    arn = "arn:aws:connect:us-east-1:123456789012:instance/22222222-2222-4222-8222-222222222222"
    for name in ("other", "22222222-2222-4222-8222-222222222222", arn):
        done = readdress(data, "import", file, "--instance", name)
        assert done.returncode == 0, done.stderr
    assert readdress(data, "export", "--instance", "main").stdout == ""
    assert len(readdress(data, "export", "--instance", "other").stdout.splitlines()) == 2


# Long ones.


def many(count: int) -> list[dict[str, str]]:
    """Pairs of a primary and its alias, which comes first, far ahead of it or just."""
    names = [f"{number:06}" for number in range(count // 2)]
    aliases = [{"EmailAddress": f"help-{name}@example.com", "AliasOf": f"support-{name}@example.com"} for name in names]
    primaries = [{"EmailAddress": f"support-{name}@example.com", "DisplayName": name} for name in names]
    far = count // 8
    near = [line for pair in zip(aliases[far:], primaries[far:], strict=True) for line in pair]
    return [*aliases[:far], *near, *primaries[:far]]


def count(data: Path, table: str) -> int:
    with open_beside(data) as rows:
        return int(rows.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_an_import_that_is_broken_off_leaves_whole_batches_and_goes_on(
    data: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    file = write(tmp_path / "a.jsonl", many(20_000))
    process = subprocess.Popen(command(data, "import", file), stderr=subprocess.PIPE, text=True)
    wait_until(lambda: count(data, "email_address") > 2_000)
    process.send_signal(ending)
    _, told = process.communicate(timeout=30)
    assert 0 < count(data, "email_address") < 20_000
    check_promises(data)
    if ending == signal.SIGINT:
        assert process.returncode == 1
        assert "import the file again" in told
        assert "--from-line 1." in told  # aliases of the first lines wait for their primaries
    done = readdress(data, "import", file)
    assert done.returncode == 0, done.stderr
    assert (count(data, "email_address"), count(data, "alias")) == (20_000, 10_000)
    check_promises(data)
    before = dump(data)
    assert "20000 as they were, 0 refused" in readdress(data, "import", file).stdout
    assert dump(data) == before


def test_an_import_beside_a_running_service(
    engine: Engine, tmp_path: Path, start_service: Callable[..., ServiceProcess]
) -> None:
    service = start_service()
    file = write(tmp_path / "a.jsonl", many(20_000))
    client = service.connect()
    instance_id = client.list_instances()["InstanceSummaryList"][0]["Id"]
    waits: list[float] = []
    done = threading.Event()

    def call() -> None:
        while not done.is_set():
            began = time.monotonic()
            client.create_email_address(InstanceId=instance_id, EmailAddress=f"api-{len(waits)}@example.com")
            waits.append(time.monotonic() - began)

    caller = threading.Thread(target=call)
    caller.start()
    imported = readdress(service.data, "import", file)
    done.set()
    caller.join()
    assert imported.returncode == 0, imported.stderr
    assert len(waits) > 10
    assert max(waits) < 3  # on a machine that does much else; docs/bulk.md has what was measured
    client.close()
    with open_beside(service.data) as rows:
        assert rows.execute("SELECT count(*) FROM email_address").fetchone() == (20_000 + len(waits),)
    check_promises(service.data)


PEAK = """
import resource, sys
from readdress.cli import cli
try:
    cli(sys.argv[1:], prog_name="readdress")
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def test_memory_stays_flat_whatever_the_size(data: Path, tmp_path: Path) -> None:
    peaks = []
    for size in (4_000, 20_000):
        file = write(tmp_path / f"{size}.jsonl", many(size))
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *command(data, "import", file)[3:]],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stderr.rpartition("peak ")[2]))
    assert peaks[1] < peaks[0] + 12_000, peaks  # KiB; the larger file has 1.2 MB
    assert (count(data, "email_address"), count(data, "alias")) == (20_000, 10_000)
    check_promises(data)
