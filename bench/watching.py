"""What do supervisors cost the calls they watch? CPU per frame with watchers against none, in one run.

    python -m bench.watching [--calls 300] [--watchers 3] [--seconds 10] [--rounds 3] [--json FILE]

One gateway worker with its bridge to a real Valkey, in a process of its own; a client process that sends every call's
frames at real time; a control plane's hub in a third process, whose watchers parse every event. Windows with and
without watchers take turns in the same worker, so the machine's drift falls on both. The callers say sentences with
numbers in them (a scripted recogniser: models are in other processes in life), so each turn brings its dozen events
through redaction.

CPU is the worker process's own (getrusage): frames, turns, prompts, and in the windows with watchers what they cost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import socket
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import count
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median

import uvloop
from prometheus_client import CollectorRegistry

from audio.asr import AsrJob, Transcript
from bench.frame_path import LINES, SETTLE_S, Feeder, Reading, machine
from bench.lone_worker import listen
from dialogue.bots import load_bot
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.seam import Heard, TurnId, Understood
from gateway.metrics import Metrics
from gateway.monitoring.bridge import MonitorBridge
from gateway.monitoring.bus import EventBus
from gateway.monitoring.hub import MonitorHub, Watcher
from gateway.monitoring.wire import LEASE_S
from gateway.outside.webhooks import Webhooks
from gateway.processes.embedded_redis import EmbeddedRedis
from gateway.settings import load
from nlu.meaning import Meaning, Slot

_SAID = (
    "i would like to pay my bill on friday if that is all right",
    "my number is five five five one two three four five six seven",
    "the card is 4111 1111 1111 1111 and it expires in december",
    "no that is not what i meant at all",
)


@dataclass(frozen=True, slots=True)
class Window:
    """One measured stretch."""

    watchers: int
    us_per_frame: float
    events: int


class Talkative:
    """An inference seam that answers at once, with sentences in turn."""

    def __init__(self) -> None:
        self._number = count()

    def expected_wait_s(self, urgency: Urgency) -> float:
        return 0.0

    async def transcribe(self, job: AsrJob, *, timeout_s: float, errand: Errand | None = None) -> Heard:
        return Heard(Transcript(text=_SAID[next(self._number) % len(_SAID)]), 0.0, 0.0)

    async def understand(
        self, model: str, text: str, *, timeout_s: float, errand: Errand | None = None, turn: TurnId | None = None
    ) -> Understood:
        return Understood(Meaning("oos", 0.3, (Slot("what", text[:9], 0, 9),)), 0.0, 0.0, "bench")


def run_worker(redis_url: str, pipe: Pipe) -> None:
    """Process main: serve, and answer every message on the pipe with a Reading."""

    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
        bus, settings, metrics = EventBus(), load(environ={}), Metrics(CollectorRegistry())
        worker = await listen(sock, load_bot("load"), Talkative(), bus=bus)
        webhooks = Webhooks(settings.webhooks, metrics)
        bridge = MonitorBridge(
            redis_url, bus, lambda: worker.sessions, settings.monitoring, metrics, webhooks, name="bench"
        )
        async with bridge:
            pipe.send(sock.getsockname()[1])
            stopped = asyncio.Event()

            def answer() -> None:
                if pipe.recv() is None:
                    stopped.set()
                    return
                used = resource.getrusage(resource.RUSAGE_SELF)
                pipe.send(Reading(used.ru_utime + used.ru_stime, worker.frames_seen))

            asyncio.get_running_loop().add_reader(pipe.fileno(), answer)
            await stopped.wait()
            os._exit(0)  # nothing here is worth a polite goodbye to hundreds of sockets

    uvloop.run(main())


def run_watchers(redis_url: str, pipe: Pipe) -> None:
    """Process main: so many watchers as the pipe says, from then on; answered with the events seen so far."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        wanted: asyncio.Queue[int | None] = asyncio.Queue()
        loop.add_reader(pipe.fileno(), lambda: wanted.put_nowait(pipe.recv()))
        seen = 0

        async def read(watcher: Watcher) -> None:
            nonlocal seen
            while True:
                seen += len([json.loads(line) for line in await watcher.some() if isinstance(line, str)])

        async with MonitorHub(redis_url) as hub:
            while True:
                watchers = await wanted.get()
                if watchers is None:
                    os._exit(0)
                with ExitStack() as stack:
                    reading = [
                        asyncio.create_task(read(stack.enter_context(hub.watching(raw=False)))) for _ in range(watchers)
                    ]
                    await hub.begin()
                    pipe.send(seen)
                    await wanted.get()  # enough
                    for task in reading:
                        task.cancel()
                pipe.send(seen)

    asyncio.run(main())


def measure(calls: int, watchers: int, seconds: float, rounds: int) -> list[Window]:
    """Windows without and with watchers in turn."""
    context = multiprocessing.get_context("spawn")
    windows: list[Window] = []
    with tempfile.TemporaryDirectory(prefix="vg-") as folder, EmbeddedRedis(None, Path(folder)) as server:
        worker, worker_end = multiprocessing.Pipe()
        desk, desk_end = multiprocessing.Pipe()
        processes = [
            context.Process(target=run_worker, args=(server.url, worker_end), daemon=True),
            context.Process(target=run_watchers, args=(server.url, desk_end), daemon=True),
        ]
        for process in processes:
            process.start()
        feeder = Feeder(worker.recv(), calls, LINES["native"])

        def window(watching: int) -> Window:
            desk.send(watching)
            events = desk.recv()
            worker.send("read")
            before: Reading = worker.recv()
            feeder.run(seconds)
            worker.send("read")
            after: Reading = worker.recv()
            desk.send("enough")
            events = desk.recv() - events
            cost = (after.cpu_s - before.cpu_s) / max(1, after.frames - before.frames)
            return Window(watching, cost * 1e6, events)

        feeder.run(SETTLE_S)
        for _ in range(rounds):
            windows.append(window(0))
            windows.append(window(watchers))
            feeder.run(LEASE_S + 2.0)  # the lease runs out, and the last event is built
        for pipe in (worker, desk):
            pipe.send(None)
        for process in processes:
            process.join(5)
    return windows


def main() -> None:
    """Print the windows and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--watchers", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each window (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    begun = time.monotonic()
    windows = measure(args.calls, args.watchers, args.seconds, args.rounds)
    print(f"{'watchers':>8}{'us/frame':>10}{'events/s':>10}")
    for window in windows:
        print(f"{window.watchers:>8}{window.us_per_frame:>10.2f}{window.events / args.seconds:>10.0f}")
    pairs = zip(windows[::2], windows[1::2], strict=True)
    ratio = median(watched.us_per_frame / alone.us_per_frame for alone, watched in pairs)
    print(f"{args.calls} calls: {ratio:.3f} times the CPU per frame with {args.watchers} watchers")
    if args.json:
        figures = {**machine(), "calls": args.calls, "ratio": ratio, "took_s": round(time.monotonic() - begun)}
        args.json.write_text(json.dumps({**figures, "windows": [asdict(one) for one in windows]}, indent=2))


if __name__ == "__main__":
    main()
