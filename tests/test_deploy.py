"""What stands in deploy/ is what its readers require: compose files, systemd units, and settings that are ours."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import SettingsError, load

pytestmark = pytest.mark.unit

DEPLOY = Path(__file__).parent.parent / "deploy"
UNIT = DEPLOY / "systemd" / "voicegate@.service"
SECRETS = {"VOICEGATE_AUTH_SECRET": "x" * 32, "REDIS_URL": "redis://:secret@valkey:6379/0"}

# Of the Compose specification's service: what we use, and what it may be.
SERVICE_KEYS = {
    "build": dict, "cap_drop": list, "command": list, "depends_on": dict, "deploy": dict, "environment": dict,
    "healthcheck": dict, "image": str, "ports": list, "read_only": bool, "restart": str, "security_opt": list,
    "stop_grace_period": str, "sysctls": dict, "tmpfs": list, "ulimits": dict, "volumes": list,
}  # fmt: skip
RESTARTS = {"no", "always", "on-failure", "unless-stopped"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
VARIABLE = re.compile(r"\$\$|\$\{([A-Z_]+)(?::([?-])([^}]*))?\}|\$")


def compose(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / name).read_text(encoding="utf-8"))
    return document


def filled_in(text: str, known: dict[str, str]) -> str:
    """A value as Compose makes it. A lone dollar, or a variable without a value or a default, is a fault."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        assert found[1], f"a lone $ in {text!r}: write $$"
        if found[2] == "-":
            return known.get(found[1], found[3])
        assert found[1] in known, f"{found[1]} is not set, and nobody says so"
        return known[found[1]]

    return VARIABLE.sub(value, text)


def environment(service: dict[str, Any]) -> dict[str, str]:
    known = {"VOICEGATE_AUTH_SECRET": "x" * 64, "VALKEY_PASSWORD": "secret"}
    for name, value in service.get("environment", {}).items():
        assert isinstance(value, str), f"{name}: quote it; Compose takes text"
    return {name: filled_in(value, known) for name, value in service.get("environment", {}).items()}


@pytest.mark.parametrize("name", ["compose.yaml", "gpu.yaml"])
def test_a_compose_file_is_what_compose_requires(name: str) -> None:
    document = compose(name)
    extensions = {key for key in document if key.startswith("x-")}
    assert set(document) - extensions <= {"name", "services", "volumes"}
    services: dict[str, Any] = document["services"]
    for label, service in services.items():
        assert re.fullmatch(r"[a-z0-9._-]+", label)
        for key, value in service.items():
            assert isinstance(value, SERVICE_KEYS[key]), (label, key)
        assert service.get("restart", "no") in RESTARTS
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] in CONDITIONS
            assert how["condition"] != "service_healthy" or "healthcheck" in services[other]
        for mount in service.get("volumes", []):
            source, target = mount.split(":")[:2]
            assert target.startswith("/") and (source.startswith(("/", ".")) or source in document["volumes"])
        for port in service.get("ports", []):
            assert re.fullmatch(r"([\d.]+:)?\d{1,5}:\d{1,5}", port), "quoted, or YAML reads base 60"
        if (check := service.get("healthcheck")) is not None:
            assert check["test"][0] in ("CMD", "CMD-SHELL")
            assert set(check) <= {"test", "interval", "timeout", "retries", "start_period"}
        for text in (*service.get("command", []), *(check["test"] if check else [])):
            filled_in(text, {})


def test_the_services_that_a_gpu_file_adds_to_are_there() -> None:
    models, on_gpus = compose("compose.yaml")["services"], compose("gpu.yaml")["services"]
    assert set(on_gpus) <= set(models)
    settings = load(environ={**environment(models["inference"]), **environment(on_gpus["inference"])})
    assert (settings.workers, settings.inference.workers) == (0, 1)
    (gpus,) = on_gpus["inference"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpus["count"] == "all", "a number means the first ones, in every container"


def test_every_service_can_be_made_or_fetched_and_its_dockerfile_copies_what_is_there() -> None:
    for service in compose("compose.yaml")["services"].values():
        assert "image" in service or "build" in service
        if (build := service.get("build")) is not None:
            context = (DEPLOY / "compose" / build["context"]).resolve()
            dockerfile = context / build["dockerfile"]
            copied = re.findall(r"^COPY (?!--from=)(.+) \S+$", dockerfile.read_text(encoding="utf-8"), flags=re.M)
            assert copied
            assert [name for names in copied for name in names.split() if not (context / name).exists()] == []


@pytest.mark.parametrize(
    ("label", "workers", "models"), [("gateway", True, False), ("inference", False, True), ("control", False, False)]
)
def test_each_part_has_settings_that_serve_takes_and_the_processes_that_it_is_there_for(
    label: str, workers: bool, models: bool
) -> None:
    service = compose("compose.yaml")["services"][label]
    settings = load(environ=environment(service))
    assert (settings.workers > 0, settings.inference.workers > 0) == (workers, models)
    assert settings.inference.seam == "streams" and settings.redis.url == "redis://:secret@valkey:6379/0"
    # Whoever stops it waits for its calls.
    grace_s = int(service["stop_grace_period"].removesuffix("s"))
    assert grace_s >= settings.limits.drain_s + 15


def test_a_secret_that_is_missing_is_said_and_not_left_empty() -> None:
    with pytest.raises(SettingsError, match="auth"):
        load(environ={**environment(compose("compose.yaml")["services"]["gateway"]), "VOICEGATE_AUTH_SECRET": ""})
    text = (DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8")
    assert re.findall(r"\$\{(?:VOICEGATE_AUTH_SECRET|VALKEY_PASSWORD)(?!:\?)", text) == []


# systemd.


def unit() -> configparser.RawConfigParser:
    """The unit; of a key that stands twice, the last."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment]  # systemd's keys have capitals
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return parser


@pytest.mark.parametrize("name", ["all", "gateway", "inference"])
def test_the_settings_beside_the_unit_are_ours_and_drain_within_its_patience(name: str) -> None:
    settings = load(config=DEPLOY / "systemd" / f"{name}.toml", environ=SECRETS if name != "all" else {})
    assert int(unit()["Service"]["TimeoutStopSec"]) >= settings.limits.drain_s + 15


def test_the_unit_drains_reloads_and_restarts_as_serve_does() -> None:
    service = unit()["Service"]
    assert service["ExecStart"].endswith("voicegate serve --config /etc/voicegate/%i.toml")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (service["Type"], service["KillMode"], service["Restart"]) == ("notify", "mixed", "on-failure")
    assert service["RestartPreventExitStatus"] == "2", "settings that cannot be used"
    runtime = service["RuntimeDirectory"]
    assert f"TMPDIR=/run/{runtime}" in service["Environment"]
    socket_path = f"/run/{runtime.replace('%i', 'x' * 20)}/voicegate-12345678/999/inference-15/inference.sock"
    assert len(socket_path) < 108, "sun_path"


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not here: install systemd")
    # Its program, its user and network-online.target are the target machine's.
    text = UNIT.read_text(encoding="utf-8").replace("/opt/voicegate/bin/voicegate", sys.executable)
    text = re.sub(r"^(?:User|Group)=.*\n", "", text, flags=re.M)
    copy = tmp_path / UNIT.name
    copy.write_text(text)
    dropin = tmp_path / f"{UNIT.name}.d"
    dropin.mkdir()
    shutil.copy(DEPLOY / "systemd" / "gpu.conf", dropin)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / "voicegate@gateway.service")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    faults = [line for line in done.stderr.splitlines() if "voicegate" in line]
    assert faults == []
