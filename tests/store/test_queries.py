"""Named SQL: how a file becomes statements, and that every statement of the program fits the schema."""

import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

import readdress
from readdress.store.migrations import SQLITE, load_migrations
from readdress.store.queries import Queries, Query, by_number, load_queries

SOURCE = Path(readdress.__file__).parent
SQL_FILES = [path for path in sorted(SOURCE.rglob("*.sql")) if path.parent.name != "migrations"]
NAMED = re.compile(r"^-- (\w+)\n", re.MULTILINE)

STATEMENTS = [(path, name) for path in SQL_FILES for name in NAMED.findall(path.read_text("utf-8"))]

EXAMPLE = """-- find_one
-- What it is for, at some length.
SELECT a
-- a remark amidst
FROM b WHERE c = :c;

-- delete_all
DELETE FROM b
"""


def queries_of(path: Path) -> Queries:
    package = ".".join(("readdress", *path.parent.relative_to(SOURCE).parts))
    return load_queries(package, path.name)


def test_a_file_gives_its_statements_by_name_without_remarks() -> None:
    sql = Queries("example.sql", EXAMPLE)
    assert sql.find_one == "SELECT a\nFROM b WHERE c = :c"
    assert sql.delete_all == "DELETE FROM b"


def test_a_statement_knows_its_name() -> None:
    assert Queries("example.sql", EXAMPLE).find_one.name == "find_one"


def test_a_name_that_is_not_there_is_an_attribute_error_naming_file_and_statement() -> None:
    with pytest.raises(AttributeError, match=r"example\.sql.*find_two"):
        _ = Queries("example.sql", EXAMPLE).find_two


def test_a_missing_file_fails_at_once() -> None:
    with pytest.raises(FileNotFoundError):
        load_queries("readdress.store", "missing.sql")


@pytest.mark.parametrize("path", SQL_FILES, ids=lambda path: path.name)
def test_no_two_statements_of_a_file_share_a_name(path: Path) -> None:
    names = Counter(NAMED.findall(path.read_text("utf-8")))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(("path", "name"), STATEMENTS, ids=lambda value: getattr(value, "name", value))
def test_every_statement_is_used(path: Path, name: str) -> None:
    code = "".join(file.read_text("utf-8") for file in SOURCE.rglob("*.py"))
    assert re.search(rf"sql\.{name}\b", code)


@pytest.mark.parametrize(("path", "name"), STATEMENTS, ids=lambda value: getattr(value, "name", value))
def test_every_whole_statement_fits_the_schema(path: Path, name: str) -> None:
    query = getattr(queries_of(path), name).replace("{where}", "1 = 1")
    if not re.match(r"(SELECT|INSERT|UPDATE|DELETE|WITH)\b", query):
        assert name.startswith("where_"), "only search is put together of fragments"
        return
    with closing(sqlite3.connect(":memory:")) as connection:
        for step in load_migrations(SQLITE, clustered="WITHOUT ROWID"):
            for statement in step.statements:
                connection.execute(statement)
        connection.execute(f"EXPLAIN {query}", dict.fromkeys(re.findall(r":(\w+)", query), "1"))


def test_names_become_numbers_and_rows_their_values_in_that_order() -> None:
    text, take = by_number(Query("INSERT INTO t VALUES (:b, :a, :b)"))
    assert text == "INSERT INTO t VALUES (?1, ?2, ?1)"
    assert take({"a": 1, "b": 2, "more": 3}) == (2, 1)
    text, take = by_number(Query("DELETE FROM t WHERE a = :a"))
    assert (text, take({"a": 1})) == ("DELETE FROM t WHERE a = ?1", (1,))
