"""What a caller notices when one of our processes dies in the middle of a call."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from audio.files import read_audio
from gateway.replay.client import CallClient, CallResult, Recording
from tests.gateway.test_end_to_end import PROMISE, Server, children, serve

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def pid_of(server: Server, module: str) -> int:
    """The child that runs `module` (or, for "valkey", the embedded server)."""
    for pid in children(server.process.pid):
        if module in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    raise AssertionError(f"no child runs {module}")


def call_and_kill(server: Server, module: str, when: str, how: signal.Signals = signal.SIGKILL) -> CallResult:
    """A two-turn call; `module`'s process gets a signal at the first event of type `when`."""
    victims = [pid_of(server, module)]

    def watch(event: dict[str, Any]) -> None:
        if event["type"] == when and victims:
            os.kill(victims.pop(), how)

    recordings = [Recording(path.name, read_audio(path, 8000)) for path in PROMISE[:2]]
    client = CallClient(server.url, bot="load", on_event=watch, reply_timeout_s=50)
    return asyncio.run(client.run(recordings))


def test_each_process_may_die_under_a_call(tmp_path: Path) -> None:
    # No filler: the scripted caller would take its "one moment" for the reply, and go on speaking.
    environ = {"VOICEGATE_LIMITS_REPLY_S": "45", "VOICEGATE_TURNS_FILLER_MS": "0"}
    server = serve(tmp_path / "log", "--state-dir", str(tmp_path / "state"), environ=environ)
    try:
        alone = call_and_kill(server, "gateway.http.control", "ready")
        assert [turn.transcript for turn in alone.turns] == ["yes speaking", "four four one seven"]
        # The models die while the caller speaks: the reply comes late, and it comes.
        late = call_and_kill(server, "gateway.inference.worker", "speech_started")
        assert [turn.transcript for turn in late.turns] == ["yes speaking", "four four one seven"]
        assert late.ended_by == "out_of_audio"
        # They hang, and do not die: the same, as soon as that is seen.
        hung = call_and_kill(server, "gateway.inference.worker", "speech_started", signal.SIGSTOP)
        assert [turn.transcript for turn in hung.turns] == ["yes speaking", "four four one seven"]
        assert hung.ended_by == "out_of_audio"
        assert "inference died (it hung: no sign of life for 4 s)" in (tmp_path / "log").read_text()
        # The worker that holds the call dies: the line is lost at once, and a new call is served soon after.
        lost = call_and_kill(server, "gateway.processes.worker", "speech_started")
        assert lost.ended_by == "error"
        asyncio.run(_served_again(server))
        # The store dies: it comes back with what it kept.
        kept = call_and_kill(server, "valkey-server", "ready")
        assert [turn.transcript for turn in kept.turns] == ["yes speaking", "four four one seven"]
    finally:
        assert server.stop() == 0


async def _served_again(server: Server) -> None:
    """Until a call is answered again."""
    async with asyncio.timeout(30):
        while True:
            try:
                result = await CallClient(server.url, bot="load").run([])
            except Exception:
                await asyncio.sleep(0.1)
                continue
            if result.greeting:
                return
