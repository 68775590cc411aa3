"""The command line: `serve`, `resolve`, `inbox`, `trace`, `spool`, `key`, and what other modules of commands have.

Mistakes end with status 2 and a sentence that helps.
"""

import gc
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from readdress import __version__
from readdress.bulk_commands import BULK_COMMANDS
from readdress.config import Config
from readdress.database_commands import DATABASE_COMMANDS
from readdress.options import with_config


def main() -> None:
    cli(prog_name="readdress")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Email addresses and aliases with Amazon Connect's API, and the mail server that obeys them."""


@cli.command()
@click.option("--dev", is_flag=True, default=None, help="Loopback only, with the access key test / test.")
@click.option("--http", metavar="HOST:PORT", help="Where the API listens (default: 127.0.0.1:4780).")
@click.option("--smtp", metavar="HOST:PORT", help="Where SMTP listens (default: 127.0.0.1:2525).")
@click.option("--lmtp", metavar="HOST:PORT|unix:PATH", help="Where LMTP listens (default: nowhere).")
@click.option("--smtp-tls", metavar="HOST:PORT", help="Where SMTP with implicit TLS listens (default: nowhere).")
@click.option("--socketmap", metavar="HOST:PORT|unix:PATH", help="Where Postfix asks for maps (default: nowhere).")
@click.option("--metrics", metavar="HOST:PORT", help="Where Prometheus finds /metrics (default: nowhere).")
@click.option("--console", metavar="ORIGIN", help="Pages for people, at https://HOST (default: with --dev alone).")
@click.option("--workers", metavar="N", type=click.IntRange(1, 100), help="Processes, for several cores (default: 1).")
@with_config
def serve(config: Config) -> None:
    """Start the service; port 0 takes a free one."""
    gc.disable()  # what the imports make stays, so looking through it while there is more and more of it finds nothing
    from readdress import logs
    from readdress.api.access import KeyFileError
    from readdress.listening import ListenError
    from readdress.service import Ready, secure_umask
    from readdress.service import serve as serve_until_stopped
    from readdress.store.database import SchemaError

    gc.freeze()  # nor does it later on, and workers share it as long as nobody does
    gc.enable()

    def say(ready: Ready) -> None:
        click.echo(_greeting(config, ready))
        sys.stdout.flush()

    logs.set_up(log_format=config.log_format)
    secure_umask()
    try:
        status = serve_until_stopped(config, say)
    except (SchemaError, KeyFileError, ListenError, OSError) as error:
        raise click.ClickException(str(error)) from None
    sys.exit(status)


def _greeting(config: Config, ready: Any) -> str:
    from readdress.service import DEV_INSTANCE, DEV_KEY

    lines = [
        f"Readdress {__version__} is ready.",
        f"  API   http://{ready.http}",
        f"  SMTP  {ready.smtp}",
        *([f"  LMTP  {ready.lmtp}"] if ready.lmtp else []),
        *([f"  SMTPS {ready.smtp_tls}"] if ready.smtp_tls else []),
        *([f"  Maps  {ready.socketmap}"] if ready.socketmap else []),
        *([f"  Stats {ready.metrics}"] if ready.metrics else []),
        *([f"  Pages {ready.console}"] if ready.console else []),
        *([f"  Work  {config.workers} processes"] if config.workers > 1 else []),
        f"  Data  {config.database_shown}",
    ]
    if config.dev:
        lines += [
            "",
            "For AWS SDKs and the AWS CLI:",
            f"  export AWS_ENDPOINT_URL_CONNECT=http://{ready.http}",
            f"  export AWS_ACCESS_KEY_ID={DEV_KEY} AWS_SECRET_ACCESS_KEY={DEV_KEY}",
            f"  export AWS_DEFAULT_REGION={config.region} AWS_REGION={config.region}",
            f"  export INSTANCE_ID={DEV_INSTANCE}",
        ]
    if ready.new_key:
        lines += [
            "",
            "An administrator's access key was made. The secret is not shown again:",
            f"  export AWS_ENDPOINT_URL_CONNECT=http://{ready.http}",
            f"  export AWS_DEFAULT_REGION={config.region} AWS_REGION={config.region}",
            f"  export AWS_ACCESS_KEY_ID={ready.new_key.access_key_id} AWS_SECRET_ACCESS_KEY={ready.new_key.secret}",
            "Addresses belong to an instance, and the first is made with it: aws connect create-instance",
        ]
    return "\n".join(lines)


def _look(config: Config, work: Callable[[Any], Any]) -> Any:
    """Read the database beside a running service."""
    from readdress.clock import Clock
    from readdress.databases import look_once
    from readdress.store.database import SchemaError, StoreError

    try:
        return look_once(config, work, Clock())
    except (SchemaError, StoreError) as error:
        raise click.ClickException(str(error)) from None


def _change(config: Config, work: Callable[[Any, Any], Any]) -> Any:
    """Write to the database beside a running service; `work` gets the transaction and the keyring."""
    from readdress.api.access import KeyFileError, load_keyring
    from readdress.clock import Clock
    from readdress.databases import open_database
    from readdress.service import secure_umask
    from readdress.store.database import SchemaError, StoreError

    secure_umask()
    try:
        data = Path(config.data)
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        keyring = load_keyring(config.key_path)
        database = open_database(config, Clock())
        try:
            return database.run(lambda tx: work(tx, keyring))
        finally:
            database.close()
    except (SchemaError, StoreError, KeyFileError, OSError) as error:
        raise click.ClickException(str(error)) from None


