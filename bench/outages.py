"""What becomes of calls when a worker or Redis is killed, or Redis stops answering, in the middle of them?

    python -m bench.outages worker [--calls 50]
    python -m bench.outages redis [--calls 50] [--seconds 10]
    python -m bench.outages redis-killed [--calls 50] [--seconds 10]

A whole gateway: supervisor, worker, models, control plane, and a Valkey of the bench's own with an append-only file.
Callers in this process press their way through a bot of `--steps` questions, every third answer of which is an act: a
request to an operator's system, also here, that notes who asked what under which key. When every caller has answered
three, the worker gets SIGKILL, or Valkey SIGSTOP and later SIGCONT, or SIGKILL and later a successor that reads its
file. A caller whose line is lost calls again with the same call id and answers what it is asked. When inference is
killed: `bench.model_outages`.

    went_on          calls that came to their end with every question answered once; the others are `lost`
    greeted_again    calls that were asked again from the start; must be 0
    acts_repeated    acts that came under two keys: the operator would have done them twice; must be 0
    acts_resent      requests that came again under their own key, which the operator answers and does not do again
    acts_unasked     acts that the gateway did not ask for, and told the caller so (the bot's failure path)
    acts_missing     acts that were neither; must be 0
    reply_ms         from a key to the next question: before the outage, and the longest over it
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from dialogue.bots import load_bot
from dialogue.loop import DialogueLoop
from dialogue.state import DialogueState
from dialogue.store import RedisStore
from gateway import logs
from gateway.machine import describe_machine
from gateway.processes.embedded_redis import EmbeddedRedis
from gateway.processes.supervisor import Gateway
from gateway.settings import load

__all__ = ["Tally", "run"]

BOT: Final = "name: outage\nlanguage: en\nvoice: {name: en-us, rate: 220}\nflow: flow.yaml\n"
ACT_EVERY: Final = 3
STRIKE_AFTER: Final = 3
THINK_S: Final = (0.2, 0.6)
AGAIN_S: Final = 0.2  # between two tries to call again
AUDIO_EVERY_S: Final = 5.0
FRAME: Final = bytes(320)
CALL_S: Final = 120.0


def flow(steps: int, url: str) -> str:
    """Questions `q0` to `qN`; each is answered by a key of its own, and every third answer is an act."""
    nodes = []
    for step in range(steps):
        act = (step + 1) % ACT_EVERY == 0
        to = f"a{step + 1}" if act else f"q{step + 1}"
        nodes.append(f'  q{step}: {{ask: "Number {step}?", keys: {{"{key_of(step)}": {to}}}}}')
        if act:
            nodes.append(f"  a{step + 1}: {{webhook: w{step + 1}, then: q{step + 1}, failed: u{step + 1}}}")
            nodes.append(f"  u{step + 1}: {{say: That was not noted., then: q{step + 1}}}")
    nodes.append(f'  q{steps}: {{ask: "Done?", keys: {{"{key_of(steps)}": bye}}}}')
    nodes.append("  bye: {say: Goodbye., hang_up: done}")
    hooks = "".join(f'  w{n}: {{url: "{url}"}}\n' for n in range(ACT_EVERY, steps + 1, ACT_EVERY))
    return f"start: q0\nno_input: {{after_ms: never}}\nwebhooks:\n{hooks}nodes:\n" + "\n".join(nodes) + "\n"


def key_of(step: int) -> str:
    """The key that answers question `step`: neighbours differ, so that an answer given twice is not understood."""
    return str(1 + step % 9)


@dataclass
class Operator:
    """The keys under which each act came, by call and webhook."""

    url: str = ""
    keys: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))


@contextmanager
def operator() -> Iterator[Operator]:
    """A system on loopback that notes what it is asked."""
    made = Operator()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.keys[asked["call_id"], asked["webhook"]].append(self.headers["Idempotency-Key"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # a killed worker's requests break off
    made.url = f"http://127.0.0.1:{server.server_port}/acts"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Caller:
    """One caller, over as many connections as it takes."""

    url: str
    call_id: str
    asked: int = -1
    """The last question heard."""
    over: str = ""
    greeted_again: bool = False
    lines: int = 0
    untold: int = 0
    """Acts that the bot said were not noted."""
    replies: list[tuple[float, float]] = field(default_factory=list)
    """When a question came (monotonic seconds), and how long after the answer to the one before."""
    _pressed_at: float = 0.0

    async def talk(self) -> None:
        """Until the bot has said goodbye."""
        async with asyncio.timeout(CALL_S):
            while not self.over:
                with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                    async with connect(self.url, compression=None, proxy=None, close_timeout=1) as line:
                        await self._one_line(line)
                await asyncio.sleep(AGAIN_S)

    async def _one_line(self, line: ClientConnection) -> None:
        self.lines += 1
        await line.send(json.dumps({"type": "start", "call_id": self.call_id}))
        sound = asyncio.create_task(_silence(line))
        try:
            async for message in line:
                if isinstance(message, str):
                    await self._hear(json.loads(message), line)
        finally:
            sound.cancel()
            await asyncio.gather(sound, return_exceptions=True)

    async def _hear(self, event: dict[str, Any], line: ClientConnection) -> None:
        if event["type"] == "hangup":
            self.over = event["reason"]
        if event["type"] != "prompt":
            return
        node = event["node"]
        self.untold += node.startswith("u")
        if not node.startswith("q") or not event["text"].endswith("?"):
            return  # or the filler, said where the dialogue stands
        question = int(node[1:])
        self.greeted_again |= question == 0 and self.asked > 0
        self.asked = question
        if self._pressed_at:
            now = time.monotonic()
            self.replies.append((now, now - self._pressed_at))
        await asyncio.sleep(random.uniform(*THINK_S))
        self._pressed_at = time.monotonic()
        await line.send(json.dumps({"type": "dtmf", "digit": key_of(question)}))


async def _silence(line: ClientConnection) -> None:
    """A line that sends nothing at all would be hung up."""
    while True:
        await line.send(FRAME)
        await asyncio.sleep(AUDIO_EVERY_S)


@dataclass
class Tally:
    """What became of the calls."""

    calls: int
    went_on: int = 0
    lost: list[str] = field(default_factory=list)
    greeted_again: int = 0
    reconnects: int = 0
    acts: int = 0
    acts_repeated: int = 0
    acts_resent: int = 0
    acts_unasked: int = 0
    acts_missing: int = 0
    before_ms: list[float] = field(default_factory=list)
    longest_ms: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether the promise held."""
        return not (self.lost or self.greeted_again or self.acts_repeated or self.acts_missing)

    def figures(self) -> dict[str, object]:
        """For people and programs."""
        before = np.array(self.before_ms or [0.0])
        return {
            "calls": self.calls,
            "went_on": self.went_on,
            "lost": len(self.lost),
            "reconnects": self.reconnects,
            "greeted_again": self.greeted_again,
            "acts": self.acts,
            "acts_repeated": self.acts_repeated,
            "acts_resent": self.acts_resent,
            "acts_unasked": self.acts_unasked,
            "acts_missing": self.acts_missing,
            "reply_ms_p50_before": round(float(np.quantile(before, 0.5)), 1),
            "reply_ms_p99_before": round(float(np.quantile(before, 0.99)), 1),
            "reply_ms_longest_over_it": round(self.longest_ms, 1),
        }


