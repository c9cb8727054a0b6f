"""How many texts a second are understood, how fast is one alone, and does exchanging the model harm anybody?

    python -m bench.nlu [--model DIR] [--data FILE] [--tokens 12] [--askers 1,2,4,8,16,32,64] [--rates 100,200,300,400]
        [--engines 1] [--threads 1] [--cores 1] [--max-batch 32] [--max-wait-ms 0] [--max-padding 0.1]
        [--compute-type default] [--seconds 5] [--json FILE]
    python -m bench.nlu --swap [--rate 200] [--seconds 20]

The model is the bundled bot's, behind the batcher and the pool that the inference worker uses, with that worker's
settings; no socket and no HTTP. Lines are those of the bot's examples that are `--tokens` word pieces long, [CLS] and
[SEP] included; 0 takes all. This process is kept on `--cores` cores, askers and event loop included.

Closed rows: so many askers, each with one text at a time. Open rows: texts come at that rate at random moments
(Poisson, seeded), whether or not the others were answered. `cpu` is the process's own CPU time for a line; on a machine
that others use it is what can be compared, and 1000 / cpu is what the core would do if it were ours alone.

`--swap`: turns come at a rate. Each is asked for twice, as a call does: a speculation, and the endpoint 0.4 s later.
After a third of the time another version is loaded and goes live; the first is unloaded, 2 s after its last request;
and a rollback loads it again. A turn whose two answers are of different versions counts as mixed.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import uvloop
from prometheus_client import CollectorRegistry

from dialogue.bots import Bot, load_bot
from gateway.inference.batching import BatcherSettings, Shed
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.model_commands import ModelAction, ModelCommand
from gateway.inference.model_loading import BotModels
from gateway.inference.model_serving import ModelServing
from gateway.inference.seam import InferenceError, TurnId
from gateway.inference.worker import nlu_batches
from gateway.machine import describe_machine
from gateway.metrics import InferenceMetrics
from gateway.settings import NluSettings
from nlu.artefact import read_artefact, write_artefact
from nlu.engine import NluEngine

BOT = "bill-reminder"
TIMEOUT_S = 10.0
TAIL_S = 0.4  # between a speculation and its endpoint
RETIRE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured load. `askers` 0: open, at `offered_per_s`."""

    askers: int
    offered_per_s: float
    answered_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_batch: float
    cpu_ms: float
    """Of the process, a line."""
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapReport:
    """What a swap did to the turns around it."""

    turns: int
    requests: int
    shed: int
    """Speculations refused because an endpoint's job was better worth the time."""
    failed: int
    """All other requests without an answer."""
    mixed: int
    by_version: dict[str, int]
    load_s: float
    """From the command to the new version answering."""
    p99_before_ms: float
    p99_loading_ms: float
    p99_after_ms: float
    rss_before_mib: float
    rss_after_mib: float
    """When the version that was replaced had been unloaded."""


def lines_of(engine: NluEngine, data: Path, tokens: int) -> list[str]:
    """Texts of a data file that are `tokens` long; all of them for 0.

    Raises:
        SystemExit: there is none.
    """
    texts = [json.loads(line)["text"] for line in data.read_text(encoding="utf-8").splitlines() if line.strip()]
    fitting = [text for text in texts if not tokens or engine.padded_tokens(engine.read(text)) == tokens]
    if not fitting:
        sys.exit(f"{data}: no line of {tokens} tokens; choose another length with --tokens")
    return fitting


@contextmanager
def serving_of(engine: NluEngine, batches: BatcherSettings) -> Iterator[tuple[ModelServing, CollectorRegistry]]:
    """The engine as the inference worker serves it; to be entered."""
    registry = CollectorRegistry()
    yield (
        ModelServing({BOT: engine}, settings=batches, metrics=InferenceMetrics(registry)),
        registry,
    )


