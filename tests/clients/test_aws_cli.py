"""The AWS CLI as a person types it: options in, JSON or text out, exit statuses that a script can rely on."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.process import ServiceProcess

# What the CLI ends with when the service refuses: version 1 and version 2.
SERVICE_REFUSED = {255, 254}


@dataclass
class Output:
    status: int
    text: str
    errors: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.errors
        return json.loads(self.text)


Aws = Callable[..., Output]


@pytest.fixture
def aws(service: ServiceProcess, tmp_path: Path) -> Aws:
    """`aws connect …` with the development key from the environment, and a home without any configuration."""
    program = Path(sys.executable).with_name("aws")
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_PAGER": "",
    }

    def run(operation: str, **options: str) -> Output:
        arguments = [str(program), "connect", operation, "--endpoint-url", service.url]
        for name, value in options.items():
            arguments += [f"--{name.replace('_', '-')}", value]
        done = subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=60, check=False)
        return Output(done.returncode, done.stdout, done.stderr)

    return run


def test_the_story_of_an_alias(aws: Aws, instance_id: str, new_address: Callable[[str], str]) -> None:
    texts = new_address("primary"), new_address("hilfe-ü")
    primary, alias = (
        aws("create-email-address", instance_id=instance_id, email_address=text, display_name="Bücher & “Käse”").json
        for text in texts
    )
    pair = {
        "instance_id": instance_id,
        "email_address_id": primary["EmailAddressId"],
        "alias_configuration": f"EmailAddressId={alias['EmailAddressId']}",
    }
    associated = aws("associate-email-address-alias", **pair)
    assert (associated.status, associated.text, associated.errors) == (0, "", "")

    described = aws("describe-email-address", instance_id=instance_id, email_address_id=primary["EmailAddressArn"]).json
    assert described["EmailAddress"] == texts[0]
    assert described["DisplayName"] == "Bücher & “Käse”"
    assert described["AliasConfigurations"] == [{"EmailAddressId": alias["EmailAddressId"]}]

    condition = {"FieldName": "emailaddress", "Value": "HILFE-Ü", "ComparisonType": "STARTS_WITH"}
    found = aws(
        "search-email-addresses",
        instance_id=instance_id,
        search_criteria=json.dumps({"StringCondition": condition}),
    ).json
    assert [hit["EmailAddress"] for hit in found["EmailAddresses"]] == [texts[1]]
    assert found["ApproximateTotalCount"] == 1

    disassociated = aws("disassociate-email-address-alias", **pair)
    assert (disassociated.status, disassociated.text, disassociated.errors) == (0, "", "")
    again = aws("disassociate-email-address-alias", **pair)
    assert again.status in SERVICE_REFUSED
    assert "(ResourceNotFoundException) when calling the DisassociateEmailAddressAlias operation" in again.errors
    assert "is not an alias of" in again.errors
    assert again.text == ""

    deleted = aws("delete-email-address", instance_id=instance_id, email_address_id=alias["EmailAddressId"])
    assert (deleted.status, deleted.text, deleted.errors) == (0, "", "")


def test_every_id_may_be_an_arn(aws: Aws, instance_id: str, create: Callable[..., tuple[str, str]]) -> None:
    arn = f"arn:aws:connect:us-east-1:123456789012:instance/{instance_id}"
    primary, alias = create("primary")[0], create("alias")[0]
    pair = {
        "instance_id": arn,
        "email_address_id": f"{arn}/email-address/{primary}",
        "alias_configuration": f"EmailAddressId={arn}/email-address/{alias}",
    }
    assert aws("associate-email-address-alias", **pair).status == 0
    self_alias = aws("associate-email-address-alias", **pair | {"email_address_id": alias})
    assert self_alias.status in SERVICE_REFUSED
    assert "(InvalidRequestException)" in self_alias.errors
    assert "its own alias" in self_alias.errors
    tagged = aws("tag-resource", resource_arn=pair["email_address_id"], tags="team=blau/grün")
    assert (tagged.status, tagged.text) == (0, "")
    assert aws("list-tags-for-resource", resource_arn=pair["email_address_id"]).json == {"tags": {"team": "blau/grün"}}


def test_text_output_can_be_used_by_a_script(
    aws: Aws, instance_id: str, create: Callable[..., tuple[str, str]]
) -> None:
    address_id, text = create()
    found = aws(
        "search-email-addresses",
        instance_id=instance_id,
        query="EmailAddresses[].[EmailAddressId,EmailAddress]",
        output="text",
    )
    assert (found.status, found.text) == (0, f"{address_id}\t{text}\n")
