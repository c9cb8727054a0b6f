"""Understanding and dialogues for requests in text, each answer given once and kept.

    intent    kept answer | meaning by the model -> kept (the first of two at once)
    chat      kept answer | meaning: kept, or by the model and then kept
                          -> a request to your system that was left open: which one is kept, then it is asked
                          -> DialogueLoop.handle: one script writes the step, or says that it was written before
                          -> answer kept

A chat message is a caller turn of the dialogue `chat/BOT/UID`; the slash keeps it apart from every phone call, whose id
can hold none. A request that dies anywhere between is completed by its retry: the meaning is kept before the step, and
a step written before gives its actions again, so the retry's answer is the one that was lost. Where the client goes on
with another message instead, a flow's request that died with the first is made again, under its key, and what follows
from its answer comes before the new message's turn: while a flow waits for it no message would be heard.

Odd cases: a message whose number lies behind the last one's, and whose answer is kept no longer, is refused
(`RoundError`) rather than said out of turn; numbers may leave gaps. An empty first message begins the dialogue and gets
its greeting, and is no turn of the user's; an empty one later is a turn without words. A first message with words is
the answer to a greeting that was not heard: only its own reply comes back, behind what the flow says to the answer of
your system that it begins by asking for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from pydantic import TypeAdapter

from dialogue.bots import Bot
from dialogue.loop import DialogueLoop, Step
from dialogue.state import DialogueState
from dialogue.step import step
from dialogue.store import RoundError, StateStore
from dialogue.turns import Action, CallerSaid, CallStarted, CallWebhook, DialogueError, Say, Transfer
from gateway.calls.bot_choice import choose_bot
from gateway.calls.second_track import SecondTrack
from gateway.http.answer_store import AnswerStore
from gateway.http.bodies import ChatAnswer, ChatRequest, ChatState, IntentAnswer, IntentRequest, found_slots
from gateway.inference.seam import Inference, TurnId
from gateway.outside.assistants import Assistants
from gateway.outside.webhooks import Webhooks
from nlu.meaning import OUT_OF_SCOPE, Meaning

__all__ = ["BotChangedError", "TextDialogues"]

_MEANING: Final = TypeAdapter(Meaning)
_ASKED: Final = TypeAdapter(CallWebhook)
_NOTHING_SAID: Final = Meaning(OUT_OF_SCOPE, 0.0)
_NO_TURN: Final = Meaning("", 0.0)


class BotChangedError(DialogueError):
    """The conversation stands at a node that the bot, changed since, has no more."""


class TextDialogues:
    """What the routes of the HTTP API ask. Answers are JSON texts, as they are kept.

    All may raise UnknownBotError, InferenceError, and DialogueError (its kinds: MetadataError, RoundError,
    BotChangedError, StoreError).
    """

    def __init__(
        self,
        bots: Mapping[str, Bot],
        inference: Inference,
        store: StateStore,
        answers: AnswerStore,
        *,
        timeout_s: float,
        webhooks: Webhooks,
        assistants: Assistants | None = None,
    ) -> None:
        """`bots` by name, the default first; `timeout_s` bounds the wait for a model; `webhooks` and `assistants` ask
        for flows."""
        self._bots = bots
        self._inference = inference
        self._store = store
        self._answers = answers
        self._timeout_s = timeout_s
        self._webhooks = webhooks
        self._assistants = assistants

    async def intent(self, request: IntentRequest) -> str:
        """The `IntentAnswer` of a call's round."""
        name = f"intent:{request.round_id}"
        (kept,) = await self._answers.find(request.call_id, name)
        if kept is not None:
            return kept
        bot = choose_bot(self._bots, request.bot, request.language)
        meaning = await self._understand(bot, request.text, TurnId(request.call_id, request.round_id))
        return await self._answers.keep(request.call_id, name, IntentAnswer.of(request, meaning).model_dump_json())

    async def chat(self, request: ChatRequest) -> str:
        """The `ChatAnswer` of a conversation's message."""
        bot = choose_bot(self._bots, request.bot, request.language)
        owner = f"chat/{bot.name}/{request.uid}"
        answer_name = f"answer:{request.seq}"
        names = (answer_name, f"meaning:{request.seq}", f"asked:{request.seq}")
        kept, kept_meaning, kept_asked = await self._answers.find(owner, *names)
        if kept is not None:
            return kept
        loop = DialogueLoop(bot, self._store, owner)
        await loop.open(metadata=request.metadata, exclusive=False)
        query, round_id = request.query.strip(), request.seq + 1  # the dialogue counts rounds from 1
        if not query and loop.state.round_id == 0:
            actions = await self._follow(loop, owner, bot, _greeting(bot, request, loop.state), 0)
            answer = _answer(request, bot, _NO_TURN, actions, loop.state)
        else:
            over = round_id <= loop.state.round_id
            meaning = await self._meaning(owner, request, kept_meaning, bot, over=over)
            before = await self._catch_up(loop, owner, request, kept_asked, bot, over=over)
            try:
                done = await self._advance(loop, owner, bot, CallerSaid(text=query, meaning=meaning), round_id)
            except RoundError:  # a later message was quicker
                raise _over(request) from None
            answer = _answer(request, bot, meaning, before + done.actions, done.state)
        return await self._answers.keep(owner, answer_name, answer.model_dump_json())

    async def _meaning(self, owner: str, request: ChatRequest, kept: str | None, bot: Bot, *, over: bool) -> Meaning:
        """The one meaning of a message, for all who ask. `over`: its turn has passed, so it is kept or gone."""
        if kept is None:
            if over:
                raise _over(request)
            understood = await self._understand(bot, request.query.strip(), TurnId(owner, request.seq))
            kept = await self._answers.keep(owner, f"meaning:{request.seq}", _MEANING.dump_json(understood).decode())
        return _MEANING.validate_json(kept)

    async def _understand(self, bot: Bot, text: str, turn: TurnId) -> Meaning:
        """By the bot's model; of a bot without one every text is out of scope, as in its calls. `turn`: of two models
        in service, who is asked again in a turn is the same."""
        if bot.nlu_path is None or not text.strip():
            return _NOTHING_SAID
        return (await self._inference.understand(bot.name, text, timeout_s=self._timeout_s, turn=turn)).meaning

    async def _advance(self, loop: DialogueLoop, owner: str, bot: Bot, said: CallerSaid, round_id: int) -> Step:
        """The turn, and what follows from your system's answers: one reply."""
        if loop.state.node not in bot.flow.nodes:
            raise BotChangedError(
                f"the conversation stands at {loop.state.node!r:.60}, which bot {bot.name} has no more; "
                "begin another with a new uid"
            )
        if round_id > loop.state.round_id:  # else it is answered already, and that answer given again
            said = await self._with_assistant(loop, bot, said)
        done = await loop.handle(said, round_id=round_id)
        actions = await self._follow(loop, owner, bot, done.actions, round_id)
        return replace(done, actions=actions, state=loop.state)

    async def _catch_up(
        self, loop: DialogueLoop, owner: str, request: ChatRequest, kept: str | None, bot: Bot, *, over: bool
    ) -> tuple[Action, ...]:
        """What follows from the request that was left open before this message; `kept`: it was found open by an earlier
        try of the message."""
        if kept is None:
            if over or loop.asks is None:  # what is open after a message's own turn is that turn's
                return ()
            kept = await self._answers.keep(owner, f"asked:{request.seq}", _ASKED.dump_json(loop.asks).decode())
        return await self._follow(loop, owner, bot, (_ASKED.validate_json(kept),), loop.state.round_id)

    async def _follow(
        self, loop: DialogueLoop, owner: str, bot: Bot, actions: tuple[Action, ...], round_id: int
    ) -> tuple[Action, ...]:
        """These actions and those that follow from your system's answers. An answer handled before changes nothing and
        gives its actions again."""
        following = actions
        while (asked := next((a for a in following if isinstance(a, CallWebhook)), None)) is not None:
            answered = await self._webhooks.ask(asked, bot=bot, call_id=owner, round_id=round_id)
            following = (await loop.handle(answered)).actions
            actions += following
        return actions

    async def _with_assistant(self, loop: DialogueLoop, bot: Bot, said: CallerSaid) -> CallerSaid:
        """The turn with what the bot's second track says to it, where nothing else answers."""

        async def in_text(say: Say) -> None:
            """Nothing is to be made ready."""

        track = SecondTrack(self._assistants, bot=bot, dialogue=loop, render=in_text, count=lambda outcome: None)
        async with track:
            return await track.complete(said, since=time.monotonic())


