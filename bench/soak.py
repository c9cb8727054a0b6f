"""Does memory stay flat over a day of calls?

    python -m bench.soak [--minutes 10] [--lines 20] [--json FILE] [--page FILE]

A day's calls of a busy desk in minutes: on each of `--lines` lines a call begins every second, answered with keys and a
spoken word as fast as the bot asks, through a whole gateway (worker, models, control plane) and a Valkey of the bench's
own. What a call leaves behind lives for a minute instead of an hour, so that keys expire while one looks on. Every five
seconds it is noted what each process holds, and what the Valkey does.

    rss_mb       resident memory of a process          fds     open files of the worker
    keys         keys in the Valkey                    redis_mb  its own count of used memory

The first third is for caches and allocators to settle. After it, flat is: the median of the last third is within 3 %
of the middle third's, or within what is named in `SLACK` where that is little in itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Final

import redis.asyncio as redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from audio.files import read_audio
from gateway import background, logs
from gateway.charts import time_chart
from gateway.embedded_redis import EmbeddedRedis
from gateway.machine import describe_machine
from gateway.settings import load
from gateway.supervisor import Gateway

__all__ = ["Sample", "verdict"]

TTL_S: Final = 60
SAMPLE_S: Final = 5.0
EVERY_S: Final = 1.0
"""From one call's beginning to the next one's on a line: at an even pace keys are in proportion to what calls leave."""
CALL_S: Final = 30.0
GROWTH: Final = 1.03
SLACK: Final = {"fds": 4.0, "keys": 40.0, "redis_mb": 1.0}
"""What a figure may rise by, however small it is: other processes' connections, calls that happen to be open."""
SPOKEN_EVERY: Final = 10
"""Every so many calls one question is answered in words, so that the models work too."""
BOT: Final = "name: soak\nlanguage: en\nvoice: {name: en-us, rate: 220}\nflow: flow.yaml\n"
FLOW: Final = """\
start: q0
no_input: {after_ms: never}
nodes:
  q0: {ask: "First?", keys: {"1": q1}, on: {"*": q1}}
  q1: {ask: "Second?", keys: {"2": q2}}
  q2: {ask: "Third?", keys: {"3": bye}}
  bye: {say: Goodbye., hang_up: done}
"""
_KEYS: Final = {"First?": "1", "Second?": "2", "Third?": "3"}
_SPEECH: Final = Path(__file__).parents[1] / "gateway" / "demo" / "01-yes-speaking.wav"


@dataclass(frozen=True, slots=True)
class Sample:
    """One look, `at_s` after the start."""

    at_s: float
    calls: int
    figures: dict[str, float]


@dataclass
class Desk:
    """All lines and what became of their calls."""

    url: str
    speech: bytes
    done: int = 0
    failed: int = 0
    failures: set[str] = field(default_factory=set)

    async def one_line(self, name: str) -> None:
        """One call a second, for ever."""
        number = 0
        while True:
            number += 1
            next_at = time.monotonic() + EVERY_S
            try:
                async with asyncio.timeout(CALL_S):
                    ended = await self._call(f"{name}-{number}", spoken=number % SPOKEN_EVERY == 0)
            except (OSError, WebSocketException, TimeoutError) as exc:
                ended = type(exc).__name__
            if ended == "done":
                self.done += 1
            else:
                self.failed += 1
                self.failures.add(ended)
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    async def _call(self, call_id: str, *, spoken: bool) -> str:
        async with connect(f"{self.url}?call_id={call_id}", compression=None, proxy=None, close_timeout=5) as line:
            async for message in line:
                if isinstance(message, bytes):
                    continue
                event: dict[str, Any] = json.loads(message)
                if event["type"] == "prompt" and event["text"] in _KEYS:
                    await self._answer(line, event["text"], spoken=spoken)
                elif event["type"] == "hangup":
                    return str(event["reason"])
        return "closed"

    async def _answer(self, line: ClientConnection, question: str, *, spoken: bool) -> None:
        if spoken and question == "First?":
            for at in range(0, len(self.speech), 3200):
                await line.send(self.speech[at : at + 3200])
        else:
            await line.send(json.dumps({"type": "dtmf", "digit": _KEYS[question]}))


def verdict(samples: list[Sample]) -> dict[str, tuple[float, float, bool]]:
    """Each figure's median in the middle and in the last third, and whether it stayed flat."""
    third = len(samples) // 3
    found = {}
    for name in samples[0].figures:
        middle, last = (
            statistics.median(sample.figures[name] for sample in part)
            for part in (samples[third : 2 * third], samples[2 * third :])
        )
        flat = last <= max(middle * GROWTH, middle + SLACK.get(name, 0.0))
        found[name] = (middle, last, flat)
    return found


