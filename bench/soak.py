"""Does memory stay flat over a day of calls, or an hour at half load?

    python -m bench.soak [--minutes 10] [--lines 20] [--calls N|half] [--json FILE] [--plot FILE.svg] [--resume]

A day's calls of a busy desk in minutes: on each of `--lines` lines a call begins every second, answered with keys and a
spoken word as fast as the bot asks, through a whole gateway (worker, models, control plane) and a Valkey of the bench's
own. What a call leaves behind lives for a minute instead of an hour, so that keys expire while one looks on. With
`--calls`, so many recorded callers talk beside it in real time, one call after another; `half`: half of what this
machine carries, measured first (`bench.overload`). Every five seconds it is noted what each process holds, and what the
Valkey does.

    rss_mb       resident memory of a process          fds     open files of the worker
    tasks        asyncio tasks of the worker           redis_mb  the Valkey's own count of used memory
    keys         keys in the Valkey

The first third is for caches and allocators to settle. After it, flat is: the median of the last third is within 3 %
of the middle third's, or within what is named in `SLACK` where that is little in itself.

Ctrl-C ends it and reports what there is. `--json` is written every minute; with `--resume` a soak goes on where that
file ends, until `--minutes` are full: a new gateway, so only what it did itself is judged, and all is drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis.asyncio as redis
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from audio.files import read_audio
from bench.overload import measured_capacity
from bench.plots import sheet, write_plot
from gateway import background, logs
from gateway.machine import describe_machine
from gateway.processes.embedded_redis import EmbeddedRedis
from gateway.processes.supervisor import Gateway
from gateway.replay.charts import time_chart
from gateway.replay.counters import fetch_metrics
from gateway.replay.load import Load as ReplayLoad
from gateway.replay.load import read_callers
from gateway.replay.run import LinesRun
from gateway.settings import load

__all__ = ["Plan", "Sample", "plot", "read_samples", "run", "save", "verdict"]

TTL_S: Final = 60
SAMPLE_S: Final = 5.0
EVERY_S: Final = 1.0
"""From one call's beginning to the next one's on a line: at an even pace keys are in proportion to what calls leave."""
CALL_S: Final = 30.0
GROWTH: Final = 1.03
SLACK: Final = {"fds": 4.0, "keys": 40.0, "redis_mb": 1.0, "tasks": 20.0}
"""What a figure may rise by, however small it is: other processes' connections, calls that happen to be open."""
HALF: Final = -1
"""Stands for half of what the machine carries."""
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
    run: int = 0
    """How often the soak had been resumed by then."""


@dataclass
class Desk:
    """All lines and what became of their calls."""

    url: str
    speech: bytes
    done: int = 0
    failed: int = 0
    failures: set[str] = field(default_factory=set)

    def count(self, ended: str, *, well: bool) -> None:
        """A call is over."""
        self.done += well
        if not well:
            self.failed += 1
            self.failures.add(ended)

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
            self.count(ended, well=ended == "done")
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
    names = {
        "gateway.processes.worker": "worker",
        "gateway.inference.worker": "inference",
        "gateway.http.control": "control",
    }
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


