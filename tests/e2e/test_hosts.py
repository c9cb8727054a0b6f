"""Network namespaces as hosts: one of calls is cut off, the Redis primary is lost, every clock is set. Calls go on.

Not part of a plain test run: a minute each, namespaces that want root, and for clocks a Debian package. `make e2e`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif("VOICEGATE_E2E" not in os.environ, reason="hosts that are cut off: run `make e2e`"),
]

CALLS = 4


def after(folder: Path, *words: str) -> dict[str, Any]:
    """What `python -m bench.hosts` found."""
    found = folder / "found.json"
    command = [sys.executable, "-m", "bench.hosts", *words, "--calls", str(CALLS), "--json", str(found)]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("VOICEGATE_", "REDIS_URL"))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=plain)
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    assert (document["went_on"], document["lost"], document["greeted_again"]) == (CALLS, 0, 0)
    return document


@pytest.mark.parametrize("what", ["calls", "partition"])
def test_calls_of_a_host_that_is_cut_off_go_on_at_another(tmp_path: Path, what: str) -> None:
    assert after(tmp_path, what)["reconnects"] >= CALLS


def test_calls_outlive_the_redis_primary(tmp_path: Path) -> None:
    assert after(tmp_path, "redis")["reconnects"] == 0


def test_hosts_whose_clocks_are_set_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    found = after(tmp_path, "clock", "--steps", "40")  # longer than it takes to set them all
    assert (found["reconnects"], found["went_back"]) == (0, 0)
