"""More speakers out of the ones at hand: formants moved, and pace changed, on log-mel features.

Resampling (`ExampleStream`) moves pitch, formants and pace together, as between a child and a man who speak
alike. People differ in these by themselves, and an unheard speaker is one whose mixture was not recorded.
Both warps interpolate what is there: a dozen microseconds for a second of speech.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["change_pace", "move_formants"]

_ROWS = 80
_TOP_MEL = 45.245640471924965
"""8 kHz on the Slaney scale, the top of faster-whisper's filters."""
_LINE_END_HZ = 4000.0
"""Where an 8 kHz recording ends; nothing is moved across it."""
_BEND_HZ = 3000.0
"""Up to here frequencies move by the factor; from here to the end of the line by what is left."""


def move_formants(mel: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Vocal tract length perturbation (Jaitly and Hinton, 2013): what was at f Hz comes to lie at `factor` f.

    Args:
        mel: log-mel features, shape (80, frames); not changed.
        factor: above 1 a shorter vocal tract; 0.8 to 1.25.

    Raises:
        ValueError: another number of rows, or a factor outside that range.
    """
    if len(mel) != _ROWS:
        raise ValueError(f"features of {len(mel)} rows; formants are moved on {_ROWS}")
    if not 0.8 <= factor <= 1.25:
        raise ValueError(f"factor {factor}; 0.8 to 1.25 is what vocal tracts do")
    bend = _BEND_HZ * min(1.0, factor)  # where the bend comes to lie
    came_from_hz = np.interp(_ROW_HZ, [0, bend, _LINE_END_HZ], [0, bend / factor, _LINE_END_HZ])
    came_from_hz = np.where(_ROW_HZ >= _LINE_END_HZ, _ROW_HZ, came_from_hz)
    rows = np.clip(_hz_to_row(came_from_hz), 0, _ROWS - 1)
    below = np.minimum(rows.astype(int), _ROWS - 2)
    share = (rows - below).astype(np.float32)[:, None]
    return np.asarray(mel[below] * (1 - share) + mel[below + 1] * share, np.float32)


def change_pace(mel: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """`factor` times as many frames, shape (80, round(factor frames)); pitch and formants stay.

    Raises:
        ValueError: a factor of nothing or less.
    """
    if factor <= 0:
        raise ValueError(f"factor {factor}; a pace is changed by more than nothing")
    frames = mel.shape[1]
    count = max(1, round(frames * factor))
    at = np.linspace(0, frames - 1, count)
    before = np.minimum(at.astype(int), max(0, frames - 2))
    after = np.minimum(before + 1, frames - 1)
    share = (at - before).astype(np.float32)
    return np.asarray(mel[:, before] * (1 - share) + mel[:, after] * share, np.float32)


def _mel_to_hz(mel: NDArray[np.floating]) -> NDArray[np.floating]:
    """Slaney's scale: linear to 1 kHz (15 mel), logarithmic above."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((np.maximum(mel, 15) - 15) / 27))


def _hz_to_row(hz: NDArray[np.floating]) -> NDArray[np.floating]:
    """Row of the filter whose middle is at `hz`, with a fraction."""
    mel = np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))
    return np.asarray(mel / _TOP_MEL * (_ROWS + 1) - 1)


_ROW_HZ = _mel_to_hz(np.linspace(0, _TOP_MEL, _ROWS + 2)[1:-1])
"""Middle of each row's filter."""
