"""How loud is a line when nobody speaks? The floor that its level does not fall below, followed frame by frame.

The floor is the least power of any frame looked at in the last `WINDOW_MS`. People pause for breath well within that,
so speech does not raise it; steady noise does, at once where the call begins with it, else when the last quiet frame
has left the window. Digital silence says nothing about a line (a carrier that suppresses silence, a peer that has not
begun) and is left out. One frame in `EVERY_FRAMES` is looked at, and whoever has the frames counts them: with hundreds
of calls a worker comes to each one's floor with cold caches, and that alone was a tenth of what a frame cost.

Source: minimum statistics (R. Martin, "Noise power spectral density estimation based on optimal smoothing and minimum
statistics", 2001), of the whole band and without its bias correction, since all that is asked is whether a line is
noisy.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from audio.detection import FRAME_MS

__all__ = ["EVERY_FRAMES", "WINDOW_MS", "NoiseFloor", "power"]

WINDOW_MS = 3000
EVERY_FRAMES = 4
"""Frames of which one is pushed."""
FULL_SCALE = 32768.0**2
_SILENCE = 1.0
"""Mean square of a sample under which a frame is digital silence, dither included."""


def power(dbfs: float) -> float:
    """The mean square of a PCM16 sample at a level."""
    return FULL_SCALE * math.pow(10, dbfs / 10)


class NoiseFloor:
    """One call's noise floor."""

    __slots__ = ("_powers", "floor")

    def __init__(self) -> None:
        self._powers: deque[float] = deque(maxlen=WINDOW_MS // (FRAME_MS * EVERY_FRAMES))
        self.floor = 0.0
        """Mean square of a sample; 0 until a frame held sound."""

    @property
    def dbfs(self) -> float:
        """The floor as a level; -inf until a frame held sound."""
        return 10 * math.log10(self.floor / FULL_SCALE) if self.floor else -math.inf

    def push(self, frame: bytes) -> None:
        """Follow one frame in `EVERY_FRAMES`: PCM16, little endian, mono, any rate."""
        samples = np.frombuffer(frame, "<i2").astype(np.float32)
        mean_square = float(samples.dot(samples)) / len(samples)  # `@` takes twice as long
        if mean_square <= _SILENCE:
            return
        powers = self._powers
        leaves_floor = len(powers) == powers.maxlen and powers[0] == self.floor
        powers.append(mean_square)
        if leaves_floor or not self.floor:
            self.floor = min(powers)
        elif mean_square < self.floor:
            self.floor = mean_square
