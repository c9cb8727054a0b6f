"""Hostile peers of every dialect against one worker, and a neighbour whose call must not notice.

    python -m tests.gateway.protocols.hostile --seconds 3600

Each peer begins as its product would, or not, and then sends what nobody should: messages of other dialects, texts cut
or changed anywhere, huge fields, numbers without end, floods, messages of one byte, texts that never end, and leaves
however it likes. The seed decides all of it. Prints how many inputs were sent; fails where the worker logged a fault of
its own, a call was left open, or the neighbour's audio did not keep its pace.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.gateway.harness import FLOW, Rig, rig
from tests.gateway.protocols.peers import MAKERS, LinePeer, dialled

__all__ = ["Outcome", "attack"]

PEERS = 12
GREETING = "Hello this is the test bot speaking to you now and for quite a while"
# Twelve prompts of 90 words: 65 s without a pause.
NEIGHBOURS_FLOW = FLOW.replace(GREETING, "[" + ", ".join([" ".join(["a"] * 90)] * 12) + "]")
PATHS = ["/asterisk", "/twilio", "/freeswitch", "/jambonz", "/vosk", "/", "/v1/call", "/auto"]
WORDS = ["\0", "é", "\u2028", "9" * 5000, "-1", "NaN", "x" * 70_000, "[" * 2000, '{"a":' * 500, "\\ud800", "true", "5"]


@dataclass
class Outcome:
    """What was sent and what came of it."""

    inputs: Counter[str] = field(default_factory=Counter)
    closes: Counter[int | None] = field(default_factory=Counter)
    neighbour_frames_per_s: float = 0.0
    longest_stall_s: float = 0.0
    core_share: float = 0.0
    """How much of a core the siege had, 1 at most: all that there is for client, worker and besiegers."""
    """Longest time that the loop, which worker and siege share, was not free for others."""
    faults: list[str] = field(default_factory=list)
    """Log records of the worker that speak of a fault of ours."""


def texts_of(peer: LinePeer) -> list[str]:
    """What a product may say, as seeds to change."""
    if "sequence" not in vars(peer):
        peer.__dict__.setdefault("sequence", 0)
    spoken = peer.spoken(bytes(160))
    hello = [message for message in peer.hello() if isinstance(message, str)]
    return [*hello, peer.digit("5"), *([spoken] if isinstance(spoken, str) else [])]


SEEDS = [text for make in MAKERS.values() for text in texts_of(make())] + [
    *("MEDIA_XOFF", "MEDIA_XON", "MEDIA_MARK_PROCESSED p1", "STATUS queue_length:1", "QUEUE_DRAINED"),
    *('{"type":"start"}', '{"type":"stop"}', '{"config":{"sample_rate":16000}}', '{"eof":1}', '{"reset":1}', "{}"),
    '{"type":"mark","data":{"name":"p1","event":"playout"}}',
    '{"type":"playDone","data":{"id":"1"}}',
    '{"event":"mark","streamSid":"MZ","mark":{"name":"p1"}}',
]


def changed(rng: random.Random, text: str) -> str:
    """A text cut, doubled, spoilt or filled."""
    match rng.randrange(6):
        case 0:
            return text[: rng.randrange(len(text) + 1)]
        case 1:
            return text + rng.choice(SEEDS)
        case 2:
            at = rng.randrange(len(text) + 1)
            return text[:at] + rng.choice(WORDS) + text[at + rng.randrange(3) :]
        case 3 if text.startswith("{"):
            body = json.loads(text)
            key = rng.choice(list(body) or ["event"])
            body[key] = rng.choice([None, [], {}, -1, 1e308, "", "x" * 5000, [[[]]], {"a": {}}, True, key])
            return json.dumps(body)
        case 4:
            return rng.choice(WORDS)
    return text


def script(rng: random.Random) -> Iterator[str | bytes]:
    """One hostile peer's messages."""
    if rng.random() < 0.7:
        peer = MAKERS[rng.choice(list(MAKERS))]()
        yield from peer.hello()
    for _ in range(rng.randrange(1, 60)):
        match rng.randrange(10):
            case 0:
                yield b""
            case 1:
                yield from (rng.randbytes(1) for _ in range(rng.randrange(200)))
            case 2:
                yield rng.randbytes(rng.choice([319, 320, 333, 5000, 60_000]))
            case 3:
                yield from ("x" for _ in range(rng.randrange(200)))
            case 4 | 5 | 6:
                yield rng.choice(SEEDS)
            case _:
                yield changed(rng, rng.choice(SEEDS))


