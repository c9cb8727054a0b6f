"""One call's connection, from its 101 to its last state save.

    opened --start known--> started --state claimed--> talking (gateway.calls.conversation) --> over
    any --caller hangs up | connection lost | limit | fault--> over

Messages come in by a synchronous callback and go through the wire protocol, detection and endpointing in that
callback; the conversation takes it from there. So a call is one task, and one more while it speculates.

Odd cases: audio before the start message starts the call with the protocol's defaults, at once or, where the protocol
keeps it, once the start might have followed (`StartAwaited`); a second connection with the same call id takes the call
over; messages after the end are ignored.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from audio.detection import FRAME_MS
from audio.endpointing import EndpointState
from audio.formats import AudioFormat, UnsupportedFormatError
from audio.inbound import (
    InboundChain,
    InboundEvent,
)
from dialogue.step import MetadataError
from dialogue.store import FencedError
from dialogue.turns import (
    DialogueError,
)
from gateway import logs
from gateway.calls.bot_choice import UnknownBotError, choose_bot
from gateway.calls.conversation import Conversation
from gateway.calls.flood import FloodGuard
from gateway.calls.services import Services
from gateway.calls.websocket import Connection
from gateway.inference.seam import InferenceError
from gateway.logs import CallLog, call_id_var
from gateway.monitoring.call_watch import CallWatch
from gateway.outside.carriers import CallControl, CarrierError
from gateway.protocols.seam import (
    AudioReceived,
    CallStart,
    CloseCode,
    Command,
    DigitReceived,
    EndCall,
    MarkReached,
    MessageIgnored,
    PeerFault,
    ReplyDue,
    ReportFault,
    StartAwaited,
    StopReceived,
    TransferCall,
    WireEvent,
    WireMessage,
    WireProtocol,
)
from tts_stub.synthesis import SynthesisError

__all__ = ["CallSession", "Calls", "OpenCall"]

log = logging.getLogger(__name__)


# Who ended a call that ended without a word of ours; any other code says that the peer broke the WebSocket protocol.
# A browser's `close()` without a code is seen as 1005 (RFC 6455 section 7.1.5).
_ENDED_BY = {CloseCode.NORMAL: "caller", 1005: "caller", CloseCode.GOING_AWAY: "lost", 1006: "lost"}


# A start that must come has this long.
_START_S = 5.0
# What a bot has to take its leave of a call that lasted too long.
_LEAVE_S = 30.0
# Text may come at this pace: three times what the wordiest dialect needs, in messages of any size.
_TEXT_BYTES_PER_S = 128 * 1024
_MESSAGE_BYTES = 64  # what the smallest message costs us, in bytes of text


class OpenCall(Protocol):
    """What a worker knows of a connection in progress."""

    @property
    def frames_seen(self) -> int:
        """Inbound frames judged so far."""
        ...

    def check_limits(self, now: float) -> None:
        """Once a second: what only a wall clock can see."""
        ...

    def go_away(self) -> None:
        """The worker goes down, and the time to end by itself is over."""
        ...

    async def over(self) -> None:
        """Until everything of the connection has ended."""
        ...


@dataclass(slots=True)
class Calls:
    """The calls of one worker: those whose connection is open, and the one that owns each call id."""

    open: set[OpenCall] = field(default_factory=set)
    by_id: dict[str, CallSession] = field(default_factory=dict)


class CallSession:
    """Implements `gateway.calls.websocket.Receiver`."""

    # Without them an object of more than thirty attributes is a dictionary, which each frame looks into six times.
    __slots__ = (
        "_admit",
        "_audio_at",
        "_calls",
        "_carrier",
        "_chain",
        "_connection",
        "_conversation",
        "_flood",
        "_frames_counted",
        "_goes_on",
        "_limits",
        "_log",
        "_loop",
        "_opened_at",
        "_order",
        "_paced_at",
        "_peer_faults",
        "_plain_audio",
        "_protocol",
        "_services",
        "_start",
        "_start_timer",
        "_started_at",
        "_swept_at",
        "_swept_frames",
        "_task",
        "_texts",
        "_time_is_up",
        "call_id",
        "ended_by",
        "subprotocol",
        "watch",
    )

    def __init__(
        self,
        protocol: WireProtocol,
        services: Services,
        calls: Calls,
        *,
        subprotocol: str | None = None,
        admit: Callable[[str | None], bool] | None = None,
        control: CallControl | None = None,
    ) -> None:
        """
        Args:
            protocol: what the peer speaks, made for this connection.
            services: what the worker's calls share.
            calls: where the session enters and leaves by itself.
            subprotocol: what the 101 names.
            admit: whether the token of the start opens the gateway; None: the peer was let in with its request.
            control: ends or transfers the call at its carrier, where closing the connection does not.
        """
        self.subprotocol = subprotocol
        self.call_id = ""
        self.ended_by = ""
        """Empty while the call goes on, then "bot", "caller", "transfer", "lost" or "error"."""
        self._goes_on = False  # on another connection
        self.watch = CallWatch(services.bus, protocol=protocol.name, position_ms=lambda: self.frames_seen * FRAME_MS)
        self._protocol = protocol
        self._admit = admit
        self._carrier = control
        self._order: EndCall | TransferCall | None = None
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
        self._chain: InboundChain | None = None
        self._conversation: Conversation | None = None
        self._flood: FloodGuard | None = None
        self._plain_audio = False  # whether binary messages go past the protocol
        self._texts = FloodGuard(bytes_per_s=_TEXT_BYTES_PER_S, ahead_s=self._limits.flood_s)
        self._opened_at = self._started_at = self._audio_at = time.monotonic()
        self._frames_counted = 0
        # At the last sweep, and when audio last came at its pace or none was wanted.
        self._swept_at = self._paced_at = self._opened_at
        self._swept_frames = 0
        self._peer_faults = 0
        self._time_is_up = False

    # The connection's callbacks.

    def connection_opened(self, connection: Connection) -> None:
        """The 101 is out."""
        self._connection = connection
        self._opened_at = self._audio_at = time.monotonic()
        self._calls.open.add(self)
        self._services.metrics.calls.labels(self._protocol.name).inc()
        self._task = self._loop.create_task(self._run(), name="call")
        # Not in a `finally` of its own: a call that ends with its first bytes cancels a task that has never run.
        self._task.add_done_callback(lambda _: self._release())
        grace_ms = self._protocol.starts_within_ms
        if grace_ms == 0:
            self._start_by_default()
        elif grace_ms is not None:
            self._start_timer = self._loop.call_later(grace_ms / 1000, self._start_by_default)
        else:
            self._start_timer = self._loop.call_later(_START_S, self._no_start)

    def message_received(self, message: str | bytes) -> None:
        """One message of the peer; most are one frame of audio."""
        if self.ended_by:
            return
        if type(message) is bytes and self._plain_audio:
            self._audio(message)
            return
        if type(message) is str and not self._texts.count(len(message) + _MESSAGE_BYTES, time.monotonic()):
            self._fail("flooding", "more text than a call has to say", CloseCode.FLOODING)
            return
        for event in self._protocol.receive(message):
            if type(event) is AudioReceived:
                self._audio(event.data)
            else:
                self._control(event)

    def connection_closed(self, code: int, reason: str) -> None:
        """Nothing more can be sent. Only a normal close is a hang-up; after anything else the caller may come back."""
        self._services.metrics.calls.labels(self._protocol.name).dec()
        if self.ended_by:
            return  # the task is on its way out and may be saving the end: leave it alone
        self.ended_by = _ENDED_BY.get(code, "error")
        self._log.info("connection closed (%d)", code)
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
            if self._audio_stalled(chain, now) and chain.state is not EndpointState.SILENCE:
                self._hear(chain.flush(), now)
            if self._conversation is not None:
                self._conversation.look(now)
        if now - self._audio_at > self._limits.no_audio_s and not self._protocol.pauses:
            message = f"no audio for {self._limits.no_audio_s:g} s; send silence while the caller is silent"
            self._fail("no_audio", message, CloseCode.TIMEOUT)
        elif now - self._opened_at > self._limits.call_s + _LEAVE_S:
            self._fail("call_too_long", f"a call may last {self._limits.call_s:g} s", CloseCode.TIMEOUT)
        elif now - self._opened_at > self._limits.call_s and self._conversation is not None and not self._time_is_up:
            self._time_is_up = True
            self._conversation.time_is_up()

    def _audio_stalled(self, chain: InboundChain, now: float) -> bool:
        """Whether an utterance's audio stopped, or drips at less than a fifth of its pace."""
        heard_s = (chain.frames_seen - self._swept_frames) * FRAME_MS / 1000
        if chain.state is EndpointState.SILENCE or heard_s * 5 >= now - self._swept_at:
            self._paced_at = now
        self._swept_at, self._swept_frames = now, chain.frames_seen
        return now - min(self._audio_at, self._paced_at) > self._limits.stalled_speech_s

    def go_away(self) -> None:
        """The worker goes down and this call's time to end by itself is over. It may resume elsewhere."""
        self._end("error", CloseCode.GOING_AWAY, "going away")

    def _count_frames(self) -> None:
        if (fresh := self.frames_seen - self._frames_counted) > 0:
            self._services.metrics.frames.inc(fresh)
            self._frames_counted += fresh

    @property
    def conversation(self) -> Conversation | None:
        """What is said in it; None before the start is known."""
        return self._conversation

    @property
    def audio_format(self) -> AudioFormat | None:
        """The call's own; None before the start is known."""
        return self._start.result().format if self._start.done() and not self._start.cancelled() else None

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
                if self._conversation is not None:
                    self._conversation.key_pressed(event.digit)
            case MarkReached():
                if self._conversation is not None:
                    self._conversation.mark_reached(event.name)
            case StopReceived():
                self._end("caller", CloseCode.NORMAL, "")
            case PeerFault():
                self._peer_fault(event)
            case MessageIgnored():
                self._services.metrics.peer_faults.labels(event.code).inc()
            case ReplyDue():
                self._send(event.messages)
            case StartAwaited():
                self._await_start(event.within_ms / 1000)

    def _await_start(self, within_s: float) -> None:
        """The first audio is there, and it took a round trip. Give the start as long again, and a moment.

        A backlog of audio that fills TCP's first window has the start a round trip behind it. The grace that counts
        from the 101 stays the longest.
        """
        if self._start.done() or self.ended_by:
            return
        now, grace_ms = time.monotonic(), self._protocol.starts_within_ms
        ends_at = 2 * now - self._opened_at + within_s
        if grace_ms is not None:
            ends_at = min(ends_at, self._opened_at + grace_ms / 1000)
        if self._start_timer is not None:
            self._start_timer.cancel()
        self._start_timer = self._loop.call_later(max(0.0, ends_at - now), self._start_by_default)

    def _start_by_default(self) -> None:
        if self._start.done() or self.ended_by:
            return
        try:
            self._set_start(self._protocol.default_start())
        except UnsupportedFormatError as exc:
            self._peer_fault(PeerFault("bad_start", exc.reason, CloseCode.BAD_START, exc.given))

    def _no_start(self) -> None:
        self._fail("no_start", f"no start within {_START_S:g} s", CloseCode.TIMEOUT)

    def _set_start(self, start: CallStart) -> None:
        if self._start.done() or self.ended_by:
            return
        if self._admit is not None and not self._admit(start.token):
            self._services.metrics.refused.labels("unauthorized").inc()
            self._fail("unauthorized", "the start brought no token that opens this gateway", CloseCode.UNAUTHORIZED)
            return
        if self._start_timer is not None:
            self._start_timer.cancel()
        assert self._connection is not None
        detector = self._services.make_detector(start.format.sample_rate_hz)
        self._chain = InboundChain(start.format, self._services.settings.endpointing, detector)
        self._conversation = Conversation(
            self._services,
            self._protocol,
            self._connection,
            start=start,
            chain=self._chain,
            tell=self._tell,
            watch=self.watch,
        )
        self._flood = FloodGuard(bytes_per_s=start.format.bytes_per_ms * 1000, ahead_s=self._limits.flood_s)
        self._plain_audio = self._protocol.binary_is_audio
        self._started_at = time.monotonic()
        self._start.set_result(start)

    def _audio(self, data: bytes) -> None:
        if self._chain is None:
            self._start_by_default()
        chain, flood = self._chain, self._flood
        if chain is None or flood is None:
            return
        self._audio_at = now = time.monotonic()
        if (tap := self.watch.tap) is not None:
            tap.caller(data, now)
        if not flood.count(len(data), now):
            ahead = f"audio is more than {self._limits.flood_s:g} s ahead of real time"
            self._fail("flooding", f"{ahead}; send it as it is spoken", CloseCode.FLOODING)
            return
        if events := chain.push(data):
            self._hear(events, now)

    def _hear(self, events: Sequence[InboundEvent], now: float) -> None:
        assert self._conversation is not None
        for event in events:
            self._conversation.speech_event(event, now)

    def _peer_fault(self, fault: PeerFault) -> None:
        self._services.metrics.peer_faults.labels(fault.code).inc()
        self._peer_faults += 1
        if fault.close_code is not None:
            self._fail(fault.code, fault.reason, fault.close_code, message=fault.message)
        elif self._peer_faults > self._limits.peer_faults:
            self._fail("too_many_faults", f"more than {self._limits.peer_faults} bad messages", CloseCode.BAD_MESSAGE)
        else:
            self._tell(ReportFault(fault.code, fault.message))

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
        except* Exception as group:
            self._log.error("a fault of ours ended the call: %s", logs.where(group))
            self._fail("internal", "a fault of the gateway's ended the call", CloseCode.INTERNAL)

    async def _talk(self, start: CallStart) -> None:
        conversation = self._conversation
        assert conversation is not None
        try:
            bot = choose_bot(self._services.bots, start.bot, start.language)
        except UnknownBotError as exc:
            self._fail("unknown_bot", exc.reason, CloseCode.BAD_START, message=str(exc))
            return
        await self._take_over()
        try:
            ended_by = await conversation.run(bot, self.call_id, since=max(self._started_at, self._opened_at))
            await self._tell_carrier(start, ended_by)
            self._end(ended_by, CloseCode.NORMAL, "")
        finally:
            if self.ended_by in ("bot", "caller", "transfer"):
                await conversation.save_end(self.ended_by)
            await conversation.leave()

    async def _tell_carrier(self, start: CallStart, ended_by: str) -> None:
        """Have the carrier end or transfer the call. What it then does to the connection is our doing."""
        if self._carrier is None or self._order is None:
            return
        self.ended_by = ended_by
        try:
            await self._carrier.carry_out(start, self._order)
        except CarrierError as exc:
            self._log.error("the call goes on at its carrier: %s", exc)
        if self._connection is not None:
            self._connection.close(CloseCode.NORMAL, "")

    async def _take_over(self) -> None:
        """This connection is the call now; an older one of the same id in this worker goes."""
        older = self._calls.by_id.get(self.call_id)
        self._calls.by_id[self.call_id] = self
        if older is not None:
            older._fail("taken_over", "another connection has taken this call over", CloseCode.TAKEN_OVER)
            await older.over()

    # The end.

    def _tell(self, command: Command) -> None:
        if isinstance(command, EndCall | TransferCall):
            self._order = command
        self.watch.told(command)
        self._send(self._protocol.send(command))

    def _send(self, messages: Sequence[WireMessage]) -> None:
        if self._connection is not None:
            for message in messages:
                self._connection.send(message)

    def _fail(self, code: str, reason: str, close_code: int, *, message: str | None = None) -> None:
        """End the call. `reason` is logged, so it quotes no peer; `message` is told where that does."""
        if not self.ended_by:
            self._log.warning("call ended: %s: %s", code, reason)
            self._goes_on = close_code is CloseCode.TAKEN_OVER
            self._tell(ReportFault(code, message or reason))
            self._end("error", close_code, code)

    def _end(self, by: str, close_code: int, reason: str) -> None:
        if self.ended_by:
            return
        self.ended_by = by
        if self._connection is not None:
            self._connection.close(close_code, reason)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _release(self) -> None:
        self._count_frames()
        if self._start_timer is not None:
            self._start_timer.cancel()
        if self._conversation is not None:
            self._conversation.close()
        self._calls.open.discard(self)
        if self._calls.by_id.get(self.call_id) is self:
            del self._calls.by_id[self.call_id]
        self.watch.closed(self.ended_by or "error", goes_on=self._goes_on)
        self._services.metrics.calls_ended.labels(self.ended_by or "error").inc()
        self._log.info("call over: %s", self.ended_by or "error")
