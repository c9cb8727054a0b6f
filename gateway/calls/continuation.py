"""The caller who goes on: which turn an utterance belongs to, and its words as one text.

    no turn --answered with words--> open --another event | an act | the window passes--> closed

A turn is open while its reply has not yet been heard to begin, and for `turns.join_ms` after that to whoever speaks
over it. What is said then is more of the same: the texts are joined and understood anew, as a round that supersedes the
one before (`dialogue.loop`). Chains are possible: each joined turn is open again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from audio.asr import join_words
from dialogue.loop import DialogueLoop, Step
from dialogue.turns import Say
from gateway.calls.interruption import Overlap
from gateway.calls.listening import CallerTurn, Listener
from gateway.calls.speaker import Speaker
from gateway.inference.job_queue import Errand

__all__ = ["Continuation", "OpenTurn"]


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """The last spoken turn, while its caller may go on with it. `expect` is what the dialogue waited for."""

    round_id: int
    text: str
    expect: str | None


class Continuation:
    """One call's."""

    def __init__(self, dialogue: DialogueLoop, speaker: Speaker, listener: Listener, *, join_ms: int) -> None:
        """`join_ms` 0: every utterance is a turn of its own."""
        self._dialogue = dialogue
        self._speaker = speaker
        self._listener = listener
        self._join_s = join_ms / 1000
        self._last: OpenTurn | None = None

    def answered(self, step: Step, text: str, expect: str | None) -> None:
        """A spoken turn has its reply. One that says nothing has no beginning to be late for."""
        says = any(isinstance(action, Say) for action in step.actions)
        self._last = OpenTurn(step.round_id, text, expect) if says else None

    def close(self) -> None:
        """The next words are a turn of their own."""
        self._last = None

    def open_to(self, began: float, over: Overlap | None) -> OpenTurn | None:
        """The turn that a caller goes on with who began to speak then; None: it is one of its own."""
        last = self._last
        if last is None or not self._join_s or self._dialogue.withdrawable != last.round_id:
            return None
        sounded = self._speaker.sounded_at(last.round_id)
        if sounded is None or began <= sounded or (over is not None and began <= sounded + self._join_s):
            return last
        return None

    async def whole(
        self,
        turn: CallerTurn,
        before: OpenTurn | None,
        *,
        keys_before: str = "",
        keys_after: str = "",
        errand: Errand | None = None,
    ) -> CallerTurn:
        """The turn with what goes before and after it, understood as one; `errand` None: a caller waits for it.

        Raises:
            InferenceError: no answer from the model.
        """
        earlier = before.text if before is not None else ""
        text = join_words(earlier, " ".join(keys_before), turn.text, " ".join(keys_after))
        if text == turn.text:
            return turn
        whole = await self._listener.read(text, errand)
        return replace(whole, timing={**turn.timing, **whole.timing})
