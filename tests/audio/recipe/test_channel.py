"""The telephone: sounds stay finite, in range and in place; the codecs do what their laws say."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.phone_line import add_noise
from audio.recipe.channel import (
    Background,
    companding,
    gsm,
    non_speech,
    telephone,
    unit_noise,
)
from audio.recipe.speech import SAMPLE_RATE_HZ, Samples

pytestmark = pytest.mark.unit

NOISE = np.random.default_rng(1).normal(0, 0.1, SAMPLE_RATE_HZ).astype(np.float32)
BACKGROUND = Background(noises=[NOISE], voices=[NOISE])


def tone(count: int, hz: float = 700.0) -> Samples:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(count) / SAMPLE_RATE_HZ)).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), count=st.integers(min_value=1600, max_value=12000))
def test_a_call_keeps_speech_in_place_and_in_range(seed: int, count: int) -> None:
    heard = telephone(tone(count), Random(seed), np.random.default_rng(seed), BACKGROUND)
    assert heard.dtype == np.float32
    assert count <= len(heard) <= count + SAMPLE_RATE_HZ * 0.3  # grows by the room's tail only
    assert np.isfinite(heard).all() and np.abs(heard).max() <= 1.0


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_sounds_without_words_are_finite_and_short(seed: int) -> None:
    sound = non_speech(Random(seed), np.random.default_rng(seed), BACKGROUND)
    assert sound.dtype == np.float32
    assert 0.4 * SAMPLE_RATE_HZ - 1 <= len(sound) <= 2.6 * SAMPLE_RATE_HZ
    assert np.isfinite(sound).all() and np.abs(sound).max() <= 1.0


def test_a_seed_fixes_the_call() -> None:
    first, second = (telephone(tone(4000), Random(5), np.random.default_rng(5), BACKGROUND) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_companding_costs_as_much_as_g711(law: str) -> None:
    speech = tone(8000)
    error = companding(speech, law=law) - speech
    snr_db = 10 * np.log10((speech**2).mean() / (error**2).mean())
    assert 33 < snr_db < 42  # ITU-T G.711 gives about 37 dB on a loud sine


def test_gsm_keeps_the_length() -> None:
    assert [len(gsm(tone(count))) for count in (100, 160, 1601)] == [100, 160, 1601]


def test_noise_has_the_power_that_was_asked_for() -> None:
    clean = tone(8000)
    noise = unit_noise(Random(2), np.random.default_rng(2), 8000, Background())
    assert np.sqrt((noise**2).mean()) == pytest.approx(1.0, rel=1e-3)
    louder = add_noise(clean, noise, 10) - clean
    quieter = add_noise(clean, noise, 20) - clean
    assert (louder**2).mean() / (quieter**2).mean() == pytest.approx(10, rel=1e-3)
