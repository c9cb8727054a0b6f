from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.noisy_text import Confusions, make_noisy, word_error_rate
from nlu.data import Example, read_dataset
from nlu.meaning import Slot

pytestmark = pytest.mark.unit

WORDS = ["the", "play", "pray", "song", "sung", "west", "vest", "tomorrow", "elephant", "write", "right"]
LINES = [Example("play the west song right", "play", (Slot("artist", "west", 9, 13),), n) for n in range(40)]


def test_what_is_heard_sounds_alike() -> None:
    confusions = Confusions(WORDS)
    assert confusions.nearest("right")[0] == "write"
    assert confusions.nearest("west")[0] == "vest"
    assert "west" not in confusions.nearest("west")
    assert confusions.nearest("pley")[0] == "play"


def test_the_share_of_errors_is_the_one_asked_for() -> None:
    noisy = make_noisy(LINES, WORDS, 0.10, seed=1)
    assert word_error_rate(LINES, noisy) == pytest.approx(0.10, abs=0.01)
    assert make_noisy(LINES, WORDS, 0.10, seed=1) == noisy != make_noisy(LINES, WORDS, 0.10, seed=2)
    for example in noisy:
        assert all(example.text[slot.start : slot.end] == slot.text for slot in example.slots)


def test_the_shipped_file_is_whole() -> None:
    path = Path(__file__).parents[2] / "bench" / "data" / "snips-test-noisy-10.jsonl"
    examples = read_dataset(path).examples
    assert len(examples) == 700
    assert len({example.intent for example in examples}) == 7
    assert all(json.loads(line).keys() == {"text", "intent", "slots"} for line in path.read_text().splitlines())
