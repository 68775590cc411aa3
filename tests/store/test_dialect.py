"""One SQL text, as PostgreSQL takes it: parameters, casts, quotes and the tokens of locks, and values on the wire."""

import pytest

from readdress.store.postgres.dialect import DECODERS, ask, ask_all, plain, translate
from readdress.store.queries import Query

# https://www.postgresql.org/docs/current/catalog-pg-type.html: the fixed numbers of built-in types.
BOOL, BYTEA, INT8, INT4, TEXT = 16, 17, 20, 23, 25


@pytest.mark.parametrize(
    ("text", "translated", "names"),
    [
        ("SELECT 1", "SELECT 1", ()),
        ("SELECT :a", "SELECT $1", ("a",)),
        ("SELECT :b, :a", "SELECT $1, $2", ("b", "a")),
        ("SELECT :a, :b, :a", "SELECT $1, $2, $1", ("a", "b")),
        ("SELECT :a1, :a_b, :a", "SELECT $1, $2, $3", ("a1", "a_b", "a")),
        ("SELECT (:a)", "SELECT ($1)", ("a",)),
        ("SELECT :a::text", "SELECT $1::text", ("a",)),
        ("SELECT x::text, :x", "SELECT x::text, $1", ("x",)),
        ("SELECT ':a', :a", "SELECT ':a', $1", ("a",)),
        ("SELECT 'it''s :a', :b", "SELECT 'it''s :a', $1", ("b",)),
        ("SELECT '', :a, ''", "SELECT '', $1, ''", ("a",)),
        ("SELECT '{lock}'", "SELECT '{lock}'", ()),
        ("SELECT x WHERE y LIKE '%:' || :a", "SELECT x WHERE y LIKE '%:' || $1", ("a",)),
    ],
)
def test_names_become_numbers_but_for_casts_and_quotes(text: str, translated: str, names: tuple[str, ...]) -> None:
    statement = translate(Query(text))
    assert (statement.text.decode(), statement.names) == (translated, names)


@pytest.mark.parametrize(
    ("token", "clause"),
    [
        ("{lock}", "FOR UPDATE"),
        ("{lock_share}", "FOR KEY SHARE"),
        ("{lock_skip}", "FOR UPDATE SKIP LOCKED"),
    ],
)
def test_a_token_becomes_the_clause_of_its_lock(token: str, clause: str) -> None:
    query = Query(f"SELECT id FROM t WHERE id = :id {token}")
    assert translate(query).text.decode() == f"SELECT id FROM t WHERE id = $1 {clause}"
    assert str(query) == "SELECT id FROM t WHERE id = :id"  # as an engine with one writer has it


def test_a_list_of_texts_becomes_a_table_of_either_engine() -> None:
    query = Query("SELECT value FROM {texts}")
    assert str(query) == "SELECT value FROM json_each(:texts) AS texts"
    statement = translate(query)
    assert statement.text.decode() == "SELECT value FROM json_array_elements_text($1::json) AS texts(value)"
    assert statement.names == ("texts",)


@pytest.mark.parametrize(
    ("text", "translated"),
    [
        (
            "INSERT INTO t (a, b, c) VALUES (:a, :b, :a) ON CONFLICT DO NOTHING",
            "INSERT INTO t (a, b, c) SELECT _a, _b, _a FROM unnest($1, $2) AS every (_a, _b) ON CONFLICT DO NOTHING",
        ),
        (
            "UPDATE t SET a = :a, b = :b WHERE id = :id",
            "UPDATE t SET a = _a, b = _b FROM unnest($1, $2, $3) AS every (_a, _b, _id) WHERE id = _id",
        ),
    ],
)
def test_a_statement_for_many_rows_takes_an_array_for_each_parameter(text: str, translated: str) -> None:
    rows = [{"a": "x", "b": None, "id": 1}, {"a": "ä", "b": None, "id": 2}]
    asked = ask_all(Query(text), rows)
    assert asked.statement.text.decode() == translated
    assert asked.types[:2] == (1009, 1009)
    # An array of one dimension, no text but as many nulls as rows, from one on.
    assert asked.values[1] == bytes.fromhex("00000001 00000001 00000019 00000002 00000001 ffffffff ffffffff")


def test_an_unknown_token_fails_at_its_first_use() -> None:
    with pytest.raises(KeyError, match="lock_softly"):
        translate(Query("SELECT 1 {lock_softly}"))


def test_a_missing_parameter_fails_and_one_too_many_is_left_out() -> None:
    with pytest.raises(KeyError, match="b"):
        ask(Query("SELECT :a, :b"), {"a": 1})
    assert ask(Query("SELECT :a"), {"a": "x", "unused": "y"}).values == [b"x"]


@pytest.mark.parametrize(
    ("value", "type_number", "encoded"),
    [
        ("", TEXT, b""),
        ("Grüße", TEXT, "Grüße".encode()),
        (0, INT8, bytes(8)),
        (1, INT8, b"\0\0\0\0\0\0\0\1"),
        (-1, INT8, b"\xff" * 8),
        (2**63 - 1, INT8, b"\x7f" + b"\xff" * 7),
        (-(2**63), INT8, b"\x80" + bytes(7)),
        (True, INT8, b"\0\0\0\0\0\0\0\1"),
        (b"\0\xff", BYTEA, b"\0\xff"),
        (b"", BYTEA, b""),
        (None, 0, None),
    ],
)
def test_a_value_goes_out_in_binary_with_its_type(value: object, type_number: int, encoded: bytes | None) -> None:
    asked = ask(Query("SELECT :value"), {"value": value})
    assert (asked.types, asked.values) == ((type_number,), [encoded])


def test_an_integer_that_no_column_holds_is_refused_before_it_goes_out() -> None:
    with pytest.raises(OverflowError):
        ask(Query("SELECT :value"), {"value": 2**63})


@pytest.mark.parametrize(
    ("type_number", "raw", "value"),
    [
        (BOOL, b"\1", 1),
        (BOOL, b"\0", 0),
        (INT4, b"\xff\xff\xff\xfe", -2),
        (INT8, b"\0\0\0\0\0\0\1\0", 256),
        (TEXT, "Grüße".encode(), "Grüße"),
        (BYTEA, b"\0\xff", b"\0\xff"),
    ],
)
def test_a_column_comes_in_as_sqlite_would_give_it(type_number: int, raw: bytes, value: object) -> None:
    decoded = DECODERS[type_number](raw)
    assert decoded == value
    assert type(decoded) is type(value)


def test_only_statements_with_a_name_are_worth_preparing() -> None:
    assert translate(Query("SELECT 1", "find_it")).is_kept
    assert not translate(Query("SELECT 2")).is_kept
    assert plain("BEGIN").statement.is_kept
