"""What may pass for words: gates before and after a recogniser, since Whisper makes words of noise.

Each gate names itself in `Transcript.gated_by`. Figures for the bundled model are in its MODEL_CARD.md.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from audio.formats import Pcm16

__all__ = ["GateSettings", "Sound", "gate_audio", "gate_words", "measure"]

_BLOCK_MS = 20
_FLOOR_DBFS = -120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """Thresholds. The defaults suit stock Whisper; a model's own stand in its `voicegate.json`."""

    min_audio_ms: int = 120
    """Shorter audio holds no word ("duration")."""
    min_loudest_dbfs: float = -60.0
    """The loudest 20 ms must reach this ("energy")."""
    min_avg_logprob: float = -1.0
    """Natural log per token; less is a guess ("logprob")."""
    clear_contrast_db: float = 0.0
    """Sound of less contrast (see `Sound`) is doubtful: steady noise has 5-15 dB, speech on a line 30-50 ..."""
    min_unclear_logprob: float = -0.4
    """... and its words must be surer than this ("logprob")."""
    max_no_speech_prob: float = 0.6
    """Above this the model doubts that anybody spoke ("no_speech") ..."""
    no_speech_logprob: float = -1.0
    """... which counts where it is no surer than this of the words."""
    max_compression_ratio: float = 2.4
    """Text that zlib shrinks further is a decoder caught in a loop ("compression")."""
    compression_chars: int = 100
    """Shorter texts are exempt: "nine nine nine nine" is an account number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """What an utterance's waveform says before anybody listens, in blocks of 20 ms.

    `contrast_db` is how far the loudest tenth of the blocks stands above the quietest tenth: speech has its
    own pauses, and padding, to stand out from.
    """

    duration_ms: float
    loudest_dbfs: float
    contrast_db: float


def measure(pcm: Pcm16, sample_rate_hz: int) -> Sound:
    """Measure one utterance: int16 mono at `sample_rate_hz`."""
    size = sample_rate_hz * _BLOCK_MS // 1000
    blocks = pcm[: len(pcm) - len(pcm) % size].reshape(-1, size).astype(np.float64) / 32768
    duration_ms = len(pcm) * 1000 / sample_rate_hz
    if not len(blocks):
        return Sound(duration_ms=duration_ms, loudest_dbfs=_FLOOR_DBFS, contrast_db=0.0)
    power = np.var(blocks, axis=1)  # about the mean: a cheap line's DC offset is no sound
    levels = 10 * np.log10(np.maximum(power, 10 ** (_FLOOR_DBFS / 10)))
    quiet, loud = np.percentile(levels, (10, 90))
    return Sound(duration_ms=duration_ms, loudest_dbfs=float(levels.max()), contrast_db=float(loud - quiet))


def gate_audio(settings: GateSettings, sound: Sound) -> str | None:
    """The gate that keeps this sound from the recogniser, or None."""
    if sound.duration_ms < settings.min_audio_ms:
        return "duration"
    if sound.loudest_dbfs < settings.min_loudest_dbfs:
        return "energy"
    return None


def gate_words(
    settings: GateSettings, sound: Sound, text: str, avg_logprob: float, no_speech_prob: float
) -> str | None:
    """The gate that keeps these words from the dialogue, or None."""
    if no_speech_prob > settings.max_no_speech_prob and avg_logprob < settings.no_speech_logprob:
        return "no_speech"
    clear = sound.contrast_db >= settings.clear_contrast_db
    if avg_logprob < (settings.min_avg_logprob if clear else settings.min_unclear_logprob):
        return "logprob"
    raw = text.encode()
    if len(text) >= settings.compression_chars and (
        len(raw) > settings.max_compression_ratio * len(zlib.compress(raw))
    ):
        return "compression"
    return None
