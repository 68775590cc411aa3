"""ARC chains: the 171 validation cases of the suite, and the bounds that we set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.dns_zone import DnsServer, PatientResolver, txt
from readdress.mail.authentication.arc import check_arc
from readdress.mail.authentication.message import split_message
from readdress.mail.authentication.signature import HashedMessage

SUITE = Path(__file__).parents[2] / "vectors" / "arc" / "arc-draft-validation-tests.yml"


def scenarios() -> list[dict[str, Any]]:
    return list(yaml.load_all(SUITE.read_text("utf-8"), Loader=yaml.CSafeLoader))


def cases() -> list[Any]:
    return [
        pytest.param(number, name, id=name) for number, one in enumerate(scenarios()) for name in sorted(one["tests"])
    ]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[tuple[dict[str, Any], DnsServer]]]:
    started = []
    for scenario in scenarios():
        zone = {name: [txt(text)] for name, text in scenario["txt-records"].items() if text}
        server = DnsServer(zone)
        server.__enter__()
        started.append((scenario["tests"], server))
    yield started
    for _, server in started:
        server.__exit__(None, None, None)


@pytest.mark.parametrize(("number", "name"), cases())
def test_the_suite_of_arc(number: int, name: str, servers: list[tuple[dict[str, Any], DnsServer]]) -> None:
    tests, server = servers[number]
    content = tests[name]["message"].replace("\n", "\r\n").encode("utf-8")
    verdict = check_arc(HashedMessage(split_message(content)), PatientResolver(server).begin(60))
    # Three cases leave the result open: a seal says there that the chain is broken, and it is (RFC 8617 §5.2, step 2).
    assert verdict.result == (tests[name]["cv"] or "Fail").lower(), verdict.reason
