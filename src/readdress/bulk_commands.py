"""The commands `import` and `export`: addresses, aliases and tags of an instance, from a file and into one.

Status 0 says that every line was taken, 1 that some were refused or the import was broken off, 2 that it was called
wrongly. What an import has done when it is broken off stays, and the same import again goes on.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import IO, Any, BinaryIO, Final, Self

import click

from readdress.config import Config
from readdress.options import with_config

# So many refused lines are shown; the report has them all.
SHOWN_MAX: Final = 20
_READ: Final = ("csv", "jsonl", "postfix", "postfixadmin", "simplelogin", "google")
_WRITTEN: Final = ("csv", "jsonl")
_with_instance = click.option("--instance", metavar="ID|ALIAS", help="The instance (default: the only one).")


@click.command("import")
@click.argument("source", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True, exists=True))
@click.option("--format", "format_name", type=click.Choice(_READ), help="Default: what the name and the header say.")
@_with_instance
@click.option("--dry-run", is_flag=True, help="Change nothing, and say what would be done and refused.")
@click.option("--report", type=click.Path(dir_okay=False), help="Write every refused line and why to this file.")
@click.option("--from-line", type=click.IntRange(1), default=1, help="Pass over the lines before this one.")
@click.option("--addresses-only", is_flag=True, help="Publish the addresses, and leave out what they are aliases of.")
@click.option("--publish-targets", "publish", metavar="DOMAIN", multiple=True, help="Publish missing targets in it.")
@click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, help="Tag every address of the file like that, too.")
@with_config
def import_file(config: Config, *, source: str, report: str | None, dry_run: bool, **options: Any) -> None:
    """Publish the addresses of FILE, associate its aliases and set its tags; - is the standard input.

    What is there already is brought to what the file says. Nothing is deleted.
    """
    from readdress.bulk.entry import FormatError

    with contextlib.ExitStack() as stack:
        try:
            refusals = _Refusals(stack.enter_context(Path(report).open("w", encoding="utf-8")) if report else None)
            stream = stack.enter_context(_open(source))
        except OSError as error:
            raise click.UsageError(str(error)) from None
        try:
            counts = _import(config, stream, refusals, file=source, dry_run=dry_run, **options)
        except FormatError as error:
            raise click.UsageError(f"{source}: {error}") from None
    refusals.tell_rest()
    click.echo(_sums(counts, dry_run=dry_run))
    sys.exit(1 if counts.refused else 0)


def _import(
    config: Config,
    stream: BinaryIO,
    refusals: "_Refusals",
    *,
    file: str,
    dry_run: bool,
    instance: str | None,
    format_name: str | None,
    from_line: int,
    addresses_only: bool,
    publish: tuple[str, ...],
    tags: tuple[str, ...],
) -> Any:
    """What was done. Raises FormatError, UsageError, ClickException."""
    from readdress.address import fold_domain
    from readdress.bulk import formats, importing
    from readdress.bulk.planning import Rules
    from readdress.directory.settings import INBOX
    from readdress.service import AWS_QUOTAS

    transports = frozenset({INBOX, *config.transports})
    entries = importing.select(
        formats.read(stream, name=file, format_name=format_name, addresses_only=addresses_only),
        from_line=from_line,
        tags=_parse_tags(tags, transports),
    )
    rules = Rules(
        instance_id=_look(config, lambda tx: _find_instance(tx, config, instance)),
        transports=transports,
        publish=frozenset(map(fold_domain, publish)),
        addresses_max=AWS_QUOTAS.addresses_max if config.aws_limits else None,
    )
    bar = _Bar(stream)

    def take(run: Any) -> Any:
        source = importing.Source(config.account, file)
        importer = importing.Importer(run, rules, source, on_refused=refusals.add, on_batch=bar.advance)
        with contextlib.nullcontext() if dry_run else _told_how_to_go_on(importer, file):
            return importer.take(entries)

    with bar:
        return _rehearse(config, rules, take) if dry_run else _run(config, take)


def _run(config: Config, take: Callable[[Any], Any]) -> Any:
    from readdress.clock import Clock
    from readdress.databases import open_database
    from readdress.service import secure_umask
    from readdress.store.database import SchemaError

    secure_umask()
    try:
        database = open_database(config, Clock())
    except SchemaError as error:
        raise click.ClickException(str(error)) from None
    with contextlib.closing(database):
        return take(lambda work, _: database.run(work))


def _rehearse(config: Config, rules: Any, take: Callable[[Any], Any]) -> Any:
    import tempfile

    from readdress.bulk.rehearsal import Rehearsal
    from readdress.clock import Clock
    from readdress.databases import open_database

    def work(tx: Any) -> Any:
        with tempfile.TemporaryDirectory(prefix="readdress-") as folder:
            stage = open_database(Config(database=f"sqlite:///{folder}/stage.db"), Clock())
            with contextlib.closing(stage):
                return take(Rehearsal(tx, stage, rules).run)

    return _look(config, work)


def _look(config: Config, work: Callable[[Any], Any]) -> Any:
    from readdress.clock import Clock
    from readdress.databases import look_once
    from readdress.store.database import SchemaError, StoreError

    try:
        return look_once(config, work, Clock())
    except (SchemaError, StoreError) as error:
        raise click.ClickException(str(error)) from None


def _find_instance(tx: Any, config: Config, name: str | None) -> str:
    """The id of an instance by its id, its ARN or its alias. Raises UsageError."""
    from readdress.api.arn import parse_arn
    from readdress.bulk.importing import find_instance
    from readdress.directory import instances

    if name is not None:
        arn = parse_arn(name)
        instance_id = find_instance(tx, account=config.account, name=arn.instance_id if arn else name)
        if instance_id is None:
            raise click.UsageError(f"--instance: the account {config.account} has no instance {name}")
        return instance_id
    found = instances.list_page(tx, account=config.account, after="", limit=2)
    if not found:
        raise click.UsageError(f"the account {config.account} has no instance: make one with CreateInstance first")
    if len(found) > 1:
        raise click.UsageError(f"the account {config.account} has several instances: choose one with --instance")
    return found[0].id


def _parse_tags(texts: tuple[str, ...], transports: frozenset[str]) -> dict[str, str]:
    """Raises UsageError."""
    from readdress.bulk.entry import Refused, make_entry
    from readdress.directory.settings import check_address
    from readdress.errors import InvalidParameterException

    tags = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign:
            raise click.UsageError(f"--tag: {text!r} has no value: write KEY=VALUE")
        tags[key] = value
    try:
        if tags:
            make_entry({"EmailAddress": "a@b.example", "Tags": tags})
            check_address(tags, transports=transports)
    except (Refused, InvalidParameterException) as error:
        raise click.UsageError(f"--tag: {error}") from None
    return tags


@contextlib.contextmanager
def _told_how_to_go_on(importer: Any, file: str) -> Iterator[None]:
    """What breaks an import off ends it with status 1, and says what is done and what to do."""
    from readdress.store.database import StoreError

    try:
        yield
    except (KeyboardInterrupt, StoreError, OSError) as error:
        counts = importer.counts
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        raise click.ClickException(
            f"{file}: broken off after line {counts.lines}: {why}. What was done until then stays: "
            f"import the file again, which goes on, or only from there with --from-line {counts.next_line}."
        ) from None


def _sums(counts: Any, *, dry_run: bool) -> str:
    text = (
        f"{counts.created} created, {counts.updated} updated, {counts.associated} associated, "
        f"{counts.unchanged} as they were, {counts.refused} refused"
    )
    return f"dry run, nothing is changed: {text}" if dry_run else text


class _Refusals:
    """Lines that were not taken: the first ones on the terminal, all of them in the report."""

    def __init__(self, report: IO[str] | None) -> None:
        self._report = report
        self._count = 0

    def add(self, line: int, reason: str) -> None:
        self._count += 1
        text = f"line {line}\t{' '.join(reason.split())}"
        if self._report:
            self._report.write(text + "\n")
        if self._count <= SHOWN_MAX:
            click.echo(text, err=True)

    def tell_rest(self) -> None:
        if self._count > SHOWN_MAX:
            where = "the report has them all" if self._report else "see them all with --report FILE"
            click.echo(f"{self._count - SHOWN_MAX} more lines were refused: {where}", err=True)


class _Bar:
    """How far an import is, with its rate and the time left, on a terminal; elsewhere nothing."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._bar: Any = None
        self._at = 0
        self._began = monotonic()

    def __enter__(self) -> Self:
        size = os.fstat(self._stream.fileno()).st_size
        if sys.stderr.isatty() and size:
            self._bar = click.progressbar(length=size, show_eta=True, file=sys.stderr)
            self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.__exit__(*error)

    def advance(self, counts: Any) -> None:
        if self._bar:
            at = self._stream.tell()
            self._bar.label = f"{counts.lines} lines, {counts.lines / (monotonic() - self._began):.0f}/s"
            self._bar.update(at - self._at)
            self._at = at