async def run(what: str, *, calls: int, seconds: float, steps: int) -> Tally:
    """One outage under `calls` calls. `what` is "worker", "redis" or "redis-killed"; must run on the main thread."""
    with tempfile.TemporaryDirectory(prefix="vg-") as name, operator() as crm:
        folder = Path(name)
        bot = folder / "outage"
        bot.mkdir()
        (bot / "bot.yaml").write_text(BOT)
        (bot / "flow.yaml").write_text(flow(steps, crm.url))
        with ExitStack() as servers:
            valkey = servers.enter_context(EmbeddedRedis(folder / "state", folder / "run"))
            flags = {
                "port": 0,
                "control_port": 0,
                "bot": str(bot),
                "bots": (),
                "redis.url": valkey.url,
                "webhooks.hosts": ("127.0.0.1",),
                "log_level": "error",
            }
            async with Gateway(load(environ={}, flags=flags)) as gateway:
                await gateway.ready()
                url = f"ws://127.0.0.1:{gateway.port}/v1/call"
                callers = [Caller(url, f"outage-{n}") for n in range(calls)]
                talking = [asyncio.create_task(caller.talk()) for caller in callers]
                await all_have_answered(callers, talking, STRIKE_AFTER)
                struck_at = time.monotonic()
                if what == "worker":
                    for pid in _workers():
                        os.kill(pid, signal.SIGKILL)
                elif what == "redis-killed":
                    os.kill(valkey.pid, signal.SIGKILL)
                    valkey.stop()
                    await asyncio.sleep(seconds)
                    valkey = servers.enter_context(
                        EmbeddedRedis(folder / "state", folder / "run")
                    )  # on the same socket
                else:
                    os.kill(valkey.pid, signal.SIGSTOP)
                    await asyncio.sleep(seconds)
                    os.kill(valkey.pid, signal.SIGCONT)
                await asyncio.gather(*talking, return_exceptions=True)
            # The gateway is down: what it had yet to write is written.
            return await _tally(callers, struck_at, crm, RedisStore.connect(valkey.url), bot, steps)


