"""Gates around the recogniser."""

from __future__ import annotations

import numpy as np
import pytest

from audio.gates import GateSettings, Sound, gate_audio, gate_words, measure

pytestmark = pytest.mark.unit

CLEAR = Sound(duration_ms=1000, loudest_dbfs=-20, contrast_db=40)
HISS = Sound(duration_ms=1000, loudest_dbfs=-35, contrast_db=8)
SETTINGS = GateSettings(
    min_avg_logprob=-1.3,
    clear_contrast_db=25,
    min_unclear_logprob=-0.4,
    max_no_speech_prob=0.03,
    no_speech_logprob=-0.3,
)


def noise(dbfs: float, seconds: float = 1.0, rate: int = 8000) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.normal(0, 32768 * 10 ** (dbfs / 20), int(rate * seconds)).astype(np.int16)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_steady_noise_has_little_contrast_and_a_burst_has_much(rate: int) -> None:
    steady = measure(noise(-30, rate=rate), rate)
    assert steady.duration_ms == 1000
    assert steady.loudest_dbfs == pytest.approx(-29, abs=1)
    assert steady.contrast_db < 4
    burst = np.concatenate([noise(-60, 0.5, rate), noise(-20, 0.5, rate)])
    assert measure(burst, rate).contrast_db == pytest.approx(40, abs=2)


def test_a_dc_offset_is_no_sound() -> None:
    offset = noise(-70) + np.int16(3000)
    assert measure(offset, 8000).loudest_dbfs < -65


@pytest.mark.parametrize("samples", [0, 1, 159])
def test_less_than_a_block_can_be_measured(samples: int) -> None:
    sound = measure(np.full(samples, 9000, np.int16), 8000)
    assert gate_audio(SETTINGS, sound) == "duration"


def test_gates_before_the_recogniser() -> None:
    assert gate_audio(SETTINGS, measure(noise(-30, 0.1), 8000)) == "duration"
    assert gate_audio(SETTINGS, measure(noise(-75), 8000)) == "energy"
    assert gate_audio(SETTINGS, measure(np.zeros(8000, np.int16), 8000)) == "energy"
    assert gate_audio(SETTINGS, measure(noise(-50), 8000)) is None


@pytest.mark.parametrize(
    ("sound", "logprob", "no_speech", "gate"),
    [
        (CLEAR, -0.1, 0.0, None),
        (CLEAR, -1.2, 0.0, None),
        (CLEAR, -1.4, 0.0, "logprob"),
        (HISS, -0.3, 0.0, None),
        (HISS, -0.5, 0.0, "logprob"),
        (CLEAR, -0.5, 0.05, "no_speech"),
        (CLEAR, -0.1, 0.05, None),
    ],
)
def test_doubtful_sound_needs_surer_words(sound: Sound, logprob: float, no_speech: float, gate: str | None) -> None:
    assert gate_words(SETTINGS, sound, "seven", logprob, no_speech) == gate


def test_a_loop_is_caught_and_a_repeated_digit_is_not() -> None:
    assert gate_words(SETTINGS, CLEAR, "thank you " * 30, -0.1, 0.0) == "compression"
    assert gate_words(SETTINGS, CLEAR, "nine " * 12, -0.1, 0.0) is None


def test_stock_defaults_do_not_ask_for_contrast() -> None:
    assert gate_words(GateSettings(), HISS, "seven", -0.9, 0.5) is None
