"""What a telephone does to speech: room, band, level, noise, codec; and the sounds that are no speech.

Everything is float32 mono at 8 kHz. Randomness comes from the `Random` (choices) and the numpy `Generator`
(noise samples) that the caller owns, so a stream of examples is a function of its seed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import soundfile as sf
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

from audio.recipe.speech import SAMPLE_RATE_HZ, Samples

__all__ = [
    "Background",
    "call_tone",
    "companding",
    "gsm",
    "non_speech",
    "telephone",
]

_BANDS = tuple(
    butter(3, [low_hz, high_hz], "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    for low_hz in (80, 130, 200, 250, 300)
    for high_hz in (3000, 3400, 3700, 3900)
)
_TONE_PAIRS_HZ = (
    (350, 440), (440, 480), (480, 620), (425, 425),        # dial, ringback, busy, European tones
    (697, 1209), (770, 1336), (852, 1477), (941, 1336),    # DTMF
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """Recorded sounds to draw from: `noises` of kitchens and machines, `voices` to mix into babble."""

    noises: Sequence[Samples] = ()
    voices: Sequence[Samples] = ()


def companding(samples: Samples, *, law: str) -> Samples:
    """There and back through the continuous G.711 curve, 8 bits: quantisation noise as a listener gets it.

    `law` is "mulaw" or "alaw". The segmented tables of the codec differ from the curve by less than its
    own step; training needs the noise, not the bits.
    """
    loudness = np.abs(samples)
    if law == "mulaw":
        code = np.round(127 * np.log1p(255 * loudness) / np.log1p(255)) / 127
        back = np.expm1(code * np.log1p(255)) / 255
    else:
        scale = 1 + np.log(87.6)
        curve = np.where(loudness < 1 / 87.6, 87.6 * loudness, 1 + np.log(np.maximum(87.6 * loudness, 1e-9)))
        code = np.round(128 * curve / scale) / 128
        back = np.where(code < 1 / scale, code * scale, np.exp(code * scale - 1)) / 87.6
    return np.asarray(np.sign(samples) * back, np.float32)


def gsm(samples: Samples) -> Samples:
    """There and back through GSM 06.10 full rate (libsndfile); same length."""
    buffer = io.BytesIO()
    sf.write(buffer, samples, SAMPLE_RATE_HZ, format="WAV", subtype="GSM610")
    buffer.seek(0)
    decoded, _ = sf.read(buffer, dtype="float32")
    return np.resize(decoded, len(samples)) if len(decoded) < len(samples) else decoded[: len(samples)]


def unit_noise(rng: Random, generator: np.random.Generator, count: int, background: Background) -> Samples:
    """`count` samples of unit power: coloured or white noise, hum, babble, recorded noise."""
    white = generator.standard_normal(count)
    kind = rng.random()
    if kind < 0.25:
        sound = lfilter([1], [1, -rng.uniform(0.3, 0.98)], white)
    elif kind < 0.5 and background.noises:
        sound = _piece(rng, rng.choice(background.noises), count)
    elif kind < 0.65 and background.voices:
        sound = np.zeros(count)
        for _ in range(rng.randint(2, 5)):
            sound = sound + _piece(rng, rng.choice(background.voices), count) * rng.uniform(0.4, 1)
    elif kind < 0.73:
        mains_hz = rng.choice([50, 60, 100, 120])
        time_s = np.arange(count) / SAMPLE_RATE_HZ
        sound = np.sin(2 * np.pi * mains_hz * time_s) + 0.3 * np.sin(6 * np.pi * mains_hz * time_s) + 0.1 * white
    else:
        sound = white
    return np.asarray(sound / (np.sqrt((sound**2).mean()) + 1e-9), np.float32)


def telephone(
    samples: Samples,
    rng: Random,
    generator: np.random.Generator,
    background: Background,
    *,
    clean_share: float = 0.15,
) -> Samples:
    """A random call: reverberation, band, spectral tilt, level, noise, clipping, codec.

    The sound only grows at its end (reverberation), so phoneme times stay true.
    """
    sound: NDArray[np.floating] = samples
    if rng.random() < 0.3:
        tail = int(SAMPLE_RATE_HZ * rng.uniform(0.03, 0.3))
        room = generator.standard_normal(tail) * np.exp(-np.arange(tail) / tail * 6) * rng.uniform(0.03, 0.3)
        room[0] = 1
        sound = fftconvolve(sound, room)[: len(samples) + tail // 2]
    if rng.random() < 0.85:
        sound = sosfilt(rng.choice(_BANDS), sound)
    if rng.random() < 0.4:
        sound = lfilter([1, rng.uniform(-0.6, 0.6)], [1], sound)
    sound = sound / (np.abs(sound).max(initial=0.0) + 1e-9) * 10 ** (rng.uniform(-30, 0) / 20)
    if rng.random() > clean_share:
        snr_db = min(35.0, max(4.0, rng.gauss(20, 9)))
        noise: NDArray[np.floating] = unit_noise(rng, generator, len(sound), background)
        if rng.random() < 0.2:  # noise that comes and goes
            envelope = generator.random(6) * 1.5
            noise = noise * np.interp(np.arange(len(sound)), np.linspace(0, len(sound), 6), envelope)
        sound = sound + noise * (np.sqrt((sound**2).mean()) + 1e-9) * 10 ** (-snr_db / 20)
    if rng.random() < 0.05:
        sound = sound * rng.uniform(1, 4)  # overdriven
    return _codec(np.clip(sound, -1, 1).astype(np.float32), rng)


def call_tone(rng: Random, count: int) -> Samples:
    """`count` samples of a call-progress tone, DTMF or any two sines, steady or interrupted."""
    time_s = np.arange(count) / SAMPLE_RATE_HZ
    first_hz, second_hz = rng.choice([*_TONE_PAIRS_HZ, (rng.uniform(100, 3000), rng.uniform(100, 3000))])
    tone = np.sin(2 * np.pi * first_hz * time_s) + np.sin(2 * np.pi * second_hz * time_s)
    cadence = np.sin(2 * np.pi * rng.uniform(0.3, 4) * time_s) > rng.uniform(-1, 0.8)
    return np.asarray(tone * cadence / 2, np.float32)


def non_speech(rng: Random, generator: np.random.Generator, background: Background) -> Samples:
    """0.4-2.6 s that hold no word: silence, noise of every level, recorded noise, tones, clicks, breath."""
    count = int(SAMPLE_RATE_HZ * rng.uniform(0.4, 2.6))
    no_voices = Background(noises=background.noises)
    level = 10 ** (rng.uniform(-75, -6) / 20)
    kind = rng.random()
    sound: NDArray[np.floating]
    if kind < 0.06:
        sound = np.zeros(count)
    elif kind < 0.28:
        sound = unit_noise(rng, generator, count, no_voices) * level
    elif kind < 0.6 and background.noises:
        # Recorded noise as it came, loud enough that a gate on energy would let it pass.
        sound = _piece(rng, rng.choice(background.noises), count) * 10 ** (rng.uniform(-45, -12) / 20)
    elif kind < 0.72:
        sound = call_tone(rng, count) * 2 * level + generator.standard_normal(count) * 1e-3
    elif kind < 0.84:
        sound = unit_noise(rng, generator, count, no_voices) * 10 ** (rng.uniform(-75, -40) / 20)
        for _ in range(rng.randint(1, 6)):  # clicks
            start = rng.randrange(count)
            length = min(count - start, rng.randint(10, 400))
            decay = np.exp(-np.arange(length) / length * 5)
            sound[start : start + length] += generator.standard_normal(length) * decay * rng.uniform(0.05, 0.9)
    else:  # breath, rustle: filtered noise under a slow envelope
        low_hz = rng.uniform(300, 2200)
        band = [low_hz, min(3900, low_hz * rng.uniform(1.3, 3))]
        sos = butter(2, band, "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
        sound = sosfilt(sos, generator.standard_normal(count))
        sound = sound / (np.abs(sound).max() + 1e-9)
        envelope = generator.random(8) ** 2
        sound = sound * np.interp(np.arange(count), np.linspace(0, count, 8), envelope) * level * 3
        sound = sound + generator.standard_normal(count) * 3e-4
    if rng.random() < 0.5:
        sound = sosfilt(rng.choice(_BANDS), sound)
    sound = np.clip(sound, -1, 1).astype(np.float32)
    return companding(sound, law=rng.choice(["mulaw", "alaw"])) if rng.random() < 0.5 else sound


def _codec(samples: Samples, rng: Random) -> Samples:
    """mu-law 40 %, A-law 22 %, GSM 6 %, none; then 16 bits."""
    kind = rng.random()
    if kind < 0.4:
        samples = companding(samples, law="mulaw")
    elif kind < 0.62:
        samples = companding(samples, law="alaw")
    elif kind < 0.68:
        samples = gsm(samples)
    return np.asarray(np.round(samples * 32767) / 32768, np.float32)


def _piece(rng: Random, sound: Samples, count: int) -> Samples:
    """`count` samples from anywhere in `sound`, of unit power, repeated where it is shorter."""
    if len(sound) >= count:
        start = rng.randrange(len(sound) - count + 1)
        piece = sound[start : start + count]
    else:
        piece = np.resize(np.roll(sound, -rng.randrange(len(sound))), count)
    return np.asarray(piece / (np.sqrt((piece**2).mean()) + 1e-6), np.float32)
