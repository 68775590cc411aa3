"""The schema, as numbered steps `NNNN_what.sql`; each runs once and in order, what is missing in one transaction."""

from importlib.resources import files


def load_migrations(*, clustered: str) -> list[tuple[int, str, list[str]]]:
    """(version, name, statements) of every step; `{clustered}` is the engine's word for a table kept in key order."""
    steps = []
    for file in sorted(files(__name__).iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".sql"):
            continue
        text = file.read_text("utf-8").replace("{clustered}", clustered)
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
        statements = [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]
        steps.append((int(file.name[:4]), file.name, statements))
    return steps
