"""The command line: `serve`, `resolve`, `inbox`, `key`. Mistakes end with status 2 and a sentence that helps."""

import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from readdress import __version__
from readdress.config import Config, ConfigError, load_config

F = TypeVar("F", bound=Callable[..., Any])

# Options that are settings; the others are the command's own.
_SETTINGS = frozenset({"data", "database", "http", "smtp", "lmtp", "smtp_tls", "socketmap", "dev"})


def main() -> None:
    cli(prog_name="readdress")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Email addresses and aliases with Amazon Connect's API, and the mail server that obeys them."""


def _with_config(command: F) -> F:
    """The options that say where the service's data is; `config` comes out of them."""

    @click.option("--config", "file", type=click.Path(path_type=Path), help="A TOML file with settings.")
    @click.option("--data", metavar="DIR", help="Where data is kept (default: readdress-data).")
    @click.option("--database", metavar="URL", help="The database (default: sqlite:///DATA/readdress.db).")
    @wraps(command)
    def with_config(*, file: Path | None, **options: Any) -> Any:
        settings: dict[str, Any] = {name: options.pop(name) for name in _SETTINGS & options.keys()}
        try:
            return command(load_config(file, os.environ, settings), **options)
        except ConfigError as error:
            raise click.UsageError(str(error)) from None

    return with_config  # type: ignore[return-value]


@cli.command()
@click.option("--dev", is_flag=True, default=None, help="Loopback only, with the access key test / test.")
@click.option("--http", metavar="HOST:PORT", help="Where the API listens (default: 127.0.0.1:4780).")
@click.option("--smtp", metavar="HOST:PORT", help="Where SMTP listens (default: 127.0.0.1:2525).")
@click.option("--lmtp", metavar="HOST:PORT|unix:PATH", help="Where LMTP listens (default: nowhere).")
@click.option("--smtp-tls", metavar="HOST:PORT", help="Where SMTP with implicit TLS listens (default: nowhere).")
@click.option("--socketmap", metavar="HOST:PORT|unix:PATH", help="Where Postfix asks for maps (default: nowhere).")
@_with_config
def serve(config: Config) -> None:
    """Start the service; port 0 takes a free one."""
    from readdress.api.access import KeyFileError
    from readdress.service import Ready, Service, secure_umask
    from readdress.store.database import SchemaError

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # What no line shows need not be found out for each of them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    secure_umask()
    try:
        service = Service(config)
    except (SchemaError, KeyFileError, OSError) as error:
        raise click.ClickException(str(error)) from None

    def say(ready: Ready) -> None:
        click.echo(_greeting(config, ready))
        sys.stdout.flush()

    try:
        _run(service.run(say))
    except OSError as error:
        raise click.ClickException(
            f"cannot listen: {error}. Choose another --http, --smtp, --lmtp or --socketmap."
        ) from None


def _run(main: Any) -> None:
    import asyncio

    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def _greeting(config: Config, ready: Any) -> str:
    from readdress.service import DEV_INSTANCE, DEV_KEY

    lines = [
        f"Readdress {__version__} is ready.",
        f"  API   http://{ready.http}",
        f"  SMTP  {ready.smtp}",
        *([f"  LMTP  {ready.lmtp}"] if ready.lmtp else []),
        *([f"  SMTPS {ready.smtp_tls}"] if ready.smtp_tls else []),
        *([f"  Maps  {ready.socketmap}"] if ready.socketmap else []),
        f"  Data  {config.database_url}",
    ]
    if config.dev:
        lines += [
            "",
            "For boto3 and the AWS CLI:",
            f"  export AWS_ENDPOINT_URL_CONNECT=http://{ready.http}",
            f"  export AWS_ACCESS_KEY_ID={DEV_KEY} AWS_SECRET_ACCESS_KEY={DEV_KEY} AWS_DEFAULT_REGION={config.region}",
            f"  export INSTANCE_ID={DEV_INSTANCE}",
        ]
    if ready.new_key:
        lines += [
            "",
            "An administrator's access key was made. The secret is not shown again:",
            f"  AWS_ACCESS_KEY_ID={ready.new_key.access_key_id}",
            f"  AWS_SECRET_ACCESS_KEY={ready.new_key.secret}",
        ]
    return "\n".join(lines)


def _look(config: Config, work: Callable[[Any], Any]) -> Any:
    """Read the database beside a running service."""
    from readdress.clock import Clock
    from readdress.service import database_path
    from readdress.store.database import SchemaError, StoreError
    from readdress.store.sqlite import read_once

    try:
        return read_once(database_path(config), work, clock=Clock())
    except (SchemaError, StoreError) as error:
        raise click.ClickException(str(error)) from None


