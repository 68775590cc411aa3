"""The pages of the API are true and whole: every operation has its examples, and every example runs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from api_examples import AWS_CLI, HTTP, JAVASCRIPT, PYTHON, examples, is_own
from api_pages import page
from harness.example_runs import Call, run_examples
from harness.http_client import HttpClient
from harness.process import DEV_INSTANCE, ServiceProcess, free_port
from harness.scene import set_scene
from harness.settings_file import write_settings
from harness.site import build
from harness.smtp_client import SmtpClient
from readdress import errors
from readdress.api.catalogue import OPERATIONS
from readdress.api.messages import MessageContent
from readdress.api.operation import Operation

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def examples_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A process of its own, since examples publish addresses of everybody's; nobody listens where `away` leads."""
    folder = tmp_path_factory.mktemp("examples")
    away = {"type": "lmtp", "address": f"127.0.0.1:{free_port()}"}
    service = ServiceProcess(
        folder / "data", "--config", str(write_settings(folder / "settings.toml", transports={"away": away}))
    )
    yield service
    service.stop()


def environment_of(service: ServiceProcess) -> dict[str, str]:
    """What the page on running the examples has a reader export."""
    return {
        "AWS_ENDPOINT_URL_CONNECT": service.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_PAGER": "",
        "INSTANCE_ID": DEV_INSTANCE,
    }


class Stage(NamedTuple):
    """An instance for one example, with a pair of addresses, a mail, and a mail that can't go on."""

    instance_id: str
    variables: dict[str, str]


def set_stage(client: HttpClient, service: ServiceProcess, operation: Operation) -> Stage:
    scene = set_scene(client, service)
    instance_id = scene.instance_id
    arn = f"arn:aws:connect:us-east-1:123456789012:instance/{instance_id}/email-address/{scene.primary_id}"
    variables = environment_of(service) | {
        "INSTANCE_ID": instance_id,
        "EMAIL_ADDRESS_ID": scene.primary_id,
        "EMAIL_ADDRESS_ARN": arn,
        "ALIAS_ID": scene.alias_id,
        "MESSAGE_ID": scene.message_id,
    }
    if operation.name == "DisassociateEmailAddressAlias":
        path = f"/email-addresses/{instance_id}/{scene.primary_id}/associate-alias"
        assert client.call("POST", path, {"AliasConfiguration": {"EmailAddressId": scene.alias_id}}).status == 200
    if operation.name in {"ListSpool", "RetryDelivery", "DropDelivery"}:
        tags = {"resourceArn": arn, "tags": {"readdress:transport": "away"}}
        assert client.rpc("TagResource", tags).status == 200
        with SmtpClient(service.smtp_address) as smtp:
            smtp.say("EHLO sender.example")
            assert smtp.mail("customer@sender.example", scene.address).startswith("250")
        (delivery,) = client.call("GET", f"/_readdress/instances/{instance_id}/spool").json["Deliveries"]
        variables["DELIVERY_ID"] = delivery["DeliveryId"]
    return Stage(instance_id, variables)


@pytest.mark.parametrize("language", [PYTHON, AWS_CLI, JAVASCRIPT, HTTP])
def test_every_example_of_every_operation_runs(language: str, examples_service: ServiceProcess, tmp_path: Path) -> None:
    """Each on a stage of its own, and what it prints has the members that the answer always has."""
    written = {
        operation.name: example.text
        for operation in OPERATIONS
        for example in examples(operation)
        if example.language == language
    }
    with HttpClient(examples_service.http_address) as client:
        stages = [set_stage(client, examples_service, OPERATIONS[name]) for name in written]
        calls = [Call(text, stage.variables) for text, stage in zip(written.values(), stages, strict=True)]
        runs = run_examples(language, calls, tmp_path)
        for stage in stages:  # and with it the addresses that the next language publishes, too
            client.call("DELETE", f"/instance/{stage.instance_id}")
        instances = client.call("GET", "/instance?maxResults=10").json["InstanceSummaryList"]
        for instance in instances:  # those that examples made
            if instance["Id"] != DEV_INSTANCE:
                client.call("DELETE", f"/instance/{instance['Id']}")
    failed = {name: run.error + run.output for name, run in zip(written, runs, strict=True) if run.error}
    assert not failed
    for name, run in zip(written, runs, strict=True):
        assert not [word for word in shown_members(OPERATIONS[name]) if word not in run.output], (name, run.output)


def shown_members(operation: Operation) -> list[str]:
    if operation.answer is MessageContent:
        return ["Subject: "]  # the answer is the mail itself
    return [field.encode_name for field in msgspec.structs.fields(operation.answer) if field.required]


