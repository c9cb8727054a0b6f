"""What do a dialogue's turns cost, without models: the step, its script in Redis, and the loop around both?

    python -m bench.dialogue [--dialogues 10000] [--turns 6] [--at-once 64] [--json FILE]

The bill reminder's dialogues in one process, by text with the meaning that a model would give, against an embedded
Valkey with an append-only file. All dialogues are open at the same time; `--at-once` of them have a turn in progress,
as a worker's calls do. Four rows, each with all dialogues:

    step        `dialogue.step` alone: pure, nothing is kept
    memory      the loop over `MemoryStore`: encoding and bookkeeping besides
    redis       the loop over Redis: one script a turn, over a Unix socket
    redis, 1    the same with one turn in progress: what a caller waits for on an idle gateway; the first turn of each

    turns_per_s   of all dialogues together
    p50, p99 ms   of one turn, from the caller's words to the actions; waiting for the others' turns included, which is
                  nearly all of it where the process is never idle, as here
    cpu_us        CPU time of this process a turn
    server_us     time that the server spent in the step's script
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import uvloop

from dialogue.bots import load_bot
from dialogue.connection import connect
from dialogue.loop import DialogueLoop
from dialogue.script import read_marked
from dialogue.state import DialogueState
from dialogue.step import step
from dialogue.store import MemoryStore, RedisStore, StateStore
from dialogue.turns import CallerSaid, CallStarted
from gateway.machine import describe_machine
from gateway.processes.embedded_redis import EmbeddedRedis
from nlu.meaning import Meaning

__all__ = ["Row", "measure_redis", "talk"]

TODAY: Final = date(2026, 11, 21)
BOT: Final = load_bot("bill-reminder")


def said(intent: str, marked: str) -> CallerSaid:
    """A caller's turn as understood; slots are marked as in "[friday](date)"."""
    text, slots = read_marked(marked)
    return CallerSaid(text=text, meaning=Meaning(intent, 0.9, slots))


TURNS: Final = (
    said("affirm", "yes speaking"),
    said("inform", "[four four one seven](digits)"),
    said("promise_to_pay", "i will pay on [friday](date)"),
    said("deny", "no on [monday](date)"),
    said("affirm", "yes that is right"),
    said("ask_amount", "how much is it again"),
)
"""A call from the greeting to the promise, with a correction and a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to keep the state."""

    name: str
    dialogues: int
    turns: int
    wall_s: float
    cpu_s: float
    turn_ms: Sequence[float]
    server_us: float | None = None

    def figures(self) -> dict[str, object]:
        """For people and programs."""
        ms = np.array(self.turn_ms)
        return {
            "store": self.name,
            "dialogues": self.dialogues,
            "turns": self.turns,
            "turns_per_s": round(self.turns / self.wall_s),
            "p50_ms": round(float(np.quantile(ms, 0.5)), 3),
            "p99_ms": round(float(np.quantile(ms, 0.99)), 3),
            "cpu_us": round(1e6 * self.cpu_s / self.turns, 1),
            "server_us": None if self.server_us is None else round(self.server_us, 1),
        }


async def talk(name: str, store: StateStore, *, dialogues: int, turns: int, at_once: int) -> Row:
    """All dialogues over one store: opened, then turn by turn."""
    loops = [DialogueLoop(BOT, store, f"bench-{name}-{n}", today=lambda: TODAY) for n in range(dialogues)]
    await _in_turn([loop.open for loop in loops], at_once)
    words = [TURNS[n % len(TURNS)] for n in range(turns)]
    took: list[float] = []

    async def one_turn(loop: DialogueLoop, event: CallerSaid) -> None:
        begun = time.perf_counter()
        await loop.handle(event)
        took.append(1000 * (time.perf_counter() - begun))

    wall, cpu = time.perf_counter(), time.process_time()
    for event in words:
        await _in_turn([_bound(one_turn, loop, event) for loop in loops], at_once)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Row(name=name, dialogues=dialogues, turns=dialogues * turns, wall_s=wall, cpu_s=cpu, turn_ms=took)


def _bound(
    turn: Callable[[DialogueLoop, CallerSaid], Awaitable[None]], loop: DialogueLoop, event: CallerSaid
) -> Callable[[], Awaitable[object]]:
    return lambda: turn(loop, event)


async def _in_turn(work: Sequence[Callable[[], Awaitable[object]]], at_once: int) -> None:
    """All of it, so many at a time."""
    waiting = iter(work)

    async def one_after_another() -> None:
        for do in waiting:
            await do()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(one_after_another())


async def measure_redis(url: str, *, dialogues: int, turns: int, at_once: int, name: str = "redis") -> Row:
    """A row over Redis, with what the server says of its scripts."""
    client = connect(url, timeout_s=30)
    store = RedisStore(client)
    await client.config_resetstat()
    before = await _script_calls(url)
    row = await talk(name, store, dialogues=dialogues, turns=turns, at_once=at_once)
    calls, usec = (after - was for after, was in zip(await _script_calls(url), before, strict=True))
    await client.aclose()
    return Row(
        name=row.name,
        dialogues=row.dialogues,
        turns=row.turns,
        wall_s=row.wall_s,
        cpu_s=row.cpu_s,
        turn_ms=row.turn_ms,
        server_us=usec / max(1, calls),
    )


async def _script_calls(url: str) -> tuple[int, int]:
    """Calls of scripts so far, and microseconds in them."""
    client = connect(url, timeout_s=30)
    told = (await client.info("commandstats")).get("cmdstat_evalsha", {"calls": 0, "usec": 0})
    await client.aclose()
    return int(told["calls"]), int(told["usec"])


def measure_step(*, dialogues: int, turns: int) -> Row:
    """The decisions alone."""
    state, _ = step(BOT.flow, DialogueState(), CallStarted(today=TODAY.isoformat()))
    states = [state] * dialogues
    took: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    for n in range(turns):
        event = TURNS[n % len(TURNS)]
        for at, before in enumerate(states):
            begun = time.perf_counter()
            states[at], _ = step(BOT.flow, before, event)
            took.append(1000 * (time.perf_counter() - begun))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Row(name="step", dialogues=dialogues, turns=dialogues * turns, wall_s=wall, cpu_s=cpu, turn_ms=took)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dialogues", type=int, default=10_000, help="open at once (default %(default)s)")
    parser.add_argument("--turns", type=int, default=6, help="of each (default %(default)s)")
    parser.add_argument("--at-once", type=int, default=64, help="turns in progress (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    size = {"dialogues": args.dialogues, "turns": args.turns}
    rows = [measure_step(**size)]
    rows.append(uvloop.run(talk("memory", MemoryStore(), **size, at_once=args.at_once)))
    with tempfile.TemporaryDirectory(prefix="vg-") as folder:
        with EmbeddedRedis(Path(folder, "state"), Path(folder, "run")) as server:
            rows.append(uvloop.run(measure_redis(server.url, **size, at_once=args.at_once)))
            size["turns"] = 1
            rows.append(uvloop.run(measure_redis(server.url, **size, at_once=1, name="redis, 1")))
    figures = [row.figures() for row in rows]
    print("  ".join(f"{name:>11}" for name in figures[0]))
    for line in figures:
        print("  ".join(f"{'' if value is None else value:>11}" for value in line.values()))
    if args.json:
        args.json.write_text(json.dumps({"machine": describe_machine(), "rows": figures}, indent=2))


if __name__ == "__main__":
    main()
