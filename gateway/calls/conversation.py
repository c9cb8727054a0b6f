"""What is said in one call: turns, prompts and silences, between the caller's doings and the dialogue.

    opening --greeting queued--> listening --inbox--> turn --actions--> listening
                                     turn --hang up | transfer--> ending (prompts are heard out) --> over

Entries come in synchronously from the `Caller`; what needs waiting (models, store, synthesis) is put into a bounded
inbox that `run` empties in order. What the caller did becomes a step in `gateway.calls.caller_turns`; here steps are
carried out. Nothing here knows how the call is carried: commands leave through `tell`, audio through the `Speaker`.

Odd cases: an utterance that ends while a turn is worked on waits in the inbox; speech before the greeting is heard like
any other; a reply that takes long is announced by the bot's filler, unless somebody speaks; while a supervisor has the
call, what the caller says is no turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from audio.asr import Expectation
from audio.endpointing import EndpointState
from audio.formats import Pcm16
from audio.inbound import InboundChain, InboundEvent
from dialogue.bots import Bot
from dialogue.loop import Step
from dialogue.store import StoreAwayError
from dialogue.turns import (
    CallerSilent,
    CallWebhook,
    DialogueError,
    HangUp,
    Listen,
    Say,
    TimeRanOut,
    Transfer,
)
from gateway import background
from gateway.calls.caller import Caller, Keyed, Spoke
from gateway.calls.caller_silence import CallerSilence
from gateway.calls.caller_turns import CallerTurns, is_final
from gateway.calls.filler import Filler
from gateway.calls.interruption import Overlap
from gateway.calls.listening import Listener
from gateway.calls.second_track import SecondTrack
from gateway.calls.services import Services
from gateway.calls.speaker import ReplyClock, Speaker
from gateway.calls.stored_dialogue import StoredDialogue
from gateway.calls.websocket import Connection
from gateway.inference.seam import TurnId
from gateway.monitoring.call_watch import CallWatch
from gateway.protocols.seam import (
    CallStart,
    Command,
    EndCall,
    SessionReady,
    TransferCall,
    WireProtocol,
)
from gateway.records.call_book import CallBook

__all__ = ["Conversation"]

log = logging.getLogger(__name__)

_INBOX_SIZE = 16
_SAVE_S = 2.0


@dataclass(frozen=True, slots=True)
class _Silent:
    pass


@dataclass(frozen=True, slots=True)
class _TimeUp:
    pass


@dataclass(frozen=True, slots=True)
class _Whispered:
    text: str


@dataclass(frozen=True, slots=True)
class _HangUpAsked:
    pass


_Entry: TypeAlias = Spoke | Keyed | _Silent | _TimeUp | _Whispered | _HangUpAsked


class Conversation:
    """One call's conversation, a `gateway.calls.caller.Counterpart`.

    `speech_event`, `look`, `key_pressed`, `mark_reached` and `time_is_up` are for the connection's callbacks.
    """

    def __init__(
        self,
        services: Services,
        protocol: WireProtocol,
        connection: Connection,
        *,
        start: CallStart,
        chain: InboundChain,
        tell: Callable[[Command], None],
        watch: CallWatch,
    ) -> None:
        """`chain` is the call's inbound audio, whose tail the dialogue sets; `tell` sends a command to the peer;
        `watch` is told what the peer is not."""
        self._services = services
        self._settings = services.settings
        self._protocol = protocol
        self._connection = connection
        self._start = start
        self._chain = chain
        self._tell = tell
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[_Entry] = asyncio.Queue(_INBOX_SIZE)
        self._caller = Caller(
            services, chain, sample_rate_hz=start.format.sample_rate_hz, tell=tell, watch=watch, counterpart=self
        )
        # Known once the call has a bot.
        self._bot: Bot | None = None
        self._book: CallBook | None = None
        self._dialogue: StoredDialogue | None = None
        self._speaker: Speaker | None = None
        self._turns: CallerTurns | None = None
        self._turn_running = False
        self._ending = False
        self._over = ""
        self._bot_speaks = asyncio.Event()  # cleared while a supervisor has taken the call over
        self._bot_speaks.set()
        self._silence_timer: asyncio.TimerHandle | None = None
        self._silence = CallerSilence()
        self._filler: Filler | None = None

    async def run(self, bot: Bot, call_id: str, *, since: float) -> str:
        """Talk until the bot ends the call.

        Args:
            since: when the call's first words began to be waited for (monotonic seconds).

        Returns:
            "bot" or "transfer"; "error" where the call's state could not be kept, and the caller was told.

        Raises:
            MetadataError: the caller's metadata do not fit the bot.
            FencedError: another connection has taken the call over.
            InferenceError, DialogueError, SynthesisError, TimeoutError: a part that does not answer.
        """
        services, start = self._services, self._start
        self._bot = bot
        book = self._book = CallBook(services, start, bot, call_id)
        dialogue = self._dialogue = StoredDialogue(services, bot, call_id, clock=self._watch.clock)
        speaker = self._speaker = Speaker(
            services,
            self._protocol,
            self._connection,
            bot=bot,
            fmt=start.format,
            tell=self._tell,
            on_heard=self._arm_silence_timer,
            watch=self._watch,
        )
        try:
            step = await dialogue.open(start, await book.earlier_call())
        except StoreAwayError:
            services.metrics.refused.labels("store_away").inc()
            self._tell(SessionReady(call_id=call_id, resumed=False))
            return await self._apologise(speaker)
        second_track = SecondTrack(
            services.assistants,
            bot=bot,
            dialogue=dialogue.loop,
            render=speaker.prepare,
            count=lambda outcome: services.metrics.assistant.labels(outcome).inc(),
        )
        async with asyncio.TaskGroup() as tasks, second_track:
            listener = Listener(
                services.inference,
                services.metrics,
                tasks,
                nlu_model=bot.name if bot.nlu_path is not None else None,
                language=start.language or self._settings.asr.language or bot.language,
                sample_rate_hz=start.format.sample_rate_hz,
                timeout_s=self._settings.limits.reply_s,
                prepare=lambda turn: turns.prepare(turn),
                turn=lambda: TurnId(call_id, self.next_round_id),
            )
            self._caller.meet(speaker, listener)
            turns = self._turns = CallerTurns(
                services,
                dialogue=dialogue,
                caller=self._caller,
                speaker=speaker,
                listener=listener,
                second_track=second_track,
                tell=self._tell,
                watch=self._watch,
                stop_prompt=self._stop_prompt,
            )
            self._filler = Filler(bot.flow, speaker, services.metrics, after_ms=self._settings.turns.filler_ms)
            self._begin(step, tasks, call_id)
            try:
                await self._perform(step, clock=ReplyClock("first_utterance_ms", since))
                while not self._over:
                    background.heed_cancellation()
                    await self._next_turn(dialogue, turns)
            except StoreAwayError:
                self._stop_prompt()
                self._over = await self._apologise(speaker)
            listener.stop()
        return self._over

    def _begin(self, step: Step, tasks: asyncio.TaskGroup, call_id: str) -> None:
        """Tell everybody that the call has begun: recording, records, metrics, supervisors, the peer."""
        services, start, bot = self._services, self._start, self._bot
        assert bot is not None and self._book is not None and self._dialogue is not None
        models = {"asr": self._settings.asr.model}
        if bot.name in services.nlu_versions:
            models["nlu"] = services.nlu_versions[bot.name]
        if services.recorder is not None:
            services.recorder.begin(self._watch, start.format, bot, call_id, start.metadata)
        self._book.began(models, tasks, recorded=self._watch.recording is not None)
        if step.state.returning and not step.resumed:
            services.metrics.offers.inc()
        resumed = str(step.resumed).lower()
        services.metrics.calls_started.labels(self._protocol.name, bot.name, resumed).inc()
        log.info("call started: bot %s, %s, resumed %s", bot.name, self._protocol.name, resumed)
        self._watch.opened(self._dialogue.loop, bot, call_id, caller=start.caller, models=models, resumed=step.resumed)
        self._tell(SessionReady(call_id=call_id, resumed=step.resumed))

    async def save_end(self, by: str) -> None:
        """The last write: who ended the call. A call that was lost or failed has none, so that it can be resumed."""
        if self._dialogue is None or self._book is None:
            return
        dialogue = self._dialogue.loop
        try:
            async with asyncio.timeout(_SAVE_S):
                await asyncio.shield(dialogue.close(by))
                await self._book.ended(dialogue.state, nlu_version=self._watch.nlu_version)
        except (TimeoutError, DialogueError) as exc:
            log.error("the end of the call was not saved: %s", type(exc).__name__)

    async def leave(self) -> None:
        """Note that the caller is gone: one whom the bot had more to say to may call again and go on."""
        if self._dialogue is not None and self._book is not None:
            await self._book.left(self._dialogue.loop.state)

    async def _apologise(self, speaker: Speaker) -> str:
        """Take leave of a call whose state cannot be kept. It goes on where it was if it comes back later."""
        assert self._bot is not None and self._dialogue is not None
        self._ending = True
        state = self._dialogue.loop.state
        for prompt in self._bot.flow.unavailable:
            if not prompt.slots:
                words = Say(text=prompt.text, node=state.node, recording=prompt.recording)
                await speaker.say(words, state.round_id, interruptible=False)
        await speaker.heard.wait()
        self._tell(EndCall("unavailable"))
        return "error"

    def close(self) -> None:
        """Nothing more can be said or heard."""
        if self._dialogue is not None:
            self._dialogue.release()
        self._cancel_silence_timer()
        self._caller.close()
        if self._speaker is not None:
            self._speaker.close()

    # From the connection's callbacks.

    def speech_event(self, event: InboundEvent, now: float) -> None:
        """What the endpointer saw in audio that arrived at `now`."""
        self._caller.speech_event(event, now)

    def look(self, now: float) -> None:
        """About once a second: how the line's audio comes."""
        self._silence.look(self._chain.frames_seen, now, speech=self._chain.state is not EndpointState.SILENCE)

    def key_pressed(self, key: str) -> None:
        """A DTMF key."""
        self._caller.key_pressed(key)

    def mark_reached(self, name: str) -> None:
        """The peer has played as far as a prompt's mark."""
        if self._speaker is not None:
            self._speaker.mark_reached(name)

    def time_is_up(self) -> None:
        """The call has lasted as long as one may: the bot takes its leave when the turn in progress is over."""
        self._put(_TimeUp())

    # From a supervisor (`gateway.monitoring.supervision.Supervised`).

    @property
    def talking(self) -> bool:
        """The dialogue is open and its last words are not being said yet."""
        return self._speaker is not None and not self._ending and not self._over

    def whisper(self, text: str) -> bool:
        """Have the bot say this next; False: there is no room."""
        return self._put(_Whispered(text))

    def take_over(self) -> None:
        """The bot is silent from now on, and what the caller says is no turn."""
        assert self._speaker is not None
        self._bot_speaks.clear()
        self._cancel_silence_timer()
        self._speaker.mute()

    def relay(self, pcm: Pcm16) -> bool:
        """What the supervisor says, int16 mono at the call's rate; False: it was too much at once."""
        return self._speaker is not None and self._speaker.relay(pcm)

    def hand_back(self) -> None:
        """The bot has the call again, where it was."""
        if self._speaker is not None:
            self._speaker.unmute()
        self._caller.forget_keys()  # an entry that went to the supervisor is never answered by a `Listen`
        self._bot_speaks.set()
        self._arm_silence_timer()

    def hang_up(self) -> bool:
        """End the call when the turn in progress is over; False: there is no room."""
        if not self._put(_HangUpAsked()):
            return False
        self.hand_back()
        if self._speaker is not None:
            self._speaker.mute()
        return True

    # From the caller's side (`gateway.calls.caller.Counterpart`).

    @property
    def next_round_id(self) -> int:
        """The number that the caller's next turn will have."""
        return 1 if self._dialogue is None else self._dialogue.loop.state.round_id + 1

    @property
    def ending(self) -> bool:
        """The bot's last words are being said, or a supervisor speaks in its place."""
        return self._ending or not self._bot_speaks.is_set()

    def expected(self, began: float, over: Overlap | None) -> Expectation | None:
        """What the dialogue waits for; of a caller who goes on, what it waited for before."""
        return None if self._turns is None else self._turns.expected(began, over)

    def caller_is_active(self) -> None:
        """The caller speaks or presses keys."""
        self._cancel_silence_timer()

    def caller_is_quiet(self) -> None:
        """What seemed to be speech was none."""
        self._arm_silence_timer()

    def put(self, entry: Spoke | Keyed) -> bool:
        """Queue what the caller did; False: there is no room."""
        return self._put(entry)

    def _put(self, entry: _Entry) -> bool:
        if not self._bot_speaks.is_set() and isinstance(entry, Spoke | Keyed | _Silent):
            return True  # said to the supervisor
        try:
            self._inbox.put_nowait(entry)
        except asyncio.QueueFull:
            # A turn takes milliseconds, so this many waiting means that a model hangs. The newest is the one to lose.
            self._services.metrics.dropped.labels("inbox").inc()
            log.warning("inbox full, dropped a %s", type(entry).__name__)
            return False
        return True

    # Turns.

    async def _next_turn(self, dialogue: StoredDialogue, turns: CallerTurns) -> None:
        self._turn_running = False
        self._arm_silence_timer()
        entry = await self._inbox.get()
        self._turn_running = True
        self._cancel_silence_timer()
        state = dialogue.loop.state
        match entry:
            case Spoke() | Keyed():
                assert self._filler is not None
                with self._filler.covering(
                    entry.at, node=state.node, round_id=state.round_id, unless=lambda: self._caller.speaking
                ):
                    reply = await turns.take(entry)
                    if reply is not None:
                        await self._perform(reply.step, clock=reply.clock, timing=reply.timing)
            case _Silent():
                self._services.metrics.turns.labels("no_input").inc()
                self._watch.silent()
                await self._perform(await dialogue.handle(CallerSilent()))
            case _TimeUp():
                await self._perform(await dialogue.handle(TimeRanOut()))
            case _Whispered(text=text):
                assert self._speaker is not None
                await self._speaker.say(Say(text=text, node=state.node), state.round_id)
            case _HangUpAsked():
                self._tell(EndCall("supervisor"))
                self._over = "bot"

    async def _perform(
        self, step: Step, *, clock: ReplyClock | None = None, timing: dict[str, float] | None = None
    ) -> None:
        """Carry a step's actions out, in order. Last words are heard out: they cannot be interrupted."""
        speaker, dialogue, turns = self._speaker, self._dialogue, self._turns
        assert speaker is not None and dialogue is not None and turns is not None
        self._watch.stepped(step.state)
        final = is_final(step)
        for action in step.actions:
            match action:
                case Say():
                    await speaker.say(action, step.round_id, clock=clock, timing=timing, interruptible=not final)
                    clock = timing = None
                case Listen():
                    turns.listening = action
                    tail_ms = action.tail_ms or self._settings.endpointing.tail_ms
                    self._caller.listen(tail_ms, dialogue.loop.key_entries)
                case CallWebhook():  # what is queued is spoken meanwhile, and what the caller says waits
                    await self._perform(await dialogue.ask(action, step.round_id))
                case Transfer():
                    await self._last_words_heard(speaker)
                    self._tell(TransferCall(target=action.target, context=dict(action.context)))
                    self._over = "transfer"
                case HangUp():
                    await self._last_words_heard(speaker)
                    self._tell(EndCall(action.disposition))
                    self._over = "bot"

    async def _last_words_heard(self, speaker: Speaker) -> None:
        """Until the caller has heard all, and no supervisor has the call."""
        self._ending = True
        speaker.resume()  # whatever it was held for is decided no more
        await speaker.heard.wait()
        await self._bot_speaks.wait()

    def _stop_prompt(self) -> str | None:
        """Empty playout; what had been heard of it, None: all of it."""
        return None if self._speaker is None or self._ending else self._speaker.stop()

    # The no-input timer runs while the caller could speak and does not.

    def _arm_silence_timer(self) -> None:
        self._cancel_silence_timer()
        listen, speaker = self._turns.listening if self._turns is not None else None, self._speaker
        if listen is None or listen.no_input_ms is None or speaker is None or self._over:
            return
        quiet = speaker.heard.is_set() and self._chain.state is EndpointState.SILENCE
        if quiet and not self._turn_running and self._bot_speaks.is_set():
            self._silence.begin(self._chain.frames_seen)
            self._await_silence(listen.no_input_ms, listen.no_input_ms)

    def _await_silence(self, missing_ms: int, no_input_ms: int) -> None:
        self._silence_timer = self._loop.call_later(missing_ms / 1000, self._silence_over, no_input_ms)

    def _silence_over(self, no_input_ms: int) -> None:
        """By the clock; a line that is paused or stalls has yet to bring the rest."""
        if (missing_ms := self._silence.missing_ms(self._chain.frames_seen, no_input_ms)) > 0:
            self._await_silence(missing_ms, no_input_ms)
        else:
            self._put(_Silent())

    def _cancel_silence_timer(self) -> None:
        if self._silence_timer is not None:
            self._silence_timer.cancel()
            self._silence_timer = None
