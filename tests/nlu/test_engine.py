from __future__ import annotations

from pathlib import Path

import pytest

from nlu.engine import NluEngine
from nlu.meaning import OUT_OF_SCOPE, Meaning
from nlu.training import TrainingSummary

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def engine(trained: TrainingSummary) -> NluEngine:
    return NluEngine.load(trained.out, "cpu")


def test_results_keep_the_order_of_the_texts(engine: NluEngine) -> None:
    texts = ["bye", "i will pay on friday", "get me anna", "goodbye"]
    assert [m.intent for m in engine.predict(texts, reject=False)] == [
        "goodbye",
        "promise",
        "transfer",
        "goodbye",
    ]


def test_a_batch_says_what_each_text_alone_says(engine: NluEngine) -> None:
    texts = ["bye", "", "i will pay on the twenty first", "is dan there"]
    together = engine.predict(texts)
    for text, meaning in zip(texts, together, strict=True):
        (alone,) = engine.predict([text])
        assert (alone.intent, alone.slots) == (meaning.intent, meaning.slots)
        assert alone.score == pytest.approx(meaning.score, abs=0.02)  # bfloat16


def test_text_without_words_is_out_of_scope(engine: NluEngine) -> None:
    assert engine.predict(["", "  ", "?!", "\u200b"]) == [Meaning(OUT_OF_SCOPE, 0.0)] * 4
    assert engine.predict([]) == []


def test_any_text_is_survived(engine: NluEngine) -> None:
    meanings = engine.predict(["pay " * 5000, "\x00\ud800", "😀 ́", "a" * 10_000])
    assert len(meanings) == 4
    assert all(0 <= meaning.score <= 1 for meaning in meanings)


def test_slots_are_pieces_of_the_raw_text(engine: NluEngine) -> None:
    text = "You get it  the TWENTY first"
    (meaning,) = engine.predict([text], reject=False)
    assert [slot.text for slot in meaning.slots] == ["the TWENTY first"]
    assert all(text[slot.start : slot.end] == slot.text for slot in meaning.slots)


def test_padded_tokens_count_the_pieces(engine: NluEngine) -> None:
    assert [engine.padded_tokens(text) for text in ("", "pay bob", "zoe")] == [2, 4, 5]


def test_name_and_version_come_from_the_artefact(engine: NluEngine, trained: TrainingSummary) -> None:
    engine.warm_up()
    assert (engine.name, engine.version) == (Path(trained.out).name, trained.version)
