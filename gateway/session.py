"""One call, from its 101 to its last state save.

    opened --start known--> started --state claimed, greeting queued--> talking
    talking --bot hangs up | transfers--> ending (prompts are heard out) --> over
    any --caller hangs up | connection lost | limit | fault--> over

Messages come in by a synchronous callback and go through detection and endpointing in that callback; what needs
waiting (models, store, synthesis) is put into a bounded inbox that the call's one task empties in order. So a call is
one task, and one more while it speculates.

Odd cases: audio before the start message starts the call with the protocol's defaults; speech over a prompt holds
it until the words are known, and no words resume it; an utterance that ends while a turn is worked on waits in the
inbox; messages after the end are ignored.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass, field
from typing import TypeAlias

from audio.asr import Expectation
from audio.endpointing import EndpointState
from audio.formats import AudioFormat, UnsupportedFormatError
from audio.inbound import (
    InboundChain,
    InboundEvent,
    Pause,
    SpeechResumed,
    SpeechStarted,
    SpeechSustained,
    UtteranceEnded,
)
from dialogue.loop import DialogueLoop, Step
from dialogue.step import MetadataError
from dialogue.store import FencedError, StoreError
from dialogue.turns import (
    CallerSaid,
    CallerSilent,
    DialogueError,
    DigitsPressed,
    HangUp,
    Listen,
    Say,
    Transfer,
)
from gateway.flood import FloodGuard
from gateway.inference import InferenceError
from gateway.keypad import Keypad
from gateway.listening import CallerTurn, Listener
from gateway.logs import CallLog, call_id_var
from gateway.protocols.seam import (
    AudioReceived,
    CallStart,
    CloseCode,
    Command,
    DigitReceived,
    EndCall,
    MarkReached,
    PeerFault,
    ReportFault,
    SessionReady,
    SpeechEdge,
    StopReceived,
    TransferCall,
    TurnHeard,
    TurnUnderstood,
    WireEvent,
    WireProtocol,
)
from gateway.services import Services
from gateway.speaker import ReplyClock, Speaker
from gateway.websocket import Connection
from tts_stub.synthesis import SynthesisError

__all__ = ["CallSession", "Calls"]

log = logging.getLogger(__name__)

_INBOX_SIZE = 16
_SAVE_S = 2.0
_STORE_RETRY_S = 0.2


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


@dataclass(slots=True)
class Calls:
    """The calls of one worker: those whose connection is open, and the one that owns each call id."""

    open: set[CallSession] = field(default_factory=set)
    by_id: dict[str, CallSession] = field(default_factory=dict)


class CallSession:
    """Implements `gateway.websocket.Receiver`."""

    def __init__(
        self,
        protocol: WireProtocol,
        services: Services,
        calls: Calls,
        *,
        subprotocol: str | None = None,
    ) -> None:
        """The session enters and leaves `calls` by itself; `subprotocol` is what the 101 names."""
        self.subprotocol = subprotocol
        self.call_id = ""
        self.ended_by = ""
        """Empty while the call goes on, then "bot", "caller", "transfer" or "error"."""
        self._protocol = protocol
        self._services = services
        self._calls = calls
        self._limits = services.settings.limits
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._log = CallLog(log, lambda: self.call_id)
        # Known with the start.
        self._start: asyncio.Future[CallStart] = self._loop.create_future()
        self._start_timer: asyncio.TimerHandle | None = None
        self._format = AudioFormat()
        self._chain: InboundChain | None = None
        self._flood: FloodGuard | None = None
        self._opened_at = self._started_at = self._audio_at = time.monotonic()
        self._frames_counted = 0
        # Known once the dialogue is open.
        self._speaker: Speaker | None = None
        self._listener: Listener | None = None
        # Turn taking.
        self._inbox: asyncio.Queue[_Entry] = asyncio.Queue(_INBOX_SIZE)
        self._listen: Listen | None = None
        self._tail_ms = services.settings.endpointing.tail_ms
        self._turn_running = False
        self._ending = False
        self._silence_timer: asyncio.TimerHandle | None = None
        self._keypad = Keypad(self._loop, self._digits_complete)
        self._peer_faults = 0

    # The connection's callbacks.

    def connection_opened(self, connection: Connection) -> None:
        """The 101 is out."""
        self._connection = connection
        self._opened_at = self._audio_at = time.monotonic()
        self._calls.open.add(self)
        self._services.metrics.calls.labels(self._protocol.name).inc()
        self._task = self._loop.create_task(self._run(), name="call")
        grace_ms = self._protocol.starts_within_ms
        if grace_ms == 0:
            self._start_by_default()
        elif grace_ms is not None:
            self._start_timer = self._loop.call_later(grace_ms / 1000, self._start_by_default)

    def message_received(self, message: str | bytes) -> None:
        """One message of the peer; most are one frame of audio."""
        if self.ended_by:
            return
        for event in self._protocol.receive(message):
            if type(event) is AudioReceived:
                self._audio(event.data)
            else:
                self._control(event)

    def connection_closed(self, code: int, reason: str) -> None:
        """Nothing more can be sent. Only a normal close is a hang-up; anything else may come back."""
        self._services.metrics.calls.labels(self._protocol.name).dec()
        if self.ended_by:
            return  # the task is on its way out and may be saving the end: leave it alone
        # A browser's `close()` without a code is seen as 1005 (RFC 6455 section 7.1.5).
        self.ended_by = "caller" if code in (CloseCode.NORMAL, 1005) else "lost"
        self._log.info("connection closed by the peer (%d)", code)
        if self._task is not None:
            self._task.cancel()

    # What the worker calls.

    def check_limits(self, now: float) -> None:
        """Once a second: what only a wall clock can see."""
        chain = self._chain
        if self.ended_by:
            return
        if chain is not None:
            self._count_frames()
            stalled = now - self._audio_at > self._limits.stalled_speech_s
            if stalled and chain.state is not EndpointState.SILENCE:
                for event in chain.flush():
                    self._speech_event(event, now)
        if now - self._audio_at > self._limits.no_audio_s:
            message = f"no audio for {self._limits.no_audio_s:g} s; send silence while the caller is silent"
            self._fail("no_audio", message, CloseCode.TIMEOUT)
        elif now - self._opened_at > self._limits.call_s:
            self._fail("call_too_long", f"a call may last {self._limits.call_s:g} s", CloseCode.TIMEOUT)

    def go_away(self) -> None:
        """The worker goes down and this call's time to end by itself is over. It may resume elsewhere."""
        self._end("error", CloseCode.GOING_AWAY, "going away")

    def _count_frames(self) -> None:
        if (fresh := self.frames_seen - self._frames_counted) > 0:
            self._services.metrics.frames.inc(fresh)
            self._frames_counted += fresh

    @property
    def frames_seen(self) -> int:
        """Inbound frames judged so far."""
        return self._chain.frames_seen if self._chain is not None else 0

    async def over(self) -> None:
        """Until the call's task has ended and its state is saved."""
        if self._task is not None:
            await asyncio.wait([self._task])

    # From the peer.

    def _control(self, event: WireEvent) -> None:
        match event:
            case CallStart():
                self._set_start(event)
            case DigitReceived():
                self._digit_pressed(event.digit)
            case MarkReached():
                if self._speaker is not None:
                    self._speaker.mark_reached(event.name)
            case StopReceived():
                self._end("caller", CloseCode.NORMAL, "")
            case PeerFault():
                self._peer_fault(event)

    def _start_by_default(self) -> None:
        if self._start.done() or self.ended_by:
            return
        try:
            self._set_start(self._protocol.default_start())
        except UnsupportedFormatError as exc:
            self._peer_fault(PeerFault("bad_start", str(exc), CloseCode.BAD_START))

    def _set_start(self, start: CallStart) -> None:
        if self._start.done():
            return
        if self._start_timer is not None:
            self._start_timer.cancel()
        self._format = start.format
        self._chain = InboundChain(start.format, self._services.settings.endpointing)
        self._flood = FloodGuard(bytes_per_s=start.format.bytes_per_ms * 1000, ahead_s=self._limits.flood_s)
        self._started_at = time.monotonic()
        self._start.set_result(start)

    def _audio(self, data: bytes) -> None:
        if self._chain is None:
            self._start_by_default()
        chain, flood = self._chain, self._flood
        if chain is None or flood is None:
            return
        self._audio_at = now = time.monotonic()
        if not flood.count(len(data), now):
            ahead = f"audio is more than {self._limits.flood_s:g} s ahead of real time"
            self._fail("flooding", f"{ahead}; send it as it is spoken", CloseCode.FLOODING)
            return
        for event in chain.push(data):
            self._speech_event(event, now)

    def _digit_pressed(self, digit: str) -> None:
        self._stop_prompt()
        self._keypad.press(digit)

    def _digits_complete(self, digits: str) -> None:
        self._put(_Keyed(digits, time.monotonic()))

    def _peer_fault(self, fault: PeerFault) -> None:
        self._services.metrics.peer_faults.labels(fault.code).inc()
        self._peer_faults += 1
        if fault.close_code is not None:
            self._fail(fault.code, fault.message, fault.close_code)
        elif self._peer_faults > self._limits.peer_faults:
            self._fail("too_many_faults", f"more than {self._limits.peer_faults} bad messages", CloseCode.BAD_MESSAGE)
        else:
            self._tell(ReportFault(fault.code, fault.message))

    # Speech events.

    def _speech_event(self, event: InboundEvent, now: float) -> None:
        match event:
            case SpeechStarted():
                self._cancel_silence_timer()
                self._tell(SpeechEdge(started=True, at_ms=self._ms(event.at)))
            case SpeechSustained():
                if self._speaker is not None and self._chain is not None and self._speaker.hold(now):
                    taken_s = self._ms(self._chain.samples_seen - event.at) / 1000
                    self._services.metrics.barge_in.observe(taken_s)
            case Pause():
                if self._listener is not None and self._services.settings.asr.speculate and not self._ending:
                    self._listener.speculate(event, self._expected())
            case SpeechResumed():
                if self._listener is not None:
                    self._listener.cancel()
            case UtteranceEnded():
                self._tell(SpeechEdge(started=False, at_ms=self._ms(event.end)))
                self._put(_Spoke(event, now, self._tail_ms))

    def _expected(self) -> Expectation | None:
        """What the dialogue's present node waits for."""
        listen = self._listen
        return None if listen is None or listen.expect is None else Expectation(listen.expect)

    def _ms(self, samples: int) -> int:
        return samples * 1000 // self._format.sample_rate_hz

    def _put(self, entry: _Entry) -> None:
        try:
            self._inbox.put_nowait(entry)
        except asyncio.QueueFull:
            # A turn takes milliseconds, so this many waiting means that a model hangs. The newest is the one to lose.
            self._services.metrics.dropped.labels("inbox").inc()
            self._log.warning("inbox full, dropped a %s", type(entry).__name__)

    # The call's task.

    async def _run(self) -> None:
        try:
            start = await self._start
            self.call_id = start.call_id or secrets.token_hex(16)
            call_id_var.set(self.call_id)
            await self._talk(start)
        except* MetadataError as group:
            self._fail("bad_metadata", "; ".join(map(str, group.exceptions)), CloseCode.BAD_START)
        except* FencedError:
            self._fail("taken_over", "another connection has taken this call over", CloseCode.TAKEN_OVER)
        except* (InferenceError, DialogueError, SynthesisError, TimeoutError) as group:
            self._log.error("call failed: %s", "; ".join(f"{type(e).__name__}: {e}" for e in group.exceptions))
            self._fail("unavailable", "the gateway cannot serve this call now; try again", CloseCode.INTERNAL)
        except* Exception:
            self._log.exception("a fault of ours ended the call")
            self._fail("internal", "a fault of the gateway's ended the call", CloseCode.INTERNAL)
        finally:
            self._release()

    async def _talk(self, start: CallStart) -> None:
        services, connection = self._services, self._connection
        assert connection is not None
        name = start.bot or next(iter(services.bots))
        bot = services.bots.get(name)
        if bot is None:
            known = ", ".join(services.bots)
            self._fail("unknown_bot", f"no bot {name!r:.60} is loaded; there are: {known}", CloseCode.BAD_START)
            return
        await self._take_over()
        dialogue = DialogueLoop(bot, services.store, self.call_id)
        async with asyncio.timeout(self._limits.reply_s):
            step = await dialogue.open(caller=start.caller, metadata=start.metadata)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._speaker = Speaker(
                    services,
                    self._protocol,
                    connection,
                    bot=bot,
                    fmt=start.format,
                    tell=self._tell,
                    on_heard=self._arm_silence_timer,
                )
                self._listener = Listener(
                    services.inference,
                    services.metrics,
                    tasks,
                    nlu_model=bot.name if bot.nlu_path is not None else None,
                    language=start.language or services.settings.asr.language or bot.language,
                    sample_rate_hz=start.format.sample_rate_hz,
                    timeout_s=self._limits.reply_s,
                    prepare=lambda turn: self._prepare_reply(dialogue, turn),
                )
                resumed = str(step.resumed).lower()
                services.metrics.calls_started.labels(self._protocol.name, bot.name, resumed).inc()
                self._log.info("call started: bot %s, %s, resumed %s", bot.name, self._protocol.name, resumed)
                self._tell(SessionReady(call_id=self.call_id, resumed=step.resumed))
                clock = ReplyClock("first_utterance_ms", max(self._started_at, self._opened_at))
                await self._perform(step, clock=clock)
                while not self.ended_by:
                    await self._next_turn(dialogue)
                self._listener.cancel()
        finally:
            await self._save_end(dialogue)

    async def _take_over(self) -> None:
        """This connection is the call now; an older one of the same id in this worker goes."""
        older = self._calls.by_id.get(self.call_id)
        self._calls.by_id[self.call_id] = self
        if older is not None:
            older._fail("taken_over", "another connection has taken this call over", CloseCode.TAKEN_OVER)
            await older.over()

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
        assert turn.meaning is not None and self._speaker is not None
        for action in dialogue.preview(CallerSaid(text=turn.text, meaning=turn.meaning)).actions:
            if isinstance(action, Say):
                await self._speaker.prepare(action)

    async def _handle(self, dialogue: DialogueLoop, event: CallerSaid | CallerSilent | DigitsPressed) -> Step:
        """One step, stored. A store that is away for a moment is asked again: the same event is the same turn."""
        async with asyncio.timeout(self._limits.reply_s):
            while True:
                try:
                    return await dialogue.handle(event)
                except StoreError as exc:
                    self._log.warning("%s; trying again", exc)
                    await asyncio.sleep(_STORE_RETRY_S)

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
                    self._tail_ms = action.tail_ms or self._services.settings.endpointing.tail_ms
                    if self._chain is not None:
                        self._chain.set_tail_ms(self._tail_ms)
                case Transfer():
                    self._ending = True
                    await speaker.heard.wait()
                    self._tell(TransferCall(target=action.target, context=dict(action.context)))
                    self._end("transfer", CloseCode.NORMAL, "")
                case HangUp():
                    self._ending = True
                    await speaker.heard.wait()
                    self._tell(EndCall(action.disposition))
                    self._end("bot", CloseCode.NORMAL, "")

    def _stop_prompt(self) -> None:
        if self._speaker is not None and not self._ending:
            self._speaker.stop()

    # The no-input timer runs while the caller could speak and does not.

    def _arm_silence_timer(self) -> None:
        self._cancel_silence_timer()
        listen, chain, speaker = self._listen, self._chain, self._speaker
        if listen is None or listen.no_input_ms is None or chain is None or speaker is None:
            return
        quiet = speaker.heard.is_set() and chain.state is EndpointState.SILENCE
        if quiet and not self._turn_running and not self.ended_by:
            self._silence_timer = self._loop.call_later(listen.no_input_ms / 1000, self._put, _Silent())

    def _cancel_silence_timer(self) -> None:
        if self._silence_timer is not None:
            self._silence_timer.cancel()
            self._silence_timer = None

    # The end.

    def _tell(self, command: Command) -> None:
        if self._connection is not None:
            for message in self._protocol.send(command):
                if isinstance(message, str):
                    self._connection.send_text(message)
                else:
                    self._connection.send_binary(message)

    def _fail(self, code: str, message: str, close_code: int) -> None:
        if not self.ended_by:
            self._log.warning("call ended: %s", code)
            self._tell(ReportFault(code, message))
            self._end("error", close_code, code)

    def _end(self, by: str, close_code: int, reason: str) -> None:
        if self.ended_by:
            return
        self.ended_by = by
        if self._connection is not None:
            self._connection.close(close_code, reason)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _save_end(self, dialogue: DialogueLoop) -> None:
        """The last write. A call that was lost or failed stays open in the store, so that it can be resumed."""
        if self.ended_by in ("bot", "caller", "transfer"):
            try:
                async with asyncio.timeout(_SAVE_S):
                    await asyncio.shield(dialogue.close(self.ended_by))
            except (TimeoutError, DialogueError) as exc:
                self._log.error("the end of the call was not saved: %s", type(exc).__name__)

    def _release(self) -> None:
        self._count_frames()
        for timer in (self._start_timer, self._silence_timer):
            if timer is not None:
                timer.cancel()
        self._keypad.close()
        if self._speaker is not None:
            self._speaker.close()
        self._calls.open.discard(self)
        if self._calls.by_id.get(self.call_id) is self:
            del self._calls.by_id[self.call_id]
        self._services.metrics.calls_ended.labels(self.ended_by or "error").inc()
        self._log.info("call over: %s", self.ended_by or "error")