@contextlib.contextmanager
def _open(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with Path(file).open("rb", buffering=1 << 20) as stream:
        yield stream


@click.command("export")
@click.argument("target", metavar="[FILE]", type=click.Path(dir_okay=False, allow_dash=True), default="-")
@click.option("--format", "format_name", type=click.Choice(_WRITTEN), help="Default: by the name, else jsonl.")
@_with_instance
@with_config
def export_file(config: Config, *, target: str, format_name: str | None, instance: str | None) -> None:
    """Write the addresses of an instance with their aliases and tags to FILE, or to the standard output.

    They are those of one instant, and `import` makes the same of them again.
    """
    from readdress.bulk import exporting
    from readdress.service import secure_umask

    path = None if target == "-" else Path(target)
    form = format_name or ("csv" if target.lower().endswith(".csv") else "jsonl")
    if path and path.exists():
        raise click.UsageError(f"{target} exists: name another file, or move that one away first")
    secure_umask()

    def work(tx: Any) -> int:
        instance_id = _find_instance(tx, config, instance)
        if path is None:
            return exporting.write(tx, instance_id, sys.stdout.buffer, form)
        partial = path.with_name(f"{path.name}.partial")
        try:
            with partial.open("wb") as stream:
                count = exporting.write(tx, instance_id, stream, form)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
        return count

    try:
        count = _look(config, work)
    except OSError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{count} addresses are exported", err=path is None)


BULK_COMMANDS = (import_file, export_file)
