"""What may pass for words: gates before and after a recogniser, since Whisper makes words of noise.

Each gate names itself in `Transcript.gated_by`. Figures for the bundled model are in its MODEL_CARD.md,
`python -m bench.asr_gates` makes them.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np

from audio.formats import Pcm16

__all__ = ["GateSettings", "Sound", "evidence", "gate_audio", "gate_words", "measure"]

_BLOCK_MS = 20
_FLOOR_DBFS = -120.0
_LEAST_PROB = 1e-6
"""Models round a small probability to zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """Thresholds. The defaults suit stock Whisper; a model's own stand in its `voicegate.json`."""

    min_audio_ms: int = 120
    """Shorter audio holds no word ("duration")."""
    min_loudest_dbfs: float = -60.0
    """The loudest 20 ms must reach this ("energy")."""
    min_avg_logprob: float = -1.0
    """Natural log per token; less is a guess ("logprob")."""
    max_no_speech_prob: float = 0.6
    """Above this the model doubts that anybody spoke ("no_speech") ..."""
    no_speech_logprob: float = -1.0
    """... which counts where it is no surer than this of the words."""
    no_speech_weight: float = 0.0
    """What a doubt that anybody spoke counts against sure words, see `evidence`; 0 leaves it out."""
    min_evidence: float = -99.0
    """Less evidence than this is noise heard as words ("no_speech"). Neither of the two probabilities tells noise from
    callers by itself: a caller in noise is heard unsurely, and noise as a keyword surely."""
    max_compression_ratio: float = 2.4
    """Text that zlib shrinks further is a decoder caught in a loop ("compression")."""
    compression_chars: int = 100
    """Shorter texts are exempt: "nine nine nine nine" is an account number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """What an utterance's waveform says before anybody listens. The level is of the loudest 20 ms."""

    duration_ms: float
    loudest_dbfs: float


def measure(pcm: Pcm16, sample_rate_hz: int) -> Sound:
    """Measure one utterance: int16 mono at `sample_rate_hz`."""
    size = sample_rate_hz * _BLOCK_MS // 1000
    blocks = pcm[: len(pcm) - len(pcm) % size].reshape(-1, size).astype(np.float64) / 32768
    power = np.var(blocks, axis=1)  # about the mean: a cheap line's DC offset is no sound
    return Sound(
        duration_ms=len(pcm) * 1000 / sample_rate_hz,
        loudest_dbfs=float(10 * np.log10(max(power.max(initial=0.0), 10 ** (_FLOOR_DBFS / 10)))),
    )


def evidence(avg_logprob: float, no_speech_prob: float, weight: float) -> float:
    """How much speaks for words: mean log-probability of the tokens, less `weight` times that of no speech."""
    return avg_logprob - weight * math.log(max(no_speech_prob, _LEAST_PROB))


def gate_audio(settings: GateSettings, sound: Sound) -> str | None:
    """The gate that keeps this sound from the recogniser, or None."""
    if sound.duration_ms < settings.min_audio_ms:
        return "duration"
    if sound.loudest_dbfs < settings.min_loudest_dbfs:
        return "energy"
    return None


def gate_words(settings: GateSettings, text: str, avg_logprob: float, no_speech_prob: float) -> str | None:
    """The gate that keeps these words from the dialogue, or None. Words of no known probability (NaN, as a model in
    half precision may give) are kept from it too."""
    if math.isnan(avg_logprob) or math.isnan(no_speech_prob):
        return "logprob"
    if no_speech_prob > settings.max_no_speech_prob and avg_logprob < settings.no_speech_logprob:
        return "no_speech"
    if evidence(avg_logprob, no_speech_prob, settings.no_speech_weight) < settings.min_evidence:
        return "no_speech"
    if avg_logprob < settings.min_avg_logprob:
        return "logprob"
    raw = text.encode()
    if len(text) >= settings.compression_chars and (
        len(raw) > settings.max_compression_ratio * len(zlib.compress(raw))
    ):
        return "compression"
    return None
