"""The demo's WAVs are heard right by the bundled recogniser, wherever a call's frames fall in them."""

from __future__ import annotations

import numpy as np
import pytest

from audio.bundled import bundled_model_path
from audio.files import read_audio
from audio.whisper_engine import WhisperEngine
from bench.make_demo_audio import CALLS, DEMO, RATE_HZ, hear, lines

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def engine() -> WhisperEngine:
    return WhisperEngine(bundled_model_path("en"))


@pytest.mark.parametrize("offset_samples", [0, 40, 110])
@pytest.mark.parametrize("call", CALLS)
def test_every_caller_is_understood(engine: WhisperEngine, call: str, offset_samples: int) -> None:
    folder = DEMO / call
    heard = {
        line.file: hear(np.pad(read_audio(folder / f"{line.file}.wav", RATE_HZ), (offset_samples, 0)), engine)
        for line in CALLS[call]
    }
    assert heard == {line.file: [line.words] for line in CALLS[call]}


def test_the_folder_holds_these_files_and_no_others() -> None:
    assert sorted(DEMO.rglob("*.wav")) == sorted(path for path, _ in lines())
