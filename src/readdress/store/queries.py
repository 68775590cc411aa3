"""Named SQL from the `.sql` files that stand beside the code: `-- name`, a line that says what for, the text."""

import re
from importlib.resources import files

_NAME = re.compile(r"^-- (\w+)$", re.MULTILINE)


class Query(str):
    """One SQL statement with `:name` parameters; its name shows up in errors and measures."""

    __slots__ = ("name",)
    name: str


class Queries:
    """The statements of one file, each an attribute: `sql.find_alias`."""

    def __init__(self, source: str, text: str) -> None:
        self._source = source
        parts = _NAME.split(text)[1:]
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            query = Query(_without_comments(body))
            query.name = name
            setattr(self, name, query)

    def __getattr__(self, name: str) -> Query:
        raise AttributeError(f"{self._source} holds no statement named {name}")


def load_queries(package: str, name: str) -> Queries:
    """The statements of the file `name` in the package; a missing file fails at import."""
    return Queries(name, files(package).joinpath(name).read_text("utf-8"))


def _without_comments(body: str) -> str:
    lines = (line for line in body.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
