"""How many whole conversations at once does this machine carry with every budget held, and what ends it?

    python -m bench.conversations [--calls 200] [--json FILE] [--html FILE] [--plot FILE.svg]
    python -m bench.conversations --asr simulated [--calls 1000] [--asr-ms 30] [--asr-more 0.166]
    python -m bench.conversations --calls 40 --only          40 at once and no climb

A whole gateway with its Redis and control plane, and recorded callers (gateway/demo, gateway/demo/paid, and one who
interrupts) who talk through the bill reminder from its greeting to its goodbye, at real time, from this machine too.
The bot's voice is quick (`--rate`), so that callers speak a third of the time, and the speaking costs the models what
it does in an hour's mean. First every caller once, three at a time: endings and transcripts are compared with those.
Then a step: so many lines are opened over `--ramp` seconds, each for one conversation. Half as many again at each next
step, until a budget fails twice or `--calls` are reached.

    --asr real        recognition and understanding are real, on the CPU, in the gateway's own inference process
    --asr simulated   recognition takes the time of a GPU's batch and gives the words that were heard before
                      (`bench.simulated_asr`), over Redis streams; all else is real, understanding too

Every budget of the design is judged: what the replay's report cannot know is filled in here.

    barge_in_ms    the gateway's own histogram, upper ends of its buckets
    frame_cpu_us   CPU of the workers, turns and playout and all, per frame: more than the budget's definition counts
    intent_ms      `nlu_ms` of the turns, on this CPU, beside all else; the budget is for a GPU at 5,000 texts a second

The last two are harder here than by their definition: met where they are below the limit, and else not measured.

Printed besides, for each step: cores used by each process, how long jobs waited for the engines, what the step failed
for. Exit code 1 where `--calls` were not reached with everything held.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from bench.conversation_setup import Plan, callers, gateway_for, quick_bot, speech_s
from bench.conversation_steps import Climb, Step, barge_in, document, judge, plot, summary, with_own_budgets
from bench.plots import write_plot
from bench.process_watch import engines_between, mean_shares
from bench.simulated_asr import GpuTime, words_not_known
from gateway import background, logs
from gateway.machine import describe_machine
from gateway.processes.embedded_redis import EmbeddedRedisError
from gateway.processes.facts import PortTakenError
from gateway.processes.supervisor import ChildFailedError, Gateway
from gateway.replay.bench import replay
from gateway.replay.client_processes import ClientDiedError
from gateway.replay.counters import MetricsError, fetch_metrics
from gateway.replay.load import Caller, Load, Progress, processes_for
from gateway.replay.page import page
from gateway.replay.record import CallRecord, Measured
from gateway.replay.report import report
from gateway.settings import SettingsError

__all__ = ["climb", "main"]

_FRAME_S: Final = 0.02
_SPARE_DESCRIPTORS: Final = 200


async def climb(plan: Plan, told: Callable[[str], None], save: Callable[[Climb], None] = lambda climb: None) -> Climb:
    """Run it; must run on the main thread.

    Args:
        told: a line of progress for a person.
        save: told after each step.
    """
    found, everybody = Climb(), callers()
    with tempfile.TemporaryDirectory(prefix="vg-") as name:
        folder = Path(name)
        bot = quick_bot(folder / "bot", plan.rate)
        if plan.asr == "simulated":
            told("the callers by themselves, before the real recogniser, whose words are noted ...")
            async with gateway_for(plan, folder, bot, learn=True) as (gateway, _):
                found.alone = await _by_themselves(gateway, everybody)
        async with gateway_for(plan, folder, bot) as (gateway, read_engines):
            if plan.asr == "real":
                told("the callers by themselves ...")
                found.alone = await _by_themselves(gateway, everybody)
            if broken := [record for record in found.alone if record.faults or record.cut]:
                raise MetricsError(f"a caller failed by himself already: {broken[0].faults or broken[0].ended_by}")
            found.call_s = sum(record.frames_sent for record in found.alone) * _FRAME_S / len(everybody)
            found.speech_share = sum(map(speech_s, everybody)) / len(everybody) / found.call_s
            told(f"callers speak {found.speech_share:.0%} of calls of {found.call_s:.0f} s")
            found.began = time.monotonic()
            looking = asyncio.create_task(found.watch.run())
            try:
                await _steps(plan, gateway, everybody, read_engines, found, told, save)
            finally:
                await background.stop([looking])
    return found


async def _steps(
    plan: Plan,
    gateway: Gateway,
    everybody: Sequence[Caller],
    read_engines: Callable[[], str],
    found: Climb,
    told: Callable[[str], None],
    save: Callable[[Climb], None],
) -> None:
    calls, missed = (plan.calls if plan.only else min(plan.first, plan.calls)), False
    while True:
        step = await _step(plan, gateway, everybody, read_engines, found, calls, told)
        found.steps.append(step)
        save(found)
        told(summary(step))
        if step.faults:
            if missed or plan.only:
                return
            missed = True  # a busy neighbour may spoil a step, but hardly two
        elif calls >= plan.calls:
            return
        else:
            calls, missed = min(plan.calls, calls * 3 // 2), False


async def _step(
    plan: Plan,
    gateway: Gateway,
    everybody: Sequence[Caller],
    read_engines: Callable[[], str],
    found: Climb,
    calls: int,
    told: Callable[[str], None],
) -> Step:
    fetch = partial(fetch_metrics, gateway.control_url, None)
    work = Load(
        url=f"ws://127.0.0.1:{gateway.port}",
        callers=everybody,
        calls=calls,
        ramp_s=plan.ramp_s,
        bot="bill-reminder",
        processes=processes_for(calls),
        solo=False,
        own_gateway=True,
        read_metrics=fetch,
    )
    last = 0.0

    def shown(progress: Progress) -> None:
        nonlocal last
        if progress.at_s - last >= 10:
            last = progress.at_s
            told(f"  {progress.at_s:4.0f} s: {progress.live} talk, {progress.done} done, {progress.failed} failed")

    first, texts = found.watch.look(), [await asyncio.to_thread(read) for read in (fetch, read_engines)]
    measured: Measured = replace(await replay(work, shown), alone=found.alone)
    after = found.watch.look()
    metrics, engines = [await asyncio.to_thread(read) for read in (fetch, read_engines)]
    seconds = after.at - first.at
    worker_cpu_s = after.cpu_s.get("worker", 0.0) - first.cpu_s.get("worker", 0.0)
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    plain = report(measured, machine=describe_machine(), date=date)
    overs, before = barge_in(metrics), barge_in(texts[0])
    judged = with_own_budgets(
        plain,
        barge_in=overs.since(before) if before.ends == overs.ends else overs,
        worker_cpu_s=worker_cpu_s,
        frames=measured.frames.seen,
    )
    return Step(
        calls=calls,
        began_s=round(first.at - found.began, 1),
        report=judged,
        cores=mean_shares(first, after),
        engines=engines_between(texts[1], engines, seconds),
        words_not_known=words_not_known(engines),
        frames_per_s=round(measured.frames.seen / measured.wall_s, 1),
        turns_per_s=round(sum(len(record.turns) for record in measured.records) / measured.wall_s, 2),
        faults=judge(judged),
    )


async def _by_themselves(gateway: Gateway, everybody: Sequence[Caller]) -> list[CallRecord]:
    """Each caller once, all at the same time: as few as can be compared with."""
    few = Load(
        url=f"ws://127.0.0.1:{gateway.port}", callers=everybody, calls=len(everybody), bot="bill-reminder", solo=False
    )
    return list((await replay(few)).records)


def main() -> None:
    """Print every step; exit code 1 where `--calls` were not carried."""
    gpu = GpuTime()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, help="at most (default 200; simulated 1000)")
    parser.add_argument("--first", type=int, help="of the first step (default 6; simulated 60)")
    parser.add_argument("--only", action="store_true", help="one step of --calls, no climb")
    parser.add_argument("--asr", choices=("real", "simulated"), default="real")
    parser.add_argument("--asr-ms", type=float, default=gpu.first_ms, help="a batch of one (default %(default)g)")
    parser.add_argument("--asr-more", type=float, default=gpu.more, help="share of it each more adds (%(default)g)")
    parser.add_argument("--ramp", type=float, default=20.0, help="seconds over which a step begins (%(default)g)")
    parser.add_argument("--workers", type=int, default=1, help="gateway workers (default %(default)s)")
    parser.add_argument("--rate", type=int, default=240, help="words a minute of the bot's voice (%(default)s)")
    parser.add_argument("--json", type=Path, help="write everything to this file, after each step")
    parser.add_argument("--html", type=Path, help="the replay's page of the largest step that held")
    parser.add_argument("--plot", type=Path, help="draw the climb into this SVG")
    args = parser.parse_args()
    simulated = args.asr == "simulated"
    plan = Plan(
        calls=args.calls or (1000 if simulated else 200),
        first=args.first or (60 if simulated else 6),
        only=args.only,
        asr=args.asr,
        gpu=GpuTime(first_ms=args.asr_ms, more=args.asr_more),
        ramp_s=args.ramp,
        workers=args.workers,
        rate=args.rate,
    )
    if plan.calls < 1 or plan.first < 1:
        parser.error("--calls and --first must be 1 or more")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = plan.calls + _SPARE_DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted if hard < 0 else min(wanted, hard)), hard))
    logs.configure("error", "text", process="conversations")

    def save(found: Climb) -> None:
        if args.json:
            args.json.write_text(json.dumps(document(plan, found), indent=1))
        if args.plot:
            write_plot(args.plot, plot(plan, found))
        if args.html:
            best = max(found.steps, key=lambda step: (not step.faults, step.calls))
            args.html.write_text(page(best.report), encoding="utf-8")

    try:
        found = asyncio.run(climb(plan, partial(print, file=sys.stderr, flush=True), save))
    except (ChildFailedError, ClientDiedError, PortTakenError, EmbeddedRedisError, SettingsError, MetricsError) as exc:
        sys.exit(f"the bench came to no end: {exc}; try `voicegate doctor`")
    except TimeoutError:
        sys.exit("the gateway was not ready in time; try `voicegate doctor`")
    print(f"{found.carried} conversations at once with every budget held, callers speaking {found.speech_share:.0%}")
    for step in found.steps:
        print(summary(step))
    sys.exit(0 if found.carried >= plan.calls else 1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
