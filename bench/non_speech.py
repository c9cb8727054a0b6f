"""Sounds of a line on which nobody speaks, made from a seed: noise, tones, music, breath, knocks.

They share no code with the sounds that `voicegate asr train` makes, so a recogniser has not learnt their maker. Each
lasts 0.4 to 6 s and is scaled so that its loudest 20 ms are at a level.

    noise    of any colour from white to brown, now and then with the hum of the mains
    tones    call progress, keys of a telephone, a siren, a modem
    music    chords and a tune of decaying partials, with or without a drum: music on hold
    breath   in and out, a band of noise under a slow curve
    knocks   decaying resonances: a door, a keyboard, a handset laid down
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, chirp, sosfilt

from audio.recipe.speech import SAMPLE_RATE_HZ, Samples

__all__ = ["KINDS", "LEVELS_DBFS", "Sound", "sounds"]

LEVELS_DBFS = (-60, -50, -40, -30, -20, -10)
SECONDS = (0.4, 6.0)
_BLOCK = SAMPLE_RATE_HZ // 50
_KEYS_HZ = ((697, 770, 852, 941), (1209, 1336, 1477))
_PROGRESS_HZ = ((350, 440), (440, 480), (480, 620), (425, 425), (400, 450))
_SCALE = (0, 2, 4, 5, 7, 9, 11)  # semitones of a major scale

Made = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sound:
    """One sound: float32 at 8 kHz, within -1 to 1."""

    kind: str
    level_dbfs: int
    samples: Samples


def sounds(each: int, seed: int) -> Iterator[Sound]:
    """`each` sounds of every kind, the levels in turn."""
    for kind, make in KINDS.items():
        generator = np.random.default_rng([seed, *kind.encode()])
        for number in range(each):
            level_dbfs = LEVELS_DBFS[number % len(LEVELS_DBFS)]
            made = make(generator, int(SAMPLE_RATE_HZ * generator.uniform(*SECONDS)))
            yield Sound(kind, level_dbfs, _at_level(made, level_dbfs))


def _at_level(made: Made, level_dbfs: float) -> Samples:
    blocks = made[: len(made) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    loudest = np.sqrt(np.square(blocks).mean(axis=1).max()) + 1e-12
    return np.clip(made * (10 ** (level_dbfs / 20) / loudest), -1, 1).astype(np.float32)


def _noise(generator: np.random.Generator, count: int) -> Made:
    spectrum = np.fft.rfft(generator.standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ)
    coloured: Made = np.fft.irfft(spectrum / np.maximum(hz, 30) ** generator.uniform(0, 1), count)
    coloured /= coloured.std()
    if generator.random() < 0.3:
        mains_hz = generator.choice([50, 60])
        for partial in (1, 2, 3, 5):
            coloured += np.sin(2 * np.pi * mains_hz * partial * _time(count)) * 2 / partial
    return coloured


def _tones(generator: np.random.Generator, count: int) -> Made:
    time_s = _time(count)
    match generator.integers(4):
        case 0:
            low_hz, high_hz = _PROGRESS_HZ[generator.integers(len(_PROGRESS_HZ))]
            on = time_s % generator.uniform(0.5, 3) < generator.uniform(0.2, 1.5)
            return (np.sin(2 * np.pi * low_hz * time_s) + np.sin(2 * np.pi * high_hz * time_s)) * on
        case 1:
            key_s = generator.uniform(0.08, 0.25)
            number = (time_s // key_s).astype(int)
            low, high = (generator.choice(hz, number.max() + 1)[number] for hz in _KEYS_HZ)
            on = time_s % key_s < 0.6 * key_s
            return (np.sin(2 * np.pi * low * time_s) + np.sin(2 * np.pi * high * time_s)) * on
        case 2:
            period_s = generator.uniform(0.3, 2)
            sweep: Made = chirp(time_s % period_s, f0=generator.uniform(300, 900), t1=period_s, f1=2000)
            return sweep
        case _:
            bits = generator.integers(2, size=int(time_s[-1] * 300) + 1)[(time_s * 300).astype(int)]
            return np.sin(2 * np.pi * np.cumsum(np.where(bits, 1270, 1070)) / SAMPLE_RATE_HZ)


def _music(generator: np.random.Generator, count: int) -> Made:
    beat = int(SAMPLE_RATE_HZ * 60 / generator.uniform(60, 160))
    root_hz, brightness = generator.uniform(110, 330), generator.uniform(0.3, 0.8)
    drum = generator.random() < 0.5
    made = np.zeros(count)
    for number, start in enumerate(range(0, count, beat)):
        step = generator.integers(len(_SCALE))
        chord = [_SCALE[(step + third) % len(_SCALE)] for third in (0, 2, 4)] if number % 4 == 0 else []
        for semitones in [*chord, 12 + _SCALE[step]]:
            note = _note(root_hz * 2 ** (semitones / 12), count - start, brightness)
            made[start : start + len(note)] += note
        if drum:
            stroke = generator.standard_normal(min(beat, count - start)) * 2
            made[start : start + len(stroke)] += stroke * np.exp(-_time(len(stroke)) * 40)
    return made


def _note(hz: float, most: int, brightness: float) -> Made:
    time_s = _time(min(most, SAMPLE_RATE_HZ))
    partials = [brightness**n * np.sin(2 * np.pi * hz * (n + 1) * time_s) for n in range(6) if hz * (n + 1) < 3800]
    return np.sum(partials, axis=0) * np.exp(-3 * time_s) * np.minimum(1, time_s * 100)  # type: ignore[no-any-return]


def _breath(generator: np.random.Generator, count: int) -> Made:
    made, start = np.zeros(count), 0
    while start < count:
        length = min(count - start, int(SAMPLE_RATE_HZ * generator.uniform(0.4, 1.8)))
        low_hz = generator.uniform(250, 1200)
        sos = butter(
            2, [low_hz, min(3800, low_hz * generator.uniform(2, 4))], "bandpass", fs=SAMPLE_RATE_HZ, output="sos"
        )
        flow = np.sin(np.pi * np.arange(length) / length) ** generator.uniform(1, 3)
        made[start : start + length] = sosfilt(sos, generator.standard_normal(length)) * flow
        start += length + int(SAMPLE_RATE_HZ * generator.uniform(0.1, 1))
    return made


def _knocks(generator: np.random.Generator, count: int) -> Made:
    made = np.zeros(count)
    for start in generator.integers(count - _BLOCK, size=generator.integers(1, 4 + count // 1000)):
        time_s = _time(count - start)[: SAMPLE_RATE_HZ // 4]
        body = np.sin(2 * np.pi * generator.uniform(120, 2500) * time_s) + 0.5 * generator.standard_normal(len(time_s))
        made[start : start + len(time_s)] += body * np.exp(-time_s * generator.uniform(25, 300))
    return made


def _time(count: int) -> Made:
    """Seconds of each sample."""
    return np.arange(count) / SAMPLE_RATE_HZ


KINDS: Mapping[str, Callable[[np.random.Generator, int], Made]] = MappingProxyType(
    {"noise": _noise, "tones": _tones, "music": _music, "breath": _breath, "knocks": _knocks}
)
