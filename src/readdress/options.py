"""The options that commands share: where the service's data is. Mistakes in them end with status 2."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from readdress.config import ConfigError, load_config

F = TypeVar("F", bound=Callable[..., Any])

# Options that are settings; the others are the command's own.
_SETTINGS = frozenset(
    {"data", "database", "http", "smtp", "lmtp", "smtp_tls", "socketmap", "metrics", "console", "workers", "dev"}
)


def with_config(command: F) -> F:
    """The options that say where the service's data is; `config` comes out of them."""

    @click.option("--config", "file", type=click.Path(path_type=Path), help="A TOML file with settings.")
    @click.option("--data", metavar="DIR", help="Where data is kept (default: readdress-data).")
    @click.option("--database", metavar="URL", help="The database (default: sqlite:///DATA/readdress.db).")
    @wraps(command)
    def run_with_config(*, file: Path | None, **options: Any) -> Any:
        settings: dict[str, Any] = {name: options.pop(name) for name in _SETTINGS & options.keys()}
        try:
            return command(load_config(file, os.environ, settings), **options)
        except ConfigError as error:
            raise click.UsageError(str(error)) from None

    return run_with_config  # type: ignore[return-value]
