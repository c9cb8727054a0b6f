"""How well does the default training understand public sets, their noisy twins, and what is out of their scope?

    python -m bench.nlu_accuracy --data DIR [--sets snips banking77 near] [--seeds 0 1 2] [--models DIR] [--json FILE]

DIR holds `snips/{train,dev,test}.jsonl` and `banking77/{train,test}.jsonl` in the form of `voicegate nlu train`, which
is what trains here, with nothing but its defaults: half an hour a model on an idle core. A model that `--models` (by
default a temporary folder) already has is measured, one whose training was interrupted there is gone on with.

    snips      intent, slot F1, sentence; the same with 5, 10 and 20 % of the words misheard (`bench.noisy_text`)
    banking77  intent; and far out of scope: SNIPS's test lines, which a bank's bot should refuse
    near       near out of scope: a fifth of BANKING77's intents held out of training, their test lines refused

BANKING77 has no dev file: a tenth of its training lines is held out, as for any bot. Out of scope, the threshold is the
model's own, from dev lines in scope alone, where it loses 3 %; what it loses of the test lines stands beside what it
finds, and the curve has the threshold chosen on the test lines themselves.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bench.noisy_text import SEED, lexicon, make_noisy
from gateway.machine import describe_machine
from nlu.data import Example, read_dataset
from nlu.engine import NluEngine
from nlu.evaluation import evaluate
from nlu.meaning import OUT_OF_SCOPE
from nlu.report import rejection_curve
from nlu.training import TrainConfig, train

SETS = ("snips", "banking77", "near")
NOISE = (0.05, 0.10, 0.20)
HELD_OUT_SHARE = 0.2
HELD_OUT_SEED = 7

Figures = dict[str, float]


def measure_snips(data: Path, model: Path, seed: int) -> Figures:
    """Clean and noisy test lines."""
    engine = trained(data / "snips" / "train.jsonl", data / "snips" / "dev.jsonl", model, seed)
    test = read_dataset(data / "snips" / "test.jsonl").examples
    figures = named(engine, test, "")
    for rate in NOISE:
        figures |= named(engine, make_noisy(test, lexicon(), rate, SEED), f" at {rate:.0%} word errors")
    return figures


def measure_banking(data: Path, model: Path, seed: int) -> Figures:
    """Test lines, and SNIPS's as far out of scope."""
    engine = trained(data / "banking77" / "train.jsonl", None, model, seed)
    test = read_dataset(data / "banking77" / "test.jsonl").examples
    strangers = read_dataset(data / "snips" / "test.jsonl").examples
    return named(engine, test, "") | rejected(engine, test, strangers)


def measure_near(data: Path, model: Path, seed: int) -> Figures:
    """A fifth of the intents unknown to the model."""
    train_lines = read_dataset(data / "banking77" / "train.jsonl").examples
    intents = sorted({example.intent for example in train_lines})
    held_out = set(random.Random(HELD_OUT_SEED).sample(intents, round(HELD_OUT_SHARE * len(intents))))
    kept = write_lines(model.with_suffix(".jsonl"), (e for e in train_lines if e.intent not in held_out))
    engine = trained(kept, None, model, seed)
    test = read_dataset(data / "banking77" / "test.jsonl").examples
    return rejected(engine, [e for e in test if e.intent not in held_out], [e for e in test if e.intent in held_out])


def trained(train_file: Path, dev: Path | None, model: Path, seed: int) -> NluEngine:
    """The model of that folder, trained first where it is not yet."""
    if not (model / "config.json").is_file():
        summary = train(TrainConfig(train=train_file, dev=dev, out=model, seed=seed, resume=True))
        print(f"{model.name}: {summary.seconds:.0f} s on {summary.threads} threads, dev {summary.dev}")
    return NluEngine.load(model)


def named(engine: NluEngine, examples: Sequence[Example], suffix: str) -> Figures:
    """Figures of an evaluation, in percent."""
    result = evaluate(engine, examples)
    shares = {"intent": result.intent_accuracy, "slot F1": result.slot_f1, "sentence": result.sentence_accuracy}
    return {name + suffix: 100 * share for name, share in shares.items() if share is not None}


def rejected(engine: NluEngine, in_scope: Sequence[Example], strangers: Sequence[Example]) -> Figures:
    """What the model's threshold loses and finds, and the curve."""
    scores = [scope_scores(engine, part) for part in (in_scope, strangers)]
    shares = {"lost": refusals(engine, in_scope), "found": refusals(engine, strangers)}
    curve = {f"found at {point.lost:.1%} lost": 100 * point.recall for point in rejection_curve(*scores)}
    return {f"out of scope: {name}": 100 * share for name, share in shares.items()} | curve


def scope_scores(engine: NluEngine, examples: Sequence[Example]) -> list[float]:
    """How much each line is in scope."""
    return [score for texts in pieces(examples) for score in engine.scope_scores(texts)]


def refusals(engine: NluEngine, examples: Sequence[Example]) -> float:
    """The share of lines that the model calls out of scope."""
    return statistics.fmean(m.intent == OUT_OF_SCOPE for texts in pieces(examples) for m in engine.predict(texts))


def pieces(examples: Sequence[Example]) -> Iterator[list[str]]:
    """Texts, 32 at a time."""
    texts = [example.text for example in examples]
    return (texts[first : first + 32] for first in range(0, len(texts), 32))


def write_lines(path: Path, examples: Iterable[Example]) -> Path:
    """Write a data file; slots are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": e.text, "intent": e.intent}, ensure_ascii=False) + "\n" for e in examples)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def mean(runs: Sequence[Mapping[str, float]]) -> Figures:
    """The mean of each figure over seeds."""
    return {name: round(statistics.fmean(run[name] for run in runs), 2) for name in runs[0]}


MEASURES = {"snips": measure_snips, "banking77": measure_banking, "near": measure_near}


def main() -> None:
    """Parse the command line, train and measure, print the means."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--models", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        models = arguments.models or Path(scratch)
        results: dict[str, dict[str, Figures]] = {}
        for name in arguments.sets:
            runs = [MEASURES[name](arguments.data, models / f"{name}-{seed}", seed) for seed in arguments.seeds]
            results[name] = {"mean": mean(runs)} | {
                f"seed {seed}": run for seed, run in zip(arguments.seeds, runs, strict=True)
            }
            print(f"{name}, mean of seeds {arguments.seeds}")
            for figure, value in results[name]["mean"].items():
                print(f"  {figure:36} {value:6.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": describe_machine(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
