"""The command line as a person uses it, beside a running service and without one."""

import json
import re
import smtplib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess

ALLOW_DESCRIBE = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "connect:Describe*", "Resource": "arn:aws:connect:us-east-1:*:instance/*"}
    ],
}


def readdress(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "readdress", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, **options)


def test_every_command_says_what_it_is_for() -> None:
    for command in ([], ["serve"], ["resolve"], ["key"], ["key", "create"], ["key", "list"], ["inbox"]):
        done = readdress(*command, "--help")
        assert done.returncode == 0
        assert re.search(r"\n\n  [A-Z][^\n]+", done.stdout), done.stdout


def test_the_first_start_makes_an_administrators_key_and_shows_it_once(
    start_service: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    first = start_service(dev=False)
    found = re.search(r"AWS_ACCESS_KEY_ID=(\S+)\s+AWS_SECRET_ACCESS_KEY=(\S+)", first.output)
    assert found
    with HttpClient(first.http_address, access_key_id=found[1], secret=found[2]) as client:
        assert client.call("GET", "/instance").status == 200
    with HttpClient(first.http_address) as client:  # contract 4: test/test belongs to development mode alone
        assert client.call("GET", "/instance").code == "UnrecognizedClientException"
    assert found[2] not in first.errors
    first.stop()
    second = start_service(dev=False)
    assert "AWS_SECRET_ACCESS_KEY" not in second.output
    second.stop()
    assert oct((tmp_path / "data" / "secret.key").stat().st_mode & 0o777) == "0o600"
    assert oct((tmp_path / "data" / "readdress.db").stat().st_mode & 0o777) == "0o600"


@pytest.mark.parametrize("option", ["--http", "--smtp"])
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "[::]", "example.com"])
def test_development_mode_listens_on_loopback_only(tmp_path: Path, option: str, host: str) -> None:
    done = readdress("serve", "--dev", "--data", tmp_path, option, f"{host}:0")
    assert done.returncode == 2
    assert "loopback" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--http", "nonsense"], "http has to be HOST:PORT"),
        (["--smtp", "127.0.0.1:99999"], "smtp has to be HOST:PORT"),
        (["--database", "mysql://x"], "sqlite:///PATH"),
        (["--config", "/nowhere.toml"], "/nowhere.toml"),
    ],
)
def test_a_mistake_ends_with_a_sentence_that_names_it(tmp_path: Path, arguments: list[str], named: str) -> None:
    done = readdress("serve", "--dev", "--data", tmp_path, *arguments)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named(service: ServiceProcess, tmp_path: Path) -> None:
    done = readdress("serve", "--dev", "--data", tmp_path, "--http", service.http, "--smtp", "127.0.0.1:0")
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_first_start_that_fails_makes_no_key_that_nobody_has_seen(
    start_service: Callable[..., ServiceProcess], service: ServiceProcess, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    places = ("--http", service.http, "--smtp", "127.0.0.1:0")
    assert "cannot listen" in readdress("serve", "--data", data, *places).stderr
    settings = tmp_path / "settings.toml"
    settings.write_text('tls_certificate = "/nowhere.pem"\ntls_key = "/nowhere.key"\n')
    assert "cannot read" in readdress("serve", "--data", data, "--config", settings, "--http", "127.0.0.1:0").stderr
    assert "AWS_SECRET_ACCESS_KEY=" in start_service(dev=False).output


def test_a_newer_schema_is_refused(start_service: Callable[..., ServiceProcess], tmp_path: Path) -> None:
    start_service().stop()
    with sqlite3.connect(tmp_path / "data" / "readdress.db") as connection:
        connection.execute("INSERT INTO schema_version VALUES (999, 'after', 0)")
    connection.close()
    done = readdress("serve", "--dev", "--data", tmp_path / "data")
    assert done.returncode == 1
    assert "schema version 999" in done.stderr


def test_keys_are_made_limited_listed_and_disabled_beside_a_running_service(
    start_service: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    service = start_service()
    policy = tmp_path / "describe.json"
    policy.write_text(json.dumps(ALLOW_DESCRIBE))
    made = readdress("key", "create", "--data", service.data, "--policy", policy, "--name", "reader")
    found = re.fullmatch(r"AWS_ACCESS_KEY_ID=(\S+)\nAWS_SECRET_ACCESS_KEY=(\S+)\n", made.stdout)
    assert found, made.stderr
    key_id, secret = found.groups()
    with HttpClient(service.http_address, access_key_id=key_id, secret=secret) as client:
        assert client.call("GET", f"/instance/{DEV_INSTANCE}").status == 200
        refused = client.call("DELETE", f"/instance/{DEV_INSTANCE}")
        assert refused.code == "AccessDeniedException"
        # contract 4: a refusal names action and resource
        assert "connect:DeleteInstance" in refused.json["Message"]
        assert f"instance/{DEV_INSTANCE}" in refused.json["Message"]
        listed = readdress("key", "list", "--data", service.data).stdout
        assert re.search(rf"{key_id}\t\d+\t\S+\tenabled\treader\n", listed)
        assert secret not in listed
        assert readdress("key", "disable", key_id, "--data", service.data).returncode == 0
        assert client.call("GET", f"/instance/{DEV_INSTANCE}").code == "UnrecognizedClientException"
    again = readdress("key", "disable", key_id, "--data", service.data)
    assert (again.returncode, "no enabled key" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    "policy",
    [
        "not json",
        "{}",
        '{"Statement": {"Effect": "Allow", "Action": "*"}}',
        '{"Statement": {"Effect": "Perhaps", "Action": "*", "Resource": "*"}}',
        '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {}}}',
    ],
)
def test_a_policy_that_is_not_understood_makes_no_key(tmp_path: Path, policy: str) -> None:
    file = tmp_path / "policy.json"
    file.write_text(policy)
    done = readdress("key", "create", "--data", tmp_path, "--policy", file)
    assert done.returncode == 2
    assert "polic" in done.stderr or "statement" in done.stderr
    assert readdress("key", "list", "--data", tmp_path).stdout == ""


def test_resolve_says_in_the_terminal_where_a_mail_would_go(
    service: ServiceProcess, create: Any, connect: Any, instance_id: str
) -> None:
    primary_id, primary = create("support")
    alias_id, alias = create("help")
    direct = readdress("resolve", alias, "--data", service.data)
    assert direct.stdout == f"{alias}\tDIRECT\t{alias_id}\tit is the recipient\n"
    connect.associate_email_address_alias(
        InstanceId=instance_id,
        EmailAddressId=primary_id,
        AliasConfiguration={"EmailAddressId": alias_id},
    )
    both = readdress("resolve", alias, "--data", service.data)
    assert both.stdout.splitlines()[1] == f"{primary}\tALIAS\t{primary_id}\t{alias} is its alias"
    unknown = readdress("resolve", f"nobody-{alias}", "--data", service.data)
    assert (unknown.returncode, unknown.stdout) == (1, "refused: 550 5.1.1 no such address here\n")


def test_resolve_without_a_database_says_so(tmp_path: Path) -> None:
    done = readdress("resolve", "a@example.com", "--data", tmp_path)
    assert done.returncode == 1
    assert "there is no database" in done.stderr


def test_an_inbox_is_read_in_the_terminal(service: ServiceProcess, create: Any, new_address: Any) -> None:
    _, address = create("help")
    with smtplib.SMTP(*service.smtp_address) as smtp:
        for subject in ("first", "second"):
            smtp.sendmail("customer@example.org", [address], f"Subject: {subject}\r\n\r\nbody of the {subject}\r\n")
    lines = readdress("inbox", address, "--data", service.data).stdout.splitlines()
    assert [line.split("\t")[2:] for line in lines] == [
        ["DIRECT", "<customer@example.org>", "second"],
        ["DIRECT", "<customer@example.org>", "first"],
    ]
    message_id = lines[1].split("\t")[0]
    shown = readdress("inbox", address, message_id, "--data", service.data).stdout
    assert shown.startswith("Received: ")
    assert shown.endswith("body of the first\n")
    _, other = create("other")
    foreign = readdress("inbox", other, message_id, "--data", service.data)
    assert (foreign.returncode, foreign.stdout) == (1, "")
    assert readdress("inbox", new_address("nobody"), "--data", service.data).returncode == 1


def test_the_newest_are_listed_first_and_no_more_than_asked_for(service: ServiceProcess, create: Any) -> None:
    _, address = create("help")
    with smtplib.SMTP(*service.smtp_address) as smtp:
        for number in range(3):
            smtp.sendmail("customer@example.org", [address], f"Subject: {number}\r\n\r\n")
    lines = readdress("inbox", address, "--limit", "2", "--data", service.data).stdout.splitlines()
    assert [line.split("\t")[-1] for line in lines] == ["2", "1"]