@cli.command()
@click.argument("address")
@with_config
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
@with_config
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
@with_config
def list_keys(config: Config) -> None:
    """List access keys, without their secrets."""
    from readdress.api import access

    for found in _look(config, access.list_keys):
        state = f"disabled {_iso(found.disabled_ms)}" if found.disabled_ms else "enabled"
        click.echo(f"{found.id}\t{found.account}\t{_iso(found.created_ms)}\t{state}\t{found.name}")


@key.command("disable")
@click.argument("access_key_id")
@with_config
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
@with_config
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
    reasons = ",".join(reason.reason for reason in entry.reasons)
    return "\t".join((entry.message_id, _iso(entry.received_ms), reasons, f"<{entry.sender}>", entry.subject))


@cli.command()
@click.argument("what", metavar="MESSAGE-ID|ADDRESS", required=False)
@click.option("--since", metavar="TIME", help="What came since then: a date or time of ISO 8601, UTC unless it says.")
@click.option("--limit", default=20, type=click.IntRange(1, 1_000), help="How many of the newest messages to tell of.")
@with_config
def trace(config: Config, what: str | None, since: str | None, limit: int) -> None:
    """Tell what happened to a message, to what an address got, or to all mail since a time.

    One line for each event: how the message came, why it went where, every try, and alias changes around it.
    """
    from readdress.api import timeline
    from readdress.inbox import messages

    if what is None and since is None:
        raise click.UsageError("say what to trace: a message's id, an address, or --since")
    since_ms = _instant(since) if since else 0

    def look(tx: Any) -> list[Any]:
        found = _find_messages(tx, what, since_ms=since_ms, limit=limit)
        return [(message, timeline.build(tx, message, messages.list_deliveries(tx, message.id))) for message in found]

    traced = _look(config, look)
    if not traced:
        raise click.ClickException(f"nothing is known of {what}" if what else "nothing has come since")
    for message, events in traced:
        click.echo(f"{message.id}\t<{message.sender}>\t{message.subject}")
        for event in events:
            click.echo(f"  {_iso(event.at_ms)}\t{event.event}\t{event.delivery_id or '-'}\t{event.detail}")


def _find_messages(tx: Any, what: str | None, *, since_ms: int, limit: int) -> list[Any]:
    """The messages that `trace` is asked for, the newest first."""
    from readdress.directory import routing
    from readdress.inbox import messages

    if what is None:
        return messages.list_since(tx, since_ms, limit=limit)
    message = messages.find(tx, what)
    if message:
        return [message]
    found = []
    for destination in routing.route_text(tx, what).destinations[:1]:
        entries = messages.list_inbox(tx, address_id=destination.address_id, before_id=None, limit=limit)
        found = [messages.find(tx, entry.message_id) for entry in entries if entry.received_ms >= since_ms]
    return [message for message in found if message]


def _instant(text: str) -> int:
    from readdress.directory.settings import parse_instant

    try:
        return parse_instant(text)
    except (ValueError, OverflowError):
        raise click.UsageError(f"--since: {text!r} is no time: give one like 2026-11-22T08:00") from None


def _iso(at_ms: int) -> str:
    from readdress.clock import iso_8601

    return iso_8601(at_ms)


@cli.group()
def spool() -> None:
    """Mail on its way out: what waits, what has failed, another try or none."""


@spool.command("list")
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), help="How many to list.")
@with_config
def list_spool(config: Config, limit: int) -> None:
    """List deliveries that wait or have failed, oldest first.

    A line has the delivery's id, since when it waits, its state, tries, transport, recipient and the last reply.
    """
    from readdress.inbox import messages
    from readdress.spool import queue

    def look(tx: Any) -> list[str]:
        lines = []
        for entry in queue.list_entries(tx, after="", limit=limit):
            delivery = messages.get_delivery(tx, address_id=entry.address_id, delivery_id=entry.delivery_id)
            attempts = queue.list_attempts(tx, entry.delivery_id)
            state = "failed" if entry.has_failed else f"due {_iso(entry.due_ms)}"
            goal = delivery.next_hop if delivery else "-"
            last = attempts[-1].reply if attempts else "-"
            tries = f"{entry.attempts} tries"
            lines.append(
                "\t".join((entry.delivery_id, _iso(entry.queued_ms), state, tries, entry.transport, goal, last))
            )
        return lines

    for line in _look(config, look):
        click.echo(line)


@spool.command("retry")
@click.argument("delivery_ids", nargs=-1, required=True, metavar="DELIVERY-ID...")
@with_config
def retry_delivery(config: Config, delivery_ids: tuple[str, ...]) -> None:
    """Try deliveries now, failed ones too, with all their time before them again."""
    from readdress.api import spooled

    _change_each(config, delivery_ids, spooled.retry, "is due now")


@spool.command("drop")
@click.argument("delivery_ids", nargs=-1, required=True, metavar="DELIVERY-ID...")
@click.option("--reason", default="", metavar="TEXT", help="Why, for who looks at the message later.")
@with_config
def drop_delivery(config: Config, delivery_ids: tuple[str, ...], reason: str) -> None:
    """Give deliveries up without a notice to their senders; their content goes if nothing else needs it."""
    from readdress.api import spooled

    _change_each(config, delivery_ids, partial(spooled.drop, reason=reason), "is dropped")


def _change_each(config: Config, delivery_ids: tuple[str, ...], change: Callable[[Any, str], bool], said: str) -> None:
    """All of them, or none and status 1."""

    def work(tx: Any, _: Any) -> None:
        for delivery_id in delivery_ids:
            if not change(tx, delivery_id):
                raise click.ClickException(
                    f"the spool has no delivery {delivery_id}: `readdress spool list` shows them"
                )

    _change(config, work)
    for delivery_id in delivery_ids:
        click.echo(f"{delivery_id} {said}")


for command in (*DATABASE_COMMANDS, *BULK_COMMANDS):
    cli.add_command(command)
