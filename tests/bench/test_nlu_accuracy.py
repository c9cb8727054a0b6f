from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.nlu_accuracy import mean, measure_near, rejected, write_lines
from nlu.data import Example
from nlu.engine import NluEngine
from nlu.training import TrainingSummary
from tests.nlu.conftest import OUT_OF_SCOPE, data, encoder, trained

pytestmark = pytest.mark.unit

__all__ = ["data", "encoder", "trained"]  # fixtures


def test_means_over_seeds() -> None:
    assert mean([{"intent": 93.0, "slot F1": 1.0}, {"intent": 94.0, "slot F1": 2.005}]) == {
        "intent": 93.5,
        "slot F1": 1.5,
    }


def test_rejection_is_measured_on_both_kinds_of_line(trained: TrainingSummary) -> None:
    engine = NluEngine.load(trained.out, "cpu")
    figures = rejected(
        engine,
        [Example(text, "goodbye", ()) for text in ("bye", "bye bye", "see you")],
        [Example(text, "oos", ()) for text in OUT_OF_SCOPE],
    )
    assert figures["out of scope: found"] > 70
    assert figures["out of scope: lost"] < 40
    assert figures["found at 50.0% lost"] >= figures["found at 3.0% lost"]


def test_lines_are_written_as_training_reads_them(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "new" / "x.jsonl", [Example("héllo", "a", ()), Example("b", "b", ())])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"text": "héllo", "intent": "a"},
        {"text": "b", "intent": "b"},
    ]


def test_a_fifth_of_the_intents_is_held_out(trained: TrainingSummary, tmp_path: Path) -> None:
    """A model that is there already is measured; what it would have learnt from is looked at."""
    folder = tmp_path / "banking77"
    examples = [Example(f"line {n} of {i}", f"intent {i}", ()) for i in range(10) for n in range(3)]
    for name in ("train", "test"):
        write_lines(folder / f"{name}.jsonl", examples)
    (tmp_path / "near-0").symlink_to(trained.out)
    figures = measure_near(tmp_path, tmp_path / "near-0", seed=0)
    learnt = {json.loads(line)["intent"] for line in (tmp_path / "near-0.jsonl").read_text().splitlines()}
    assert len(learnt) == 8
    assert {"out of scope: lost", "out of scope: found"} <= figures.keys()
