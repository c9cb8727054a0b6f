"""Sentence vectors: of length one, the same in any batch, by an encoder that has learnt something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nlu.characters import CHARACTERS
from nlu.encoders import EncoderError
from nlu.sentence_encoder import SentenceEncoder

pytestmark = pytest.mark.unit

TEXTS = ["i will pay on friday", "bye", "", "get me anna please " * 40]


@pytest.fixture(scope="module")
def space(encoder: Path) -> SentenceEncoder:
    return SentenceEncoder.load(str(encoder), "cpu")


def test_a_row_for_each_text_of_any_length(space: SentenceEncoder) -> None:
    rows = space.embed(TEXTS)
    assert rows.shape == (len(TEXTS), 64) and rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    assert space.embed([]).shape == (0, 64)


def test_a_text_is_the_same_in_any_batch(space: SentenceEncoder) -> None:
    together = space.embed(TEXTS * 20)  # more than one batch, and padded
    for number, text in enumerate(TEXTS):
        alone = space.embed([text])[0]
        assert float(alone @ together[number]) == pytest.approx(1, abs=2e-2)  # bfloat16, where it is fast


def test_languages_without_an_encoder_have_none() -> None:
    assert SentenceEncoder.of_language("zh-CN", "cpu") is None


def test_an_encoder_that_is_not_installed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlu.encoders.importlib.util.find_spec", lambda name: None)
    assert SentenceEncoder.of_language("en", "cpu") is None


def test_one_that_has_learnt_nothing_is_refused() -> None:
    with pytest.raises(EncoderError, match="learnt nothing"):
        SentenceEncoder.load(CHARACTERS, "cpu")
