"""What a telephone line makes of a recording, to measure a recogniser by: band, codec, noise. Pure; 8 kHz.

The band is `audio.telephone_band`'s, the codecs are G.711's own tables (`audio.g711`).
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from audio.formats import Pcm16
from audio.g711 import alaw_decode, alaw_encode, mulaw_decode, mulaw_encode
from audio.resampling import float_to_pcm16, pcm16_to_float
from audio.telephone_band import telephone_band

__all__ = ["PhoneLine", "add_noise", "over_line"]

_NOISE_DB = 10.0


class PhoneLine(StrEnum):
    """A line to hear recordings over; all of the telephone's band."""

    MULAW = "mulaw"
    """G.711 mu-law."""
    ALAW = "alaw"
    """G.711 A-law."""
    NOISE_10DB = "noise_10db"
    """White noise 10 dB under the voice, then mu-law."""


def over_line(line: PhoneLine, pcm: Pcm16, generator: np.random.Generator) -> Pcm16:
    """As the far end hears it, int16 at 8 kHz, as long.

    Args:
        line: which.
        pcm: int16 mono at 8 kHz.
        generator: where the noise comes from; unused without noise.
    """
    if not len(pcm):
        return pcm
    samples = telephone_band(pcm16_to_float(pcm))
    if line is PhoneLine.NOISE_10DB:
        samples = add_noise(samples, generator.standard_normal(len(pcm)).astype(np.float32), _NOISE_DB)
    sent = float_to_pcm16(samples)
    return alaw_decode(alaw_encode(sent)) if line is PhoneLine.ALAW else mulaw_decode(mulaw_encode(sent))


def add_noise(samples: NDArray[np.float32], noise: NDArray[np.float32], snr_db: float) -> NDArray[np.float32]:
    """Add noise of unit power so that speech (samples within 20 dB of the peak) is `snr_db` above it."""
    peak = float(np.abs(samples).max(initial=0.0))
    active = samples[np.abs(samples) > 0.1 * peak]
    power = float((active**2).mean()) if len(active) else 0.0
    # half: a speaker's power over words and gaps is about a quarter of that over the loud samples
    level = 0.5 * np.sqrt(power + 1e-12) * 10 ** (-snr_db / 20)
    return (samples + noise * np.float32(level)).astype(np.float32)
