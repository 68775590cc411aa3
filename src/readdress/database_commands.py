"""Commands on the database as a whole: `migrate`, `backup`, `restore`, `copy`.

Mistakes end with status 2, what the database refuses with status 1, and nothing is left half-done: a file appears under
its name when it is whole, and a copy that was broken off goes on with `--resume`.
"""

import sys
from pathlib import Path
from typing import Any

import click

from readdress.config import Config
from readdress.options import with_config

_PG_BACKUP = "PostgreSQL has tools of its own for that, pg_dump and pg_basebackup: see docs/nodes.md"


@click.command()
@click.option("--after", is_flag=True, help="Also what waits until every node runs this program.")
@with_config
def migrate(config: Config, *, after: bool) -> None:
    """Bring the database's schema to what this program needs, before its first node starts.

    Nodes of the older program go on meanwhile. When the last one is gone, --after removes what only they needed.
    """
    from readdress.clock import Clock
    from readdress.databases import migrate_database
    from readdress.store.database import SchemaError

    try:
        ran = migrate_database(config, Clock(), after=after)
    except SchemaError as error:
        raise click.ClickException(str(error)) from None
    for name in ran:
        click.echo(f"ran {name}")
    if not ran:
        click.echo("nothing to do")


@click.command()
@click.argument("backup_file", metavar="FILE", type=click.Path(path_type=Path))
@with_config
def backup(config: Config, backup_file: Path) -> None:
    """Copy the SQLite database into FILE while the service runs. The key file is not in it: keep that apart."""
    from readdress.databases import is_postgres, sqlite_path
    from readdress.service import secure_umask
    from readdress.store.database import SchemaError
    from readdress.store.sqlite.files import back_up

    if is_postgres(config):
        raise click.UsageError(_PG_BACKUP)
    secure_umask()
    try:
        size = back_up(sqlite_path(config), backup_file)
    except (SchemaError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{backup_file} has {size} bytes; the secrets in it open with {config.key_path} alone")


@click.command()
@click.argument("backup_file", metavar="FILE", type=click.Path(path_type=Path))
@with_config
def restore(config: Config, backup_file: Path) -> None:
    """Make the SQLite database out of a backup, where there is none. The service must not run."""
    from readdress.databases import is_postgres, sqlite_path
    from readdress.service import secure_umask
    from readdress.store.database import SchemaError
    from readdress.store.sqlite.files import restore_from

    if is_postgres(config):
        raise click.UsageError(_PG_BACKUP)
    secure_umask()
    path = sqlite_path(config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        restore_from(backup_file, path)
    except (SchemaError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{path} is restored")
    if not config.key_path.exists():
        click.echo(f"put back the key file as well, {config.key_path}: without it no access key works", err=True)


@click.command()
@click.option("--from", "source", metavar="URL", required=True, help="sqlite:///PATH or postgresql://HOST/NAME")
@click.option("--to", "target", metavar="URL", required=True, help="The same; made if it is empty.")
@click.option("--resume", is_flag=True, help="Go on with a copy that was broken off.")
def copy(source: str, target: str, *, resume: bool) -> None:
    """Copy a whole database into an empty one, of the other engine or the same, and compare the two.

    Stop every node of either before.
    """
    from readdress.config import ConfigError
    from readdress.databases import copy_database
    from readdress.store.copying import CopyMismatch
    from readdress.store.database import SchemaError, StoreError

    class Bar:
        """A bar on a terminal; elsewhere only the summary."""

        def __init__(self) -> None:
            self._bar: Any = None

        def begin(self, total: int) -> None:
            self._bar = click.progressbar(length=total, label="rows", file=sys.stderr)
            self._bar.__enter__()

        def advance(self, rows: int) -> None:
            self._bar.update(rows)

        def end(self) -> None:
            if self._bar:
                self._bar.__exit__(None, None, None)

    bar = Bar()
    try:
        total = copy_database(
            Config(database=source),
            Config(database=target),
            resume=resume,
            on_begin=bar.begin,
            on_progress=bar.advance,
        )
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except (SchemaError, StoreError, CopyMismatch) as error:
        raise click.ClickException(str(error)) from None
    finally:
        bar.end()
    click.echo(f"{total} rows are copied and compared; the key file is not among them")


DATABASE_COMMANDS = (migrate, backup, restore, copy)
