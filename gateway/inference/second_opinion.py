"""Light first, heavy on doubt: a larger model that is asked where a bot's own is unsure.

    first answer --sure--> given
         '--score below `below`, or out of scope--> the larger model --in time--> its answer given
                                                          '--late, busy, failed--> the first answer given

The caller waits for the larger model at most `within_s`, and most callers not at all: what share is asked, and what
that buys, `python -m bench.second_opinion` says for any two models.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from gateway.inference.batching import Batcher, BatcherSettings, DeadlinePassed, Overloaded
from gateway.inference.job_queue import Errand
from gateway.inference.model_serving import NluModel
from gateway.inference.seam import Understood
from gateway.metrics import InferenceMetrics
from nlu.meaning import OUT_OF_SCOPE, Meaning

__all__ = ["Doubt", "SecondOpinion", "is_doubtful"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """When a second opinion is asked for, and how long it may take."""

    below: float
    """Calibrated probability of the first answer's intent, 0..1."""
    within_s: float


def is_doubtful(meaning: Meaning, below: float) -> bool:
    """Whether an answer is unsure enough to ask again. Out of scope is, whatever its score: the larger model may know
    the wording."""
    return meaning.intent == OUT_OF_SCOPE or meaning.score < below


class SecondOpinion:
    """One bot's larger model behind a batcher of its own. Use as an async context."""

    def __init__(
        self, bot: str, model: NluModel[Any], doubt: Doubt, *, settings: BatcherSettings, metrics: InferenceMetrics
    ) -> None:
        """`model` is warm."""
        self._bot = bot
        self._model = model
        self._doubt = doubt
        self._metrics = metrics
        self._batcher: Batcher[Any, Meaning] = Batcher(
            f"nlu {bot} second",
            model.predict_lines,
            settings,
            cost=model.padded_tokens,
            observe=metrics.batch_ran,
            on_shed=metrics.job_shed,
        )

    async def __aenter__(self) -> SecondOpinion:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._batcher.__aexit__()

    async def weigh(self, first: Understood, text: str, *, errand: Errand | None = None) -> Understood:
        """The answer to give: the larger model's where the first is in doubt and the larger one answers in time.

        Its version is then `FIRST+SECOND`, its times are those of both.
        """
        if not is_doubtful(first.meaning, self._doubt.below):
            return first
        try:
            async with asyncio.timeout(self._doubt.within_s):
                done = await self._batcher.submit(self._model.read(text), timeout_s=self._doubt.within_s, errand=errand)
        except (TimeoutError, DeadlinePassed):
            outcome = "late"
        except Overloaded:
            outcome = "refused"
        except Exception as exc:  # whatever it is, there is an answer already
            # The engine's message may quote the text, so only its kind is told.
            log.warning("bot %s: the second opinion failed: %s", self._bot, type(exc).__name__)
            outcome = "failed"
        else:
            meaning = done.result
            same = (meaning.intent, meaning.slots) == (first.meaning.intent, first.meaning.slots)
            self._metrics.second_opinion(self._bot, "agreed" if same else "changed")
            return Understood(
                meaning,
                first.queue_ms + done.queue_ms,
                first.compute_ms + done.compute_ms,
                f"{first.version}+{self._model.version}",
            )
        self._metrics.second_opinion(self._bot, outcome)
        return first
