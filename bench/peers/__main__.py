"""How many calls does a core carry, here and in pipecat? The same work, one run, the same core.

    python -m bench.peers [--step-seconds 4] [--delay-ms 20] [--peers gateway,pipecat] [--json FILE]
    chrt -r 1 python -m bench.peers        where other programs run: who waits for a core measures them (root)

Each server is a process on a core of its own (`--server-core`), the callers one on another. Calls send 20 ms frames of
PCM16 at real time, which a voice detector and endpointing (100 ms of speech begin an utterance, 800 ms of silence end
it) hear; the bot greets with half a second of tone and answers so every utterance; recognition, understanding and
speech cost nothing. Calls are added, a quarter more at a time, until the 99th percentile of a frame's delay, from its
`send` to the endpointer's having it, is over 20 ms; a step that fails is tried twice more. Then the same with the bot
talking all the time into every call while its caller listens.

    gateway        our worker as it is set by default (detector `auto`), state in memory
    gateway-40     the same with `playout.ptime_ms = 40`: audio out in messages as long as pipecat's
    pipecat        pipecat-ai as its users run it: FastAPI WebSocket, Silero's detector, uvicorn on uvloop
    pipecat-light  the least its own parts can do: no network, no thread, no observers
    vosk-style     built as Vosk's recognition server: websockets' coroutines, a thread pool, an answer to each message

pipecat-ai 1.14.0 (BSD-2-Clause) comes from the package index into an environment of its own, pinned by
`bench/peers/pipecat.txt`; torch is not among it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from audio.formats import Pcm16
from bench.frame_path import conversation, machine
from bench.peers.callers import Callers
from bench.peers.environment import EnvironmentMissingError, python_of
from bench.peers.probe import GREETING_S

HERE = Path(__file__).parent
TALK_S = 240.0
GROWTH = 1.25
SETTLE_S = 1.5
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Peer:
    """How a server is started, and how it is called."""

    name: str
    command: tuple[str, ...]
    path: str
    begin: int
    """Calls of the first step."""
    requirements: Path | None = None
    """None: it runs in our own environment."""


PEERS = (
    Peer("gateway", ("-m", "bench.peers.gateway_server"), "/v1/call?call_id=peer-{}", 256),
    Peer("gateway-40", ("-m", "bench.peers.gateway_server", "--ptime-ms", "40"), "/v1/call?call_id=peer-{}", 256),
    Peer("pipecat", ("-m", "bench.peers.pipecat_server"), "/call", 8, HERE / "pipecat.txt"),
    Peer("pipecat-light", ("-m", "bench.peers.pipecat_server", "--light"), "/call", 16, HERE / "pipecat.txt"),
    Peer("vosk-style", ("-m", "bench.peers.vosk_style_server"), "/", 32),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """So many calls for some seconds."""

    calls: int
    delay_p50_ms: float
    delay_p99_ms: float
    cpu_us_per_frame: float
    core: float
    lost: int
    """Frames sent that were not heard in time: those still waiting included."""
    client_late_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one server carries."""

    peer: str
    bot: str
    """"answers" or "talks"."""
    calls: int
    """Most that held the limit; 0: not even the first step's."""
    cpu_us_per_frame: float
    memory_kb_per_call: float
    first_utterance_p50_ms: float
    first_utterance_p99_ms: float
    steps: list[Step]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a server said of itself (`bench.peers.probe`)."""

    cpu_s: float
    rss_bytes: int
    frames: int
    heard: list[tuple[int, int, float]]


class Server:
    """One peer's process."""

    def __init__(self, peer: Peer, python: Path, core: int, talks_s: float) -> None:
        self._peer = peer
        command = [str(python), *peer.command, "--talks", str(talks_s)]
        self._process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=HERE.parent.parent,
            text=True,
        )
        self.port: int = json.loads(self._line())["port"]

    def read(self) -> Reading:
        """What `bench.peers.probe` measured since the last time."""
        assert self._process.stdin is not None
        self._process.stdin.write("read\n")
        self._process.stdin.flush()
        return Reading(**json.loads(self._line()))

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of {self._peer.name} ended; see its words above")
        return line


def line_noise() -> Pcm16:
    """A caller who listens."""
    return np.random.default_rng(2).normal(0, 12, 8000 * 10).astype(np.int16)


