"""How many utterances a second does a device transcribe, by engine, model size, window, batch, and for how many calls?

    python -m bench.asr_batching [--device auto] [--sizes tiny,base,small] [--windows 3,5,10,30] [--batches 1,4,16,64]
        [--engine auto|both|ctranslate2|torch] [--compute-type default] [--seconds 3] [--json FILE] [--html FILE]

Models of OpenAI's shapes with random weights (`bench.random_whisper`) that say 12 tokens and stop, as 3 s of speech do;
a window is what the utterance is padded to, 30 s for stock weights. Each cell is `transcribe` of a whole batch through
the engine: resampling, features, encoder, decoder, gates. `features` is the part of it that a single CPU core computes
before the device gets anything, measured apart.

    calls = utterances/s x 3 s / (1/3) = 9 x utterances/s

One call in which the caller speaks a third of the time in utterances of 3 s makes one utterance in 9 s. The figure is
the device's limit with nothing else to do and no waiting; plan for about 60 % of it. An utterance that goes on after a
pause has cost a speculation more.

A cell runs for `--seconds`, at least 3 and at most 200 batches; p99 of fewer than 100 batches is their slowest.

Not yet run on a GPU: none was at hand. CPU figures say that it works, and nothing of a GPU.
"""

from __future__ import annotations

import argparse
import html
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from faster_whisper.feature_extractor import FeatureExtractor

from audio.asr import AsrJob
from audio.engine_choice import Engine, choose_engine, load_engine
from audio.formats import AudioError
from audio.gates import GateSettings
from audio.whisper import WhisperRecogniser
from bench.random_whisper import SHAPES, convert, make_whisper
from gateway.machine import describe_machine

