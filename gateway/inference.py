"""The seam between calls and models: what a session asks, whoever answers.

Two transports stand behind it now: in this process (tests, small tools) and a Unix socket to an inference worker
(`gateway.inference_socket`), where the models live by default.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry

from audio.asr import AsrEngine, AsrJob, Transcript
from gateway.batching import Batcher, BatcherSettings
from gateway.job_queue import Errand
from gateway.metrics import InferenceMetrics
from nlu.meaning import Meaning

__all__ = ["Heard", "Inference", "InferenceError", "LocalInference", "NluModel", "Understood"]


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
    """A meaning and what it took in ms at the engine."""

    meaning: Meaning
    queue_ms: float
    compute_ms: float


class NluModel(Protocol):
    """The part of `nlu.engine.NluEngine` that serving needs."""

    def predict(self, texts: list[str]) -> list[Meaning]:
        """Blocking; results in the order of the texts."""
        ...

    def padded_tokens(self, text: str) -> int:
        """Cost of a text in a batch."""
        ...


class Inference(Protocol):
    """What a session may ask. Both raise InferenceError and nothing else."""

    async def transcribe(self, job: AsrJob, *, timeout_s: float, errand: Errand | None = None) -> Heard:
        """Words of one utterance. `errand` is its urgency; an endpoint's unless given."""
        ...

    async def understand(self, model: str, text: str, *, timeout_s: float, errand: Errand | None = None) -> Understood:
        """Meaning of one text by the NLU model of that name."""
        ...


class LocalInference:
    """Batchers over engines in this process. Use as an async context."""

    def __init__(
        self,
        asr: AsrEngine,
        nlu: dict[str, NluModel],
        *,
        asr_settings: BatcherSettings | None = None,
        nlu_settings: BatcherSettings | None = None,
        metrics: InferenceMetrics | None = None,
    ) -> None:
        """`nlu` maps a model name (a bot's) to its loaded engine; names of one engine share its batcher."""
        self._stack = AsyncExitStack()
        metrics = metrics or InferenceMetrics(CollectorRegistry())
        self.asr: Batcher[AsrJob, Transcript] = Batcher(
            "asr",
            asr.transcribe,
            asr_settings or BatcherSettings(max_stretch=1.0),
            cost=asr.padded_frames,
            observe=metrics.batch_ran,
            on_shed=metrics.job_shed,
        )
        by_engine: dict[int, Batcher[str, Meaning]] = {}
        self.nlu: dict[str, Batcher[str, Meaning]] = {}
        for name, model in nlu.items():
            if id(model) not in by_engine:
                by_engine[id(model)] = Batcher(
                    f"nlu {name}",
                    model.predict,
                    nlu_settings or BatcherSettings(),
                    cost=model.padded_tokens,
                    observe=metrics.batch_ran,
                    on_shed=metrics.job_shed,
                )
            self.nlu[name] = by_engine[id(model)]

    async def __aenter__(self) -> LocalInference:
        await self._stack.enter_async_context(self.asr)
        for batcher in dict.fromkeys(self.nlu.values()):
            await self._stack.enter_async_context(batcher)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def transcribe(self, job: AsrJob, *, timeout_s: float = 30.0, errand: Errand | None = None) -> Heard:
        """See `Inference.transcribe`."""
        try:
            done = await self.asr.submit(job, timeout_s=timeout_s, errand=errand)
        except Exception as exc:
            raise InferenceError(f"speech recognition: {type(exc).__name__}: {exc}") from exc
        return Heard(done.result, done.queue_ms, done.compute_ms)

    async def understand(
        self, model: str, text: str, *, timeout_s: float = 30.0, errand: Errand | None = None
    ) -> Understood:
        """See `Inference.understand`."""
        batcher = self.nlu.get(model)
        if batcher is None:
            raise InferenceError(f"understanding: no model named {model!r}; loaded: {', '.join(self.nlu) or 'none'}")
        try:
            done = await batcher.submit(text, timeout_s=timeout_s, errand=errand)
        except Exception as exc:
            # The engine's message may quote the text, so only its kind is passed on.
            raise InferenceError(f"understanding: {type(exc).__name__}") from exc
        return Understood(done.result, done.queue_ms, done.compute_ms)
