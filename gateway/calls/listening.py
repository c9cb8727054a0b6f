"""From an utterance to its meaning, with work begun during the tail.

    idle --Pause--> speculating --utterance ended--> kept --its turn, same samples and expectation--> used
                        |--caller goes on--> wasted (cancelled)
    idle | other samples or expectation --its turn--> transcribed and understood now

At the pause the utterance so far is transcribed and understood, then the reply's audio made ready, for which its turn
does not wait: the first prompt may be there long before the last. Nothing is written and no action is taken. Pause and
endpoint cut the utterance alike, so a used speculation gives what the work at the endpoint would have given. It is kept
while a slow turn before its own goes on: the caller may pause again meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from audio.asr import AsrJob, Expectation
from audio.formats import Pcm16
from audio.inbound import Pause, UtteranceEnded
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.seam import Inference, InferenceError, TurnId
from gateway.metrics import Metrics
from nlu.meaning import Meaning

__all__ = ["CallerTurn", "Listener"]

log = logging.getLogger(__name__)

_MOST_KEPT: Final = 4  # utterances that wait for one turn; of more the oldest is heard anew


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerTurn:
    """What the caller said. `text` is empty and `meaning` None where there were no words."""

    text: str
    meaning: Meaning | None
    version: str = ""
    """Of the model that understood it."""
    timing: dict[str, float] = field(default_factory=dict)
    """ms at each stage: asr_ms, asr_queue_ms, nlu_ms, nlu_queue_ms; speculated is 1.0 where it was ready early."""


Prepare = Callable[[CallerTurn], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class _Speculation:
    """Work begun on the samples `start` to `end`."""

    start: int
    end: int
    expect: Expectation | None
    errand: Errand = field(default_factory=lambda: Errand(Urgency.SPECULATIVE))
    turn: asyncio.Task[CallerTurn | None] = field(init=False)
    """Gives None where it failed, and the endpoint will try again."""
    preparation: asyncio.Task[None] | None = None
    """Of the reply, once the words are known."""

    def cancel(self) -> None:
        """What is not done yet is wanted no more."""
        self.turn.cancel()
        if self.preparation is not None:
            self.preparation.cancel()


class Listener:
    """One call's way from utterances to meanings. At most one speculation on an utterance, the last one's."""

    def __init__(
        self,
        inference: Inference,
        metrics: Metrics,
        tasks: asyncio.TaskGroup,
        *,
        nlu_model: str | None,
        language: str | None,
        sample_rate_hz: int,
        timeout_s: float,
        prepare: Prepare,
        turn: Callable[[], TurnId | None] = lambda: None,
    ) -> None:
        """`prepare` is given each turn that is understood before its utterance ends, those without words too, and makes
        the reply ready (renders its prompts) without acting; its failures cost only time. `turn` tells which one the
        caller's next words are: one version of the model answers all that is asked in it. `nlu_model` None: the bot
        understands nothing and every turn is out of scope."""
        self._inference = inference
        self._metrics = metrics
        self._tasks = tasks
        self._nlu_model = nlu_model
        self._language = language
        self._rate = sample_rate_hz
        self._timeout_s = timeout_s
        self._prepare = prepare
        self._turn = turn
        self._speculation: _Speculation | None = None  # on the utterance in progress
        self._kept: deque[_Speculation] = deque()  # on those that ended and wait for their turn, in order
        self._taken: _Speculation | None = None  # the last one used, whose reply may still be made ready
        self._partial: asyncio.Task[None] | None = None

    def speculate(self, pause: Pause, expect: Expectation | None = None) -> None:
        """Begin work on the utterance so far, by what the dialogue waits for now."""
        self.cancel()
        self._metrics.speculation.labels("started").inc()
        speculation = self._speculation = _Speculation(start=pause.start, end=pause.end, expect=expect)
        speculation.turn = self._tasks.create_task(self._ahead(pause.pcm, speculation), name="speculation")

    def ended(self) -> None:
        """The utterance in progress has ended: what was begun on it is kept for its turn."""
        if self._speculation is not None:
            self._kept.append(self._speculation)
            self._speculation = None
            if len(self._kept) > _MOST_KEPT:
                self._waste(self._kept.popleft())

    def cancel(self) -> None:
        """The caller went on: what was begun on the utterance in progress is void."""
        if self._speculation is not None:
            self._waste(self._speculation)
            self._speculation = None

    def _waste(self, speculation: _Speculation) -> None:
        speculation.cancel()
        self._metrics.speculation.labels("wasted").inc()

    def watch(self, so_far: Pcm16, expect: Expectation | None, told: Callable[[str], None]) -> None:
        """Transcribe what was said so far for whoever watches; `told` gets the words unless they come too late.

        One at a time, and only while the engine has nothing better to do: a partial that is refused is not missed.
        """
        if self._partial is None or self._partial.done():
            self._partial = self._tasks.create_task(self._peek(so_far, expect, told), name="partial")

    def stop(self) -> None:
        """The call is over: nothing begun is wanted."""
        self.ended()
        while self._kept:
            self._waste(self._kept.popleft())
        self._leave_taken()
        self.stop_watching()

    def stop_watching(self) -> None:
        """The utterance has ended; its words are coming."""
        if self._partial is not None:
            self._partial.cancel()
            self._partial = None

    async def understand(self, utterance: UtteranceEnded, expect: Expectation | None = None) -> CallerTurn:
        """The turn that this utterance is.

        Args:
            utterance: as the endpointer cut it.
            expect: what the dialogue waits for now; a speculation made while it waited for something else is
                not used, since its words could be others.

        Raises:
            InferenceError: no answer from the models.
        """
        speculation = self._take(utterance, expect)
        if speculation is not None:
            was_ready = speculation.turn.done()
            speculation.errand.promote(Urgency.ENDPOINT)  # now a caller waits for it
            turn = await speculation.turn
            if turn is not None:
                self._metrics.speculation.labels("used").inc()
                return CallerTurn(
                    text=turn.text,
                    meaning=turn.meaning,
                    version=turn.version,
                    timing={**turn.timing, "speculated": 1.0 if was_ready else 0.5},
                )
            self._metrics.speculation.labels("failed").inc()
        return await self._hear(utterance.pcm, expect, Errand())

    def _take(self, utterance: UtteranceEnded, expect: Expectation | None) -> _Speculation | None:
        """What was begun on just this utterance. Turns come in order, so all else begun up to its end is void."""
        self._leave_taken()
        while self._kept and self._kept[0].end <= utterance.end:
            each = self._kept.popleft()
            if (each.start, each.end, each.expect) == (utterance.start, utterance.end, expect):
                self._taken = each
            else:
                self._waste(each)
        return self._taken

    def _leave_taken(self) -> None:
        """The turn before is over: its prompts have been asked for by whoever says them."""
        if self._taken is not None:
            self._taken.cancel()
            self._taken = None

    async def read(self, text: str, errand: Errand | None = None) -> CallerTurn:
        """The turn that these words are, which were put together from several utterances or keys.

        Raises:
            InferenceError: no answer from the model.
        """
        return await self._understand(text, {}, errand or Errand())

    async def _peek(self, so_far: Pcm16, expect: Expectation | None, told: Callable[[str], None]) -> None:
        job = AsrJob(pcm=so_far, sample_rate_hz=self._rate, language=self._language, expect=expect)
        try:
            heard = await self._inference.transcribe(job, timeout_s=self._timeout_s, errand=Errand(Urgency.PARTIAL))
        except InferenceError as exc:
            log.debug("no partial: %s", exc)
            return
        if heard.transcript.text:
            told(heard.transcript.text)

    async def _ahead(self, pcm: Pcm16, speculation: _Speculation) -> CallerTurn | None:
        """A turn understood early; None where it failed, and the endpoint will try again."""
        try:
            turn = await self._hear(pcm, speculation.expect, speculation.errand)
        except InferenceError as exc:
            log.info("speculation gave up: %s", exc)
            return None
        if self._speculation is speculation:  # else the utterance is over: its turn makes the reply, as things are then
            speculation.preparation = self._tasks.create_task(self._make_ready(turn), name="preparation")
        return turn

    async def _make_ready(self, turn: CallerTurn) -> None:
        try:
            await self._prepare(turn)
        except Exception as exc:  # whatever it is, the reply itself will meet it, if it is ever wanted
            log.info("the reply was not made ready: %s", type(exc).__name__)

    async def _hear(self, pcm: Pcm16, expect: Expectation | None, errand: Errand) -> CallerTurn:
        begun = time.monotonic()
        job = AsrJob(pcm=pcm, sample_rate_hz=self._rate, language=self._language, expect=expect)
        heard = await self._inference.transcribe(job, timeout_s=self._timeout_s, errand=errand)
        asr_done = time.monotonic()
        timing = {"asr_ms": (asr_done - begun) * 1000, "asr_queue_ms": heard.queue_ms}
        self._metrics.stage.labels("asr").observe(asr_done - begun)
        text = heard.transcript.text.strip()
        if not text:
            return CallerTurn(text="", meaning=None, timing=timing)
        return await self._understand(text, timing, errand)

    async def _understand(self, text: str, timing: dict[str, float], errand: Errand) -> CallerTurn:
        if self._nlu_model is None:
            return CallerTurn(text=text, meaning=Meaning("oos", 0.0), timing=timing)
        begun = time.monotonic()
        understood = await self._inference.understand(
            self._nlu_model, text, timeout_s=self._timeout_s, errand=errand, turn=self._turn()
        )
        nlu_s = time.monotonic() - begun
        self._metrics.stage.labels("nlu").observe(nlu_s)
        timing = {**timing, "nlu_ms": nlu_s * 1000, "nlu_queue_ms": understood.queue_ms}
        return CallerTurn(text=text, meaning=understood.meaning, version=understood.version, timing=timing)
