"""One call's second track: what the bot's assistant says to words that nothing else answers, if it is there in time.

    pause      words that would not be understood --> asked already, while the tail runs
    turn over  the same words: what is whole, said and rendered by `wait_ms` --> into the turn
               other words: that answer is dropped, and asked for anew
               understood after all: dropped
    too late, failed, busy --> the turn is a misunderstanding as ever

A sentence counts when its sound is in memory, so a voice that cannot say it costs nothing but the sentence. The
dialogue decides whether the words are wanted: the turn is stepped once without them (`DialogueLoop.preview`), and what
is asked for is words alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from dialogue.assistant import ASSISTANT, Assistant
from dialogue.bots import Bot
from dialogue.loop import DialogueLoop
from dialogue.turns import CallerSaid, Say
from gateway import background
from gateway.outside.answer_stream import AnswerError
from gateway.outside.assistants import Assistants, BusyError

__all__ = ["SecondTrack"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Answer:
    """One answer on its way; `sentences` are those that can be said."""

    words: str
    task: asyncio.Task[str]
    sentences: list[str] = field(default_factory=list)


class SecondTrack:
    """At most one answer at a time. Use as an async context, as long as the call."""

    def __init__(
        self,
        assistants: Assistants | None,
        *,
        bot: Bot,
        dialogue: DialogueLoop,
        render: Callable[[Say], Awaitable[object]],
        count: Callable[[str], None],
    ) -> None:
        """`assistants` None: nobody is asked. `render` makes the sound of a sentence; `count` is told what came of each
        answer that was asked for."""
        self._assistants = assistants
        self._assistant: Assistant | None = None if assistants is None else bot.assistant
        self._count = count
        self._flow = bot.flow
        self._dialogue = dialogue
        self._render = render
        self._answer: _Answer | None = None
        self._completing = False
        self._tasks: list[asyncio.Task[str]] = []  # of this answer, and of those before that are being dropped

    async def __aenter__(self) -> SecondTrack:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._drop("unwanted")

    def look_ahead(self, said: CallerSaid) -> None:
        """The caller pauses after these words: ask already, if they would not be understood. While a turn waits for its
        own answer they are another turn's, and that one will ask."""
        if self._assistant is not None and not self._completing and self._wanted(said):
            self._begin(self._assistant, said)

    async def complete(self, said: CallerSaid, *, since: float) -> CallerSaid:
        """The turn with what the assistant says to it, where that is wanted and there by `wait_ms` after `since`
        (monotonic seconds)."""
        assistant = self._assistant
        if assistant is None:
            return said
        if not self._wanted(said):
            await self._drop("unwanted")
            return said
        left_s = since + assistant.wait_ms / 1000 - time.monotonic()
        answer = self._answer
        if answer is None or answer.words != said.text:
            await self._drop("unwanted")
            if left_s <= 0:
                return said
            answer = self._begin(assistant, said)
        self._completing = True
        try:
            await asyncio.wait([answer.task], timeout=max(0.0, left_s))
        finally:
            self._completing = False
        outcome = answer.task.result() if answer.task.done() else "late"
        await self._drop("cut" if outcome == "late" and answer.sentences else outcome)
        return replace(said, assistant=tuple(answer.sentences))

    def _wanted(self, said: CallerSaid) -> bool:
        after = self._dialogue.preview(said).state
        if not after.history or after.history[-1].round_id != after.round_id:  # the bot had ended the call before
            return False
        turn = after.history[-1]
        return turn.unanswered and self._flow.nodes[turn.node].assistant

    def _begin(self, assistant: Assistant, said: CallerSaid) -> _Answer:
        if self._answer is not None:
            if self._answer.words == said.text:
                return self._answer
            self._answer.task.cancel()
            self._count("unwanted")
        sentences: list[str] = []
        task = asyncio.create_task(self._ask(assistant, said, sentences), name="assistant")
        self._tasks.append(task)
        self._answer = _Answer(said.text, task, sentences)
        return self._answer

    async def _ask(self, assistant: Assistant, said: CallerSaid, sentences: list[str]) -> str:
        """Fill `sentences`; how it went."""
        assert self._assistants is not None
        state = self._dialogue.state
        before = [turn for turn in state.history if turn.round_id != said.supersedes]

        async def render(sentence: str) -> None:
            await self._render(Say(text=sentence, node=state.node, source=ASSISTANT))
            sentences.append(sentence)

        try:
            await self._assistants.ask(assistant, said.text, before, render)
        except BusyError:
            return "busy"
        except AnswerError as error:
            log.warning("the assistant does not answer: %s", error)
            sentences.clear()
            return "failed"
        except Exception as error:  # a voice that cannot say it, or a fault of ours: the call goes on without
            log.warning("the assistant's answer cannot be used: %s", type(error).__name__)
            return "failed"
        return "answered" if sentences else "empty"

    async def _drop(self, outcome: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            self._count(outcome)
        tasks, self._tasks = self._tasks, []
        await background.stop(tasks)
