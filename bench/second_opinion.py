"""What does a second opinion buy, and what does it cost, for two models of one bot?

    python -m bench.second_opinion --light MODEL --heavy MODEL --data FILE [--json FILE]

Every line is answered by both models; then, for a range of `below` (bot.yaml, `second_opinion`), the light answer is
taken where it is sure and the heavy one where it is in doubt, as `gateway.inference.second_opinion` does. Time is one
line at a time on one thread, the light model's always and the heavy one's where it is asked: what a lone caller waits.
Choose `below` on a file of development lines, and read the test file once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from gateway.inference.second_opinion import is_doubtful
from gateway.machine import describe_machine
from nlu.data import Example, read_dataset
from nlu.engine import NluEngine
from nlu.evaluation import predict_all, score
from nlu.meaning import Meaning

__all__ = ["Figures", "weigh_all"]

THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.01)
"""0: the light model alone, as far as scope is not asked; 1.01: everybody asks the heavy one."""
TIMED_LINES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One threshold. Shares 0..1, None where the file has nothing to count; `mean_ms` a line."""

    below: float
    asked: float
    intent: float | None
    slot_f1: float | None
    sentence: float | None
    mean_ms: float


def weigh_all(
    examples: Sequence[Example],
    light: Sequence[Meaning],
    heavy: Sequence[Meaning],
    *,
    light_ms: float,
    heavy_ms: float,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[Figures]:
    """Figures for each threshold from both models' answers, line by line."""
    found = []
    for below in thresholds:
        doubtful = [is_doubtful(first, below) for first in light]
        given = [second if doubt else first for first, second, doubt in zip(light, heavy, doubtful, strict=True)]
        asked = statistics.fmean(doubtful)
        result = score(examples, given)
        found.append(
            Figures(
                below=below,
                asked=asked,
                intent=result.intent_accuracy,
                slot_f1=result.slot_f1,
                sentence=result.sentence_accuracy,
                mean_ms=light_ms + asked * heavy_ms,
            )
        )
    return found


def lone_ms(engine: NluEngine, texts: Sequence[str]) -> float:
    """Median ms of one line alone."""
    engine.warm_up()
    took = []
    for text in texts[:TIMED_LINES]:
        begun = time.perf_counter()
        engine.predict([text])
        took.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took)


def main() -> None:
    """Parse the command line, ask both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--light", type=Path, required=True)
    parser.add_argument("--heavy", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    examples = read_dataset(arguments.data).examples
    texts = [example.text for example in examples]
    engines = [NluEngine.load(path) for path in (arguments.light, arguments.heavy)]
    answers = [predict_all(engine, examples) for engine in engines]
    light_ms, heavy_ms = (lone_ms(engine, texts) for engine in engines)
    rows = weigh_all(examples, *answers, light_ms=light_ms, heavy_ms=heavy_ms)
    print(describe_machine())
    print(f"{len(examples)} lines; one alone: light {light_ms:.1f} ms, heavy {heavy_ms:.1f} ms")
    print("below   asked  intent  slot F1  sentence  ms a line")
    for row in rows:
        shares = "  ".join(
            f"{'-' if share is None else f'{100 * share:.2f}':>7}" for share in (row.intent, row.slot_f1, row.sentence)
        )
        print(f"{row.below:5.2f}  {row.asked:6.1%}  {shares}  {row.mean_ms:9.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
