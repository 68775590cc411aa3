"""The log: lines that a program reads, a line for each call where it is wanted, and never a secret."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.engine import where
from harness.house import House
from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess, free_port
from harness.smtp_client import SmtpClient, accepted_id
from harness.stored import wait_until

StartService = Callable[..., ServiceProcess]
JSON = {"READDRESS_LOG_FORMAT": "json"}
ACCESS = {"READDRESS_ACCESS_LOG": "true"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

# The program with everything in its log that any part of it would say.
LOUD = """
import logging
from readdress import cli, logs
set_up = logs.set_up
def set_up_loudly(**options):
    set_up(**options)
    logging.getLogger().setLevel(logging.DEBUG)
    logging.debug("loud")
logs.set_up = set_up_loudly
cli.main()
"""


def lines_of(process: ServiceProcess) -> list[dict[str, Any]]:
    whole, _, _ = process.errors.rpartition("\n")  # the last line may just be being written
    return [json.loads(line) for line in whole.splitlines()]


def from_logger(process: ServiceProcess, name: str) -> list[dict[str, Any]]:
    return [line for line in lines_of(process) if line["logger"] == name]


def test_every_line_is_an_object_that_says_when_what_and_about_whom(start_service: StartService) -> None:
    process = start_service(environment=JSON | ACCESS)
    with HttpClient(process.http_address) as client:
        made = client.call("PUT", f"/email-addresses/{DEV_INSTANCE}", {"EmailAddress": "help@example.com"})
        missing = client.call("GET", "/instance/11111111-1111-4111-8111-111111111111")
        unsigned = client.call("GET", "/instance/1", sign=False)
        client.call("GET", "/_readdress/health", sign=False)
    with SmtpClient(process.smtp_address) as smtp:
        smtp.say("EHLO sender.example")
        message_id = accepted_id(smtp.mail("a@sender.example", "help@example.com"))
        smtp.say("QUIT")
    wait_until(lambda: bool(from_logger(process, "readdress.smtp")))
    for line in lines_of(process):
        assert TIME.fullmatch(line["time"])
        assert line["level"] in {"INFO", "WARNING"}
        assert line["worker"] == 0
        assert line["message"]
    calls = from_logger(process, "readdress.access")
    assert [(call["operation"], call["code"], call["key_id"]) for call in calls] == [
        ("CreateEmailAddress", "OK", "test"),
        ("DescribeInstance", "ResourceNotFoundException", "test"),
        ("unknown", "MissingAuthenticationTokenException", "-"),
    ]
    answers = (made, missing, unsigned)
    assert [call["request_id"] for call in calls] == [answer.headers["x-amzn-requestid"] for answer in answers]
    assert all(call["duration_ms"] >= 0 and call["peer"] == "127.0.0.1" for call in calls)
    (accepted,) = from_logger(process, "readdress.mail")
    assert (accepted["message_id"], accepted["peer"]) == (message_id, "127.0.0.1")
    assert accepted["reply"] == f"250 2.0.0 accepted {message_id}"
    (session,) = from_logger(process, "readdress.smtp")
    assert (session["end"], session["door"], session["messages_accepted"]) == ("quit", "smtp", 1)


def test_a_delivery_is_named_and_an_error_keeps_its_line(engine: object, tmp_path: Path) -> None:
    nowhere = {"type": "lmtp", "address": f"127.0.0.1:{free_port()}"}
    with House(tmp_path / "house", {"nowhere": nowhere}, log_format="json") as house:
        message_id = house.send(house.publish("nowhere").text)
        house.wait_for_tries(message_id)
        tries = [line for line in lines_of(house.service) if "delivery_id" in line]
        assert {line["message_id"] for line in tries} == {message_id}
        assert tries[0]["outcome"] == "TEMPORARY"
        assert tries[0]["transport"] == "nowhere"


def test_what_a_stranger_says_stays_in_its_line(start_service: StartService) -> None:
    process = start_service(environment=JSON)
    with SmtpClient(process.smtp_address) as smtp:
        smtp.say("EHLO sender.example")
        smtp.mail('"a\\"},{\\"level"@sender.example', "postmaster")
        smtp.say("QUIT")
    wait_until(lambda: bool(from_logger(process, "readdress.smtp")))
    (accepted,) = from_logger(process, "readdress.mail")
    assert accepted["sender"].endswith("@sender.example")


def test_an_error_comes_with_its_traceback() -> None:
    code = (
        "import logging; from readdress import logs; logs.set_up(worker=3, log_format='json')\n"
        "try: 1 / 0\nexcept ZeroDivisionError: logging.getLogger('x').exception('it %(what)s', {'what': 'broke'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["level"], line["message"], line["what"], line["worker"]) == ("ERROR", "it broke", "broke", 3)
    assert "ZeroDivisionError" in line["exception"]


def test_calls_leave_a_line_only_where_it_is_wanted(start_service: StartService, tmp_path: Path) -> None:
    quiet, talking = start_service(data=tmp_path / "a"), start_service(data=tmp_path / "b", environment=ACCESS)
    for process in (quiet, talking):
        with HttpClient(process.http_address) as client:
            assert client.call("GET", f"/instance/{DEV_INSTANCE}").status == 200
    assert "readdress.access" not in quiet.errors
    pattern = (
        r"INFO readdress\.access: request [0-9a-f-]{36} peer=127\.0\.0\.1 key=test operation=DescribeInstance "
        r"code=OK duration_ms=\d+\.\d"
    )
    wait_until(lambda: re.search(pattern, talking.errors) is not None)


def test_lines_of_workers_say_whose_they_are(start_service: StartService) -> None:
    process = start_service("--workers", "2", environment=JSON)
    for _ in range(60):
        with SmtpClient(process.smtp_address) as client:
            client.say("QUIT")
    wait_until(lambda: len(from_logger(process, "readdress.smtp")) == 60)
    assert {line["worker"] for line in from_logger(process, "readdress.smtp")} == {1, 2}


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_and_no_content_is_ever_said(start_service: StartService, tmp_path: Path, log_format: str) -> None:
    secrets = {name: f"zz{name}5ecretzz" for name in ("token", "body", "header", "session", "password", "description")}
    environment = {"READDRESS_LOG_FORMAT": log_format, "READDRESS_MESSAGE_BYTES_MAX": "65536"} | ACCESS
    process = start_service("--metrics", "127.0.0.1:0", environment=environment, program=("-c", LOUD))
    made = subprocess.run(
        [sys.executable, "-m", "readdress", "key", "create", *where(process.data)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    key_id, secrets["key"] = re.findall(r"=(\S+)", made.stdout)
    _call_with(process, key_id, secrets)
    _send_with(process, secrets)
    wait_until(lambda: "end=quit" in process.errors)
    said = process.errors
    with HttpClient(process.http_address) as client:
        said += client.call("GET", "/_readdress/metrics", sign=False).body.decode()
    assert "readdress_requests_total" in said
    assert key_id in said  # so that the line of its call is there
    assert "DEBUG" in said
    for name, secret in secrets.items():
        assert secret not in said, name
        assert base64.b64encode(secret.encode()).decode().rstrip("=")[:-1] not in said, name


def _call_with(process: ServiceProcess, key_id: str, secrets: dict[str, str]) -> None:
    """Secrets in every place of a call, in good ones and in bad ones."""
    address = {
        "EmailAddress": "help@example.com",
        "ClientToken": secrets["token"],
        "Description": secrets["description"],
    }
    path = f"/email-addresses/{DEV_INSTANCE}"
    with HttpClient(process.http_address, access_key_id=key_id, secret=secrets["key"], token=secrets["session"]) as own:
        assert own.call("PUT", path, address).status == 200
        assert own.call("PUT", path, address | {"EmailAddress": "other@example.com"}).status == 409
        assert own.call("PUT", path, address | {"Tags": 5}).status == 400
        assert own.call("PUT", path, f'{{"{secrets["token"]}'.encode()).status == 400
    with HttpClient(process.http_address, access_key_id=key_id, secret=secrets["password"]) as wrong:
        assert wrong.call("PUT", path, address).status == 403
        for signature in (f"AWS4-HMAC-SHA256 Credential={key_id}/x, Signature={secrets['header']}", secrets["header"]):
            answer = wrong.call("PUT", path, address, headers={"Authorization": signature}, sign=False)
            assert answer.status == 403


def _send_with(process: ServiceProcess, secrets: dict[str, str]) -> None:
    """Content that is taken, refused and left in the middle, and a password nobody asked for."""
    body = secrets["body"].encode()
    with SmtpClient(process.smtp_address) as smtp:
        smtp.say("EHLO sender.example")
        smtp.say("AUTH PLAIN " + base64.b64encode(f"\0a\0{secrets['password']}".encode()).decode())
        smtp.say(f"AUTH LOGIN {secrets['password']}")
        for content in (b"\r\n%b\r\n" % body, b"%b\r\n" % body * 10_000, b"\r\n%b\nbare\r\n" % body):
            smtp.mail("a@sender.example", "help@example.com", content=content)
        smtp.say("QUIT")
    with SmtpClient(process.smtp_address) as smtp:
        smtp.say("EHLO sender.example")
        smtp.begin("a@sender.example", "help@example.com")
        smtp.send(body)
