"""Settings of transports: what is refused at the start, by name and with a sentence that helps."""

from pathlib import Path
from typing import Any

import pytest

from harness.settings_file import write_settings
from readdress import onward
from readdress.clock import Clock
from readdress.config import Config, ConfigError, load_config
from readdress.mail.dispatch import Dispatcher
from readdress.mail.notices import Notifier
from readdress.mail.queue_runner import QueueRunner
from readdress.store.database import Database

RELAY = {"type": "smtp", "host": "relay.example"}
FORWARD = {"type": "smtp", "recipient": "me@elsewhere.example"}


def load(tmp_path: Path, transports: dict[str, Any], **settings: Any) -> Config:
    return load_config(write_settings(tmp_path / "readdress.toml", transports=transports, **settings), {}, {})


def build(database: Database, config: Config) -> QueueRunner:
    hostname = "mx.example.com"
    notifier = Notifier(hostname=hostname, dispatcher=Dispatcher())
    return onward.build_runner(config, database, notifier, hostname=hostname, clock=Clock(), seal=None)


@pytest.mark.parametrize(
    ("transports", "settings", "named"),
    [
        ({"inbox": RELAY}, {}, "transports.inbox"),
        ({"return": RELAY}, {}, "transports.return"),
        ({"discard": RELAY}, {}, "transports.discard"),
        ({"No": RELAY}, {}, "transports"),
        ({"a/b": RELAY}, {}, "transports"),
        ({"x": {"type": "pigeon"}}, {}, "pigeon"),
        ({"x": {"type": "maildir"}}, {}, "path"),
        ({"x": {"type": "maildir", "path": "m", "host": "a"}}, {}, "host"),
        ({"x": RELAY | {"port": 0}}, {}, "port"),
        ({"x": RELAY | {"concurrency": 0}}, {}, "concurrency"),
        ({"x": RELAY | {"tls": "maybe"}}, {}, "maybe"),
        ({"x": {"type": "webhook", "url": "ftp://a.example/"}}, {}, "url"),
        ({"x": RELAY}, {"default_transport": "y"}, "default_transport"),
        ({"x": RELAY}, {"return_transport": "y"}, "return_transport"),
        ({"x": {"type": "lmtp", "address": "a:1"}}, {"return_transport": "x"}, "return_transport"),
        ({"x": FORWARD}, {"return_transport": "x"}, "return_transport"),
        ({"x": FORWARD}, {}, "transports.x"),
        ({}, {"lease_ms": 999}, "lease_ms"),
        ({}, {"retry_min_ms": 0}, "retry_min_ms"),
    ],
)
def test_a_mistake_in_the_settings_is_named(
    tmp_path: Path, transports: dict[str, Any], settings: dict[str, Any], named: str
) -> None:
    names = {f'"{name}"' if not name.isalpha() else name: values for name, values in transports.items()}
    with pytest.raises(ConfigError, match=named):
        load(tmp_path, names, **settings)


@pytest.mark.parametrize(
    "transport",
    [
        {"type": "lmtp", "address": "nowhere"},
        {"type": "lmtp", "address": "unix:/" + "x" * 200},
        {"type": "smtp", "host": "a b"},
        {"type": "smtp", "host": "a.example", "ca_file": "/nowhere.pem"},
        {"type": "smtp", "host": "a.example", "username": "u", "password": "p", "password_file": "/nowhere"},
        {"type": "smtp", "host": "a.example", "username": "u", "password_file": "/nowhere"},
        {"type": "webhook", "url": "https://user:secret@a.example/"},
        {"type": "webhook", "url": "https://a.example/", "ca_file": "/nowhere.pem"},
        {"type": "webhook", "url": "https://a.example/", "secret": "whsec_?"},
    ],
)
def test_a_transport_that_cannot_be_used_is_named(
    tmp_path: Path, database: Database, transport: dict[str, Any]
) -> None:
    config = load(tmp_path, {"x": transport})
    with pytest.raises(ConfigError, match=r"\Atransports\.x"):
        build(database, config)


def test_a_nameserver_that_is_none_is_named(tmp_path: Path, database: Database) -> None:
    with pytest.raises(ConfigError, match="resolver"):
        build(database, load(tmp_path, {}, resolver="ns.example"))


def test_a_secret_may_be_in_a_file(tmp_path: Path, database: Database) -> None:
    (tmp_path / "secret").write_text("a secret\n")
    hook = {"type": "webhook", "url": "https://a.example/", "secret_file": str(tmp_path / "secret")}
    runner = build(database, load(tmp_path, {"hook": hook, "back": RELAY}, return_transport="back"))
    assert runner._transports["hook"]._key == b"a secret"  # type: ignore[attr-defined]
    assert runner._transports["return"] is runner._transports["back"]
