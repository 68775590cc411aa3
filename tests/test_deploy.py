"""What stands in `deploy/` is well-formed and names what exists; without containers here, no more is shown."""

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
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


def test_kubernetes_starts_locked_nodes_that_share_what_nodes_share() -> None:
    """Each object names what another one has; no cluster is here to say more."""
    objects = {
        (each["kind"], each["metadata"]["name"]): each
        for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))
    }
    assert {each["metadata"]["namespace"] for each in objects.values()} == {"readdress"}
    deployment = objects["Deployment", "readdress"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    pod = deployment["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    for each in (container, *pod["initContainers"]):
        assert each["securityContext"]["readOnlyRootFilesystem"]
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in each["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        names = {one["name"] for one in each["env"]} - {"PGPASSWORD"}
        assert {name.removeprefix(ENVIRONMENT_PREFIX).lower() for name in names} <= {*Config.__struct_fields__}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    said = " ".join(container["args"]) + " ".join(one.get("value", "") for one in container["env"])
    assert all(f":{port}" in said for port in ports.values())
    assert int(next(one["value"] for one in container["env"] if one["name"].endswith("NOTICE_MS"))) < 30_000
    selectors = [
        deployment["selector"]["matchLabels"],
        objects["PodDisruptionBudget", "readdress"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy", "readdress"]["spec"]["podSelector"]["matchLabels"],
        *(each["spec"]["selector"] for (kind, _), each in objects.items() if kind == "Service"),
    ]
    assert all(selector == labels for selector in selectors)
    for (kind, _), each in objects.items():
        if kind == "Service":
            assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports.keys()
    probes = {container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert probes == {"/_readdress/live", "/_readdress/health"}


def test_a_wheel_has_what_modules_read(tmp_path: Path) -> None:
    """Templates, styles and SQL are read from the package at run time."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", tmp_path, DEPLOY.parent], check=True, timeout=120)
    (wheel,) = tmp_path.glob("readdress-*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    source = DEPLOY.parent / "src"
    needed = {
        str(file.relative_to(source))
        for file in (source / "readdress").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {name.rpartition(".")[2] for name in needed} >= {"sql", "html", "css", "js", "svg"}
    assert needed <= packed


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
