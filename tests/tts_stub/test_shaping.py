"""Level, ends and onset of shaped prompts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.formats import Pcm16
from audio.levels import SOUND_DBFS
from tts_stub.shaping import PEAK_DBFS, SPEECH_DBFS, shape_prompt, speech_level_dbfs

pytestmark = pytest.mark.unit


def tone(rate_hz: int, ms: int, dbfs: float) -> Pcm16:
    """A 440 Hz tone with the given RMS level."""
    t = np.arange(rate_hz * ms // 1000) / rate_hz
    return np.rint(32768 * 10 ** (dbfs / 20) * np.sqrt(2) * np.sin(2 * np.pi * 440 * t)).astype(np.int16)


def silence(rate_hz: int, ms: int) -> Pcm16:
    return np.zeros(rate_hz * ms // 1000, np.int16)


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("dbfs", [-45.0, -20.0, -6.0])
def test_levels_ends_and_onset(rate_hz: int, dbfs: float) -> None:
    pcm = np.concatenate([silence(rate_hz, 300), tone(rate_hz, 500, dbfs), silence(rate_hz, 700)])
    shaped = shape_prompt(pcm, rate_hz)
    assert shaped is not None
    out, onset = shaped
    assert speech_level_dbfs(out, rate_hz) == pytest.approx(SPEECH_DBFS, abs=0.5)
    assert 500 <= 1000 * len(out) / rate_hz <= 550
    assert onset < rate_hz // 100
    loud = np.abs(out.astype(int)) > 32768 * 10 ** (SOUND_DBFS / 20)
    assert loud[onset] and not loud[:onset].any()
    assert out[0] == 0 and out[-1] == 0


def test_a_sound_cut_at_both_ends_is_faded() -> None:
    shaped = shape_prompt(tone(8000, 500, -20.0), 8000)
    assert shaped is not None
    out = shaped[0].astype(int)
    assert abs(out[0]) < 50 and abs(out[-1]) < 50
    assert np.abs(out[:8]).max() < np.abs(out[400:600]).max() / 4


def test_a_peaky_voice_stops_at_the_peak_limit_instead_of_being_distorted() -> None:
    pcm = tone(8000, 500, -40.0)
    pcm[2000] = 32000
    shaped = shape_prompt(pcm, 8000)
    assert shaped is not None
    assert np.abs(shaped[0].astype(int)).max() == pytest.approx(32768 * 10 ** (PEAK_DBFS / 20), abs=2)


def test_pauses_do_not_count_in_the_level() -> None:
    speech = tone(8000, 400, -20.0)
    paused = np.concatenate([speech, silence(8000, 2000), speech])
    assert speech_level_dbfs(paused, 8000) == pytest.approx(-20.0, abs=0.1)


@pytest.mark.parametrize("pcm", [np.zeros(0, np.int16), np.zeros(800, np.int16)])
def test_silence_has_no_shape(pcm: Pcm16) -> None:
    assert shape_prompt(pcm, 8000) is None
    assert speech_level_dbfs(pcm, 8000) is None


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=400))
def test_any_samples_stay_below_the_peak_and_start_early(samples: list[int]) -> None:
    pcm = np.array(samples, np.int16)
    shaped = shape_prompt(pcm, 8000)
    if shaped is None:
        return
    out, onset = shaped
    assert len(out) <= len(pcm)
    assert np.abs(out.astype(int)).max() <= 32768 * 10 ** (PEAK_DBFS / 20) + 1
    assert onset < len(out)
