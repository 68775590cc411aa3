"""What stands in `deploy/` is well-formed and names what exists; without containers here, no more is shown."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from readdress.config import ENVIRONMENT_PREFIX, Config

DEPLOY = Path(__file__).parents[1] / "deploy"


def test_compose_starts_two_nodes_that_share_what_nodes_share() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    one, two = compose["services"]["one"], compose["services"]["two"]
    assert one["environment"] == two["environment"]
    for name in one["environment"]:
        assert name.removeprefix(ENVIRONMENT_PREFIX).lower() in Config.__struct_fields__
    assert "READDRESS_KEY_FILE" in one["environment"]
    assert {*one["secrets"]} == compose["secrets"].keys()
    assert (DEPLOY / one["build"]["context"] / one["build"]["dockerfile"]).exists()


def test_the_image_is_made_of_what_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    for copied in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for name in copied.split():
            assert (DEPLOY.parent / name).exists(), name
    assert re.search(r"^USER readdress$", text, re.MULTILINE)


def test_the_unit_is_one(tmp_path: Path) -> None:
    file = DEPLOY / "readdress.service"
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(file)
    assert "readdress serve" in unit["Service"]["ExecStart"]
    if shutil.which("systemd-analyze"):
        copy = tmp_path / file.name
        copy.write_text(file.read_text().replace("/opt/readdress/bin/readdress", shutil.which("true") or ""))
        done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
        assert "readdress.service" not in done.stderr, done.stderr
