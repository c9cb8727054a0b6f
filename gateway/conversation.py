"""What is said in one call: turns, prompts and silences, between the caller's doings and the dialogue.

    opening --greeting queued--> listening --inbox--> turn --actions--> listening
                                     turn --hang up | transfer--> ending (prompts are heard out) --> over

Entries come in synchronously from the `Caller`; what needs waiting (models, store, synthesis) is put into a bounded
inbox that `run` empties in order. Nothing here knows how the call is carried: commands leave through `tell`, audio
through the `Speaker`.

Two speak at once:

- Over a prompt, it is held until the words are known; `gateway.interruption` says what they are. What a pause shows to
  be no interruption lets the prompt go on there and then; should the caller go on too, it is held again.
- Before a reply, or within `turns.join_ms` of its beginning: the caller is still in the turn before. Its words and the
  new ones are one text, understood anew as a round of its own, which supersedes the other (`DialogueLoop`). Never after
  an act outside the call. A reply that becomes ready while the caller speaks waits for those words.

Odd cases: an utterance that ends while a turn is worked on waits in the inbox; speech before the greeting is heard like
any other; a reply that takes long is announced by the bot's filler, unless somebody speaks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from audio.asr import Expectation
from audio.endpointing import EndpointState
from audio.formats import Pcm16
from audio.inbound import InboundChain, InboundEvent
from dialogue.bots import Bot
from dialogue.loop import DialogueLoop, Step
from dialogue.store import StoreAwayError, StoreError
from dialogue.turns import (
    CallerSaid,
    CallerSilent,
    CallWebhook,
    DialogueError,
    DigitsPressed,
    EarlierCall,
    Event,
    HangUp,
    Listen,
    Say,
    TimeRanOut,
    Transfer,
    WebhookAnswered,
)
from gateway.caller import Caller, Keyed, Spoke
from gateway.callers import identity
from gateway.continuation import Continuation, OpenTurn
from gateway.filler import Filler
from gateway.inference import TurnId
from gateway.interruption import Overlap, Verdict, judge
from gateway.listening import CallerTurn, Listener
from gateway.monitoring.call_watch import CallWatch
from gateway.protocols.seam import (
    CallStart,
    Command,
    EndCall,
    SessionReady,
    TransferCall,
    TurnHeard,
    TurnUnderstood,
    WireProtocol,
)
from gateway.results import Origin, origin_of
from gateway.second_track import SecondTrack
from gateway.services import Services
from gateway.speaker import ReplyClock, Speaker
from gateway.websocket import Connection

__all__ = ["Conversation"]

log = logging.getLogger(__name__)

_INBOX_SIZE = 16
_SAVE_S = 2.0
_STORE_RETRY_S = 0.2


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
    """One call's conversation, a `gateway.caller.Counterpart`.

    `speech_event`, `key_pressed`, `mark_reached` and `time_is_up` are for the connection's callbacks.
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
        self._caller = Caller(services, chain, sample_rate_hz=start.format.sample_rate_hz, tell=tell, counterpart=self)
        # Known once the dialogue is open.
        self._dialogue: DialogueLoop | None = None
        self._bot: Bot | None = None
        self._origin: Origin | None = None
        self._who: str | None = None
        self._call_id = ""
        self._speaker: Speaker | None = None
        self._listener: Listener | None = None
        # Turn taking.
        self._listen: Listen | None = None
        self._continuation: Continuation | None = None
        self._turn_running = False
        self._ending = False
        self._over = ""
        self._bot_speaks = asyncio.Event()  # cleared while a supervisor has taken the call over
        self._bot_speaks.set()
        self._silence_timer: asyncio.TimerHandle | None = None
        self._filler: Filler | None = None
        self._second_track: SecondTrack | None = None

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
        services = self._services
        dialogue = self._dialogue = DialogueLoop(bot, services.store, call_id)
        self._bot, self._call_id = bot, call_id
        start = self._start
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
        secret = self._settings.auth.secret
        self._who = identity(start.caller, secret.get_secret_value() if secret is not None else None)
        earlier = await self._earlier_call(bot, call_id)
        try:
            step = await self._stored(
                lambda: dialogue.open(caller=start.caller, metadata=start.metadata, earlier=earlier)
            )
        except StoreAwayError:
            services.metrics.refused.labels("store_away").inc()
            self._tell(SessionReady(call_id=call_id, resumed=False))
            return await self._apologise(dialogue, speaker)
        track = SecondTrack(
            services.assistants,
            bot=bot,
            dialogue=dialogue,
            render=speaker.prepare,
            count=lambda outcome: services.metrics.assistant.labels(outcome).inc(),
        )
        async with asyncio.TaskGroup() as tasks, track as self._second_track:
            models = {"asr": self._settings.asr.model}
            if bot.name in services.nlu_versions:
                models["nlu"] = services.nlu_versions[bot.name]
            if services.records is not None:
                self._origin = origin_of(bot, call_id, models, caller=self._who or "")
                tasks.create_task(services.records.opened(self._origin), name="record")
            if services.callers is not None and self._who is not None:
                tasks.create_task(services.callers.seen(self._who, call_id, bot.name), name="caller")
            if step.state.returning and not step.resumed:
                services.metrics.offers.inc()
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
            self._caller.meet(speaker, self._listener)
            join_ms = self._settings.turns.join_ms
            self._continuation = Continuation(dialogue, self._speaker, self._listener, join_ms=join_ms)
            self._filler = Filler(bot.flow, self._speaker, services.metrics, after_ms=self._settings.turns.filler_ms)
            resumed = str(step.resumed).lower()
            services.metrics.calls_started.labels(self._protocol.name, bot.name, resumed).inc()
            log.info("call started: bot %s, %s, resumed %s", bot.name, self._protocol.name, resumed)
            if services.recorder is not None:
                services.recorder.begin(self._watch, start.format, bot, call_id, start.metadata)
            self._watch.opened(dialogue, bot, call_id, caller=start.caller, models=models, resumed=step.resumed)
            self._tell(SessionReady(call_id=call_id, resumed=step.resumed))
            try:
                await self._perform(step, clock=ReplyClock("first_utterance_ms", since))
                while not self._over:
                    await self._next_turn(dialogue)
            except StoreAwayError:
                self._stop_prompt()
                self._over = await self._apologise(dialogue, speaker)
            self._listener.stop()
        return self._over

    async def save_end(self, by: str) -> None:
        """The last write: who ended the call. A call that was lost or failed has none, so that it can be resumed."""
        if self._dialogue is None:
            return
        try:
            async with asyncio.timeout(_SAVE_S):
                await asyncio.shield(self._dialogue.close(by))
                if self._services.records is not None and self._origin is not None:
                    await self._services.records.ended(
                        self._origin, self._dialogue.state, nlu_version=self._watch.nlu_version
                    )
        except (TimeoutError, DialogueError) as exc:
            log.error("the end of the call was not saved: %s", type(exc).__name__)

    async def leave(self) -> None:
        """Note that the caller is gone: one whom the bot had more to say to may call again and go on."""
        callers, dialogue, bot = self._services.callers, self._dialogue, self._bot
        if callers is None or self._who is None or dialogue is None or bot is None or self._services.store.away:
            return
        finished = dialogue.state.disposition is not None
        try:
            async with asyncio.timeout(_SAVE_S):
                await callers.left(self._who, self._call_id, bot.name, finished=finished)
        except TimeoutError:
            log.warning("where the caller left the call is not noted")

    async def _earlier_call(self, bot: Bot, call_id: str) -> EarlierCall | None:
        """The call that this caller was cut off from, if any."""
        callers = self._services.callers
        if callers is None or self._who is None or bot.flow.come_back is None or self._services.store.away:
            return None
        return await callers.earlier(self._who, call_id, bot.name)

    async def _apologise(self, dialogue: DialogueLoop, speaker: Speaker) -> str:
        """Take leave of a call whose state cannot be kept. It goes on where it was if it comes back later."""
        assert self._bot is not None
        self._ending = True
        for prompt in self._bot.flow.unavailable:
            if not prompt.slots:
                words = Say(text=prompt.text, node=dialogue.state.node, recording=prompt.recording)
                await speaker.say(words, dialogue.state.round_id, interruptible=False)
        await speaker.heard.wait()
        self._tell(EndCall("unavailable"))
        return "error"

    def close(self) -> None:
        """Nothing more can be said or heard."""
        if self._dialogue is not None:
            self._services.store.release(self._call_id, self._dialogue.owner)
        self._cancel_silence_timer()
        self._caller.close()
        if self._speaker is not None:
            self._speaker.close()

    # From the connection's callbacks.

    def speech_event(self, event: InboundEvent, now: float) -> None:
        """What the endpointer saw in audio that arrived at `now`."""
        self._caller.speech_event(event, now)

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

    # From the caller's side (`gateway.caller.Counterpart`).

    @property
    def next_round_id(self) -> int:
        """The number that the caller's next turn will have."""
        return 1 if self._dialogue is None else self._dialogue.state.round_id + 1

    @property
    def ending(self) -> bool:
        """The bot's last words are being said, or a supervisor speaks in its place."""
        return self._ending or not self._bot_speaks.is_set()

    def expected(self, began: float, over: Overlap | None) -> Expectation | None:
        """What the dialogue waits for; of a caller who goes on, what it waited for before."""
        expect = self._asked(None if self._continuation is None else self._continuation.open_to(began, over))
        return None if expect is None else Expectation(expect)

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

    async def _next_turn(self, dialogue: DialogueLoop) -> None:
        self._turn_running = False
        self._arm_silence_timer()
        entry = await self._inbox.get()
        self._turn_running = True
        self._cancel_silence_timer()
        match entry:
            case Spoke() | Keyed():
                assert self._filler is not None
                state = dialogue.state
                with self._filler.covering(
                    entry.at, node=state.node, round_id=state.round_id, unless=lambda: self._caller.speaking
                ):
                    await self._caller_took_turn(dialogue, entry)
            case _Silent():
                self._services.metrics.turns.labels("no_input").inc()
                self._watch.silent()
                await self._perform(await self._handle(dialogue, CallerSilent()))
            case _TimeUp():
                await self._perform(await self._handle(dialogue, TimeRanOut()))
            case _Whispered(text=text):
                assert self._speaker is not None
                await self._speaker.say(Say(text=text, node=dialogue.state.node), dialogue.state.round_id)
            case _HangUpAsked():
                self._tell(EndCall("supervisor"))
                self._over = "bot"

    async def _caller_took_turn(self, dialogue: DialogueLoop, entry: Spoke | Keyed) -> None:
        if isinstance(entry, Spoke):
            await self._caller_spoke(dialogue, entry)
        else:
            await self._caller_keyed(dialogue, entry)

    async def _caller_spoke(self, dialogue: DialogueLoop, entry: Spoke) -> None:
        assert self._listener is not None and self._speaker is not None and self._continuation is not None
        turn = await self._listener.understand(entry.utterance, self.expected(entry.began, entry.over))
        keys = entry.keys_before + entry.keys_after
        if turn.meaning is None and keys:
            await self._caller_keyed(dialogue, Keyed(digits=keys, at=entry.at, began=entry.began, over=entry.over))
            return
        metrics = self._services.metrics
        verdict = self._verdict(dialogue, turn, entry.over)
        if entry.over is not None:
            metrics.overlaps.labels(verdict).inc()
        ignored = verdict is not Verdict.INTERRUPTION and not keys
        self._watch.judged(verdict, over_prompt=entry.over is not None, ignored=ignored)
        if ignored:
            metrics.turns.labels("no_words" if verdict is Verdict.NO_WORDS else "ignored").inc()
            self._speaker.resume()
            return
        before = self._continuation.open_to(entry.began, entry.over)
        turn = await self._continuation.whole(turn, before, keys_before=entry.keys_before, keys_after=entry.keys_after)
        metrics.turns.labels("words" if before is None else "joined").inc()
        timing = {"tail_ms": float(entry.tail_ms), **turn.timing}
        await self._answer(dialogue, turn, before, heard=self._stop_prompt(), at=entry.at, timing=timing)

    async def _caller_keyed(self, dialogue: DialogueLoop, entry: Keyed) -> None:
        assert self._continuation is not None
        self._services.metrics.turns.labels("dtmf").inc()
        self._watch.keyed(entry.digits)
        before = self._continuation.open_to(entry.began, entry.over)
        if before is not None and before.expect == "digits":  # the number was begun in words
            nothing = CallerTurn(text="", meaning=None)
            turn = await self._continuation.whole(nothing, before, keys_after=entry.digits)
            await self._answer(dialogue, turn, before, heard=entry.heard, at=entry.at, timing=turn.timing)
            return
        self._continuation.close()
        step = await self._handle(dialogue, DigitsPressed(digits=entry.digits, heard=entry.heard))
        await self._perform(step, clock=ReplyClock("endpoint_to_reply_ms", entry.at))

    async def _answer(
        self,
        dialogue: DialogueLoop,
        turn: CallerTurn,
        before: OpenTurn | None,
        *,
        heard: str | None,
        at: float,
        timing: dict[str, float],
    ) -> None:
        """One spoken turn, from its words to the reply; `before` is the one whose place it takes."""
        assert turn.meaning is not None and self._continuation is not None and self._speaker is not None
        supersedes = before.round_id if before is not None else None
        round_id = self.next_round_id
        self._watch.nlu_version = turn.version or self._watch.nlu_version
        self._tell(TurnHeard(round_id=round_id, text=turn.text, supersedes=supersedes))
        self._tell(TurnUnderstood(round_id=round_id, meaning=turn.meaning))
        expect = self._asked(before)
        event = CallerSaid(text=turn.text, meaning=turn.meaning, heard=heard, supersedes=supersedes)
        if self._second_track is not None:
            event = await self._second_track.complete(event, since=at)
        begun = time.monotonic()
        step = await self._handle(dialogue, event)
        dialogue_s = time.monotonic() - begun
        self._services.metrics.stage.labels("dialogue").observe(dialogue_s)
        self._continuation.answered(step, turn.text, expect)
        caller = self._caller
        if caller.speaking and caller.insists and not _is_final(step):
            self._speaker.wait(time.monotonic())  # the caller goes on: what that says may make this reply void
        timing = {**timing, "dialogue_ms": dialogue_s * 1000}
        await self._perform(step, clock=ReplyClock("endpoint_to_reply_ms", at), timing=timing)

    def _verdict(self, dialogue: DialogueLoop, turn: CallerTurn, over: Overlap | None) -> Verdict:
        """What words are that were said over a prompt; a turn like any other where they were not."""
        assert self._speaker is not None
        if turn.meaning is None:
            return Verdict.NO_WORDS
        if over is None and (later := self._speaker.overlap(time.monotonic())) is not None:
            over = replace(later, question=True)  # begun in silence, so words that can be an answer are one
        if over is None:
            return Verdict.INTERRUPTION
        expects = self._listen.expect if self._listen is not None else None
        answers = expects == "yes_no" or dialogue.answers(turn.meaning.intent)
        return judge(turn.text, over, answers=answers, hello_ms=self._settings.turns.hello_ms)

    def _asked(self, before: OpenTurn | None) -> str | None:
        """What the dialogue waits for, or waited for as the turn began that goes on."""
        if before is not None:
            return before.expect
        return None if self._listen is None else self._listen.expect

    async def _prepare_reply(self, dialogue: DialogueLoop, turn: CallerTurn) -> None:
        """What a turn's pause allows: let a held prompt go on, or render the reply; nothing is written or done."""
        assert self._speaker is not None and self._continuation is not None
        caller = self._caller
        began, over, keys = caller.began, caller.over, caller.keys_before
        if self._verdict(dialogue, turn, over) is not Verdict.INTERRUPTION and not keys:
            self._speaker.resume()
            return
        before = self._continuation.open_to(began, over)
        turn = await self._continuation.whole(turn, before, keys_before=keys)
        assert turn.meaning is not None
        supersedes = before.round_id if before is not None else None
        said = CallerSaid(text=turn.text, meaning=turn.meaning, supersedes=supersedes)
        if self._second_track is not None:
            self._second_track.look_ahead(said)
        for action in dialogue.preview(said).actions:
            if isinstance(action, Say):
                await self._speaker.prepare(action)

    async def _handle(self, dialogue: DialogueLoop, event: Event) -> Step:
        return await self._stored(lambda: dialogue.handle(event))

    async def _stored(self, step: Callable[[], Awaitable[Step]]) -> Step:
        """One step, stored. A store that is away for a moment is asked again: the same event is the same turn."""
        async with asyncio.timeout(self._settings.limits.reply_s):
            while True:
                try:
                    return await step()
                except StoreAwayError:
                    raise
                except StoreError as exc:
                    log.warning("%s; trying again", exc)
                    await asyncio.sleep(_STORE_RETRY_S)

    async def _ask(self, action: CallWebhook, round_id: int) -> WebhookAnswered:
        """Ask the operator's system; meanwhile what is queued is spoken, and what the caller says waits.

        Never before the step that decided it is stored: a call taken over from an older state could decide otherwise,
        and give another request the same number.
        """
        assert self._bot is not None
        webhooks = self._services.webhooks
        try:
            async with asyncio.timeout(self._settings.webhooks.total_s):
                await self._services.store.settle(self._call_id)
        except TimeoutError:
            log.warning("webhook %s is not asked: the state store is away", action.webhook)
            self._services.metrics.webhooks.labels("store_away").inc()
            return WebhookAnswered(webhook=action.webhook, act=action.act, answer=None)
        return await webhooks.ask(action, bot=self._bot, call_id=self._call_id, round_id=round_id)

    async def _perform(
        self, step: Step, *, clock: ReplyClock | None = None, timing: dict[str, float] | None = None
    ) -> None:
        """Carry a step's actions out, in order. Last words are heard out: they cannot be interrupted."""
        speaker, dialogue = self._speaker, self._dialogue
        assert speaker is not None and dialogue is not None
        self._watch.stepped(step.state)
        final = _is_final(step)
        for action in step.actions:
            match action:
                case Say():
                    await speaker.say(action, step.round_id, clock=clock, timing=timing, interruptible=not final)
                    clock = timing = None
                case Listen():
                    self._listen = action
                    tail_ms = action.tail_ms or self._settings.endpointing.tail_ms
                    self._caller.listen(tail_ms, dialogue.key_entries)
                case CallWebhook():
                    answered = await self._ask(action, step.round_id)
                    await self._perform(await self._handle(dialogue, answered))
                case Transfer():
                    self._ending = True
                    await self._last_words_heard(speaker)
                    self._tell(TransferCall(target=action.target, context=dict(action.context)))
                    self._over = "transfer"
                case HangUp():
                    self._ending = True
                    await self._last_words_heard(speaker)
                    self._tell(EndCall(action.disposition))
                    self._over = "bot"

    async def _last_words_heard(self, speaker: Speaker) -> None:
        """Until the caller has heard all, and no supervisor has the call."""
        await speaker.heard.wait()
        await self._bot_speaks.wait()

    def _stop_prompt(self) -> str | None:
        """Empty playout; what had been heard of it, None: all of it."""
        return None if self._speaker is None or self._ending else self._speaker.stop()

    # The no-input timer runs while the caller could speak and does not.

    def _arm_silence_timer(self) -> None:
        self._cancel_silence_timer()
        listen, speaker = self._listen, self._speaker
        if listen is None or listen.no_input_ms is None or speaker is None or self._over:
            return
        quiet = speaker.heard.is_set() and self._chain.state is EndpointState.SILENCE
        if quiet and not self._turn_running and self._bot_speaks.is_set():
            self._silence_timer = self._loop.call_later(listen.no_input_ms / 1000, self._put, _Silent())

    def _cancel_silence_timer(self) -> None:
        if self._silence_timer is not None:
            self._silence_timer.cancel()
            self._silence_timer = None


def _is_final(step: Step) -> bool:
    """Whether the call ends with this step's words."""
    return any(isinstance(action, Transfer | HangUp) for action in step.actions)