def _children() -> dict[str, int]:
    """Our child processes by what they are."""
    names = {"gateway.worker": "worker", "gateway.inference_worker": "inference", "gateway.control": "control"}
    found = {}
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            for module, name in names.items():
                if module in words:
                    found[name] = int(pid)
    return found


def _rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def _look(pids: dict[str, int], store: redis.Redis) -> dict[str, float]:
    memory: Any = await store.info("memory")
    return {
        **{f"{name} rss_mb": round(_rss_mb(pid), 1) for name, pid in pids.items()},
        "fds": float(len(os.listdir(f"/proc/{pids['worker']}/fd"))),
        "keys": float(await store.dbsize()),
        "redis_mb": round(memory["used_memory"] / 1e6, 2),
    }


async def run(*, minutes: float, lines: int) -> tuple[Desk, list[Sample]]:
    """Call for so long, and look. Must run on the main thread."""
    with tempfile.TemporaryDirectory(prefix="vg-") as name:
        folder = Path(name)
        bot = folder / "soak"
        bot.mkdir()
        (bot / "bot.yaml").write_text(BOT)
        (bot / "flow.yaml").write_text(FLOW)
        with EmbeddedRedis(folder / "state", folder / "run") as valkey:
            flags = {
                "port": 0,
                "control_port": 0,
                "bot": str(bot),
                "bots": (),
                "redis.url": valkey.url,
                "redis.call_ttl_s": TTL_S,
                "results.stream_length": 1000,
                "endpointing.tail_ms": 300,
                "log_level": "error",
            }
            async with Gateway(load(environ={}, flags=flags)) as gateway, redis.Redis.from_url(valkey.url) as store:
                await gateway.ready()
                tone = read_audio(_SPEECH, 8000)
                silence = bytes(2 * 8000)
                desk = Desk(f"ws://127.0.0.1:{gateway.port}/v1/call", tone.tobytes() + silence)
                talking = [asyncio.create_task(desk.one_line(f"soak-{n}")) for n in range(lines)]
                try:
                    return desk, await _watch(desk, store, minutes)
                finally:
                    await background.stop(talking)


async def _watch(desk: Desk, store: redis.Redis, minutes: float) -> list[Sample]:
    samples: list[Sample] = []
    pids, begun = _children(), time.monotonic()
    while (at_s := time.monotonic() - begun) < minutes * 60:
        samples.append(Sample(round(at_s, 1), desk.done, await _look(pids, store)))
        if len(samples) % 6 == 1:
            shown = "  ".join(f"{name} {value:g}" for name, value in samples[-1].figures.items())
            print(f"{at_s / 60:5.1f} min  {desk.done:6d} calls  {shown}", flush=True)
        await asyncio.sleep(SAMPLE_S)
    return samples


def page(samples: list[Sample], title: str) -> str:
    """All figures over time, as one HTML page."""
    charts = [
        time_chart(name, {name: [(s.at_s, s.figures[name]) for s in samples]}, until_s=samples[-1].at_s, unit="")
        for name in samples[0].figures
    ]
    style = (
        ":root{--line:#0b7066;--line-2:#5b4bb7;--limit:#c33;--muted:#666;font-family:sans-serif}svg{max-width:420px}"
    )
    return f"<!doctype html><meta charset=utf-8><title>Soak</title><style>{style}</style><h1>{escape(title)}</h1>" + (
        "".join(charts)
    )


def main() -> None:
    """Print what was seen; exit code 1 where something grew or calls failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="default %(default)s")
    parser.add_argument("--lines", type=int, default=20, help="calls at any moment (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--page", type=Path, help="draw them into this HTML file")
    args = parser.parse_args()
    logs.configure("error", "text", process="soak")
    desk, samples = asyncio.run(run(minutes=args.minutes, lines=args.lines))
    print(f"\n{desk.done} calls in {samples[-1].at_s / 60:.1f} min, {desk.failed} failed {sorted(desk.failures) or ''}")
    print(f"{'':<22}{'middle third':>14}{'last third':>12}")
    judged = verdict(samples)
    for name, (middle, last, flat) in judged.items():
        print(f"{name:<22}{middle:>14g}{last:>12g}  {'flat' if flat else 'GREW'}")
    if args.json:
        looks = [{"at_s": s.at_s, "calls": s.calls, **s.figures} for s in samples]
        args.json.write_text(json.dumps({"machine": describe_machine(), "samples": looks}, indent=1))
    if args.page:
        args.page.write_text(page(samples, f"{desk.done} calls in {samples[-1].at_s / 60:.0f} minutes"))
    sys.exit(0 if all(flat for *_, flat in judged.values()) and not desk.failed else 1)


if __name__ == "__main__":
    main()