async def all_have_answered(callers: Sequence[Caller], talking: list[asyncio.Task[None]], questions: int) -> None:
    """Until every caller has answered so many questions; a task that failed raises here."""
    while min(caller.asked for caller in callers) < questions:
        for task in talking:
            if task.done():
                task.result()
        await asyncio.sleep(0.05)


def _workers() -> list[int]:
    """The gateway workers among this process's children."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if b"gateway.processes.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def _tally(
    callers: list[Caller], struck_at: float, crm: Operator, store: RedisStore, bot: Path, steps: int
) -> Tally:
    tally = Tally(len(callers))
    for caller in callers:
        loop = DialogueLoop(load_bot(str(bot)), store, caller.call_id)
        state: DialogueState = (await loop.open(exclusive=False)).state
        if caller.over == "done" and state.disposition == "done" and state.turns == steps + 1:
            tally.went_on += 1
        else:
            tally.lost.append(f"{caller.call_id}: {caller.over or 'not over'} at {state.node}, {state.turns} turns")
        tally.greeted_again += caller.greeted_again
        tally.reconnects += caller.lines - 1
        unasked = 0
        for step in range(ACT_EVERY, steps + 1, ACT_EVERY):
            keys = crm.keys.get((caller.call_id, f"w{step}"), [])
            tally.acts += bool(keys)
            tally.acts_repeated += len(set(keys)) > 1
            tally.acts_resent += len(keys) - len(set(keys))
            unasked += not keys
        tally.acts_unasked += caller.untold
        tally.acts_missing += max(0, unasked - caller.untold)
        tally.before_ms += [1000 * waited for at, waited in caller.replies if at < struck_at]
        over_it = [1000 * waited for at, waited in caller.replies if at >= struck_at]
        tally.longest_ms = max(tally.longest_ms, *over_it, 0.0)
    await store.close()
    return tally


def main() -> None:
    """Print the figures; exit code 1 where a call was lost or an act repeated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("worker", "redis", "redis-killed"), help="what goes away")
    parser.add_argument("--calls", type=int, default=50, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=10.0, help="Redis is away for so long (default %(default)s)")
    parser.add_argument("--steps", type=int, default=24, help="questions of a call (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    logs.configure("error", "text", process="outages")
    tally = asyncio.run(run(args.what, calls=args.calls, seconds=args.seconds, steps=args.steps))
    for name, value in tally.figures().items():
        print(f"{name:<26}{value:>10}")
    for line in tally.lost:
        print(line, file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps({"machine": describe_machine(), **tally.figures()}, indent=2))
    sys.exit(0 if tally.kept else 1)


if __name__ == "__main__":
    main()
