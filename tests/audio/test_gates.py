"""Gates around the recogniser."""

from __future__ import annotations

import math

import numpy as np
import pytest

from audio.gates import GateSettings, evidence, gate_audio, gate_words, measure

pytestmark = pytest.mark.unit

SETTINGS = GateSettings(min_avg_logprob=-2.5, no_speech_weight=0.4, min_evidence=1.0)


def noise(dbfs: float, seconds: float = 1.0, rate: int = 8000) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.normal(0, 32768 * 10 ** (dbfs / 20), int(rate * seconds)).astype(np.int16)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_loudest_block_is_measured(rate: int) -> None:
    steady = measure(noise(-30, rate=rate), rate)
    assert steady.duration_ms == 1000
    assert steady.loudest_dbfs == pytest.approx(-29, abs=1)
    burst = np.concatenate([noise(-60, 0.5, rate), noise(-20, 0.5, rate)])
    assert measure(burst, rate).loudest_dbfs == pytest.approx(-19, abs=1)


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
    ("logprob", "no_speech", "gate"),
    [
        (-0.1, 0.0, None),
        (-1.6, 0.0001, None),  # a caller in noise: unsure words, surely a voice
        (-1.2, 0.01, "no_speech"),
        (-0.4, 0.01, None),
        (-0.36, 0.177, "no_speech"),  # noise heard as a keyword: sure of it, and not of a voice
        (-2.6, 0.0, "logprob"),
    ],
)
def test_sure_words_and_a_sure_voice_make_up_for_each_other(logprob: float, no_speech: float, gate: str | None) -> None:
    assert gate_words(SETTINGS, "seven", logprob, no_speech) == gate


def test_evidence_of_a_probability_rounded_to_zero_is_finite() -> None:
    assert evidence(-1.0, 0.0, 0.5) == evidence(-1.0, 1e-9, 0.5) == pytest.approx(-1 + 0.5 * 13.8155, abs=1e-3)
    assert evidence(-0.7, 0.2, 0.0) == -0.7


def test_a_loop_is_caught_and_a_repeated_digit_is_not() -> None:
    assert gate_words(SETTINGS, "thank you " * 30, -0.1, 0.0) == "compression"
    assert gate_words(SETTINGS, "nine " * 12, -0.1, 0.0) is None


@pytest.mark.parametrize(
    ("logprob", "no_speech", "gate"),
    [(-0.9, 0.5, None), (-0.9, 0.7, None), (-1.1, 0.7, "no_speech"), (-1.1, 0.5, "logprob")],
)
def test_stock_defaults_are_those_of_whisper(logprob: float, no_speech: float, gate: str | None) -> None:
    assert gate_words(GateSettings(), "seven", logprob, no_speech) == gate


def test_words_of_no_known_probability_are_kept_out() -> None:
    settings = GateSettings()
    assert gate_words(settings, "yes", math.nan, 0.0) == "logprob"
    assert gate_words(settings, "yes", -0.1, math.nan) == "logprob"
    assert gate_words(settings, "yes", -0.1, 0.0) is None
