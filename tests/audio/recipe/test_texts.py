"""Training text: bots' examples reopened, test templates left out, lengths kept."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from audio.recipe.phrases import is_test_template
from audio.recipe.plan import TrainingDataError
from audio.recipe.texts import Texts, TextSource, bot_templates, bot_utterances, real_requests

pytestmark = pytest.mark.unit


def write_examples(path: Path, *rows: tuple[str, list[tuple[str, str]]]) -> Path:
    lines = []
    for text, slots in rows:
        spans = [
            {"name": name, "start": text.index(value), "end": text.index(value) + len(value)} for name, value in slots
        ]
        lines.append(json.dumps({"text": text, "intent": "x", "slots": spans}) + "\n")
    path.write_text("".join(lines))
    return path


def test_slots_of_a_bots_examples_are_opened_again(tmp_path: Path) -> None:
    path = write_examples(
        tmp_path / "examples.jsonl",
        ("I'd say, May 3rd, $20 fine?", [("date", "May 3rd"), ("amount", "$20")]),
        ("so take one two three four five six", [("digits", "one two three four five six")]),
        ("extension 12", []),
    )
    assert bot_templates(path) == ["i'd say DATE AMT fine", "so take D6"]


def test_what_belongs_to_the_tests_is_not_taught(tmp_path: Path) -> None:
    held = next(text for number in range(100) if is_test_template(text := f"my word {'a' * number}"))
    path = write_examples(tmp_path / "examples.jsonl", (held, []), ("hello", []))
    assert bot_templates(path) == ["hello"]


def test_utterances_with_figures_are_no_test(tmp_path: Path) -> None:
    path = write_examples(tmp_path / "examples.dev.jsonl", ("Pay $5?", []), ("Who's this?", []))
    assert bot_utterances(path) == ["who's this"]


def test_a_bot_without_examples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"no examples\.jsonl"):
        Texts.load(tmp_path, tmp_path)


def test_requests_are_optional(tmp_path: Path) -> None:
    assert real_requests(tmp_path, "train") == []


def test_drawn_texts_are_short_enough_seeded_and_in_the_vocabulary() -> None:
    texts = Texts(requests=["where is the zebra"], templates=["kindly DATE"])
    drawn = [[TextSource(Random(seed), texts).draw(4) for seed in range(8)] for _ in range(2)]
    assert drawn[0] == drawn[1]
    source = TextSource(Random(1), texts)
    many = [source.draw(4) for _ in range(400)]
    assert all(0 < len(text.split()) <= 4 for text in many)
    assert any("zebra" in text for text in many) and any(text.startswith("kindly ") for text in many)
    assert "zebra" in source.vocabulary and "kindly" in source.vocabulary
