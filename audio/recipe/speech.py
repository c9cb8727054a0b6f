"""The seam between the recipe and whatever makes its training speech, and a store for speech made once.

`audio` imports no synthesiser: the command line passes in a `VoiceSet`. Engines that are fast enough speak
fresh sentences during training; slower ones speak once into a `ClipStore` and are varied later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from audio.formats import Pcm16

__all__ = ["SAMPLE_RATE_HZ", "Clip", "ClipStore", "Samples", "Speech", "SpeechMaker", "VoiceSet", "to_pcm16"]

SAMPLE_RATE_HZ = 8000
"""All speech of the recipe: what a telephone carries."""

Samples: TypeAlias = NDArray[np.float32]
"""Mono at `SAMPLE_RATE_HZ`, float32, full scale -1..1, shape (samples,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """One synthesised sentence. `phones` are (start in seconds, name) in order, empty where the engine
    gives no times."""

    samples: Samples
    phones: tuple[tuple[float, str], ...] = ()


class SpeechMaker(Protocol):
    """A synthesiser with its voices; each call draws voice, pace and pitch from `rng`."""

    @property
    def name(self) -> str:
        """What the model card calls it, with its licence."""
        ...

    @property
    def phone_names(self) -> tuple[str, ...]:
        """Names that `Speech.phones` may hold; empty where there are no times. The first is silence."""
        ...

    def speak(self, text: str, rng: Random) -> Speech:
        """Say lower-case words.

        Raises:
            RuntimeError: the engine failed; the message names it and the mend.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceSet:
    """All synthetic speakers of one training.

    `live` builds the fast engine in each training process (engines hold pointers that cannot travel).
    `slow` engines speak into the cache; `unheard` (name of the test -> engine) speak in tests only.
    """

    live: Callable[[], SpeechMaker]
    slow: tuple[SpeechMaker, ...] = ()
    unheard: tuple[tuple[str, SpeechMaker], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A recording or cached sentence: its words, who speaks, int16 at `SAMPLE_RATE_HZ`."""

    text: str
    speaker: str
    pcm: Pcm16

    @property
    def samples(self) -> Samples:
        """The sound as float32, -1..1."""
        return self.pcm.astype(np.float32) / np.float32(32768)


class ClipStore:
    """Clips in two files, `pcm.npy` (one int16 array) and `clips.jsonl`; read by memory map, so that
    several training processes share one copy."""

    def __init__(self, folder: Path) -> None:
        self._pcm: Pcm16 = np.load(folder / "pcm.npy", mmap_mode="r")
        lines = (folder / "clips.jsonl").read_text().splitlines()
        self._index: list[tuple[str, str, int, int]] = [
            (row["text"], row["speaker"], row["start"], row["length"]) for row in map(json.loads, lines)
        ]

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a whole store lies in `folder` (`clips.jsonl` is written last)."""
        return (folder / "clips.jsonl").exists()

    @staticmethod
    def write(folder: Path, clips: Iterable[Clip]) -> None:
        """Write a store, whole or not at all."""
        kept = list(clips)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "pcm.npy", np.concatenate([clip.pcm for clip in kept] or [np.zeros(0, np.int16)]))
        start, rows = 0, []
        for clip in kept:
            row = {"text": clip.text, "speaker": clip.speaker, "start": start, "length": len(clip.pcm)}
            rows.append(json.dumps(row) + "\n")
            start += len(clip.pcm)
        part = folder / "clips.jsonl.part"
        part.write_text("".join(rows))
        part.replace(folder / "clips.jsonl")

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Clip:
        text, speaker, start, length = self._index[index]
        return Clip(text=text, speaker=speaker, pcm=np.asarray(self._pcm[start : start + length]))

    def __iter__(self) -> Iterator[Clip]:
        return (self[index] for index in range(len(self)))


def to_pcm16(samples: Samples, *, peak: float | None = None) -> Pcm16:
    """Float sound to int16, scaled to `peak` (0..1) where one is given."""
    if peak is not None:
        samples = samples * np.float32(peak / (float(np.abs(samples).max(initial=0.0)) + 1e-9))
    return np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
