from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from nlu.artefact import ArtefactError
from nlu.engine import NluEngine
from nlu.meaning import OUT_OF_SCOPE, Meaning, NluError
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


def test_a_gpu_that_is_not_there_is_told(trained: TrainingSummary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NluError, match=r"device cuda:1: torch .+ sees no GPU; set nlu\.device to cpu or auto"):
        NluEngine.load(trained.out, "cuda:1")


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
    assert [engine.padded_tokens(engine.read(text)) for text in ("", "pay bob", "zoe")] == [2, 4, 5]


def test_name_and_version_come_from_the_artefact(engine: NluEngine, trained: TrainingSummary) -> None:
    assert (engine.name, engine.version) == (Path(trained.out).name, trained.version)
    assert (engine.language, engine.slots, engine.path) == ("en", ("date", "person"), str(trained.out))


def test_warming_up_finds_a_model_whose_weights_are_no_numbers(trained: TrainingSummary) -> None:
    engine = NluEngine.load(trained.out, "cpu")
    engine.warm_up(passes=20)
    with torch.no_grad():
        next(engine._model.head.parameters()).fill_(float("nan"))
    with pytest.raises(ArtefactError, match="no numbers"):
        engine.warm_up(passes=1)


def test_threads_that_predict_side_by_side_get_what_each_alone_gets(engine: NluEngine) -> None:
    texts = [f"i will pay on {day}" for day in ("monday", "friday", "may 5th")] + ["get me anna", "bye"]
    alone = {text: engine.predict([text])[0] for text in texts}
    with ThreadPoolExecutor(4) as threads:
        answers = threads.map(lambda text: engine.predict([text]), texts * 8)
        assert [meaning for (meaning,) in answers] == [alone[text] for text in texts * 8]


@pytest.mark.parametrize("compute_type", ["float32", "bfloat16", "float16"])
def test_every_compute_type_says_the_same(engine: NluEngine, trained: TrainingSummary, compute_type: str) -> None:
    other = NluEngine.load(trained.out, "cpu", compute_type=compute_type)
    texts = ["bye", "i will pay on friday", "get me anna", "is dan there"]
    for mine, theirs in zip(engine.predict(texts), other.predict(texts), strict=True):
        assert (mine.intent, mine.slots) == (theirs.intent, theirs.slots)
        assert mine.score == pytest.approx(theirs.score, abs=0.03)
