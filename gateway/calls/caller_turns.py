"""From what the caller did to the dialogue's step: words over a prompt judged, one thought joined, keys taken.

    Spoke --no interruption--> the prompt goes on, no turn
      '--words--> with those of the turn before where they are one thought --> CallerSaid --> step
    Keyed --a number begun in words--> its words and keys --> CallerSaid --> step
      '--else--> DigitsPressed --> step

At a pause the same is tried on what was said so far, without writing anything, so that the reply is ready in time.

Two speak at once:

- Over a prompt, it is held until the words are known; `gateway.calls.interruption` says what they are. What a pause
  shows to be no interruption lets the prompt go on there and then; should the caller go on too, it is held again.
- Before a reply, or within `turns.join_ms` of its beginning: the caller is still in the turn before. Its words and the
  new ones are one text, understood anew as a round of its own, which supersedes the other (`DialogueLoop`). Never after
  an act outside the call. A reply that becomes ready while the caller speaks waits for those words.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from audio.asr import Expectation
from dialogue.loop import Step
from dialogue.turns import CallerSaid, DigitsPressed, HangUp, Listen, Say, Transfer
from gateway.calls.caller import Caller, Keyed, Spoke
from gateway.calls.continuation import Continuation, OpenTurn
from gateway.calls.interruption import Overlap, Verdict, judge
from gateway.calls.listening import CallerTurn, Listener
from gateway.calls.second_track import SecondTrack
from gateway.calls.services import Services
from gateway.calls.speaker import ReplyClock, Speaker
from gateway.calls.stored_dialogue import StoredDialogue
from gateway.inference.job_queue import Errand, Urgency
from gateway.monitoring.call_watch import CallWatch
from gateway.protocols.seam import Command, TurnHeard, TurnUnderstood

__all__ = ["CallerTurns", "Reply", "is_final"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A step to be carried out in answer to the caller, since when they wait, and what it took so far in ms."""

    step: Step
    clock: ReplyClock
    timing: dict[str, float] | None = None


