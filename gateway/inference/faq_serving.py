"""Questions of the bots' FAQs, looked up for texts that were not understood.

    understood --a question's very words--> that entry
               --intent, sure enough--> as it is
               --else--> Batcher -> nearest question --near enough--> that entry

Indexes are made when the bots are loaded (`gateway.inference.faq_indexing`) and do not depend on a model's version, so
that an exchange of models leaves them alone. What goes wrong here costs an answer, never the understanding.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from gateway import logs
from gateway.inference.batching import Batcher, BatcherSettings, DeadlinePassed, Overloaded
from gateway.inference.job_queue import Errand
from gateway.inference.seam import Understood
from gateway.metrics import InferenceMetrics
from nlu.faq import FaqIndex, FaqLookup, find_answers
from nlu.meaning import FaqMatch, Meaning

__all__ = ["FaqServing", "looked_up"]

log = logging.getLogger(__name__)

_CHARS_PER_TOKEN = 4


class FaqServing:
    """All bots' FAQs behind one batcher. Use as an async context."""

    def __init__(
        self, indexes: Mapping[str, FaqIndex], *, settings: BatcherSettings, metrics: InferenceMetrics
    ) -> None:
        """`indexes` are by the bot's name; a bot that is not among them has no FAQ."""
        self._indexes = indexes
        self._metrics = metrics
        self._batcher: Batcher[FaqLookup, FaqMatch | None] = Batcher(
            "faq",
            find_answers,
            settings,
            cost=lambda lookup: 2 + len(lookup.text) // _CHARS_PER_TOKEN,
            observe=metrics.batch_ran,
            on_shed=metrics.job_shed,
        )

    async def __aenter__(self) -> FaqServing:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._batcher.__aexit__(*exc_info)

    async def complete(
        self, bot: str, text: str, understood: Understood, *, timeout_s: float, errand: Errand | None
    ) -> Understood:
        """What was understood, with the question of the bot's FAQ that the text asks."""
        index = self._indexes.get(bot)
        if index is None:
            return understood
        if (match := index.verbatim(text)) is not None:
            self._metrics.faq_looked_up(bot, "verbatim")
            return _asking(understood, match)
        if not index.wants(understood.meaning):
            return understood
        try:
            done = await self._batcher.submit(FaqLookup(index, text), timeout_s=timeout_s, errand=errand)
        except (Overloaded, DeadlinePassed) as exc:
            log.warning("%s: the FAQ was not asked: %s", bot, exc)
        except Exception as exc:
            log.error("%s: the FAQ failed: %s", bot, logs.where(exc))
        else:
            self._metrics.faq_looked_up(bot, "none" if done.result is None else "near")
            queue_ms, compute_ms = understood.queue_ms + done.queue_ms, understood.compute_ms + done.compute_ms
            return _asking(replace(understood, queue_ms=queue_ms, compute_ms=compute_ms), done.result)
        self._metrics.faq_looked_up(bot, "failed")
        return understood


def _asking(understood: Understood, match: FaqMatch | None) -> Understood:
    return replace(understood, meaning=replace(understood.meaning, faq=match))


def looked_up(index: FaqIndex, text: str, meaning: Meaning) -> Meaning:
    """The meaning of a text with the question that it asks: `FaqServing.complete` for a program with one caller."""
    match = index.verbatim(text)
    if match is None and index.wants(meaning):
        (match,) = find_answers([FaqLookup(index, text)])
    return replace(meaning, faq=match)