def step(server: Server, callers: Callers, seconds: float) -> Step:
    """Feed the calls that there are."""
    callers.feed(SETTLE_S)
    before, sent = server.read(), callers.sent
    callers.sent_at.clear()
    callers.feed(seconds)
    after = server.read()
    frames = after.frames - before.frames
    delays = [
        (at - sent_at) * 1000
        for call, frame, at in after.heard
        if (sent_at := callers.sent_at.get((call, frame))) is not None
    ]
    cpu_s = after.cpu_s - before.cpu_s
    return Step(
        calls=len(callers),
        delay_p50_ms=float(np.percentile(delays, 50)) if delays else float("inf"),
        delay_p99_ms=float(np.percentile(delays, 99)) if delays else float("inf"),
        cpu_us_per_frame=cpu_s / max(1, frames) * 1e6,
        core=cpu_s / seconds,
        lost=max(0, callers.sent - sent - frames),
        client_late_ms=callers.late_s * 1000,
    )


def climb(peer: Peer, python: Path, core: int, *, talks: bool, seconds: float, limit_ms: float) -> Row:
    """Add calls until the delay is over the limit."""
    server = Server(peer, python, core, TALK_S if talks else GREETING_S)
    callers = Callers(server.port, peer.path, line_noise() if talks else conversation())
    try:
        empty_bytes = server.read().rss_bytes
        callers.grow(peer.begin)
        callers.wait_for_words()
        memory_kb = (server.read().rss_bytes - empty_bytes) / 1024 / peer.begin
        first = list(callers.first_utterance_ms)
        steps: list[Step] = []
        held: Step | None = None
        while True:
            for _ in range(ATTEMPTS):  # a step may fail by another's doing
                steps.append(step(server, callers, seconds))
                show(peer.name, talks, steps[-1])
                if steps[-1].delay_p99_ms <= limit_ms:
                    break
            else:
                break
            held = steps[-1]
            callers.grow(int(held.calls * GROWTH))
    finally:
        callers.close()
        server.stop()
    return Row(
        peer=peer.name,
        bot="talks" if talks else "answers",
        calls=held.calls if held else 0,
        cpu_us_per_frame=(held or steps[0]).cpu_us_per_frame,
        memory_kb_per_call=memory_kb,
        first_utterance_p50_ms=float(np.percentile(first, 50)),
        first_utterance_p99_ms=float(np.percentile(first, 99)),
        steps=steps,
    )


def show(name: str, talks: bool, step: Step) -> None:
    """One line of progress, on stderr."""
    print(
        f"  {name}, bot {'talks' if talks else 'answers'}: {step.calls} calls, delay p50 {step.delay_p50_ms:.1f} p99 "
        f"{step.delay_p99_ms:.1f} ms, {step.cpu_us_per_frame:.1f} us a frame, {step.core:.0%} of the core, "
        f"{step.lost} lost, client late {step.client_late_ms:.0f} ms",
        file=sys.stderr,
        flush=True,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as text, with how many times as many calls ours carries."""
    lines = [
        f"{'peer':<15}{'bot':<9}{'calls':>6}{'us/frame':>10}{'kB/call':>9}{'first ms p50':>14}{'p99':>7}{'ours x':>8}"
    ]
    ours = {row.bot: row.calls for row in rows if row.peer == "gateway"}
    for row in rows:
        ratio = f"{ours[row.bot] / row.calls:.1f}" if row.calls and row.bot in ours else "-"
        lines.append(
            f"{row.peer:<15}{row.bot:<9}{row.calls:>6}{row.cpu_us_per_frame:>10.1f}{row.memory_kb_per_call:>9.0f}"
            f"{row.first_utterance_p50_ms:>14.1f}{row.first_utterance_p99_ms:>7.1f}{ratio:>8}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=",".join(peer.name for peer in PEERS), help="which (default %(default)s)")
    parser.add_argument("--bots", default="answers,talks", help="what the bots do (default %(default)s)")
    parser.add_argument("--step-seconds", type=float, default=4.0, help="measured per step (default %(default)s)")
    parser.add_argument("--delay-ms", type=float, default=20.0, help="limit of the p99 (default %(default)s)")
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--client-core", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.client_core})
    gc.disable()  # the callers' own: a round of it makes all of them 50 ms late, and nothing here is a cycle
    rows: list[Row] = []
    for peer in PEERS:
        if peer.name not in args.peers.split(","):
            continue
        try:
            python = python_of("pipecat", peer.requirements) if peer.requirements else Path(sys.executable)
        except EnvironmentMissingError as exc:
            sys.exit(f"{peer.name} cannot be installed here: {exc}")
        rows += [
            climb(peer, python, args.server_core, talks=talks, seconds=args.step_seconds, limit_ms=args.delay_ms)
            for talks in (False, True)
            if ("talks" if talks else "answers") in args.bots.split(",")
        ]
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps({**machine(), "rows": [asdict(row) for row in rows]}, indent=2))


if __name__ == "__main__":
    main()
