"""Voices for training: spoken letters, phone times, and who is kept for tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest

from audio.recipe.speech import SAMPLE_RATE_HZ
from tts_stub.training_voices import (
    NOT_SPEECH,
    PHONE_NAMES,
    TEST_VARIANTS,
    EspeakSpeakers,
    FliteSpeakers,
    available_voices,
    speakable,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("i have a bill", "i have a bill"),
        ("reference b seven", "reference B seven"),
        ("a b c", "A B C"),
        ("it is p m", "it is P M"),
        ("a", "a"),
    ],
)
def test_spelled_letters_are_named_and_words_left(text: str, spoken: str) -> None:
    assert speakable(text) == spoken


def test_espeak_tells_when_each_phone_starts() -> None:
    speech = EspeakSpeakers().speak("seven bills", Random(4))
    starts = [start_s for start_s, _ in speech.phones]
    assert starts == sorted(starts) and 0 <= starts[0] < 0.2
    assert starts[-1] < len(speech.samples) / SAMPLE_RATE_HZ
    known = [phone for _, phone in speech.phones if phone in PHONE_NAMES]
    assert len(known) >= 8 and "v" in known
    assert speech.samples.dtype == np.float32 and 0.05 < np.abs(speech.samples).max() <= 1.5


def test_two_sets_of_voices_share_the_library() -> None:
    one, other = EspeakSpeakers(), EspeakSpeakers(unheard=True)
    sounds = [maker.speak("hello", Random(1)).samples for maker in (one, other, one)]
    assert all(len(sound) > SAMPLE_RATE_HZ * 0.2 for sound in sounds)


def test_no_voice_is_on_both_sides() -> None:
    training = set(EspeakSpeakers()._variants)
    assert len(training) > 50
    assert not training & set(TEST_VARIANTS) and not training & NOT_SPEECH


def test_a_seed_fixes_what_is_said_and_when_to_some_milliseconds() -> None:
    first, second = (EspeakSpeakers(unheard=True).speak("one two", Random(9)).phones for _ in range(2))
    assert [phone for _, phone in first] == [phone for _, phone in second]
    # espeak-ng draws a voice's flutter itself, unseeded
    starts = [[start_s for start_s, _ in phones] for phones in (first, second)]
    np.testing.assert_allclose(*starts, atol=0.01)


def test_espeak_is_always_there_and_engines_are_named_with_their_licence() -> None:
    voices = available_voices()
    assert "GPL" in voices.live().name
    assert voices.unheard[0][0].startswith("espeak-ng")
    assert all("(" in maker.name for maker in voices.slow)


@pytest.mark.skipif(not shutil.which("flite"), reason="flite is not installed")
def test_flite_speaks_at_telephone_rate() -> None:
    samples = FliteSpeakers(("slt",)).speak("good morning", Random(0)).samples
    assert 0.4 < len(samples) / SAMPLE_RATE_HZ < 2.5


def test_an_engines_failure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "flite"
    broken.write_text("#!/bin/sh\necho no such voice >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(RuntimeError, match="flite failed with status 3.*no such voice"):
        FliteSpeakers(("slt",)).speak("hello", Random(0))
