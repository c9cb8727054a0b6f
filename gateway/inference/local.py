"""The inference seam in this process: batchers over engines. What the inference worker answers from, and tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from prometheus_client import CollectorRegistry

from audio.asr import AsrEngine, AsrJob, Transcript
from gateway.inference.batching import Batcher, BatcherSettings
from gateway.inference.faq_serving import FaqServing
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.model_commands import ModelCommand
from gateway.inference.model_serving import ModelLoader, ModelServing, NluModel
from gateway.inference.seam import Heard, InferenceError, TurnId, Understood
from gateway.inference.second_opinion import SecondOpinion
from gateway.metrics import InferenceMetrics
from nlu.faq import FaqIndex
from nlu.pool import VersionStatus

__all__ = ["LocalInference"]


class LocalInference:
    """Satisfies `Inference` and `ModelAdministration`. Use as an async context."""

    def __init__(
        self,
        asr: AsrEngine,
        nlu: Mapping[str, NluModel[Any]],
        *,
        asr_settings: BatcherSettings | None = None,
        nlu_settings: BatcherSettings | None = None,
        seconds: Mapping[str, SecondOpinion] | None = None,
        metrics: InferenceMetrics | None = None,
        faqs: Mapping[str, FaqIndex] | None = None,
        load: ModelLoader | None = None,
        retire_after_s: float = 30.0,
        changed: Callable[[list[VersionStatus]], None] = lambda statuses: None,
    ) -> None:
        """`nlu` maps a model name (a bot's) to its loaded engine; names of one engine share its batcher. `seconds`
        are the larger models of those that have one, `faqs` has the index of each bot with an FAQ. The rest is for
        `gateway.inference.model_serving.ModelServing`."""
        self._stack = AsyncExitStack()
        metrics = metrics or InferenceMetrics(CollectorRegistry())
        self.asr: Batcher[AsrJob, Transcript] = Batcher(
            "asr",
            asr.transcribe,
            asr_settings or BatcherSettings(max_padding=0.0),
            cost=asr.padded_frames,
            observe=metrics.batch_ran,
            on_shed=metrics.job_shed,
        )
        self._models = ModelServing(
            nlu,
            settings=nlu_settings or BatcherSettings(),
            metrics=metrics,
            load=load,
            retire_after_s=retire_after_s,
            changed=changed,
        )
        self._seconds = dict(seconds or {})
        self._faqs = FaqServing(faqs or {}, settings=nlu_settings or BatcherSettings(), metrics=metrics)

    async def __aenter__(self) -> LocalInference:
        await self._stack.enter_async_context(self.asr)
        await self._stack.enter_async_context(self._models)
        for second in self._seconds.values():
            await self._stack.enter_async_context(second)
        await self._stack.enter_async_context(self._faqs)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    def expected_wait_s(self, urgency: Urgency) -> float:
        """See `Inference.expected_wait_s`."""
        return self.asr.expected_wait_s(urgency)

    async def transcribe(self, job: AsrJob, *, timeout_s: float = 30.0, errand: Errand | None = None) -> Heard:
        """See `Inference.transcribe`."""
        try:
            done = await self.asr.submit(job, timeout_s=timeout_s, errand=errand)
        except Exception as exc:
            raise InferenceError(f"speech recognition: {type(exc).__name__}: {exc}") from exc
        return Heard(done.result, done.queue_ms, done.compute_ms)

    async def understand(
        self,
        model: str,
        text: str,
        *,
        timeout_s: float = 30.0,
        errand: Errand | None = None,
        turn: TurnId | None = None,
    ) -> Understood:
        """See `Inference.understand`."""
        understood = await self._models.understand(model, text, timeout_s=timeout_s, errand=errand, turn=turn)
        if (second := self._seconds.get(model)) is not None:
            understood = await second.weigh(understood, text, errand=errand)
        return await self._faqs.complete(model, text, understood, timeout_s=timeout_s, errand=errand)

    async def administer(self, command: ModelCommand, *, timeout_s: float = 120.0) -> list[VersionStatus]:
        """See `gateway.inference.model_commands.ModelAdministration.administer`."""
        return await self._models.administer(command, timeout_s=timeout_s)
