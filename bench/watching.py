"""What do supervisors cost the calls they watch? CPU per frame with watchers against none, in one run.

    python -m bench.watching [--calls 300] [--watchers 3] [--seconds 10] [--rounds 6] [--json FILE]

Two gateway workers run side by side, each with its bridge to a real Valkey and `--calls` calls, in processes of their
own. One is watched and the other is not, in the same seconds: a busy machine falls on both. Then they change places, so
what one process has over the other cancels out. (One worker with and without watchers in turns was measured before:
with nobody watching at all, two windows of ten seconds of it differed by 12 % on a machine that had other things to do;
those of two workers by 0.4 %, behind a constant 3 %.) A client process sends all calls' frames at real time; a control
plane's hub in a process of its own has the watchers, who parse every event. The callers say sentences, half of them
with numbers (a scripted recogniser: models are in other processes in life), so each turn brings its events through
redaction.

CPU is the worker process's own (getrusage): frames, turns, prompts, and at the watched one what watching costs.
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
from statistics import geometric_mean, mean

import uvloop
from prometheus_client import CollectorRegistry

from audio.asr import AsrJob, Transcript
from bench.frame_path import FRAME_S, LINES, SETTLE_S, Feeder, Reading, machine
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
class Round:
    """One measured stretch: CPU per frame of both workers, and how many events the watched one's calls had."""

    watched: int
    """Which worker: 0 or 1."""
    watched_us: float
    alone_us: float
    events_per_s: float

    @property
    def ratio(self) -> float:
        return self.watched_us / self.alone_us


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
                news = await watcher.some()
                seen += len([json.loads(line) for line in news if isinstance(line, str)])

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


class Gateway:
    """One worker and its control plane's desk, each in a process of its own, at a Valkey of their own."""

    def __init__(self, stack: ExitStack) -> None:
        context = multiprocessing.get_context("spawn")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vg-"))
        server = stack.enter_context(EmbeddedRedis(None, Path(folder)))
        self._worker, worker_end = multiprocessing.Pipe()
        self._desk, desk_end = multiprocessing.Pipe()
        self._processes = [
            context.Process(target=run_worker, args=(server.url, worker_end), daemon=True),
            context.Process(target=run_watchers, args=(server.url, desk_end), daemon=True),
        ]
        for process in self._processes:
            process.start()
        self.port: int = self._worker.recv()

    def read(self) -> Reading:
        """The worker's counters now."""
        self._worker.send("read")
        reading: Reading = self._worker.recv()
        return reading

    def watch(self, watchers: int) -> int:
        """So many begin to watch; returns how many events were seen so far."""
        self._desk.send(watchers)
        return int(self._desk.recv())

    def unwatch(self) -> int:
        """They go; returns the same. The worker builds events for as long as the lease lasts."""
        self._desk.send("enough")
        return int(self._desk.recv())

    def close(self) -> None:
        for pipe in (self._worker, self._desk):
            pipe.send(None)
        for process in self._processes:
            process.join(5)


def cost_us(before: Reading, after: Reading) -> float:
    """CPU per frame between two readings."""
    return (after.cpu_s - before.cpu_s) / max(1, after.frames - before.frames) * 1e6


def measure(calls: int, watchers: int, seconds: float, rounds: int) -> list[Round]:
    """Rounds in which either worker is watched in turn, and the other is not."""
    measured: list[Round] = []
    with ExitStack() as stack:
        gateways = (Gateway(stack), Gateway(stack))
        feeder = Feeder(gateways[0].port, calls, LINES["native"])
        other = Feeder(gateways[1].port, calls, LINES["native"])
        feeder.sockets = [sock for pair in zip(feeder.sockets, other.sockets, strict=True) for sock in pair]
        feeder.run(SETTLE_S)
        for number in range(rounds):
            watched, alone = gateways[number % 2], gateways[1 - number % 2]
            events = watched.watch(watchers)
            begun = time.monotonic()
            before = watched.read(), alone.read()
            feeder.run(seconds)
            after = watched.read(), alone.read()
            took_s = time.monotonic() - begun
            events = (watched.unwatch() - events) // watchers
            if not events:
                raise SystemExit("the watchers saw nothing: the machine has too much to do for this many calls")
            costs = [cost_us(*pair) for pair in zip(before, after, strict=True)]
            measured.append(Round(number % 2, costs[0], costs[1], events / took_s))
            feeder.run(LEASE_S + 2.0)  # the lease runs out, and the last event is built
        for gateway in gateways:
            gateway.close()
    return measured


def main() -> None:
    """Print the rounds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=300, help="of each of the two workers (default %(default)s)")
    parser.add_argument("--watchers", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="an even number (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    if args.rounds < 2 or args.rounds % 2 or args.watchers < 1:
        parser.error("both workers are to be watched equally often: --rounds 2, 4, ..., by --watchers 1 or more")
    begun = time.monotonic()
    rounds = measure(args.calls, args.watchers, args.seconds, args.rounds)
    print(f"{'watched':>8}{'us/frame':>10}{'alone':>8}{'ratio':>8}{'events/s':>10}")
    for one in rounds:
        print(
            f"{one.watched:>8}{one.watched_us:>10.2f}{one.alone_us:>8.2f}{one.ratio:>8.3f}{one.events_per_s:>10.0f}",
        )
    ratio = geometric_mean(one.ratio for one in rounds)
    events_per_s = mean(one.events_per_s for one in rounds)
    frames_per_s = args.calls / FRAME_S
    added_us = mean(one.alone_us for one in rounds) * (ratio - 1) * frames_per_s / events_per_s
    print(f"{args.calls} calls: {ratio:.3f} times the CPU per frame with {args.watchers} watchers")
    print(f"that is {added_us:.0f} us for each of {events_per_s:.0f} events a second")
    if args.json:
        figures = {
            **machine(),
            "calls": args.calls,
            "watchers": args.watchers,
            "ratio": ratio,
            "us_per_event": added_us,
            "took_s": round(time.monotonic() - begun),
        }
        args.json.write_text(json.dumps({**figures, "rounds": [asdict(one) for one in rounds]}, indent=2))


if __name__ == "__main__":
    main()
