"""The schema, as numbered steps `NNNN_what.sql`; each runs once and in order, what is missing in one transaction.

Nodes are upgraded one by one. A step runs before the program that needs it, and has to leave the program before it
alone; one that can't (it drops or narrows something) is named `NNNN_what.after.sql` and runs when no node needs what it
takes away. What one engine alone has is named `NNNN_what.ENGINE.sql`. A statement begins at the start of a line.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from readdress.store.database import SchemaError

_FOLDER = Path(__file__).parent
BEFORE, AFTER = "before", "after"
SQLITE, POSTGRES = "sqlite", "postgres"
_TEXT = re.compile(r"\bTEXT\b")
_END_OF_STATEMENT = re.compile(r";\s*(?=^\S|\Z)", re.MULTILINE)


class Step(NamedTuple):
    """A step with its statements; `phase` is BEFORE or AFTER."""

    version: int
    name: str
    phase: str
    statements: list[str]


def load_migrations(engine: str, *, clustered: str, text: str = "TEXT") -> list[Step]:
    """Every step of an engine, SQLITE or POSTGRES.

    `{clustered}` is its word for a table kept in key order, `text` its type for text.
    """
    steps = []
    for file in sorted(_FOLDER.iterdir()):
        _, *marks = file.name.removesuffix(".sql").split(".")
        if not file.name.endswith(".sql") or ({SQLITE, POSTGRES} - {engine}) & set(marks):
            continue  # another engine's, or what Python itself keeps here
        source = file.read_text("utf-8").replace("{clustered}", clustered)
        lines = (line for line in source.splitlines() if not line.lstrip().startswith("--"))
        statements = [_TEXT.sub(text, part.strip()) for part in _END_OF_STATEMENT.split("\n".join(lines)) if part]
        phase = AFTER if AFTER in marks else BEFORE
        steps.append(Step(int(file.name[:4]), file.name, phase, statements))
    return steps


def missing_steps(applied: Collection[int], steps: Sequence[Step], *, phases: Collection[str]) -> list[Step]:
    """What has still to run; a step of another phase ends the list, for those behind it count on it."""
    missing = []
    for step in steps:
        if step.version in applied:
            continue
        if step.phase not in phases:
            break
        missing.append(step)
    return missing


def check_applied(applied: Mapping[int, str], steps: Sequence[Step]) -> None:
    """Raises SchemaError where this program can't serve the schema; `applied` has each step's phase."""
    known = {step.version for step in steps}
    foreign = sorted(version for version, phase in applied.items() if version not in known and phase == AFTER)
    if foreign:
        raise SchemaError(
            f"the database has schema version {foreign[-1]}, and this program knows versions up to {max(known)}: "
            "start the newer program that made it, or restore a backup"
        )
    missing = [step.name for step in steps if step.version not in applied and step.phase == BEFORE]
    if missing:
        raise SchemaError(
            f"the database's schema lacks {', '.join(missing)}: run `readdress migrate` first, which leaves nodes of "
            "the older program alone"
        )