@pytest.mark.parametrize("operation", list(OPERATIONS), ids=lambda operation: operation.name)
def test_every_operation_has_an_example_in_each_language_that_can_call_it(operation: Operation) -> None:
    wanted = [PYTHON, JAVASCRIPT, HTTP] if is_own(operation) else [PYTHON, AWS_CLI, JAVASCRIPT, HTTP]
    assert [example.language for example in examples(operation)] == wanted


@pytest.mark.parametrize("operation", list(OPERATIONS), ids=lambda operation: operation.name)
def test_a_page_has_every_member_and_every_error_of_its_operation(operation: Operation) -> None:
    text = page(operation)
    fields = [*msgspec.structs.fields(operation.request), *msgspec.structs.fields(operation.answer)]
    assert not [field.encode_name for field in fields if f"| `{field.encode_name}`" not in text]
    assert not [error.__name__ for error in operation.errors if f"| `{error.__name__}` | {error.status} |" not in text]
    assert operation.action in text


def test_a_page_says_the_type_the_limits_and_the_place_of_a_member() -> None:
    create = page(OPERATIONS["CreateEmailAddress"])
    pattern = r"[^\s@]+@[^\s@]+\.[^\s@]+"
    assert (
        f"`EmailAddress` **required** | the address as text | string, 1 to 255 characters, matches `{pattern}` | body |"
        in create
    )
    assert "| string, 1 to 100 characters, no control characters | path |" in create
    wait = page(OPERATIONS["ListMessages"])
    assert re.search(r"\| `WaitMs` \| [^|]+ \| integer, 0 to 20,000 \| query, as `waitMs` \|", wait)
    assert re.search(r"\| `Messages` \*always\* \| [^|]+ \| list of \[MessageSummary\]\(#messagesummary\) \|", wait)


def test_every_meaning_belongs_to_a_member() -> None:
    pages = "".join(page(operation) for operation in OPERATIONS)
    meanings = tomllib.loads((DOCS / "generator" / "members.toml").read_text())
    assert not [name for name, meaning in meanings.items() if f"| {meaning} |" not in pages]


def test_the_page_of_errors_has_each_of_them_with_its_status() -> None:
    rows = re.findall(r"^\| (`\w+Exception`.*?) \| (\d+) \|", (DOCS / "api" / "index.md").read_text(), re.MULTILINE)
    told = {name: int(status) for names, status in rows for name in re.findall(r"\w+", names)}
    assert told == {error.__name__: error.status for error in errors.ServiceError.__subclasses__()}


def test_the_variables_of_the_examples_can_be_set_as_told(examples_service: ServiceProcess, tmp_path: Path) -> None:
    (block,) = re.findall(r"^```bash\n(.*?)^```$", (DOCS / "api" / "index.md").read_text(), re.MULTILINE | re.DOTALL)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block + 'echo "$EMAIL_ADDRESS_ID $EMAIL_ADDRESS_ARN $ALIAS_ID"'],
        env={**os.environ, **environment_of(examples_service), "HOME": str(tmp_path), "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    address_id, arn, alias_id = done.stdout.split()
    assert arn.endswith(f"/email-address/{address_id}")
    assert alias_id not in ("", address_id)


def test_the_start_in_javascript_runs(examples_service: ServiceProcess, tmp_path: Path) -> None:
    (block,) = re.findall(r"^```js\n(.*?)^```$", (DOCS / "start-developers.md").read_text(), re.MULTILINE | re.DOTALL)
    (run,) = run_examples(JAVASCRIPT, [Call(block, environment_of(examples_service))], tmp_path)
    assert not run.error
    assert DEV_INSTANCE in run.output


def test_a_broken_site_is_not_built(tmp_path: Path) -> None:
    """By the command of `make docs`: a link into nothing, a page without a place, a picture from elsewhere."""
    for name in ("docs", "bench", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("out", "node_modules"))
    for name in ("mkdocs.yml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    with (tmp_path / "docs" / "glossary.md").open("a") as page_of_site:
        page_of_site.write("[nowhere](operations.md#nowhere) ![elsewhere](https://example.org/picture.png)\n")
    (tmp_path / "docs" / "lost.md").write_text("# Lost\n")
    done = build(tmp_path)
    assert done.returncode != 0
    assert "Aborted with 3 warnings in strict mode" in done.stdout, done.stderr
    for word in ("#nowhere", "lost.md", "fetches from elsewhere"):
        assert word in done.stderr
