"""What may pass for words: gates before and after a recogniser, since Whisper makes words of noise.

Each gate names itself in `Transcript.gated_by`. Figures for the bundled model are in its MODEL_CARD.md.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from audio.formats import Pcm16

__all__ = ["GateSettings", "gate_audio", "gate_words"]

_BLOCK_MS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """Thresholds; a model's own stand in its `voicegate.json`."""

    min_audio_ms: int = 120
    """Shorter audio holds no word ("duration")."""
    min_level_dbfs: float = -55.0
    """The loudest 20 ms must reach this ("energy")."""
    min_contrast_db: float = 0.0
    """The loudest tenth of 20 ms blocks must stand this far above the quietest tenth ("energy"): steady noise
    does not, speech between its own pauses and padding does."""
    min_avg_logprob: float = -1.0
    """Natural log per token; less is a guess ("logprob")."""
    max_no_speech_prob: float = 0.6
    """Above this the model itself doubts that anybody spoke ("no_speech") ..."""
    no_speech_logprob: float = -0.5
    """... which counts where it is unsure of the words too."""
    max_compression_ratio: float = 2.4
    """Text that zlib shrinks further is a decoder caught in a loop ("compression")."""
    compression_chars: int = 100
    """Shorter texts are exempt: "nine nine nine nine" is an account number."""


def gate_audio(settings: GateSettings, pcm: Pcm16, sample_rate_hz: int) -> str | None:
    """The gate that keeps this audio from the recogniser, or None.

    Args:
        settings: thresholds.
        pcm: one utterance, int16 mono.
        sample_rate_hz: its rate.
    """
    if len(pcm) * 1000 < settings.min_audio_ms * sample_rate_hz:
        return "duration"
    size = sample_rate_hz * _BLOCK_MS // 1000
    blocks = pcm[: len(pcm) - len(pcm) % size].reshape(-1, size).astype(np.float64)
    blocks -= blocks.mean(axis=1, keepdims=True)  # a cheap line's DC offset is no sound
    levels_db = 10 * np.log10(np.mean(blocks**2, axis=1) / 32768**2 + 1e-12)
    quiet_db, loud_db = np.percentile(levels_db, (10, 90))
    if levels_db.max() < settings.min_level_dbfs or loud_db - quiet_db < settings.min_contrast_db:
        return "energy"
    return None


def gate_words(settings: GateSettings, text: str, avg_logprob: float, no_speech_prob: float) -> str | None:
    """The gate that keeps these words from the dialogue, or None."""
    if no_speech_prob > settings.max_no_speech_prob and avg_logprob < settings.no_speech_logprob:
        return "no_speech"
    if avg_logprob < settings.min_avg_logprob:
        return "logprob"
    raw = text.encode()
    if len(text) >= settings.compression_chars and (
        len(raw) > settings.max_compression_ratio * len(zlib.compress(raw))
    ):
        return "compression"
    return None