def _over(request: ChatRequest) -> RoundError:
    return RoundError(f"message {request.seq} is over and its answer is kept no longer; number messages upwards")


def _greeting(bot: Bot, request: ChatRequest, state: DialogueState) -> tuple[Action, ...]:
    """What the start of this dialogue said: the same when its answer was lost and is asked for again."""
    given = tuple(sorted((request.metadata or {}).items()))
    return step(bot.flow, DialogueState(), CallStarted(today=state.today, metadata=given))[1]


def _answer(
    request: ChatRequest, bot: Bot, meaning: Meaning, actions: tuple[Action, ...], state: DialogueState
) -> ChatAnswer:
    # Variables are what the client gave, or secrets to check the user by: not for a page that shows the state.
    variables = {spec.name for spec in bot.flow.slots.values() if spec.variable}
    filled = {name: slot.value for name, slot in state.slots.items() if name not in variables}
    return ChatAnswer(
        uid=request.uid,
        seq=request.seq,
        reply=" ".join(action.text for action in actions if isinstance(action, Say)),
        intent=meaning.intent,
        score=round(meaning.score, 4),
        slots=found_slots(meaning.slots),
        state=ChatState(
            node=state.node,
            turns=state.turns,
            slots=filled,
            ended=state.ended,
            disposition=state.disposition,
            transfer=next((action.target for action in actions if isinstance(action, Transfer)), None),
        ),
    )
