"""The telephone's band: scipy's Butterworth, sample by sample, for every length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt

from audio.telephone_band import telephone_band

pytestmark = pytest.mark.unit

SECTIONS = butter(4, [300, 3400], "bandpass", fs=8000, output="sos")


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 12_000), filters=st.integers(1, 2), seed=st.integers(0, 2**32))
def test_it_is_the_filter_of_the_textbook(count: int, filters: int, seed: int) -> None:
    sound = np.random.default_rng(seed).normal(0, 0.2, count).astype(np.float32)
    heard = telephone_band(sound, filters=filters)
    assert heard.dtype == np.float32
    expected = sosfilt(SECTIONS, sound)
    np.testing.assert_allclose(heard, expected if filters == 1 else sosfilt(SECTIONS, expected), atol=1e-6)


@pytest.mark.parametrize("count", [3071, 3072, 3073, 4096, 24_000])
def test_nothing_of_the_end_comes_round_to_the_beginning(count: int) -> None:
    click = np.zeros(count, np.float32)
    click[-1] = 1.0
    assert np.abs(telephone_band(click)[:-1]).max() < 1e-6


@pytest.mark.parametrize(
    ("hz", "loss_db"), [(100, 39), (150, 25), (300, 3), (500, 0), (3000, 0), (3400, 3), (3600, 15)]
)
def test_it_passes_what_a_line_passes(hz: float, loss_db: float) -> None:
    tone = np.sin(2 * np.pi * hz * np.arange(16_000) / 8000).astype(np.float32)
    lost = -20 * np.log10(telephone_band(tone)[4000:].std() / tone.std())
    assert lost == pytest.approx(loss_db, abs=0.5)


def test_no_sound_is_no_fault() -> None:
    assert len(telephone_band(np.zeros(0, np.float32))) == 0
