"""What callers take back in mid-sentence, in the bundled English bot: "check my bill, no, my balance"."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlu.data import Dataset, read_dataset
from nlu.engine import NluEngine
from nlu.evaluation import evaluate

pytestmark = pytest.mark.model

BOT = Path(__file__).parents[2] / "dialogue" / "bots" / "bill-reminder"


@pytest.fixture(scope="module")
def engine() -> NluEngine:
    return NluEngine.load(BOT / "nlu", "cpu")


@pytest.fixture(scope="module")
def corrections() -> Dataset:
    return read_dataset(BOT / "examples.corrections.test.jsonl")


def test_no_line_of_the_test_was_trained_on(corrections: Dataset) -> None:
    known = {example.text for example in read_dataset(BOT / "examples.jsonl").examples}
    assert not known & {example.text for example in corrections.examples}


def test_the_last_wish_counts(engine: NluEngine, corrections: Dataset) -> None:
    result = evaluate(engine, corrections.examples)
    assert (result.intent_accuracy or 0) >= 0.9  # 59 % without such examples in training
    assert (result.slot_f1 or 0) >= 0.85  # 66 %


def test_what_was_taken_back_is_no_slot(engine: NluEngine) -> None:
    (meaning,) = engine.predict(["i will pay on monday, no wait, tuesday"])
    assert (meaning.intent, [slot.text for slot in meaning.slots]) == ("promise_to_pay", ["tuesday"])
