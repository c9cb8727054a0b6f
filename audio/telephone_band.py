"""The band of a telephone line, 300-3400 Hz, as a filter over whole recordings at 8 kHz. Pure.

What a line lets through is ITU-T G.712's; the filter is a Butterworth band-pass of order 4, by the formula instead of
by its coefficients, so that nothing but an FFT is needed where calls are heard: a gateway has numpy and no scipy.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["telephone_band"]

_RATE_HZ = 8000
_BAND_HZ = (300.0, 3400.0)
_ORDER = 4
_RINGING = 1024
"""Samples after which the filter's answer to one click is below 1e-30 of it."""
_GRID = 4096
"""Lengths of the transform are multiples of this, so that few responses are kept and all factors are small."""


def telephone_band(samples: NDArray[np.float32], *, filters: int = 1) -> NDArray[np.float32]:
    """What a telephone line lets through of 8 kHz sound, as long; silence before it is assumed.

    Sound at 300 and at 3400 Hz loses half of its power, at 150 Hz 25 dB, at 3600 Hz 15 dB.

    Args:
        samples: mono.
        filters: on its way; a connection has one where it is sent and one where it is received.
    """
    if not len(samples):
        return samples
    count = -(-(len(samples) + _RINGING) // _GRID) * _GRID
    spectrum = np.fft.rfft(samples, count) * _response(count, filters)
    return np.fft.irfft(spectrum, count)[: len(samples)].astype(np.float32)


@lru_cache(maxsize=16)
def _response(count: int, filters: int) -> NDArray[np.complex128]:
    """So many filters in a row, at the frequencies of a real transform of `count` samples.

    A Butterworth low-pass has its poles evenly on the left half of the unit circle; the bilinear transform makes
    tan(pi f / rate) of a frequency, and (w^2 - low high) / (w (high - low)) makes the low-pass a band-pass.
    """
    low, high = (np.tan(np.pi * hz / _RATE_HZ) for hz in _BAND_HZ)
    poles = np.exp(1j * np.pi * (2 * np.arange(_ORDER) + _ORDER + 1) / (2 * _ORDER))
    response = np.zeros(count // 2 + 1, np.complex128)  # nothing passes at 0 Hz and at half of the rate
    warped = np.tan(np.pi * np.arange(1, count // 2) / count)
    at = 1j * (warped**2 - low * high) / (warped * (high - low))
    response[1:-1] = np.prod(at[:, None] - poles, axis=1) ** -filters
    return response