def _change(config: Config, work: Callable[[Any, Any], Any]) -> Any:
    """Write to the database beside a running service; `work` gets the transaction and the keyring."""
    from readdress.api.access import KeyFileError, load_keyring
    from readdress.clock import Clock
    from readdress.service import KEY_FILE, open_database, secure_umask
    from readdress.store.database import SchemaError, StoreError

    secure_umask()
    try:
        data = Path(config.data)
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        keyring = load_keyring(data / KEY_FILE)
        database = open_database(config, Clock())
        try:
            return database.run(lambda tx: work(tx, keyring))
        finally:
            database.close()
    except (SchemaError, StoreError, KeyFileError, OSError) as error:
        raise click.ClickException(str(error)) from None


@cli.command()
@click.argument("address")
@_with_config
def resolve(config: Config, address: str) -> None:
    """Say where a mail for ADDRESS would go now, and why. Status 1 when it would be refused."""
    from readdress.directory import routing

    route = _look(config, lambda tx: routing.route_text(tx, address))
    for destination in route.destinations:
        why = "it is the recipient" if destination.alias_id is None else f"{address} is its alias"
        click.echo(f"{destination.address}\t{destination.reason}\t{destination.address_id}\t{why}")
    if not route.destinations:
        click.echo(f"refused: {route.reply}")
        sys.exit(1)


@cli.group()
def key() -> None:
    """Access keys: who may call the API, and what for."""


@key.command("create")
@click.option("--policy", type=click.Path(path_type=Path), help="An IAM-style policy in JSON (default: everything).")
@click.option("--name", default="", help="What the key is for, as `key list` shows it.")
@_with_config
def create_key(config: Config, policy: Path | None, name: str) -> None:
    """Make an access key and print its secret once."""
    from readdress.api import access
    from readdress.api.policy import ALLOW_EVERYTHING, PolicyError

    try:
        text = policy.read_text("utf-8") if policy else ALLOW_EVERYTHING
        access_key_id, secret = _change(
            config,
            lambda tx, keyring: access.create_key(
                tx,
                keyring,
                account=config.account,
                name=name or (policy.stem if policy else "everything"),
                policy=text,
            ),
        )
    except (PolicyError, OSError, UnicodeDecodeError) as error:
        raise click.UsageError(str(error)) from None
    click.echo(f"AWS_ACCESS_KEY_ID={access_key_id}\nAWS_SECRET_ACCESS_KEY={secret}")


@key.command("list")
@_with_config
def list_keys(config: Config) -> None:
    """List access keys, without their secrets."""
    from readdress.api import access
    from readdress.clock import iso_8601

    for found in _look(config, access.list_keys):
        state = f"disabled {iso_8601(found.disabled_ms)}" if found.disabled_ms else "enabled"
        click.echo(f"{found.id}\t{found.account}\t{iso_8601(found.created_ms)}\t{state}\t{found.name}")


@key.command("disable")
@click.argument("access_key_id")
@_with_config
def disable_key(config: Config, access_key_id: str) -> None:
    """Refuse a key from now on."""
    from readdress.api import access

    if not _change(config, lambda tx, _: access.disable_key(tx, access_key_id)):
        raise click.ClickException(f"there is no enabled key {access_key_id}: `readdress key list` shows them")
    click.echo(f"{access_key_id} is disabled")


@cli.command()
@click.argument("address")
@click.argument("message_id", required=False)
@click.option("--limit", default=50, type=click.IntRange(1, 1_000), help="How many of the newest to list.")
@_with_config
def inbox(config: Config, address: str, message_id: str | None, limit: int) -> None:
    """List what is in an address's inbox and why, newest first, or print one message of it.

    `postmaster` is the inbox of mail for a postmaster whom nobody has published.
    """
    from readdress.directory import routing
    from readdress.inbox import messages

    route = _look(config, lambda tx: routing.route_text(tx, address))
    if not route.destinations:
        raise click.ClickException(f"{address} has no inbox: {route.reply.text}")
    address_id = route.destinations[0].address_id
    if message_id is None:
        for entry in _look(
            config, lambda tx: messages.list_inbox(tx, address_id=address_id, before_id=None, limit=limit)
        ):
            click.echo(_inbox_line(entry))
        return
    content = _look(config, lambda tx: messages.find_in_inbox(tx, address_id=address_id, message_id=message_id))
    if content is None:
        raise click.ClickException(f"the inbox of {address} has no message {message_id}")
    sys.stdout.buffer.write(content)


def _inbox_line(entry: Any) -> str:
    from readdress.clock import iso_8601

    reasons = ",".join(reason.reason for reason in entry.reasons)
    return "\t".join((entry.message_id, iso_8601(entry.received_ms), reasons, f"<{entry.sender}>", entry.subject))
