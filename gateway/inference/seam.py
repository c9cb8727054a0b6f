"""The seam between calls and models: what a session asks, whoever answers.

Three transports stand behind it: in this process (`gateway.inference.local`: tests, small tools), a Unix socket to an
inference worker (`gateway.inference.unix_socket`), where the models live by default, and Redis streams to inference
workers on any host (`gateway.inference.streams.client`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from audio.asr import AsrJob, Transcript
from gateway.inference.job_queue import Errand, Urgency
from nlu.meaning import Meaning
from nlu.pool import TurnId

__all__ = ["Heard", "Inference", "InferenceError", "TurnId", "Understood"]


class InferenceError(Exception):
    """No answer: the worker is away, overloaded, or the model failed. The message says which, without caller text."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A transcript and what it took in ms at the engine."""

    transcript: Transcript
    queue_ms: float
    compute_ms: float


@dataclass(frozen=True, slots=True)
class Understood:
    """A meaning, what it took in ms at the engine, and the version of the model that gave it."""

    meaning: Meaning
    queue_ms: float
    compute_ms: float
    version: str = ""


class Inference(Protocol):
    """What a session may ask. What answers raises InferenceError and nothing else."""

    def expected_wait_s(self, urgency: Urgency) -> float:
        """How long an utterance of this urgency would wait before it is worked on, as far as is known here."""
        ...

    async def transcribe(self, job: AsrJob, *, timeout_s: float, errand: Errand | None = None) -> Heard:
        """Words of one utterance. `errand` is its urgency; an endpoint's unless given."""
        ...

    async def understand(
        self, model: str, text: str, *, timeout_s: float, errand: Errand | None = None, turn: TurnId | None = None
    ) -> Understood:
        """Meaning of one text by the NLU model of that name. All that is asked in one `turn` is answered by one
        version of it, and the turns of some calls by a version on trial; None: of no call."""
        ...
