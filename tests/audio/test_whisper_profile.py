"""`voicegate.json`: read, defaulted, refused with the fault named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from audio.bundled import BUNDLED_MODELS, bundled_model_path
from audio.gates import GateSettings
from audio.whisper_profile import PROFILE_FILE, AsrModelError, WhisperProfile, read_profile

pytestmark = pytest.mark.unit


def write(folder: Path, text: str) -> Path:
    (folder / PROFILE_FILE).write_text(text)
    return folder


def test_a_folder_without_one_is_stock_whisper(tmp_path: Path) -> None:
    profile = read_profile(tmp_path, "whisper-small")
    assert profile == WhisperProfile(name="whisper-small")
    assert (profile.short_windows, profile.narrowband, profile.max_window_s) == (False, False, 30.0)


def test_what_it_says_is_taken_and_the_rest_defaulted(tmp_path: Path) -> None:
    document = {"languages": ["en"], "max_window_s": 6, "gates": {"min_avg_logprob": -2}, "of_the_future": 1}
    profile = read_profile(write(tmp_path, json.dumps(document)), "mine")
    assert profile == WhisperProfile(
        name="mine", languages=("en",), max_window_s=6.0, gates=GateSettings(min_avg_logprob=-2.0)
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Invalid JSON"),
        ("[]", "object"),
        ('{"short_windows": "yes"}', "short_windows"),
        ('{"max_window_s": 0.5}', "max_window_s .*greater than or equal to 2"),
        ('{"max_window_s": 60}', "max_window_s .*less than or equal to 30"),
        ('{"languages": "en"}', "languages"),
        ('{"telephone_band": true}', "telephone_band.*8 kHz.*narrowband"),
        ('{"gates": {"min_avg_logprob": "low"}}', r"gates\.min_avg_logprob"),
    ],
)
def test_a_wrong_one_is_named_with_its_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(AsrModelError, match=f"(?s){PROFILE_FILE}.*{words}.*mend it"):
        read_profile(write(tmp_path, text), "mine")


def test_bundled_models_are_there_with_profile_and_card() -> None:
    for language in BUNDLED_MODELS:
        folder = bundled_model_path(language)
        assert read_profile(folder, "").languages == (language,)
        assert {"model.bin", "tokenizer.json", "MODEL_CARD.md"} <= {path.name for path in folder.iterdir()}
    assert bundled_model_path("en-US") == bundled_model_path("en")
    with pytest.raises(AsrModelError, match="no bundled recogniser for 'tlh', only en"):
        bundled_model_path("tlh")