class Load:
    """One row in the making: what was asked and how long it took."""

    def __init__(self, serving: ModelServing, registry: CollectorRegistry) -> None:
        self._serving = serving
        self._registry = registry
        self._took_ms: list[float] = []
        self._refused = 0
        self._jobs, self._batches = self._counts()
        self._cpu, self._began = time.process_time(), time.perf_counter()

    async def ask(self, text: str) -> None:
        """Ask once; a refusal is counted."""
        began = time.perf_counter()
        try:
            await self._serving.understand(BOT, text, timeout_s=TIMEOUT_S, errand=None, turn=None)
        except InferenceError:
            self._refused += 1
            return
        self._took_ms.append(1000 * (time.perf_counter() - began))

    def row(self, *, askers: int = 0, offered_per_s: float = 0.0) -> Row:
        """The row, now."""
        seconds, cpu = time.perf_counter() - self._began, time.process_time() - self._cpu
        jobs, batches = self._counts()
        p50, p90, p99 = np.percentile(self._took_ms, (50, 90, 99)) if self._took_ms else (np.nan,) * 3
        return Row(
            askers=askers,
            offered_per_s=offered_per_s,
            answered_per_s=len(self._took_ms) / seconds,
            p50_ms=float(p50),
            p90_ms=float(p90),
            p99_ms=float(p99),
            mean_batch=(jobs - self._jobs) / max(1.0, batches - self._batches),
            cpu_ms=1000 * cpu / max(1, len(self._took_ms)),
            refused=self._refused,
        )

    def _counts(self) -> tuple[float, float]:
        labels = {"engine": f"nlu {BOT}"}
        found = (
            self._registry.get_sample_value(f"voicegate_inference_batch_size_{part}", labels)
            for part in ("sum", "count")
        )
        jobs, batches = (value or 0.0 for value in found)
        return jobs, batches


async def closed(load: Load, lines: Sequence[str], askers: int, seconds: float) -> Row:
    """So many askers, each with one text at a time."""
    until = time.perf_counter() + seconds

    async def asker(first: int) -> None:
        number = first
        while time.perf_counter() < until:
            await load.ask(lines[number % len(lines)])
            number += askers

    await asyncio.gather(*(asker(number) for number in range(askers)))
    return load.row(askers=askers)


async def open_loop(load: Load, lines: Sequence[str], rate: float, seconds: float) -> Row:
    """Texts that come at a rate, whether or not the others were answered."""
    until = time.perf_counter() + seconds
    await at_rate(rate, lambda: time.perf_counter() < until, lambda number: load.ask(lines[number % len(lines)]))
    return load.row(offered_per_s=rate)


async def at_rate(rate: float, going: Callable[[], bool], begin: Callable[[int], Coroutine[None, None, None]]) -> None:
    """Begin something at random moments of that mean rate for as long as it is `going`, and wait for all of it."""
    gaps = random.Random(0)
    async with asyncio.TaskGroup() as tasks:
        due, number = time.perf_counter(), 0
        while going():
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(begin(number))
            due += gaps.expovariate(rate)
            number += 1


async def run_loads(options: argparse.Namespace, engine: NluEngine, batches: BatcherSettings) -> list[Row]:
    """All rows, each printed as it is there."""
    lines = lines_of(engine, options.data, options.tokens)
    engine.warm_up(50)
    rows: list[Row] = []
    print(printed([field.name for field in dataclasses.fields(Row)]))
    with serving_of(engine, batches) as (serving, registry):
        async with serving:
            for askers in options.askers:
                rows.append(await closed(Load(serving, registry), lines, askers, options.seconds))
                print(printed(cells(rows[-1])), flush=True)
            for rate in options.rates:
                rows.append(await open_loop(Load(serving, registry), lines, rate, options.seconds))
                print(printed(cells(rows[-1])), flush=True)
    return rows


async def run_swap(
    options: argparse.Namespace, bot: Bot, settings: NluSettings, batches: BatcherSettings
) -> SwapReport:
    """Turns at a rate, a load and a rollback among them."""
    first = BotModels([bot], settings).first()
    lines = lines_of(first[BOT], options.data, options.tokens)
    with tempfile.TemporaryDirectory(prefix="nlu-swap-") as work:
        source = BotModels([bot], settings.model_copy(update={"model_dirs": (Path(work),)}))
        manifest, state, _ = read_artefact(Path(first[BOT].path))
        write_artefact(Path(work), dataclasses.replace(manifest, name="other"), state)
        del state
        serving = ModelServing(
            first,
            settings=batches,
            metrics=InferenceMetrics(CollectorRegistry()),
            load=source.load,
            retire_after_s=RETIRE_S,
        )
        first.clear()  # the serving alone holds it, or it would never be unloaded
        async with serving:
            return await _swap(options, serving, lines, Path(work))


