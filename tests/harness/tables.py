"""A database seen from outside the program: every row of it, and which of its promises are broken."""

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

from harness.engine import Rows, open_beside
from readdress.store.database import Database

# Each gives the rows that must not be there; the contract's clause is in the name.
_BROKEN = {
    "an address takes part in at most one relation (2.3)": """
        SELECT id FROM (SELECT alias_id AS id FROM alias UNION ALL SELECT primary_id FROM alias)
        GROUP BY id HAVING count(*) > 1""",
    "a relation joins two addresses of one instance (2.4, 2.7)": """
        SELECT r.alias_id, r.primary_id FROM alias r
        LEFT JOIN email_address a ON a.id = r.alias_id LEFT JOIN email_address p ON p.id = r.primary_id
        WHERE a.id IS NULL OR p.id IS NULL OR a.instance_id <> p.instance_id""",
    "an address belongs to an instance": """
        SELECT id FROM email_address WHERE instance_id NOT IN (SELECT id FROM instance)""",
    "a tag belongs to a resource": """
        SELECT resource_id FROM tag
        WHERE resource_id NOT IN (SELECT id FROM email_address UNION ALL SELECT id FROM instance)""",
    "a message is in an inbox (6)": """
        SELECT id FROM message WHERE id NOT IN (SELECT message_id FROM delivery)""",
    "a delivery has its message (6)": """
        SELECT id FROM delivery WHERE message_id NOT IN (SELECT id FROM message)""",
    "a message is in an inbox once (6)": """
        SELECT message_id, address_id FROM delivery WHERE reasons NOT LIKE '%"RELEASED"%'
        GROUP BY message_id, address_id HAVING count(*) > 1""",
    "a message has all its content (6)": """
        SELECT m.id FROM message m LEFT JOIN content c ON c.message_id = m.id
        WHERE m.id IN (SELECT message_id FROM delivery
            WHERE state IN ('QUEUED', 'FAILED') OR state = 'DELIVERED' AND transport = 'inbox')
        GROUP BY m.id HAVING count(c.part) = 0 OR min(c.part) <> 0 OR max(c.part) <> count(c.part) - 1
        OR sum(length(c.bytes)) <> m.size_bytes""",
    "a delivery is in the spool while it waits or has failed, and only then (6)": """
        SELECT d.id FROM delivery d LEFT JOIN spool s ON s.delivery_id = d.id
        WHERE (d.state IN ('QUEUED', 'FAILED')) <> (s.delivery_id IS NOT NULL)
        UNION SELECT delivery_id FROM spool WHERE delivery_id NOT IN (SELECT id FROM delivery)""",
    "content belongs to a message, or waits for it (6)": """
        SELECT DISTINCT message_id FROM content
        WHERE (message_id IN (SELECT id FROM message)) = (message_id IN (SELECT message_id FROM staged_content))""",
    "what is staged has content (6)": """
        SELECT message_id FROM staged_content WHERE message_id NOT IN (SELECT message_id FROM content)""",
}


# What follows from the rest, and the signs of life that a service gives in between.
_DERIVED = ("address_number", "address_text", "node", "sqlite_")


def dump(what: Path | Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but what others derive, in order; bytes as their digest."""
    with open_beside(what) as rows:
        is_sqlite = isinstance(rows, sqlite3.Connection)
        listing = (
            "SELECT name FROM sqlite_schema WHERE type = 'table'"
            if is_sqlite
            else "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        )
        tables = [name for (name,) in rows.execute(listing).fetchall() if not name.startswith(_DERIVED)]
        return {
            table: sorted(map(_short, rows.execute(f"SELECT * FROM {table}").fetchall()), key=repr) for table in tables
        }


def _short(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else value for value in row)


def broken_promises(rows: Rows) -> dict[str, list[Any]]:
    """What the data of a sound database never shows; empty when all is well."""
    found = {promise: rows.execute(query).fetchall() for promise, query in _BROKEN.items()}
    if isinstance(rows, sqlite3.Connection):
        found["the file is sound"] = [row for row in rows.execute("PRAGMA integrity_check") if row != ("ok",)]
        found["an address has a number, and what has one is an address"] = rows.execute(
            "SELECT id, address_id FROM email_address FULL JOIN address_number ON address_id = id"
            " WHERE id IS NULL OR address_id IS NULL"
        ).fetchall()
        found["foreign keys hold"] = rows.execute("PRAGMA foreign_key_check").fetchall()
    return {promise: broken for promise, broken in found.items() if broken}


def check_promises(what: Path | Database) -> None:
    with open_beside(what) as rows:
        assert broken_promises(rows) == {}
