"""The index by which PostgreSQL finds addresses by a part of their texts, where the server has pg_trgm.

It changes how long a search takes and nothing else, so it is no step of the schema: a server without the extension
serves as well, and gets the index with the first `readdress migrate` that finds the extension.
"""

from typing import Any

import psycopg

_FIND = """
SELECT i.indisvalid FROM pg_index i
WHERE i.indexrelid = to_regclass('email_address_by_text')"""
_DROP = "DROP INDEX CONCURRENTLY IF EXISTS email_address_by_text"
# Concurrently: nodes go on publishing addresses meanwhile.
_CREATE = """
CREATE INDEX CONCURRENTLY IF NOT EXISTS email_address_by_text ON email_address USING gin (
    address_folded gin_trgm_ops, display_name_folded gin_trgm_ops, description_folded gin_trgm_ops)"""


def has_index(session: "psycopg.Connection[Any]") -> bool:
    return session.execute(_FIND).fetchone() == (True,)


def make_index(session: "psycopg.Connection[Any]") -> bool:
    """Whether it was made, or made again after a program that was broken off; False where it is, or can't be."""
    if has_index(session):
        return False
    try:
        session.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile, psycopg.errors.InsufficientPrivilege):
        return False
    session.execute("SET statement_timeout = 0")
    session.execute(_DROP)
    session.execute(_CREATE)
    return True
