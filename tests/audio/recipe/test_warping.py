"""`audio.recipe.warping`: where a tone comes to lie, how long a sound becomes, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.recipe.examples import Mel, log_mel
from audio.recipe.warping import change_pace, move_formants

pytestmark = pytest.mark.unit


def tone(hz: float) -> Mel:
    time_s = np.arange(8000) / 8000
    return log_mel((0.3 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32))


def loudest_row(mel: Mel) -> int:
    return int(mel.mean(axis=1).argmax())


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
@pytest.mark.parametrize("hz", [500.0, 1200.0, 2200.0])
def test_a_tone_comes_to_lie_where_the_factor_says(hz: float, factor: float) -> None:
    moved = move_formants(tone(hz), factor)
    assert abs(loudest_row(moved) - loudest_row(tone(hz * factor))) <= 1


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_nothing_crosses_the_end_of_the_line(factor: float) -> None:
    speech = np.random.default_rng(1).standard_normal(8000).astype(np.float32) * 0.1
    mel = log_mel(speech)
    moved = move_formants(mel, factor)
    above = 63  # the first row whose middle is above 4 kHz
    np.testing.assert_array_equal(moved[above:], mel[above:])
    inside = slice(15, 50)  # 600 Hz to 2.5 kHz: a line's band, and not its slopes, whichever way they move
    assert moved[inside].min() > mel[above + 3 :].max(), "the band's own rows stay louder than the empty ones"


def test_factor_one_changes_nothing_and_the_given_features_are_left_alone() -> None:
    mel = tone(700)
    before = mel.copy()
    np.testing.assert_allclose(move_formants(mel, 1.0), mel, atol=1e-5)
    np.testing.assert_allclose(change_pace(mel, 1.0), mel, atol=1e-6)
    move_formants(mel, 1.2)
    change_pace(mel, 1.2)
    np.testing.assert_array_equal(mel, before)


@given(frames=st.integers(1, 300), factor=st.floats(0.5, 2.0))
def test_pace_sets_the_length_and_keeps_the_ends(frames: int, factor: float) -> None:
    mel = np.random.default_rng(frames).standard_normal((80, frames)).astype(np.float32)
    changed = change_pace(mel, factor)
    assert changed.shape == (80, max(1, round(frames * factor)))
    assert changed.dtype == np.float32
    np.testing.assert_allclose(changed[:, 0], mel[:, 0], atol=1e-5)
    if changed.shape[1] > 1:
        np.testing.assert_allclose(changed[:, -1], mel[:, -1], atol=1e-4)
    assert changed.min() >= mel.min() - 1e-5 and changed.max() <= mel.max() + 1e-5, "interpolated, not invented"


def test_a_sound_in_the_middle_stays_in_the_middle() -> None:
    mel = np.zeros((80, 101), np.float32)
    mel[:, 50] = 1
    assert int(change_pace(mel, 1.5)[0].argmax()) in (75, 76)


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_a_vocal_tract_that_nobody_has_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="vocal tracts"):
        move_formants(tone(500), factor)


def test_features_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="rows"):
        move_formants(np.zeros((128, 10), np.float32), 1.1)


def test_no_pace_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="more than nothing"):
        change_pace(np.zeros((80, 10), np.float32), 0)
