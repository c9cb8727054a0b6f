"""Changing the sample rate with soxr: one-shot for recordings, streaming for audio that arrives in messages.

Resampling each message by itself would click at every border (50 times a second); a stream keeps its filter's
state, so its output does not depend on how the input was cut.
"""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from audio.formats import Pcm16

__all__ = ["StreamResampler", "float_to_pcm16", "pcm16_to_float", "resample"]

_QUALITY = "HQ"  # 20 bits; VHQ costs twice as much for noise far below 16 bits


def pcm16_to_float(pcm: Pcm16) -> NDArray[np.float32]:
    """PCM16 to float32 in [-1, 1)."""
    return pcm.astype(np.float32) / np.float32(32768)


def float_to_pcm16(samples: NDArray[np.float32]) -> Pcm16:
    """Float samples to PCM16, rounded; what lies outside [-1, 1) is clipped."""
    pcm: Pcm16 = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767).astype(np.int16)
    return pcm


def resample(pcm: Pcm16, in_hz: int, out_hz: int) -> Pcm16:
    """A whole recording at another rate; the same array where the rates are equal."""
    if in_hz == out_hz:
        return pcm
    return float_to_pcm16(soxr.resample(pcm16_to_float(pcm), in_hz, out_hz, quality=_QUALITY))


class StreamResampler:
    """One stream from `in_hz` to `out_hz`. Output lags input by the filter's length until `flush`."""

    def __init__(self, in_hz: int, out_hz: int) -> None:
        # float32 inside: soxr dithers int16 output, which would make it depend on the cutting.
        self._stream = soxr.ResampleStream(in_hz, out_hz, 1, dtype="float32", quality=_QUALITY)

    def push(self, pcm: Pcm16) -> Pcm16:
        """Feed any number of samples; what is ready comes back, maybe nothing."""
        return float_to_pcm16(self._stream.resample_chunk(pcm16_to_float(pcm)))

    def flush(self) -> Pcm16:
        """End the stream and return the rest; the resampler is then fresh for another one."""
        rest = float_to_pcm16(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        self._stream.clear()
        return rest
