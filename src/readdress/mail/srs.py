"""The envelope sender of mail that goes on to another domain: rewritten so that the next host's SPF check holds.

The usual SRS packs the old sender into the new local part, which has 64 octets only. Here it is a token of the
database, `srs0=<token>@<our domain>`, and routing leads what comes back for it to the old sender.
"""

import base64
import secrets
from typing import Final

from readdress.clock import MS_PER_DAY
from readdress.directory.routing import SRS_PREFIX
from readdress.store.database import Transaction
from readdress.store.queries import load_queries

sql = load_queries(__package__, "mail.sql")

TOKEN_BYTES: Final = 15
# Longer than any host goes on trying (RFC 5321 §4.5.4.1), and than the bounce of that takes.
UNUSED_DAYS_MAX: Final = 30


def rewrite(tx: Transaction, sender: str, our_domain: str) -> str:
    """The envelope sender to give in place of `sender`; the same one for every mail of theirs, while it is used."""
    row = tx.one(sql.find_srs_token, sender=sender)
    if row is None:
        token = base64.b32encode(secrets.token_bytes(TOKEN_BYTES)).decode().lower()
        tx.execute(sql.insert_srs, sender=sender, token=token, now_ms=tx.now_ms)
        row = tx.one(sql.find_srs_token, sender=sender)
        assert row is not None
    elif tx.now_ms - row[1] > MS_PER_DAY:
        tx.send(sql.use_srs, sender=sender, now_ms=tx.now_ms)
    return f"{SRS_PREFIX}{row[0]}@{our_domain}"


def forget_unused(tx: Transaction, *, limit: int = 100) -> int:
    """Drop tokens that no mail has used for `UNUSED_DAYS_MAX`; how many there were."""
    return tx.execute(sql.delete_unused_srs, before_ms=tx.now_ms - UNUSED_DAYS_MAX * MS_PER_DAY, limit=limit)
