"""Models on another host: `voicegate serve` without any, `voicegate inference` with, one Redis between them, a call."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.gateway.test_end_to_end import PROMISE, VOICEGATE, Server, call, serve

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def plain_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("VOICEGATE_", "REDIS_URL"))}


def test_a_call_is_heard_by_models_elsewhere(tmp_path: Path, redis_url: str) -> None:
    common = {"REDIS_URL": redis_url, "VOICEGATE_BOTS": "", "VOICEGATE_INFERENCE_POOL": f"e2e-{os.getpid()}"}
    with (tmp_path / "models").open("w") as log:
        models = subprocess.Popen(
            [*VOICEGATE, "inference", "--bot", "load"], env={**plain_environment(), **common}, stderr=log
        )
    try:
        environ = {**common, "VOICEGATE_INFERENCE_SEAM": "streams", "VOICEGATE_INFERENCE_WORKERS": "0"}
        server = serve(tmp_path / "log", "--bot", "load", environ=environ)
        try:
            document = call(server.url, PROMISE[0], options=("--bot", "load"))
            assert document["exit"] == 0 and document["errors"] == []
            (turn,) = document["turns"]
            assert (turn["transcript"], turn["intent"]) == ("yes speaking", "affirm")
            assert "gateway.inference.worker" not in " ".join(
                Path(f"/proc/{pid}/cmdline").read_text() for pid in _children(server.process.pid)
            )
            assert "/monitor" in _control_plane_beside(server, tmp_path / "control", environ)
        finally:
            assert server.stop() == 0
    finally:
        models.terminate()
        assert models.wait(60) == 0, (tmp_path / "models").read_text()


def _control_plane_beside(gateway: Server, log: Path, environ: Mapping[str, str]) -> str:
    """What a control plane without workers says on a host whose media port is a gateway's."""
    port = gateway.url.rsplit(":", 1)[1].split("/")[0]
    with log.open("w") as stderr:
        control = subprocess.Popen(
            [*VOICEGATE, "serve", "--workers", "0", "--port", port, "--control-port", "0", "--bot", "load"],
            env={**plain_environment(), **environ},
            stderr=stderr,
        )
    deadline = time.monotonic() + 60
    while "metrics" not in log.read_text() and control.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    control.terminate()
    assert control.wait(60) == 0, log.read_text()
    return log.read_text()


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def test_without_a_redis_there_is_nobody_to_answer() -> None:
    done = subprocess.run(
        [*VOICEGATE, "inference"], env=plain_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "redis.url: a host of inference alone meets the others there" in done.stderr
