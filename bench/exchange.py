"""What do callers notice while a gateway's processes are exchanged?

    python -m bench.exchange drain [--rate 100]         each worker drained, one after another
    python -m bench.exchange keep-down [--rate 100]     one of the two kept down, and brought up again
    python -m bench.exchange reload [--rate 100]        every process exchanged

A whole gateway with two workers. `--calls` callers have a call open all the time; newcomers connect at a rate, hear the
first words and hang up. `--seconds` of that before, then the exchange, and the same after.

    refused      newcomers that were answered anything but 101, or whose connection was refused; must be 0
    reset        newcomers whose connection broke before the first words; must be 0
    cut          calls that were open and did not stay; must be 0
    first_ms     from the connection to the bot's first words: p50, p99, longest, before and during the exchange
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from gateway import logs
from gateway.machine import describe_machine
from gateway.processes.supervisor import Gateway
from gateway.settings import load

__all__ = ["Figures", "run"]

WORKERS: Final = 2
LOOK_S: Final = 0.1
FRAME: Final = bytes(320)
AUDIO_EVERY_S: Final = 5.0
PATIENCE_S: Final = 30.0


@dataclass
class Figures:
    """What newcomers and those in calls noticed."""

    newcomers: int = 0
    refused: int = 0
    reset: int = 0
    cut: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    firsts: list[tuple[float, float]] = field(default_factory=list)
    """When a newcomer came (monotonic seconds), and how long until it heard the bot."""

    def document(self, begun_at: float, done_at: float) -> dict[str, object]:
        """For people and programs."""
        before = np.array([ms for at, ms in self.firsts if at < begun_at] or [0.0])
        during = np.array([ms for at, ms in self.firsts if begun_at <= at < done_at] or [0.0])
        return {
            "newcomers": self.newcomers,
            "refused": self.refused,
            "reset": self.reset,
            "cut": self.cut,
            "exchange_s": round(done_at - begun_at, 1),
            **{
                f"first_ms_{name}_{when}": round(float(np.quantile(values, share)), 1)
                for when, values in (("before", before), ("during", during))
                for name, share in (("p50", 0.5), ("p99", 0.99), ("longest", 1.0))
            },
        }


async def run(what: str, *, rate: float, calls: int, seconds: float) -> dict[str, object]:
    """One exchange under newcomers and calls; on the main thread."""
    flags = {"port": 0, "control_port": 0, "workers": WORKERS, "bot": "load", "bots": (), "log_level": "error"}
    figures = Figures()
    async with Gateway(load(environ={}, flags=flags)) as gateway:
        await gateway.ready()
        url = f"ws://127.0.0.1:{gateway.port}/v1/call"
        lasting = [asyncio.create_task(_last(url)) for _ in range(calls)]
        coming = asyncio.create_task(_come(url, rate, figures))
        await asyncio.sleep(seconds)
        begun_at = time.monotonic()
        await _exchange(what, gateway.control_url)
        done_at = time.monotonic()
        await asyncio.sleep(seconds)
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        figures.cut = sum(1 for task in lasting if task.done())
        for task in lasting:
            task.cancel()
        await asyncio.gather(*lasting, return_exceptions=True)
        gateway.kill()  # predecessors wait for calls that are over only in a moment
    for fault, count in figures.faults.items():
        print(f"{count} x {fault}", file=sys.stderr)
    return figures.document(begun_at, done_at)


async def _come(url: str, rate: float, figures: Figures) -> None:
    """Newcomers at a rate, whatever becomes of those before them."""
    async with asyncio.TaskGroup() as group:
        due = time.monotonic()
        while True:
            figures.newcomers += 1
            group.create_task(_newcomer(url, figures))
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _newcomer(url: str, figures: Figures) -> None:
    begun = time.monotonic()
    try:
        async with connect(url, compression=None, proxy=None, open_timeout=PATIENCE_S) as line:
            async with asyncio.timeout(PATIENCE_S):
                async for message in line:
                    if isinstance(message, bytes):
                        figures.firsts.append((begun, 1000 * (time.monotonic() - begun)))
                        return
        raise EOFError("closed before the first words")
    except (InvalidHandshake, ConnectionRefusedError) as exc:
        figures.refused += 1
        figures.faults[f"{type(exc).__name__}: {exc}"] += 1
    except (WebSocketException, OSError, EOFError, TimeoutError) as exc:
        figures.reset += 1
        figures.faults[f"{type(exc).__name__}: {exc}"] += 1


async def _last(url: str) -> None:
    """A call that lasts; ends only where it is cut off."""
    async with connect(url, compression=None, proxy=None) as line:
        sound = asyncio.create_task(_silence(line))
        try:
            with contextlib.suppress(WebSocketException):
                async for _ in line:
                    pass
        finally:
            sound.cancel()


async def _silence(line: ClientConnection) -> None:
    while True:
        await line.send(FRAME)
        await asyncio.sleep(AUDIO_EVERY_S)


async def _exchange(what: str, control: str) -> None:
    if what == "reload":
        await _ask(control, "/v1/reload", {"everything": True})
        await _until(control, lambda told: told["reload"]["state"] != "running")
        return
    before = {one["pid"] for one in (await _ask(control, "/v1/processes"))["processes"]}
    if what == "keep-down":
        await _ask(control, "/v1/workers/0/drain", {"keep_down": True})
        await asyncio.sleep(1.0)
        await _ask(control, "/v1/workers/0/up", {})
        await _until(control, lambda told: _serving(told, before) >= 1)
        return
    for index in range(WORKERS):
        await _ask(control, f"/v1/workers/{index}/drain", {})
        await _until(control, lambda told, index=index: _serving(told, before) > index)


def _serving(told: dict[str, Any], before: set[int]) -> int:
    return sum(
        1
        for one in told["processes"]
        if one["name"].startswith("worker") and one["state"] == "serving" and one["pid"] not in before
    )


async def _until(control: str, done: Any) -> None:
    while True:
        with contextlib.suppress(OSError):
            if done(await _ask(control, "/v1/processes")):
                return
        await asyncio.sleep(LOOK_S)


async def _ask(control: str, path: str, body: dict[str, object] | None = None) -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        request = urllib.request.Request(control + path, headers={"Content-Type": "application/json"})
        if body is not None:
            request.data = json.dumps(body).encode()
        with urllib.request.urlopen(request, timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    return await asyncio.to_thread(ask)


def main() -> None:
    """Print the figures; exit code 1 where somebody noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("drain", "keep-down", "reload"), help="what is exchanged")
    parser.add_argument("--rate", type=float, default=100.0, help="newcomers a second (default %(default)s)")
    parser.add_argument("--calls", type=int, default=20, help="calls that last (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="before and after (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    logs.configure("error", "text", process="exchange")
    told = asyncio.run(run(args.what, rate=args.rate, calls=args.calls, seconds=args.seconds))
    for name, value in told.items():
        print(f"{name:<26}{value!s:>10}")
    if args.json:
        args.json.write_text(json.dumps({"machine": describe_machine(), "what": args.what, **told}, indent=2))
    sys.exit(1 if told["refused"] or told["reset"] or told["cut"] else 0)


if __name__ == "__main__":
    main()
