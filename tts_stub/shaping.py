"""Prompts made even: one level, no dead air at the ends, no clicks; engines and recordings differ in all."""

from __future__ import annotations

from typing import Final

import numpy as np

from audio.formats import Pcm16
from audio.levels import first_sound, last_sound, peak_dbfs, rms_dbfs

__all__ = ["PEAK_DBFS", "SPEECH_DBFS", "shape_prompt", "speech_level_dbfs"]

SPEECH_DBFS: Final = -20.0
"""Target level of the speaking parts. ITU-T P.56 measures active speech the same way: pauses do not count."""
PEAK_DBFS: Final = -3.0
"""No sample is louder: head-room for the G.711 coder and for gateways that mix."""

LEAD_MS: Final = 5
TAIL_MS: Final = 40
"""Kept around the sound, and faded: a cut into a decaying vowel or into hiss is heard as a click."""
ACTIVITY_BLOCK_MS: Final = 20
ACTIVITY_RANGE_DB: Final = 30.0


def speech_level_dbfs(pcm: Pcm16, sample_rate_hz: int) -> float | None:
    """RMS level of the 20 ms blocks that hold speech; None for silence.

    A block counts where it is within 30 dB of the loudest one, so that hiss between words does not.
    """
    block = sample_rate_hz * ACTIVITY_BLOCK_MS // 1000
    whole = np.pad(pcm, (0, -len(pcm) % block)).reshape(-1, block)
    levels = np.array([rms_dbfs(samples) for samples in whole])
    if not pcm.any():
        return None
    return rms_dbfs(whole[levels > levels.max() - ACTIVITY_RANGE_DB].ravel())


def shape_prompt(pcm: Pcm16, sample_rate_hz: int) -> tuple[Pcm16, int] | None:
    """Bring a prompt to telephone level, cut the silence at its ends and fade them.

    Args:
        pcm: int16 mono at `sample_rate_hz`, any level.

    Returns:
        The shaped prompt (a new array) and the index of its first sample above -50 dBFS, less than 10 ms
        in; None where there is no sound to shape.
    """
    level = speech_level_dbfs(pcm, sample_rate_hz)
    if level is None:
        return None
    # A peaky voice stays below the target: a limiter would hold the level and add distortion.
    gain_db = min(SPEECH_DBFS - level, PEAK_DBFS - peak_dbfs(pcm))
    evened = np.rint(pcm * 10 ** (gain_db / 20)).astype(np.int16)

    first, last = first_sound(evened), last_sound(evened)
    if first is None or last is None:
        return None
    start = max(0, first - sample_rate_hz * LEAD_MS // 1000)
    stop = last + 1 + sample_rate_hz * TAIL_MS // 1000
    shaped = _faded(evened[start:stop], sample_rate_hz)
    onset = first_sound(shaped)
    return None if onset is None else (shaped, onset)


def _faded(pcm: Pcm16, sample_rate_hz: int) -> Pcm16:
    """Both ends ramped linearly from and to zero."""
    envelope = np.ones(len(pcm))
    rise = min(len(pcm), sample_rate_hz * LEAD_MS // 1000)
    fall = min(len(pcm), sample_rate_hz * TAIL_MS // 1000)
    envelope[:rise] = np.linspace(0.0, 1.0, rise, endpoint=False)
    envelope[len(pcm) - fall :] *= np.linspace(1.0, 0.0, fall)
    return np.rint(pcm * envelope).astype(np.int16)
