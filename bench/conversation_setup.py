"""What `bench.conversations` runs: recorded callers, the bot they talk to, a gateway with or without a recogniser."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from audio.levels import first_sound, last_sound
from bench.simulated_asr import GpuTime
from dialogue.bots import load_bot
from gateway.processes.embedded_redis import EmbeddedRedis
from gateway.processes.supervisor import Gateway
from gateway.replay.counters import fetch_metrics
from gateway.replay.load import Caller, read_callers
from gateway.settings import load

__all__ = ["Plan", "callers", "gateway_for", "quick_bot", "speech_s"]

DEMO: Final = Path(__file__).parent.parent / "gateway" / "demo"
OVER_MS: Final = 1500
"""Into the bot's answer, the caller who interrupts does."""
_READY_S: Final = 240.0
_GPU_WAIT_MS: Final = 4.0
"""What an utterance waits for company, as one would set it for a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be run."""

    calls: int
    first: int
    only: bool = False
    """Just `calls`, in one step."""
    asr: str = "real"
    gpu: GpuTime = GpuTime()
    ramp_s: float = 20.0
    workers: int = 1
    rate: int = 240
    """Words a minute of the bot's voice."""


def callers() -> list[Caller]:
    """The demo's two, and the first of them again, who asks his question over the bot's answer."""
    polite = read_callers([DEMO, DEMO / "paid"])
    said = list(polite[0].recordings)
    said[2] = replace(said[2], over_ms=OVER_MS)
    return [*polite, Caller("interrupts", tuple(said))]


@asynccontextmanager
async def gateway_for(
    plan: Plan, folder: Path, bot: Path, *, learn: bool = False
) -> AsyncIterator[tuple[Gateway, Callable[[], str]]]:
    """A gateway that is ready, and how its engines' metrics are read."""
    flags: dict[str, Any] = {
        "port": 0,
        "control_port": 0,
        "workers": plan.workers,
        "bot": str(bot),
        "bots": (),
        "log_level": "error",
        "limits.calls_per_worker": plan.calls * 2 + 10,
        "limits.drain_s": 0.0,
    }
    if plan.asr == "real":
        async with Gateway(load(environ={}, flags=flags)) as gateway:
            await gateway.ready(timeout_s=_READY_S)
            yield gateway, partial(fetch_metrics, gateway.control_url, None)
        return
    with EmbeddedRedis(None, folder / "redis") as valkey:
        flags |= {
            "inference.seam": "streams",
            "inference.workers": 0,
            "redis.url": valkey.url,
            "asr.max_wait_ms": 0.0 if learn else _GPU_WAIT_MS,
        }
        settings = load(environ={}, flags=flags)
        described = folder / "settings.json"
        described.write_text(settings.dump_json())
        stats = folder / "stats"
        stats.write_text("")
        command: list[str | Path] = [sys.executable, "-m", "bench.simulated_asr", "--parent", str(os.getpid())]
        command += ["--settings", described, "--words", folder / "words.json", "--stats", stats]
        command += ["--callers", DEMO, DEMO / "paid", *(["--learn"] if learn else [])]
        command += ["--first-ms", str(plan.gpu.first_ms), "--more", str(plan.gpu.more)]
        with subprocess.Popen(command) as inference:  # noqa: ASYNC220  # from the main thread: it dies with that
            try:
                async with Gateway(settings) as gateway:
                    await gateway.ready(timeout_s=_READY_S)
                    yield gateway, stats.read_text
            finally:
                inference.send_signal(signal.SIGTERM)


def quick_bot(folder: Path, rate: int) -> Path:
    """The bundled bill reminder with a voice of so many words a minute."""
    bundled = load_bot("bill-reminder").directory
    folder.mkdir()
    for part in bundled.iterdir():
        if part.name == "bot.yaml":
            (folder / part.name).write_text(part.read_text().replace("rate: 160", f"rate: {rate}"))
        else:
            (folder / part.name).symlink_to(part)
    return folder


def speech_s(caller: Caller) -> float:
    """From the first to the last sound of each recording."""
    spans = [(first_sound(said.pcm), last_sound(said.pcm)) for said in caller.recordings]
    return sum((last - first) / 8000 for first, last in spans if first is not None and last is not None)
