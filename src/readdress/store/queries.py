"""Named SQL from the `.sql` files that stand beside the code: `-- name`, a line that says what for, the text.

One text serves both engines. Where rows are locked it says so by a token, `{lock}`, `{lock_share}` or `{lock_skip}`,
which an engine with a single writer need not know. `{texts}` is a table `texts` with a column `value`: the strings of
the JSON list `:texts`, by which a statement asks for many keys at once.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

_NAME = re.compile(r"^-- (\w+)$", re.MULTILINE)
_LOCK = re.compile(r"\s*\{lock\w*\}")
_PARAMETER = re.compile(r"(?<!:):(\w+)")
_TEXTS = "{texts}"


class Query(str):
    """One SQL statement with `:name` parameters, as SQLite takes it; `locking` has all its tokens.

    A statement without a name was made for one call.
    """

    __slots__ = ("locking", "name")
    locking: str
    name: str

    def __new__(cls, text: str, name: str = "") -> Self:
        query = super().__new__(cls, _LOCK.sub("", text).replace(_TEXTS, "json_each(:texts) AS texts"))
        query.locking = text
        query.name = name
        return query


class Queries:
    """The statements of one file, each an attribute: `sql.find_alias`."""

    def __init__(self, source: str, text: str) -> None:
        self._source = source
        parts = _NAME.split(text)[1:]
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            setattr(self, name, Query(_without_comments(body), name))

    def __getattr__(self, name: str) -> Query:
        raise AttributeError(f"{self._source} holds no statement named {name}")


@lru_cache(maxsize=256)
def by_number(query: Query) -> tuple[str, Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
    """The statement with numbers for names, which SQLite binds quicker, and what puts a row's values in their order."""
    names = list(dict.fromkeys(_PARAMETER.findall(query)))
    text = _PARAMETER.sub(lambda found: f"?{names.index(found[1]) + 1}", query)
    return text, itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)


def load_queries(package: str, name: str) -> Queries:
    """The statements of the file `name` in the package; a missing file fails at import."""
    folder = import_module(package).__path__[0]  # importlib.resources takes a third of a millisecond for each file
    return Queries(name, Path(folder, name).read_text("utf-8"))


def _without_comments(body: str) -> str:
    lines = (line for line in body.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
