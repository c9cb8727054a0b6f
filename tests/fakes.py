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

    def __init__(self, intents: dict[str, str], *, version: str = "keywords") -> None:
        self._intents = intents
        self.version = version
        self.path = f"/models/{version}"

    def read(self, text: str) -> str:
        return text

    def padded_tokens(self, line: str) -> int:
        return len(line.split())

    def predict_lines(self, lines: list[str]) -> list[Meaning]:
        return [
            Meaning(next((intent for word, intent in self._intents.items() if word in line), OUT_OF_SCOPE), 0.9)
            for line in lines
        ]

    def warm_up(self, passes: int = 1) -> None:
        for _ in range(passes):
            self.predict_lines(["warm"])


class ToneSynthesizer:
    """Speaks every prompt as a 440 Hz tone of 60 ms a word: quick to make, easy to find in what was played."""

    def synthesize(self, text: str, voice: Voice, sample_rate_hz: int) -> Pcm16:
        seconds = 0.06 * max(1, len(text.split()))
        t = np.arange(int(seconds * sample_rate_hz)) / sample_rate_hz
        return (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
