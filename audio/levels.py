"""How loud is it? Levels in dBFS, where 0 is a full-scale square wave and digital silence is -inf."""

from __future__ import annotations

import math

import numpy as np

from audio.formats import Pcm16

__all__ = ["SOUND_DBFS", "first_sound", "last_sound", "peak_dbfs", "rms_dbfs"]

SOUND_DBFS = -50.0
"""A sample louder than this is sound: the threshold behind every latency figure."""


def rms_dbfs(pcm: Pcm16) -> float:
    """Level of the whole; -inf for silence and for no samples."""
    if not len(pcm):
        return -math.inf
    power = float(np.mean(np.square(pcm, dtype=np.float64)))
    return 10 * math.log10(power / 32768**2) if power else -math.inf


def peak_dbfs(pcm: Pcm16) -> float:
    """Level of the loudest sample; -inf for silence and for no samples."""
    peak = int(np.max(np.abs(pcm.astype(np.int32)), initial=0))
    return 20 * math.log10(peak / 32768) if peak else -math.inf


def _loud(pcm: Pcm16, threshold_dbfs: float) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    threshold = 32768 * 10 ** (threshold_dbfs / 20)
    return np.flatnonzero(np.abs(pcm.astype(np.int32)) > threshold)


def first_sound(pcm: Pcm16, threshold_dbfs: float = SOUND_DBFS) -> int | None:
    """Index of the first sample louder than the threshold, None where there is none."""
    loud = _loud(pcm, threshold_dbfs)
    return int(loud[0]) if len(loud) else None


def last_sound(pcm: Pcm16, threshold_dbfs: float = SOUND_DBFS) -> int | None:
    """Index of the last sample louder than the threshold, None where there is none."""
    loud = _loud(pcm, threshold_dbfs)
    return int(loud[-1]) if len(loud) else None