class CallerTurns:
    """One call's."""

    def __init__(
        self,
        services: Services,
        *,
        dialogue: StoredDialogue,
        caller: Caller,
        speaker: Speaker,
        listener: Listener,
        second_track: SecondTrack,
        tell: Callable[[Command], None],
        watch: CallWatch,
        stop_prompt: Callable[[], str | None],
    ) -> None:
        """`stop_prompt` empties playout and says what had been heard of it; None: all of it."""
        self._dialogue = dialogue
        self._loop = dialogue.loop
        self._caller = caller
        self._speaker = speaker
        self._listener = listener
        self._second_track = second_track
        self._tell = tell
        self._watch = watch
        self._stop_prompt = stop_prompt
        self._metrics = services.metrics
        self._hello_ms = services.settings.turns.hello_ms
        self._continuation = Continuation(self._loop, speaker, listener, join_ms=services.settings.turns.join_ms)
        self.listening: Listen | None = None
        """How the dialogue listens now, if it does."""

    def expected(self, began: float, over: Overlap | None) -> Expectation | None:
        """What the dialogue waits for; of a caller who goes on, what it waited for before."""
        expect = self._asked(self._continuation.open_to(began, over))
        return None if expect is None else Expectation(expect)

    async def take(self, entry: Spoke | Keyed) -> Reply | None:
        """What to answer to an entry; None: nothing was said, or it was no turn.

        Raises:
            InferenceError: no answer from the models; and what `StoredDialogue.handle` raises.
        """
        return await (self._spoken(entry) if isinstance(entry, Spoke) else self._keyed(entry))

    async def prepare(self, turn: CallerTurn) -> None:
        """What a turn's pause allows: let a held prompt go on, or render the reply; nothing is written or done."""
        caller = self._caller
        began, over, keys = caller.began, caller.over, caller.keys_before
        if self._verdict(turn, over) is not Verdict.INTERRUPTION and not keys:
            self._speaker.resume()
            return
        before, state = self._continuation.open_to(began, over), self._loop.state
        errand = Errand(Urgency.SPECULATIVE)  # to the end: should the turn come meanwhile, it asks for itself
        turn = await self._continuation.whole(turn, before, keys_before=keys, errand=errand)
        if self._loop.state is not state:
            return  # too late: the dialogue has gone on
        assert turn.meaning is not None
        supersedes = before.round_id if before is not None else None
        said = CallerSaid(text=turn.text, meaning=turn.meaning, supersedes=supersedes)
        self._second_track.look_ahead(said)
        for action in self._loop.preview(said).actions:
            if isinstance(action, Say):
                await self._speaker.prepare(action)

    async def _spoken(self, entry: Spoke) -> Reply | None:
        turn = await self._listener.understand(entry.utterance, self.expected(entry.began, entry.over))
        keys = entry.keys_before + entry.keys_after
        if turn.meaning is None and keys:
            return await self._keyed(Keyed(digits=keys, at=entry.at, began=entry.began, over=entry.over))
        verdict = self._verdict(turn, entry.over)
        if entry.over is not None:
            self._metrics.overlaps.labels(verdict).inc()
        ignored = verdict is not Verdict.INTERRUPTION and not keys
        self._watch.judged(verdict, over_prompt=entry.over is not None, ignored=ignored)
        if ignored:
            self._metrics.turns.labels("no_words" if verdict is Verdict.NO_WORDS else "ignored").inc()
            self._speaker.resume()
            return None
        before = self._continuation.open_to(entry.began, entry.over)
        turn = await self._continuation.whole(turn, before, keys_before=entry.keys_before, keys_after=entry.keys_after)
        self._metrics.turns.labels("words" if before is None else "joined").inc()
        timing = {"tail_ms": float(entry.tail_ms), **turn.timing}
        return await self._answer(turn, before, heard=self._stop_prompt(), at=entry.at, timing=timing)

    async def _keyed(self, entry: Keyed) -> Reply:
        self._metrics.turns.labels("dtmf").inc()
        self._watch.keyed(entry.digits)
        before = self._continuation.open_to(entry.began, entry.over)
        if before is not None and before.expect in ("digits", "number"):  # the number was begun in words
            nothing = CallerTurn(text="", meaning=None)
            turn = await self._continuation.whole(nothing, before, keys_after=entry.digits)
            return await self._answer(turn, before, heard=entry.heard, at=entry.at, timing=turn.timing)
        self._continuation.close()
        step = await self._dialogue.handle(DigitsPressed(digits=entry.digits, heard=entry.heard))
        return Reply(step, ReplyClock("endpoint_to_reply_ms", entry.at))

    async def _answer(
        self, turn: CallerTurn, before: OpenTurn | None, *, heard: str | None, at: float, timing: dict[str, float]
    ) -> Reply:
        """One spoken turn, from its words to the reply; `before` is the one whose place it takes."""
        assert turn.meaning is not None
        supersedes = before.round_id if before is not None else None
        round_id = self._loop.state.round_id + 1
        self._watch.nlu_version = turn.version or self._watch.nlu_version
        self._tell(TurnHeard(round_id=round_id, text=turn.text, supersedes=supersedes))
        self._tell(TurnUnderstood(round_id=round_id, meaning=turn.meaning))
        expect = self._asked(before)
        event = CallerSaid(text=turn.text, meaning=turn.meaning, heard=heard, supersedes=supersedes)
        event = await self._second_track.complete(event, since=at)
        begun = time.monotonic()
        step = await self._dialogue.handle(event)
        dialogue_s = time.monotonic() - begun
        self._metrics.stage.labels("dialogue").observe(dialogue_s)
        self._continuation.answered(step, turn.text, expect)
        if self._caller.speaking and self._caller.insists and not is_final(step):
            self._speaker.wait(time.monotonic())  # the caller goes on: what that says may make this reply void
        timing = {**timing, "dialogue_ms": dialogue_s * 1000}
        return Reply(step, ReplyClock("endpoint_to_reply_ms", at), timing)

    def _verdict(self, turn: CallerTurn, over: Overlap | None) -> Verdict:
        """What words are that were said over a prompt; a turn like any other where they were not."""
        if turn.meaning is None:
            return Verdict.NO_WORDS
        if over is None and (later := self._speaker.overlap(time.monotonic())) is not None:
            over = replace(later, question=True)  # begun in silence, so words that can be an answer are one
        if over is None:
            return Verdict.INTERRUPTION
        expects = self.listening.expect if self.listening is not None else None
        answers = expects == "yes_no" or self._loop.answers(turn.meaning.intent)
        return judge(turn.text, over, answers=answers, hello_ms=self._hello_ms)

    def _asked(self, before: OpenTurn | None) -> str | None:
        """What the dialogue waits for, or waited for as the turn began that goes on."""
        if before is not None:
            return before.expect
        return None if self.listening is None else self.listening.expect


def is_final(step: Step) -> bool:
    """Whether the call ends with this step's words."""
    return any(isinstance(action, Transfer | HangUp) for action in step.actions)