async def _swap(options: argparse.Namespace, serving: ModelServing, lines: Sequence[str], other: Path) -> SwapReport:
    requests: list[tuple[float, float, str]] = []  # when, ms, version; "" where there was no answer
    shed: list[TurnId] = []
    mixed: list[TurnId] = []

    async def ask(text: str, turn: TurnId, urgency: Urgency) -> str:
        began = time.perf_counter()
        try:
            understood = await serving.understand(BOT, text, timeout_s=TIMEOUT_S, errand=Errand(urgency), turn=turn)
            version = understood.version
        except InferenceError as exc:
            version = ""
            if isinstance(exc.__cause__, Shed):
                shed.append(turn)
        requests.append((began, 1000 * (time.perf_counter() - began), version))
        return version

    async def take_turn(number: int) -> None:
        turn, text = TurnId(f"call-{number % 500}", number // 500 + 1), lines[number % len(lines)]
        early = await ask(text, turn, Urgency.SPECULATIVE)
        await asyncio.sleep(TAIL_S)
        late = await ask(text, turn, Urgency.ENDPOINT)
        if early and late and early != late:
            mixed.append(turn)

    async def exchange() -> tuple[float, float, float]:
        await asyncio.sleep(options.seconds / 3)
        began = time.perf_counter()
        await serving.administer(ModelCommand(action=ModelAction.LOAD, bot=BOT, path=str(other)))
        loaded = time.perf_counter()
        await asyncio.sleep(max(options.seconds / 3, RETIRE_S + 1))
        back = time.perf_counter()
        await serving.administer(ModelCommand(action=ModelAction.ROLLBACK, bot=BOT))
        await asyncio.sleep(options.seconds / 3)
        return began, loaded, back

    rss_before = _rss_mib()
    exchanging = asyncio.create_task(exchange())
    await at_rate(options.rate / 2, lambda: not exchanging.done(), take_turn)
    began, loaded, back = await exchanging
    await asyncio.sleep(RETIRE_S + 0.5)

    def p99(since: float, until: float) -> float:
        took = [ms for when, ms, _ in requests if since <= when < until]
        return float(np.percentile(took, 99)) if took else float("nan")

    return SwapReport(
        turns=len(requests) // 2,
        requests=len(requests),
        shed=len(shed),
        failed=sum(not version for _, _, version in requests) - len(shed),
        mixed=len(mixed),
        by_version={v: sum(v == version for _, _, version in requests) for v in {v for _, _, v in requests} - {""}},
        load_s=loaded - began,
        p99_before_ms=p99(0.0, began),
        p99_loading_ms=p99(began, loaded),
        p99_after_ms=p99(loaded, back),
        rss_before_mib=rss_before,
        rss_after_mib=_rss_mib(),
    )


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def printed(columns: Sequence[str]) -> str:
    """One line of the table."""
    return "".join(f"{column:>15}" for column in columns)


def cells(row: Row) -> list[str]:
    """A row's columns."""
    return [f"{value:.2f}" if isinstance(value, float) else str(value) for value in asdict(row).values()]


def main() -> None:
    """Entry point."""

    def numbers(text: str) -> list[float]:
        return [float(number) for number in text.split(",") if number]

    parser = argparse.ArgumentParser(description="Texts understood a second, and what a swap of the model does.")
    parser.add_argument("--model", type=Path, help="an artefact; default: the bundled bot's")
    parser.add_argument("--data", type=Path, help="JSON Lines; default: the bundled bot's dev examples")
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument(
        "--askers", type=lambda text: [int(number) for number in numbers(text)], default=[1, 2, 4, 8, 16, 32, 64]
    )
    parser.add_argument("--rates", type=numbers, default=[100.0, 200.0, 300.0, 400.0])
    parser.add_argument("--seconds", type=float, help="of each row; of a swap, without the time that loading takes")
    parser.add_argument("--swap", action="store_true")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second around a swap")
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU, for one batch")
    parser.add_argument("--cores", type=int, default=1, help="that this process may use")
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--max-wait-ms", type=float)
    parser.add_argument("--max-padding", type=float, help="share that padding may add to a batch")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--compute-type", choices=("default", "float32", "bfloat16", "float16"), default="default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.seconds = options.seconds or (20.0 if options.swap else 5.0)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    torch.set_num_threads(options.threads)
    bot = load_bot(BOT)
    if options.model is not None:
        bot = dataclasses.replace(bot, nlu_path=options.model.resolve())
    options.data = options.data or bot.directory / "examples.dev.jsonl"
    chosen = {
        name: getattr(options, name) for name in ("device", "compute_type", "engines", "max_batch", "max_wait_ms")
    }
    settings = NluSettings.model_validate(chosen)
    assert bot.nlu_path is not None
    engine = NluEngine.load(bot.nlu_path, options.device, compute_type=options.compute_type)
    batches = nlu_batches(settings, cuda=torch.cuda.is_available() and options.device != "cpu")
    if options.max_padding is not None:
        batches = dataclasses.replace(batches, max_padding=options.max_padding)
    document: dict[str, object] = {"machine": describe_machine(), "settings": settings.model_dump(mode="json")}
    if options.swap:
        report = uvloop.run(run_swap(options, bot, settings, batches))
        document["swap"] = asdict(report)
        print(json.dumps(document["swap"], indent=2))
    else:
        rows = uvloop.run(run_loads(options, engine, batches))
        document["rows"] = [asdict(row) for row in rows]
    if options.json:
        options.json.write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
