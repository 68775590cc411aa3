"""The AWS SDK for JavaScript on Node: one story told by `javascript/story.mjs`, and what it has to say."""

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from harness.process import DEV_INSTANCE, ServiceProcess
from harness.programs import require, require_program

FOLDER = Path(__file__).with_name("javascript")
NODE_MIN = 20


class Story:
    """What the script has told, and the name that makes its addresses its own."""

    def __init__(self, service: ServiceProcess, limited: ServiceProcess) -> None:
        node = require_program("node")
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.strip().removeprefix("v").split(".")[0]) < NODE_MIN:
            require(f"the JavaScript SDK needs Node.js {NODE_MIN} or newer, and this is {version.strip()}")
        if not (FOLDER / "node_modules" / "@aws-sdk" / "client-connect").is_dir():
            require("the JavaScript SDK is missing: `make test-deps` installs it")
        self.name = uuid.uuid4().hex[:12]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "READDRESS_URL": service.url,
            "READDRESS_LIMITED_URL": limited.url,
            "INSTANCE_ID": DEV_INSTANCE,
            "NAME": self.name,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NODE_NO_WARNINGS": "1",
        }
        done = subprocess.run(
            [node, "story.mjs"], cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        self.told: dict[str, Any] = json.loads(done.stdout)


@pytest.fixture(scope="module")
def story(service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory) -> Story:
    limited = ServiceProcess(tmp_path_factory.mktemp("limited"), environment={"READDRESS_AWS_LIMITS": "true"})
    try:
        return Story(service, limited)
    finally:
        limited.stop()


@pytest.fixture
def told(story: Story) -> dict[str, Any]:
    return story.told


def test_an_alias_is_associated_described_and_disassociated_by_arn(story: Story) -> None:
    told = story.told
    assert told["alias"]["associated"] == 200
    described = told["alias"]["described"]
    assert described["EmailAddress"] == f"primary-{story.name}@example.com"
    assert described["AliasConfigurations"] == [{"EmailAddressId": told["aliasId"]}]
    assert described["Tags"] == {}
    assert isinstance(described["CreateTimestamp"], str)
    assert told["primary"]["arn"].endswith(f"instance/{DEV_INSTANCE}/email-address/{told['primary']['id']}")
    assert told["alias"]["disassociated"] == 200


def test_letters_beyond_ascii_go_both_ways(story: Story) -> None:
    assert f"größe-{story.name}@example.com" in story.told["search"]
    assert story.told["tags"] == {"größe/x": "a b+c"}


@pytest.mark.parametrize(
    ("what", "name", "status", "words"),
    [
        ("notFound", "ResourceNotFoundException", 404, "is not an alias of"),
        ("conflict", "ResourceConflictException", 409, "already has an alias"),
        ("idempotency", "IdempotencyException", 409, "ClientToken"),
        ("invalidRequest", "InvalidRequestException", 400, "its own alias"),
        ("invalidParameter", "InvalidParameterException", 400, "EmailAddress"),
        ("duplicate", "DuplicateResourceException", 409, "exists already"),
    ],
)
def test_a_refusal_is_its_typed_exception_and_is_not_retried(
    told: dict[str, Any], what: str, name: str, status: int, words: str
) -> None:
    refusal = told["refusals"][what]
    assert words in refusal.pop("message")
    assert refusal == {"name": name, "isTyped": True, "hasRequestId": True, "status": status, "attempts": 1}


def test_throttling_is_retried_by_the_sdk_itself(told: dict[str, Any]) -> None:
    assert told["retry"]["attempts"] > 1
    assert (told["retry"]["status"], told["retry"]["id"]) == (200, DEV_INSTANCE)


def test_a_wrong_clock_is_corrected_by_the_date_of_the_refusal(told: dict[str, Any]) -> None:
    assert told["clock"]["attempts"] > 1
    assert told["clock"]["status"] == 200


def test_the_packages_are_pinned_exactly_and_without_a_lock_file() -> None:
    versions = json.loads((FOLDER / "package.json").read_text())["dependencies"].values()
    assert all(version[0].isdigit() for version in versions)
    assert "package-lock=false" in (FOLDER / ".npmrc").read_text()
    assert not (FOLDER / "package-lock.json").exists()
