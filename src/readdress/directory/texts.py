"""The index of trigrams by which SQLite finds addresses by a part of their texts.

It is told of new addresses many at a time: alone each costs ten times as much. So a search looks in two places, in the
index and at the few addresses that came since. On PostgreSQL an index of the table itself does all that.
"""

from collections.abc import Iterable

from readdress.address import fold
from readdress.directory.conditions import CONTAINS, All, AnyOf, Condition, Text
from readdress.store.database import Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "texts.sql")

# The fewest characters that have a trigram, and as many of a value as are looked up.
CHARACTERS_MIN, CHARACTERS_MAX = 3, 40
# What is looked up in a row: long enough to be rare.
PIECE_CHARACTERS = 6
# A search reads fewer new addresses than that.
BATCH = 1_000

_COLUMNS = {"emailaddress": "address", "displayname": "display_name", "description": "description"}


def expression(condition: Condition) -> str | None:
    """What the index can say of a condition, in FTS5's language: all that meet it, and maybe more; None for nothing."""
    match condition:
        case Text(field, comparison, value):
            pieces = _pieces(fold(value)[:CHARACTERS_MAX])
            if pieces and comparison != CONTAINS:
                pieces[0] = f"^ {pieces[0]}"
            return _join(" AND ", [f"{_COLUMNS[field]} : {piece}" for piece in pieces])
        case All(conditions):
            return _join(" AND ", [part for part in map(expression, conditions) if part])
        case AnyOf(conditions):
            parts = list(map(expression, conditions))
            return _join(" OR ", filter(None, parts)) if all(parts) else None
        case _:
            return None


def _pieces(text: str) -> list[str]:
    """The text in quoted pieces, of which the last two may overlap; none where it is too short for one.

    To find who has all pieces takes a third of finding who has them in a row, for which the index reads the places of
    every trigram, and most trigrams are common. That they are in a row, the statement itself sees to.
    """
    if len(text) < CHARACTERS_MIN:
        return []
    starts = [*range(0, len(text) - PIECE_CHARACTERS, PIECE_CHARACTERS), max(0, len(text) - PIECE_CHARACTERS)]
    doubled = (text[start : start + PIECE_CHARACTERS].replace('"', '""') for start in starts)
    return [f'"{piece}"' for piece in doubled]


def _join(word: str, parts: Iterable[str]) -> str | None:
    return word.join(f"({part})" for part in parts) or None


def number(tx: Transaction, address_ids: Iterable[str]) -> None:
    """New addresses take their numbers, by which the index knows them, in the transaction that publishes them."""
    if tx.has_text_table:
        tx.execute_all(sql.number_address, [{"address_id": address_id} for address_id in address_ids])


def is_due(tx: Transaction, *, batch: int = BATCH) -> bool:
    """Whether as many addresses as a batch are new."""
    done, last = _progress(tx)
    return last - done >= batch


def index_some(tx: Transaction, *, batch: int = BATCH) -> bool:
    """Take in the next batch, if it is due; whether it did."""
    done, last = _progress(tx)
    if last - done < batch:
        return False
    tx.send(sql.index_texts, done=done, upto=done + batch)
    tx.send(sql.note_progress, upto=done + batch)
    return True


def _progress(tx: Transaction) -> tuple[int, int]:
    """Up to which number the index has come, and up to which it might."""
    progress = tx.one(sql.find_progress)
    assert progress is not None
    return progress[0], progress[1]
