"""Levels in dBFS."""

from __future__ import annotations

import math

import numpy as np
import pytest

from audio.levels import first_sound, last_sound, peak_dbfs, rms_dbfs

pytestmark = pytest.mark.unit


def test_levels_of_known_signals() -> None:
    half = np.full(100, 16384, np.int16)
    assert rms_dbfs(half) == pytest.approx(-6.02, abs=0.01)
    assert peak_dbfs(half) == pytest.approx(-6.02, abs=0.01)
    sine = (32767 * np.sin(2 * np.pi * np.arange(8000) / 80)).astype(np.int16)
    assert rms_dbfs(sine) == pytest.approx(-3.01, abs=0.01)
    assert peak_dbfs(np.array([-32768], np.int16)) == 0.0  # its negative does not fit in int16


@pytest.mark.parametrize("pcm", [np.zeros(0, np.int16), np.zeros(10, np.int16)])
def test_silence_has_no_level(pcm: np.ndarray) -> None:
    assert rms_dbfs(pcm) == peak_dbfs(pcm) == -math.inf
    assert first_sound(pcm) is last_sound(pcm) is None


def test_first_and_last_sound() -> None:
    """-50 dBFS is 103.6: 103 is not sound, 104 is, of either sign."""
    pcm = np.array([0, 103, -104, 5, 2000, 104, -103, 0], np.int16)
    assert (first_sound(pcm), last_sound(pcm)) == (2, 5)
    assert (first_sound(pcm, -30.0), last_sound(pcm, -30.0)) == (4, 4)
