"""A settings file with transports, as an operator would write it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Values = Mapping[str, Any]


def write_settings(file: Path, *, transports: Mapping[str, Values] | None = None, **settings: Any) -> Path:
    """TOML in place of what the file had; text, numbers and booleans are written alike in TOML and in JSON."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    for name, values in (transports or {}).items():
        lines += ["", f"[transports.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    file.write_text("\n".join([*lines, ""]), "utf-8")
    return file
