"""Secrets at rest: the key file is for its owner alone, and without it the database gives nothing away."""

import base64
from pathlib import Path

import pytest

from harness.api_calls import ApiCaller
from harness.tables import dump
from readdress.api import access
from readdress.api.policy import ALLOW_EVERYTHING
from readdress.store.database import Database

SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"


def create_key(database: Database, keyring: access.Keyring, secret: str = SECRET) -> str:
    access_key_id, _ = database.run(
        lambda tx: access.create_key(
            tx, keyring, account="123456789012", name="test", policy=ALLOW_EVERYTHING, secret=secret
        )
    )
    return access_key_id


def get_key(database: Database, access_key_id: str) -> access.AccessKey:
    return next(key for key in database.run(access.list_keys) if key.id == access_key_id)


def test_the_key_file_is_made_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    access.load_keyring(tmp_path / "secret.key")
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601, 0o644, 0o666, 0o777])
def test_a_key_file_that_others_can_reach_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret.key"
    access.load_keyring(path)
    path.chmod(mode)
    with pytest.raises(access.KeyFileError, match=r"secret\.key.*chmod 600"):
        access.load_keyring(path)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_key_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(access.KeyFileError, match=r"secret\.key"):
        access.load_keyring(path)


def test_the_key_file_opens_what_it_sealed_after_a_restart(tmp_path: Path, database: Database) -> None:
    key_id = create_key(database, access.load_keyring(tmp_path / "secret.key"))
    found = get_key(database, key_id)
    assert access.load_keyring(tmp_path / "secret.key").open(found.id, found.sealed_secret) == SECRET


def test_another_key_file_opens_nothing(tmp_path: Path, database: Database) -> None:
    key_id = create_key(database, access.load_keyring(tmp_path / "one.key"))
    found = get_key(database, key_id)
    with pytest.raises(access.KeyFileError):
        access.load_keyring(tmp_path / "other.key").open(found.id, found.sealed_secret)


def test_a_sealed_secret_is_bound_to_its_access_key(tmp_path: Path) -> None:
    keyring = access.load_keyring(tmp_path / "secret.key")
    with pytest.raises(access.KeyFileError):
        keyring.open("AKIAOTHER", keyring.seal("AKIAONE", SECRET))


def test_the_same_secret_is_sealed_differently_each_time(tmp_path: Path) -> None:
    keyring = access.load_keyring(tmp_path / "secret.key")
    assert keyring.seal("AKIAONE", SECRET) != keyring.seal("AKIAONE", SECRET)


@pytest.mark.sqlite_only
@pytest.mark.parametrize("closed", [False, True], ids=["in the log", "in the file"])
def test_no_secret_is_in_the_database_in_clear(tmp_path: Path, database: Database, closed: bool) -> None:
    # contract 4: the database alone opens nothing.
    create_key(database, access.load_keyring(tmp_path / "secret.key"))
    if closed:
        database.close()
    secret = SECRET.encode()
    forms = [secret, secret.hex().encode(), base64.b64encode(secret), SECRET.encode("utf-16-le"), secret[::-1]]
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.name != "secret.key")
    assert b"access_key" in stored
    assert [form for form in forms if form in stored] == []


@pytest.mark.sqlite_only
def test_the_key_is_not_in_the_database(tmp_path: Path, database: Database) -> None:
    create_key(database, access.load_keyring(tmp_path / "secret.key"))
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("readdress.db*"))
    assert (tmp_path / "secret.key").read_bytes() not in stored


def test_audit_rows_hold_no_secret(tmp_path: Path, database: Database) -> None:
    keyring = access.load_keyring(tmp_path / "secret.key")
    key_id = create_key(database, keyring)
    with ApiCaller(database, access_key_id=key_id) as api:
        api.create_address(api.create_instance(), "help@example.com")
    found = get_key(database, key_id)
    audited = repr(dump(database)["audit"])
    assert key_id in audited  # who it was, and nothing that proves it
    assert SECRET not in audited
    assert found.sealed_secret.hex() not in audited