async def _look(pids: dict[str, int], store: redis.Redis, control_url: str) -> dict[str, float]:
    memory: Any = await store.info("memory")
    metrics = await asyncio.to_thread(fetch_metrics, control_url, None)
    (tasks,) = (
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "voicegate_tasks"
    )
    return {
        **{f"{name} rss_mb": round(_rss_mb(pid), 1) for name, pid in pids.items()},
        "fds": float(len(os.listdir(f"/proc/{pids['worker']}/fd"))),
        "tasks": tasks,
        "keys": float(await store.dbsize()),
        "redis_mb": round(memory["used_memory"] / 1e6, 2),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a soak is to do."""

    minutes: float
    lines: int
    calls: int = 0
    """Recorded callers beside the lines."""
    before: tuple[Sample, ...] = ()
    """Of the soak that goes on."""


async def run(plan: Plan, told: Callable[[Desk, list[Sample]], None], stop: asyncio.Event) -> tuple[Desk, list[Sample]]:
    """Call for so long, and look. Must run on the main thread.

    Args:
        told: after every look.
        stop: set to end before the time is over.
    """
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
                "bots": ("load",) if plan.calls else (),
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
                talking = [asyncio.create_task(desk.one_line(f"soak-{n}")) for n in range(plan.lines)]
                if plan.calls:
                    talking.append(asyncio.create_task(_talk(plan, f"ws://127.0.0.1:{gateway.port}", desk)))
                pids = _children()
                try:
                    return desk, await _watch(desk, plan, lambda: _look(pids, store, gateway.control_url), told, stop)
                finally:
                    await background.stop(talking)


async def _talk(plan: Plan, url: str, desk: Desk) -> None:
    """Recorded callers in real time, until cancelled."""
    callers = read_callers([_SPEECH.parent, _SPEECH.parent / "paid"])
    lines = LinesRun(
        ReplayLoad(url=url, callers=callers, calls=plan.calls, ramp_s=plan.calls / 5, duration_s=math.inf),
        lambda tick: None,
        on_record=lambda record: desk.count("; ".join(record.faults), well=not record.faults),
    )
    await lines.run()


async def _watch(
    desk: Desk,
    plan: Plan,
    look: Callable[[], Awaitable[dict[str, float]]],
    told: Callable[[Desk, list[Sample]], None],
    stop: asyncio.Event,
) -> list[Sample]:
    samples = list(plan.before)
    run = samples[-1].run + 1 if samples else 0
    already_s, calls = (samples[-1].at_s, samples[-1].calls) if samples else (0.0, 0)
    begun = time.monotonic()
    while (at_s := already_s + time.monotonic() - begun) < plan.minutes * 60 and not stop.is_set():
        samples.append(Sample(round(at_s, 1), calls + desk.done, await look(), run))
        told(desk, samples)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), SAMPLE_S)
    return samples


def plot(samples: list[Sample], heading: str) -> str:
    """All figures over time, as one SVG."""
    charts = [
        (
            name,
            time_chart(name, {name: [(s.at_s, s.figures[name]) for s in samples]}, until_s=samples[-1].at_s, unit=""),
        )
        for name in samples[0].figures
    ]
    return sheet(heading, charts)


def save(samples: list[Sample], path: Path) -> None:
    """All samples, so that they can be read again; never half of them."""
    looks = [{"at_s": s.at_s, "calls": s.calls, "run": s.run, **s.figures} for s in samples]
    whole = {"schema": "voicegate.soak/1", "machine": describe_machine(), "samples": looks}
    beside = path.with_suffix(f"{path.suffix}.part")
    beside.write_text(json.dumps(whole, indent=1))
    beside.replace(path)


def read_samples(path: Path) -> list[Sample]:
    """What `save` wrote.

    Raises:
        OSError, ValueError, KeyError: not there, or not written by it.
    """
    return [
        Sample(look.pop("at_s"), look.pop("calls"), run=look.pop("run"), figures=look)
        for look in json.loads(path.read_text())["samples"]
    ]


@contextlib.contextmanager
def _live(plan: Plan, path: Path | None) -> Iterator[Callable[[Desk, list[Sample]], None]]:
    """One live line on stderr, and the file written every minute."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(20),
        TextColumn("{task.fields[figures]}"),
        console=Console(stderr=True, highlight=False),
    )
    task = bar.add_task("soak", total=plan.minutes * 60, figures="")

    def told(desk: Desk, samples: list[Sample]) -> None:
        latest = samples[-1]
        shown = "  ".join(f"{name} {value:g}" for name, value in latest.figures.items())
        at = f"{latest.at_s / 60:.1f} min, {desk.done} calls, {desk.failed} failed"
        bar.update(task, completed=latest.at_s, figures=f"{at}  {shown}")
        if path is not None and len(samples) % round(60 / SAMPLE_S) == 0:
            save(samples, path)

    with bar:
        yield told


async def _soak(args: argparse.Namespace, before: tuple[Sample, ...]) -> tuple[Plan, Desk, list[Sample]]:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end() -> None:
        loop.remove_signal_handler(signal.SIGINT)  # a second one ends it at once
        stop.set()

    calls = args.calls
    if calls == HALF:
        print("measuring what this machine carries ...", file=sys.stderr)
        capacity, how = await measured_capacity(partial(print, file=sys.stderr))
        calls = max(1, capacity // 2)
        print(f"{capacity} calls ({how}); half of them talk", file=sys.stderr)
    loop.add_signal_handler(signal.SIGINT, end)
    plan = Plan(minutes=args.minutes, lines=args.lines, calls=calls, before=before)
    with _live(plan, args.json) as told:
        return plan, *await run(plan, told, stop)


def _calls(text: str) -> int:
    """Of --calls: a number, or the word for half of what the machine carries."""
    return HALF if text == "half" else int(text)


def main() -> None:
    """Print what was seen; exit code 1 where something grew or calls failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="default %(default)s")
    parser.add_argument("--lines", type=int, default=20, help="calls at any moment (default %(default)s)")
    parser.add_argument("--calls", type=_calls, default=0, help="recorded callers beside them: a number, or half")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--plot", type=Path, help="draw them into this SVG")
    parser.add_argument("--resume", action="store_true", help="go on with the soak that --json holds")
    args = parser.parse_args()
    before: tuple[Sample, ...] = ()
    if args.resume:
        try:
            before = tuple(read_samples(args.json))
        except (AttributeError, OSError, ValueError, KeyError) as exc:
            parser.error(f"--resume needs the --json FILE of a soak: {exc}")
    logs.configure("error", "text", process="soak")
    plan, desk, samples = asyncio.run(_soak(args, before))
    ours = [sample for sample in samples if sample.run == samples[-1].run]
    heading = f"{samples[-1].calls} calls in {samples[-1].at_s / 60:.0f} minutes"
    if plan.calls:
        heading += f", {plan.calls} recorded callers at any moment"
    print(f"\n{heading}; {desk.failed} failed {sorted(desk.failures) or ''}")
    if args.json:
        save(samples, args.json)
    if args.plot:
        write_plot(args.plot, plot(samples, heading))
    if len(ours) < 3:
        sys.exit("too short to judge: it takes a quarter of a minute at least")
    print(f"{'':<22}{'middle third':>14}{'last third':>12}")
    judged = verdict(ours)
    if ours[-1].at_s - ours[0].at_s < 4 * TTL_S:
        print(f"keys live for {TTL_S} s, so they and redis_mb are judged after {4 * TTL_S / 60:.0f} minutes")
        judged = {name: found for name, found in judged.items() if name not in ("keys", "redis_mb")}
    for name, (middle, last, flat) in judged.items():
        print(f"{name:<22}{middle:>14g}{last:>12g}  {'flat' if flat else 'GREW'}")
    sys.exit(0 if all(flat for *_, flat in judged.values()) and not desk.failed else 1)


if __name__ == "__main__":
    main()