async def assail(port: int, rng: random.Random, outcome: Outcome) -> None:
    """One hostile connection from its first message to its end."""
    path = rng.choice(PATHS)
    try:
        ws = await connect(f"ws://127.0.0.1:{port}{path}", compression=None, proxy=None, max_size=None)
    except (OSError, InvalidHandshake, TimeoutError):
        outcome.closes[None] += 1
        return
    try:
        async with asyncio.timeout(10):
            for message in script(rng):
                if isinstance(message, str) and rng.random() < 0.01:
                    # A text that never ends: fragments until somebody has had enough.
                    await ws.send("y" * 60_000 for _ in range(8))
                await ws.send(message)
                outcome.inputs[path] += 1
            end = rng.randrange(3)
            if end == 0:
                ws.transport.abort()
            elif end == 1:
                await ws.close(rng.choice([1000, 1001, 3000, 4999]))
    except (ConnectionClosed, TimeoutError, UnicodeEncodeError):
        pass
    except AttributeError:  # the client library's own, where the gateway was first to go
        pass
    finally:
        if not ws.transport.is_closing():
            ws.transport.abort()
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(20):
                await ws.wait_closed()
        outcome.closes[ws.close_code] += 1


class _Faults(logging.Handler):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(logging.ERROR)
        self._outcome = outcome

    def emit(self, record: logging.LogRecord) -> None:
        self._outcome.faults.append(record.getMessage())


async def attack(seconds: float, seed: int, folder: Path) -> Outcome:
    """Hostile peers for so long, one neighbour beside them."""
    outcome = Outcome()
    handler = _Faults(outcome)
    loggers = [logging.getLogger(name) for name in ("gateway", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        async with rig(folder, hear="more", flow=NEIGHBOURS_FLOW) as running:
            await _siege(running, seconds, seed, outcome)
            try:
                await running.no_calls(15)
            except TimeoutError:
                outcome.faults.append(f"{running.worker.calls} calls left open")
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    return outcome


async def _siege(running: Rig, seconds: float, seed: int, outcome: Outcome) -> None:
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    until = begun_s + seconds
    numbers = iter(range(seed, seed + 1_000_000_000))

    async def besiege() -> None:
        while time.monotonic() < until:
            await assail(running.port, random.Random(next(numbers)), outcome)

    async def neighbour() -> None:
        """Calls one after the other, so that any length of siege has one."""
        frames = heard_s = 0.0
        while time.monotonic() < until:
            peer = await dialled("asterisk-plain-ulaw", running.port)
            await peer.until(partial(getattr, peer, "audio"), "neighbour's first words", 20)
            at, size = time.monotonic(), len(peer.audio)
            while time.monotonic() < min(until, at + 60):
                await peer.send(b"\xff" * 160)
                await asyncio.sleep(0.02)
            frames += (len(peer.audio) - size) / 160
            heard_s += time.monotonic() - at
            assert not peer.reader.done(), "the neighbour's call ended"
            await peer.hang_up()
            await peer.reader
        outcome.neighbour_frames_per_s = frames / heard_s

    async def watch() -> None:
        while (now := time.monotonic()) < until:
            await asyncio.sleep(0.01)
            outcome.longest_stall_s = max(outcome.longest_stall_s, time.monotonic() - now - 0.01)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(neighbour())
        tasks.create_task(watch())
        for _ in range(PEERS):
            tasks.create_task(besiege())
    outcome.core_share = min(1.0, (time.process_time() - begun_cpu_s) / (time.monotonic() - begun_s))


def main() -> None:
    """Besiege for as long as was asked, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(attack(args.seconds, args.seed, Path(folder)))
    print(f"inputs {outcome.inputs.total()}: {dict(outcome.inputs)}")  # noqa: T201
    print(f"connections {outcome.closes.total()}, by close code: {dict(outcome.closes)}")  # noqa: T201
    print(f"neighbour {outcome.neighbour_frames_per_s:.2f} frames/s; longest stall {outcome.longest_stall_s:.3f} s")  # noqa: T201
    print(f"faults {outcome.faults}")  # noqa: T201


if __name__ == "__main__":
    main()
