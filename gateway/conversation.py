"""What is said in one call: turns, prompts and silences, between a detector's events and the dialogue.

    opening --greeting queued--> listening --inbox--> turn --actions--> listening
                                     turn --hang up | transfer--> ending (prompts are heard out) --> over

Events come in synchronously; what needs waiting (models, store, synthesis) is put into a bounded inbox that `run`
empties in order. Nothing here knows how the call is carried: commands leave through `tell`, audio through the
`Speaker`.

Odd cases: speech over a prompt holds it until the words are known, and no words resume it; an utterance that ends
while a turn is worked on waits in the inbox; speech before the greeting is heard like any other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from audio.asr import Expectation
from audio.endpointing import EndpointState
from audio.inbound import (
    InboundChain,
    InboundEvent,
    Pause,
    SpeechResumed,
    SpeechStarted,
    SpeechSustained,
    UtteranceEnded,
)
from dialogue.bots import Bot
from dialogue.loop import DialogueLoop, Step
from dialogue.store import StoreError
from dialogue.turns import (
    CallerSaid,
    CallerSilent,
    CallWebhook,
    DialogueError,
    DigitsPressed,
    HangUp,
    Listen,
    Say,
    Transfer,
    WebhookAnswered,
)
from gateway.inference import TurnId
from gateway.keypad import Keypad
from gateway.listening import CallerTurn, Listener
from gateway.protocols.seam import (
    CallStart,
    Command,
    EndCall,
    SessionReady,
    SpeechEdge,
    TransferCall,
    TurnHeard,
    TurnUnderstood,
    WireProtocol,
)
from gateway.services import Services
from gateway.speaker import ReplyClock, Speaker
from gateway.websocket import Connection

__all__ = ["Conversation"]

log = logging.getLogger(__name__)

_INBOX_SIZE = 16
_SAVE_S = 2.0
_STORE_RETRY_S = 0.2
_PARTIAL_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class _Spoke:
    utterance: UtteranceEnded
    at: float  # when the audio that completed the tail arrived
    tail_ms: int


@dataclass(frozen=True, slots=True)
class _Silent:
    pass


@dataclass(frozen=True, slots=True)
class _Keyed:
    digits: str
    at: float


_Entry: TypeAlias = _Spoke | _Silent | _Keyed


class Conversation:
    """One call's conversation. `speech_event`, `key_pressed` and `mark_reached` are for the connection's callbacks."""

    def __init__(
        self,
        services: Services,
        protocol: WireProtocol,
        connection: Connection,
        *,
        start: CallStart,
        chain: InboundChain,
        tell: Callable[[Command], None],
    ) -> None:
        """`chain` is the call's inbound audio, whose tail the dialogue sets; `tell` sends a command to the peer."""
        self._services = services
        self._settings = services.settings
        self._protocol = protocol
        self._connection = connection
        self._start = start
        self._chain = chain
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[_Entry] = asyncio.Queue(_INBOX_SIZE)
        self._keypad = Keypad(self._loop, lambda digits: self._put(_Keyed(digits, time.monotonic())))
        # Known once the dialogue is open.
        self._dialogue: DialogueLoop | None = None
        self._bot: Bot | None = None
        self._call_id = ""
        self._speaker: Speaker | None = None
        self._listener: Listener | None = None
        # Turn taking.
        self._listen: Listen | None = None
        self._tail_ms = self._settings.endpointing.tail_ms
        self._turn_running = False
        self._ending = False
        self._over = ""
        self._silence_timer: asyncio.TimerHandle | None = None
        self._partial_timer: asyncio.TimerHandle | None = None

    async def run(self, bot: Bot, call_id: str, *, since: float) -> str:
        """Talk until the bot ends the call.

        Args:
            since: when the call's first words began to be waited for (monotonic seconds).

        Returns:
            "bot" or "transfer".

        Raises:
            MetadataError: the caller's metadata do not fit the bot.
            FencedError: another connection has taken the call over.
            InferenceError, DialogueError, SynthesisError, TimeoutError: a part that does not answer.
        """
        services = self._services
        dialogue = self._dialogue = DialogueLoop(bot, services.store, call_id)
        self._bot, self._call_id = bot, call_id
        start = self._start
        step = await self._stored(lambda: dialogue.open(caller=start.caller, metadata=start.metadata))
        async with asyncio.TaskGroup() as tasks:
            self._speaker = Speaker(
                services,
                self._protocol,
                self._connection,
                bot=bot,
                fmt=self._start.format,
                tell=self._tell,
                on_heard=self._arm_silence_timer,
            )
            self._listener = Listener(
                services.inference,
                services.metrics,
                tasks,
                nlu_model=bot.name if bot.nlu_path is not None else None,
                language=self._start.language or self._settings.asr.language or bot.language,
                sample_rate_hz=self._start.format.sample_rate_hz,
                timeout_s=self._settings.limits.reply_s,
                prepare=lambda turn: self._prepare_reply(dialogue, turn),
                turn=lambda: TurnId(call_id, dialogue.state.round_id + 1),
            )
            resumed = str(step.resumed).lower()
            services.metrics.calls_started.labels(self._protocol.name, bot.name, resumed).inc()
            log.info("call started: bot %s, %s, resumed %s", bot.name, self._protocol.name, resumed)
            self._tell(SessionReady(call_id=call_id, resumed=step.resumed))
            await self._perform(step, clock=ReplyClock("first_utterance_ms", since))
            while not self._over:
                await self._next_turn(dialogue)
            self._listener.stop()
        return self._over

    async def save_end(self, by: str) -> None:
        """The last write: who ended the call. A call that was lost or failed has none, so that it can be resumed."""
        if self._dialogue is None:
            return
        try:
            async with asyncio.timeout(_SAVE_S):
                await asyncio.shield(self._dialogue.close(by))
        except (TimeoutError, DialogueError) as exc:
            log.error("the end of the call was not saved: %s", type(exc).__name__)

    def close(self) -> None:
        """Nothing more can be said or heard."""
        for timer in (self._silence_timer, self._partial_timer):
            if timer is not None:
                timer.cancel()
        self._keypad.close()
        if self._speaker is not None:
            self._speaker.close()

    # From the connection's callbacks.

    def speech_event(self, event: InboundEvent, now: float) -> None:
        """What the endpointer saw in audio that arrived at `now`."""
        match event:
            case SpeechStarted():
                self._cancel_silence_timer()
                self._watch_speech()
                self._tell(SpeechEdge(started=True, at_ms=self._ms(event.at)))
            case SpeechSustained():
                if self._speaker is not None and self._speaker.hold(now):
                    taken_s = self._ms(self._chain.samples_seen - event.at) / 1000
                    self._services.metrics.barge_in.observe(taken_s)
            case Pause():
                if self._listener is not None and self._settings.asr.speculate and not self._ending:
                    self._listener.speculate(event, self._expected())
            case SpeechResumed():
                if self._listener is not None:
                    self._listener.cancel()
            case UtteranceEnded():
                self._stop_watching_speech()
                self._tell(SpeechEdge(started=False, at_ms=self._ms(event.end)))
                self._put(_Spoke(event, now, self._tail_ms))

    def key_pressed(self, key: str) -> None:
        """A DTMF key: the caller has taken the turn."""
        self._stop_prompt()
        self._keypad.press(key)

    def mark_reached(self, name: str) -> None:
        """The peer has played as far as a prompt's mark."""
        if self._speaker is not None:
            self._speaker.mark_reached(name)

    def _put(self, entry: _Entry) -> None:
        try:
            self._inbox.put_nowait(entry)
        except asyncio.QueueFull:
            # A turn takes milliseconds, so this many waiting means that a model hangs. The newest is the one to lose.
            self._services.metrics.dropped.labels("inbox").inc()
            log.warning("inbox full, dropped a %s", type(entry).__name__)
            if self._speaker is not None:
                self._speaker.resume()  # nobody will decide about a prompt held for this

    def _ms(self, samples: int) -> int:
        return samples * 1000 // self._start.format.sample_rate_hz

    # Turns.

    async def _next_turn(self, dialogue: DialogueLoop) -> None:
        self._turn_running = False
        self._arm_silence_timer()
        entry = await self._inbox.get()
        self._turn_running = True
        self._cancel_silence_timer()
        turns = self._services.metrics.turns
        match entry:
            case _Spoke():
                await self._caller_spoke(dialogue, entry)
            case _Silent():
                turns.labels("no_input").inc()
                await self._perform(await self._handle(dialogue, CallerSilent()))
            case _Keyed():
                turns.labels("dtmf").inc()
                step = await self._handle(dialogue, DigitsPressed(digits=entry.digits))
                await self._perform(step, clock=ReplyClock("endpoint_to_reply_ms", entry.at))

    async def _caller_spoke(self, dialogue: DialogueLoop, entry: _Spoke) -> None:
        assert self._listener is not None and self._speaker is not None
        turn = await self._listener.understand(entry.utterance, self._expected())
        turns = self._services.metrics.turns
        if turn.meaning is None:
            turns.labels("no_words").inc()
            self._speaker.resume()
            return
        turns.labels("words").inc()
        self._stop_prompt()
        round_id = dialogue.state.round_id + 1
        self._tell(TurnHeard(round_id=round_id, text=turn.text))
        self._tell(TurnUnderstood(round_id=round_id, meaning=turn.meaning))
        begun = time.monotonic()
        step = await self._handle(dialogue, CallerSaid(text=turn.text, meaning=turn.meaning))
        dialogue_s = time.monotonic() - begun
        self._services.metrics.stage.labels("dialogue").observe(dialogue_s)
        timing = {"tail_ms": float(entry.tail_ms), **turn.timing, "dialogue_ms": dialogue_s * 1000}
        await self._perform(step, clock=ReplyClock("endpoint_to_reply_ms", entry.at), timing=timing)

    async def _prepare_reply(self, dialogue: DialogueLoop, turn: CallerTurn) -> None:
        """Render what the bot would say to `turn`; nothing is written and nothing is done."""
        assert self._speaker is not None
        if turn.meaning is None:
            return
        for action in dialogue.preview(CallerSaid(text=turn.text, meaning=turn.meaning)).actions:
            if isinstance(action, Say):
                await self._speaker.prepare(action)

    async def _handle(self, dialogue: DialogueLoop, event: CallerSaid | CallerSilent | DigitsPressed) -> Step:
        return await self._stored(lambda: dialogue.handle(event))

    async def _stored(self, step: Callable[[], Awaitable[Step]]) -> Step:
        """One step, stored. A store that is away for a moment is asked again: the same event is the same turn."""
        async with asyncio.timeout(self._settings.limits.reply_s):
            while True:
                try:
                    return await step()
                except StoreError as exc:
                    log.warning("%s; trying again", exc)
                    await asyncio.sleep(_STORE_RETRY_S)

    async def _ask(self, action: CallWebhook, round_id: int) -> WebhookAnswered:
        """Ask the operator's system; meanwhile what is queued is spoken, and what the caller says waits."""
        assert self._bot is not None
        webhooks = self._services.webhooks
        return await webhooks.ask(action, bot=self._bot, call_id=self._call_id, round_id=round_id)

    async def _perform(
        self, step: Step, *, clock: ReplyClock | None = None, timing: dict[str, float] | None = None
    ) -> None:
        """Carry a step's actions out, in order. Last words are heard out: they cannot be interrupted."""
        speaker = self._speaker
        assert speaker is not None
        final = any(isinstance(action, Transfer | HangUp) for action in step.actions)
        for action in step.actions:
            match action:
                case Say():
                    await speaker.say(action, step.round_id, clock=clock, timing=timing, interruptible=not final)
                    clock = timing = None
                case Listen():
                    self._listen = action
                    self._tail_ms = action.tail_ms or self._settings.endpointing.tail_ms
                    self._chain.set_tail_ms(self._tail_ms)
                case CallWebhook():
                    answered = await self._ask(action, step.round_id)
                    await self._perform(await self._handle(dialogue, answered))
                case Transfer():
                    self._ending = True
                    await speaker.heard.wait()
                    self._tell(TransferCall(target=action.target, context=dict(action.context)))
                    self._over = "transfer"
                case HangUp():
                    self._ending = True
                    await speaker.heard.wait()
                    self._tell(EndCall(action.disposition))
                    self._over = "bot"

    def _expected(self) -> Expectation | None:
        """What the dialogue's present node waits for."""
        listen = self._listen
        return None if listen is None or listen.expect is None else Expectation(listen.expect)

    def _stop_prompt(self) -> None:
        if self._speaker is not None and not self._ending:
            self._speaker.stop()

    # Partials, about twice a second while the caller speaks.

    def _watch_speech(self) -> None:
        if self._settings.asr.partials:
            self._partial_timer = self._loop.call_later(_PARTIAL_EVERY_S, self._ask_partial)

    def _ask_partial(self) -> None:
        listener, dialogue, so_far = self._listener, self._dialogue, self._chain.so_far()
        if listener is None or dialogue is None or so_far is None:
            return
        round_id = dialogue.state.round_id + 1
        listener.watch(
            so_far,
            self._expected(),
            lambda text: self._tell(TurnHeard(round_id=round_id, text=text, final=False)),
        )
        self._watch_speech()

    def _stop_watching_speech(self) -> None:
        if self._partial_timer is not None:
            self._partial_timer.cancel()
            self._partial_timer = None
        if self._listener is not None:
            self._listener.stop_watching()

    # The no-input timer runs while the caller could speak and does not.

    def _arm_silence_timer(self) -> None:
        self._cancel_silence_timer()
        listen, speaker = self._listen, self._speaker
        if listen is None or listen.no_input_ms is None or speaker is None or self._over:
            return
        quiet = speaker.heard.is_set() and self._chain.state is EndpointState.SILENCE
        if quiet and not self._turn_running:
            self._silence_timer = self._loop.call_later(listen.no_input_ms / 1000, self._put, _Silent())

    def _cancel_silence_timer(self) -> None:
        if self._silence_timer is not None:
            self._silence_timer.cancel()
            self._silence_timer = None