SPEECH_SHARE = 1 / 3
UTTERANCE_S = 3.0
TOKENS = 12
CALL_HZ = 8000
TAIL_S = 0.08  # what the engine adds behind the last sample, so that a window is filled and not exceeded
MIN_BATCHES, MAX_BATCHES = 3, 200
OPEN_GATES = GateSettings(min_avg_logprob=-99, min_loudest_dbfs=-200, max_no_speech_prob=1, max_compression_ratio=99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured cell; times are of a whole batch."""

    engine: str
    device: str
    size: str
    window_s: float
    batch: int
    utterances_per_s: float
    p50_ms: float
    p99_ms: float
    features_ms: float
    batches: int

    @property
    def calls(self) -> int:
        """Calls that this rate serves; see the module's docstring."""
        return int(self.utterances_per_s * UTTERANCE_S / SPEECH_SHARE)


def jobs(count: int, window_s: float) -> list[AsrJob]:
    """Noise as loud as speech, each utterance its own, filling the window."""
    rng = np.random.default_rng(count)
    samples = int((window_s - TAIL_S) * CALL_HZ)
    return [AsrJob(pcm=rng.normal(0, 3000, samples).astype(np.int16), language="en") for _ in range(count)]


def features_ms(window_s: float, batch: int) -> float:
    """Milliseconds to compute a batch's features, from the median of nine windows."""
    extract = FeatureExtractor()
    audio = np.random.default_rng(0).normal(0, 0.1, int((window_s - TAIL_S) * extract.sampling_rate))
    took = []
    for _ in range(9):
        began = time.perf_counter()
        extract(audio.astype(np.float32))
        took.append(time.perf_counter() - began)
    return 1000 * batch * float(np.median(took))


def measure(engine: WhisperRecogniser, name: str, size: str, window_s: float, batch: int, seconds: float) -> Row:
    """One cell.

    Raises:
        AssertionError: the model did not say its tokens, so its time means nothing.
    """
    batch_jobs = jobs(batch, window_s)
    assert {engine.padded_frames(job) for job in batch_jobs} == {round(window_s * 100)}
    heard = engine.transcribe(batch_jobs)  # untimed: memory is found, kernels are chosen
    assert all(len(one.text.split()) == TOKENS for one in heard), f"{size} says {heard[0].text!r}"
    took: list[float] = []
    while len(took) < MIN_BATCHES or (sum(took) < seconds and len(took) < MAX_BATCHES):
        began = time.perf_counter()
        engine.transcribe(batch_jobs)
        took.append(time.perf_counter() - began)
    return Row(
        engine=name,
        device=engine.device,
        size=size,
        window_s=window_s,
        batch=batch,
        utterances_per_s=batch * len(took) / sum(took),
        p50_ms=1000 * float(np.percentile(took, 50)),
        p99_ms=1000 * float(np.percentile(took, 99, method="higher")),
        features_ms=features_ms(window_s, batch),
        batches=len(took),
    )


def run(options: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Every cell, one after another; what cannot be loaded or run here is said and left out."""
    for size in options.sizes:
        print(f"making whisper-{size} with random weights ...", file=sys.stderr)
        hugging_face = make_whisper(work / size / "hf", SHAPES[size], says=TOKENS)
        folders = {Engine.TORCH: hugging_face, Engine.CTRANSLATE2: work / size / "ct2"}
        convert(hugging_face, folders[Engine.CTRANSLATE2], quantization="float16")
        for folder in folders.values():
            (folder / "voicegate.json").write_text(json.dumps({"name": size, "short_windows": True}))
        for engine in engines(options.engine, options.device):
            try:
                loaded = load_engine(
                    folders[engine],
                    engine=engine,
                    device=options.device,
                    compute_type=options.compute_type,
                    threads=options.threads,
                    max_batch=max(options.batches),
                    gates=OPEN_GATES,
                )
            except AudioError as error:
                print(f"{engine}: {error}", file=sys.stderr)
                continue
            for window_s in options.windows:
                for batch in options.batches:
                    try:
                        yield measure(loaded, engine, size, window_s, batch, options.seconds)
                    except RuntimeError as error:  # out of memory: larger batches of this window would be too
                        print(f"{engine} {size} {window_s:g} s batch {batch}: {error}", file=sys.stderr)
                        break


def engines(asked: str, device: str) -> list[Engine]:
    """auto: the one that a stock model would get here."""
    if asked == "both":
        return list(Engine)
    return [choose_engine("small", engine=asked, device=device).engine]


HEADINGS = ("engine", "device", "model", "window s", "batch", "utt/s", "p50 ms", "p99 ms", "features ms", "calls")


def cells(row: Row) -> tuple[str, ...]:
    """A row as a person reads it."""
    return (
        row.engine, row.device, row.size, f"{row.window_s:g}", str(row.batch), f"{row.utterances_per_s:.1f}",
        f"{row.p50_ms:.1f}", f"{row.p99_ms:.1f}", f"{row.features_ms:.1f}", str(row.calls),
    )  # fmt: skip


def printed(values: Sequence[str]) -> str:
    """Columns of the text table."""
    return f"{values[0]:12}{values[1]:7}{values[2]:7}" + "".join(f"{value:>12}" for value in values[3:])


def page(rows: Sequence[Row], machine: dict[str, str]) -> str:
    """An HTML page that needs nothing else: the table, a bar for each rate, the machine."""
    most = max((row.utterances_per_s for row in rows), default=1.0)
    lines = [
        "<tr>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(row))
        + f'<td><div style="width:{240 * row.utterances_per_s / most:.0f}px"></div></td></tr>'
        for row in rows
    ]
    heads = "".join(f"<th>{name}</th>" for name in (*HEADINGS, "utterances/s"))
    facts = "".join(f"<li>{html.escape(f'{key}: {value}')}</li>" for key, value in machine.items())
    return f"""<!doctype html><meta charset="utf-8"><title>ASR batching</title>
<style>body{{font:14px sans-serif;margin:2em}}td,th{{padding:.2em .8em;text-align:right}}
td div{{background:#47a;height:.8em}}</style>
<h1>ASR batching</h1>
<p>calls = utterances/s x {UTTERANCE_S:g} s / {SPEECH_SHARE:.2f}: a caller who speaks a third of the time in
utterances of {UTTERANCE_S:g} s. Random weights, {TOKENS} tokens an utterance.</p>
<table><tr>{heads}</tr>{"".join(lines)}</table><ul>{facts}</ul>"""


def machine_facts() -> dict[str, str]:
    """This machine, its GPU and transformers included."""
    facts = {**describe_machine(), "transformers": version("transformers")}
    if torch.cuda.is_available():
        facts["gpu"] = f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}"
    return facts


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Utterances a second by engine, model size, window and batch.")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--engine", choices=("auto", "both", *Engine), default="both")
    parser.add_argument("--compute-type", default="default")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU, for one batch")
    parser.add_argument("--sizes", type=lambda text: text.split(","), default=list(SHAPES))
    parser.add_argument("--windows", type=lambda text: [*map(float, text.split(","))], default=[3.0, 5.0, 10.0, 30.0])
    parser.add_argument("--batches", type=lambda text: [*map(int, text.split(","))], default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each cell")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--html", type=Path)
    options = parser.parse_args()
    if unknown := set(options.sizes) - set(SHAPES):
        parser.error(f"no size {', '.join(sorted(unknown))}; choose among {', '.join(SHAPES)}")
    if not all(2 <= window <= 30 and window * 2 == int(window * 2) for window in options.windows):
        parser.error("windows are 2 to 30 s, in half seconds")
    rows: list[Row] = []
    print(printed(HEADINGS))
    with tempfile.TemporaryDirectory(prefix="asr-batching-") as work:
        for row in run(options, Path(work)):
            rows.append(row)
            print(printed(cells(row)), flush=True)
    machine = machine_facts()
    if options.json:
        document = {"machine": machine, "rows": [{**asdict(row), "calls": row.calls} for row in rows]}
        options.json.write_text(json.dumps(document, indent=2))
    if options.html:
        options.html.write_text(page(rows, machine), encoding="utf-8")


if __name__ == "__main__":
    main()
