"""Doubles for the slow or random parts: they satisfy the product's own protocols and replace nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from audio.asr import AsrJob, Transcript
from audio.formats import Pcm16
from nlu.meaning import OUT_OF_SCOPE, Meaning
from tts_stub.synthesis import Voice

__all__ = ["KeywordNlu", "ScriptedAsr", "ToneSynthesizer"]


class ScriptedAsr:
    """An engine that hears what it is told: `hear` maps an utterance to its words. Keeps what it was given."""

    name = "scripted"

    def __init__(self, hear: Callable[[AsrJob], str] | str = "yes") -> None:
        self._hear = (lambda job: hear) if isinstance(hear, str) else hear
        self.jobs: list[AsrJob] = []
        self.batches: list[int] = []
        self.gate = threading.Event()
        """Cleared: the engine hangs until it is set."""
        self.gate.set()

    def transcribe(self, jobs: list[AsrJob]) -> list[Transcript]:
        self.gate.wait(10)
        self.jobs += jobs
        self.batches.append(len(jobs))
        return [Transcript(text=self._hear(job)) for job in jobs]

    def padded_frames(self, job: AsrJob) -> int:
        return len(job.pcm) * 100 // job.sample_rate_hz


class KeywordNlu:
    """Intent by the first keyword found in the text."""

    def __init__(self, intents: dict[str, str]) -> None:
        self._intents = intents

    def predict(self, texts: list[str]) -> list[Meaning]:
        return [
            Meaning(next((intent for word, intent in self._intents.items() if word in text), OUT_OF_SCOPE), 0.9)
            for text in texts
        ]

    def padded_tokens(self, text: str) -> int:
        return len(text.split())


class ToneSynthesizer:
    """Speaks every prompt as a 440 Hz tone of 60 ms a word: quick to make, easy to find in what was played."""

    def synthesize(self, text: str, voice: Voice, sample_rate_hz: int) -> Pcm16:
        seconds = 0.06 * max(1, len(text.split()))
        t = np.arange(int(seconds * sample_rate_hz)) / sample_rate_hz
        return (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
