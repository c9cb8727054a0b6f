"""Wall clocks are set under a live call: an hour ahead, two back, and on again. The caller notices nothing.

Clocks really move, for the gateway's processes and for their Redis each by itself: libfaketime (Debian's package
faketime) stands between them and the C library. The monotonic clock is left alone, as it is when a clock is set.

Not part of a plain test run: half a minute long, and a Debian package. `make e2e` installs it and runs this.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.request
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from audio.files import read_audio
from bench.set_clocks import HOUR_S, NoFaketimeError, SetClock
from gateway.processes.embedded_redis import EmbeddedRedis
from gateway.replay.client import CallClient, CallResult, Recording
from tests.gateway.operator import Operator, Posted, operator
from tests.gateway.test_end_to_end import PROMISE, Server, children, serve

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif("VOICEGATE_E2E" not in os.environ, reason="clocks that are set: run `make e2e`"),
]

SAID = ["yes speaking", "four four one seven"]


class Jumps:
    """Sets the two clocks at moments of a call, one after the other: they are never changed as one."""

    def __init__(self, gateway: SetClock, store: SetClock) -> None:
        self._left = [
            ("ready", store, HOUR_S),
            ("prompt", gateway, HOUR_S),
            ("speech_started", gateway, -HOUR_S),
            ("transcript", store, -HOUR_S),
            ("speech_started", store, HOUR_S),
            ("transcript", gateway, HOUR_S),
        ]

    @property
    def all_done(self) -> bool:
        return not self._left

    def watch(self, event: dict[str, Any]) -> None:
        """An event of the call."""
        if self._left and self._left[0][0] == event["type"]:
            _, clock, ahead_s = self._left.pop(0)
            clock.set(ahead_s)


@pytest.fixture
def crm() -> Iterator[Operator]:
    with operator() as made:
        yield made


def call(url: str, jumps: Jumps) -> CallResult:
    recordings = [Recording(path.name, read_audio(path, 8000)) for path in PROMISE[: len(SAID)]]
    client = CallClient(url, bot="load", on_event=jumps.watch, reply_timeout_s=30)
    return asyncio.run(client.run(recordings))


def until(crm: Operator, count: int, timeout_s: float) -> None:
    """So many posts have come."""
    deadline = time.monotonic() + timeout_s
    while len(crm.posted) < count:
        assert time.monotonic() < deadline, "no record is posted"
        time.sleep(0.05)


def test_clocks_that_are_set_under_a_call_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crm: Operator
) -> None:
    try:
        ours, theirs = SetClock(tmp_path / "gateway"), SetClock(tmp_path / "redis")
    except NoFaketimeError as error:
        pytest.skip(str(error))
    with monkeypatch.context() as patch:
        for name, value in theirs.environ.items():
            patch.setenv(name, value)
        store = EmbeddedRedis(None, tmp_path / "r")
    environ = {
        "REDIS_URL": store.url,
        "VOICEGATE_INFERENCE_SEAM": "streams",
        "VOICEGATE_TURNS_FILLER_MS": "0",
        "VOICEGATE_RECORDING_BOTS": "load",
        "VOICEGATE_RECORDING_DIRECTORY": str(tmp_path / "recordings"),
        "VOICEGATE_RECORDING_CONSENT": "announced",
        "VOICEGATE_RESULTS_WEBHOOK": crm.url,
        "VOICEGATE_WEBHOOKS_HOSTS": crm.host,
    }
    with store:
        server = serve(tmp_path / "log", environ={**environ, **ours.environ})
        try:
            before, jumps = sorted(children(server.process.pid)), Jumps(ours, theirs)
            begun = time.monotonic()
            done = call(server.url, jumps)
            took_s = time.monotonic() - begun
            assert jumps.all_done
            assert (done.ended_by, done.errors) == ("out_of_audio", [])
            assert [turn.transcript for turn in done.turns] == SAID
            assert sorted(children(server.process.pid)) == before, "a process was taken for dead"
            check_ready(server)
            assert ahead_s(server) == pytest.approx(HOUR_S, abs=60)
            until(crm, 1, 20)
            check_record(crm.posted[0], took_s)
        finally:
            assert server.stop() == 0
    check_kept(tmp_path / "recordings", took_s)
    log = (tmp_path / "log").read_text()
    assert [line for line in log.splitlines() if " ERROR " in line or "died" in line] == []


def ahead_s(server: Server) -> float:
    """What the gateway's clock is ahead by, as its answers are dated."""
    with urllib.request.urlopen(server.control + "/healthz", timeout=5) as answer:
        return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()


def check_ready(server: Server) -> None:
    """A worker's key has expired with the jump, and is back within a second."""
    deadline = time.monotonic() + 20
    while True:
        try:
            assert json.loads(server.get("/readyz"))["ready"] is True
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def check_kept(folder: Path, took_s: float) -> None:
    """One recording, whose events lie within it and in order."""
    (story,) = folder.glob("*.jsonl")
    info, *events = map(json.loads, story.read_text().splitlines())
    at_s = [event["time"] - info["started_at"] for event in events]
    assert events[-1]["type"] == "call_ended"
    assert at_s == sorted(at_s) and at_s[0] > -1 and at_s[-1] < took_s + 1


def check_record(posted: Posted, took_s: float) -> None:
    record = posted.body
    assert (record["ended_by"], record["turns"]) == ("caller", len(SAID))
    assert 0.5 * took_s < record["duration_s"] < took_s + 1
