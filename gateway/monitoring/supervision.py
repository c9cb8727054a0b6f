"""What supervisors do to one worker's calls: hear them, prompt the bot, speak in its place, end them.

    nobody --take_over--> taken over --hand_back | not renewed for 6 s | the call's end--> nobody
                           '--take_over from this one, by name--> taken over by another

A call that was taken over belongs to the connection that did it: no other one keeps it, speaks in it, or gives it back.
Who means to take it from somebody says from whom, so that nobody does so unawares, nor to the wrong one. Listening and
taking over are leases: a control plane that dies, or a browser that goes away, must not leave a caller in silence or a
tap running.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from audio.formats import AudioFormat, Pcm16
from gateway.metrics import Metrics
from gateway.monitoring.call_watch import CallWatch
from gateway.monitoring.stereo import StereoLine
from gateway.monitoring.wire import LEASE_S, Act, Order

__all__ = ["CHUNK_HEADER", "NotNowError", "Supervised", "SupervisedCall", "Supervision"]

CHUNK_HEADER: Final = struct.Struct("<I")
"""Before a chunk of audio: the number of its first sample since listening began. Then int16 pairs: caller, bot."""

_DELAY_S: Final = 0.06
"""How far behind the present a chunk ends: a late frame of the caller still finds its place."""
_MOST_WHISPERED_CHARS: Final = 500


class NotNowError(Exception):
    """An act that cannot be done now. `code` is for programs; the message names the mend."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Supervised(Protocol):
    """What a conversation lets supervisors do."""

    @property
    def talking(self) -> bool:
        """The dialogue is open and its last words are not being said yet."""
        ...

    def whisper(self, text: str) -> bool:
        """Have the bot say this next; False: there is no room."""
        ...

    def take_over(self) -> None:
        """The bot is silent from now on."""
        ...

    def relay(self, pcm: Pcm16) -> bool:
        """Send the supervisor's voice, int16 mono at the call's rate; False: it was too much at once."""
        ...

    def hand_back(self) -> None:
        """The bot has the call again."""
        ...

    def hang_up(self) -> bool:
        """End the call; False: there is no room."""
        ...


class SupervisedCall(Protocol):
    """A call as its worker knows it: `gateway.calls.session.CallSession`."""

    call_id: str
    watch: CallWatch

    @property
    def conversation(self) -> Supervised | None:
        """None before the call's start is known."""
        ...

    @property
    def audio_format(self) -> AudioFormat | None:
        """None before the call's start is known."""
        ...


@dataclass(slots=True)
class _Listening:
    call: SupervisedCall
    line: StereoLine
    until: dict[str, tuple[float, str]] = field(default_factory=dict)  # session -> (monotonic seconds, who)
    lost: int = 0


@dataclass(slots=True)
class _TakenOver:
    call: SupervisedCall
    by: str
    session: str
    until: float


class Supervision:
    """One per worker. Times are monotonic seconds."""

    def __init__(self, calls: Callable[[], Iterable[SupervisedCall]], metrics: Metrics) -> None:
        self._calls = calls
        self._metrics = metrics
        self._listening: dict[str, _Listening] = {}
        self._taken: dict[str, _TakenOver] = {}

    def find(self, call_id: str) -> SupervisedCall | None:
        """The call of this id, where it is this worker's and its dialogue is open."""
        for call in self._calls():
            if call.call_id == call_id and call.watch.is_open:
                return call
        return None

    # Listening.

    def listen(self, call: SupervisedCall, order: Order, now: float) -> StereoLine:
        """Begin to hear a call, or go on with it: for six seconds more.

        Raises:
            NotNowError: the call has no audio yet.
        """
        heard = self._listening.get(call.call_id)
        if heard is None or heard.call is not call:
            fmt = call.audio_format
            if fmt is None:
                raise NotNowError("not_started", "the call has no audio yet; try again")
            heard = self._listening[call.call_id] = _Listening(call, call.watch.open_line(fmt))
            call.watch.listened_to = True
        if order.session not in heard.until:
            call.watch.supervised(Act.LISTEN, order.by)
        heard.until[order.session] = (now + LEASE_S, order.by)
        return heard.line

    def leave(self, call_id: str, session: str) -> None:
        """A supervisor's connection is over: what it has of the call, or was about to have, is let go."""
        self._stop_listening(call_id, session)
        taken = self._taken.get(call_id)
        if taken is not None and taken.session == session:
            self._hand_back(taken)

    def _stop_listening(self, call_id: str, session: str) -> None:
        """This one hears it no more."""
        heard = self._listening.get(call_id)
        if heard is not None and (lease := heard.until.pop(session, None)) is not None:
            heard.call.watch.supervised(Act.UNLISTEN, lease[1])
            if not heard.until:
                self._close(call_id)

    @property
    def heard(self) -> bool:
        """Whether any call is listened to."""
        return bool(self._listening)

    def chunks(self, now: float) -> Iterator[tuple[str, bytes]]:
        """What was said in the calls that are listened to since this was last asked, by call id."""
        for call_id, heard in self._listening.items():
            first = heard.line.taken
            stretch = heard.line.take(now - _DELAY_S)
            if heard.line.dropped > heard.lost:
                self._metrics.dropped.labels("audio").inc()
                heard.lost = heard.line.dropped
            if len(stretch):
                yield call_id, CHUNK_HEADER.pack(first & 0xFFFFFFFF) + stretch.tobytes()

    # Acting.

    def act(self, call: SupervisedCall, order: Order, now: float) -> None:
        """Do what a supervisor asks.

        Raises:
            NotNowError: it cannot be done now.
        """
        conversation = call.conversation
        begins = order.act in (Act.WHISPER, Act.TAKE_OVER)  # what has begun can be ended whenever
        if conversation is None or (begins and not conversation.talking):
            raise NotNowError("ending", "the call is being connected or is over in a moment; nothing can be done to it")
        match order.act:
            case Act.WHISPER:
                if not 0 < len(order.text.strip()) <= _MOST_WHISPERED_CHARS:
                    raise NotNowError("bad_text", f"a whisper has 1 to {_MOST_WHISPERED_CHARS} characters; shorten it")
                if self._of(call) is not None:
                    raise NotNowError("taken_over", "the bot is silent; hand the call back first")
                self._room(conversation.whisper(order.text.strip()))
            case Act.TAKE_OVER:
                self._take_over(call, conversation, order, now)
                return
            case Act.HAND_BACK:
                taken = self._of(call)
                if taken is None:
                    raise NotNowError("not_taken_over", "the bot has the call; there is nothing to hand back")
                self._check_may_end(taken, order)
                self._hand_back(taken)
                return
            case Act.HANG_UP:
                self._room(conversation.hang_up())
                self._taken.pop(order.call_id, None)
            case _:
                raise NotNowError("unknown_act", "this gateway's workers know no such act; are they of one version?")
        call.watch.supervised(order.act, order.by)

    def _room(self, taken: bool) -> None:
        if not taken:
            raise NotNowError("busy", "the call has too much waiting; try again in a second")

    def _take_over(self, call: SupervisedCall, conversation: Supervised, order: Order, now: float) -> None:
        taken = self._of(call)
        if taken is not None:
            self._check_may_end(taken, order)
        self._taken[call.call_id] = _TakenOver(call, order.by, order.session, now + LEASE_S)
        conversation.take_over()
        call.watch.taken_over_by = order.by
        call.watch.supervised(Act.TAKE_OVER, order.by)

    def _of(self, call: SupervisedCall) -> _TakenOver | None:
        """Who has this call, not an earlier connection of its caller's."""
        taken = self._taken.get(call.call_id)
        return taken if taken is not None and taken.call is call else None

    def _check_may_end(self, taken: _TakenOver, order: Order) -> None:
        if order.session != taken.session and order.from_whom != taken.by:
            raise NotNowError("taken_over", f"{taken.by} has the call; ask them, or name them to take it from them")

    def keep(self, order: Order, now: float) -> None:
        """Go on speaking: for six seconds more.

        Raises:
            NotNowError: the call is not this session's any more.
        """
        taken = self._taken.get(order.call_id)
        if taken is None:
            raise NotNowError("not_taken_over", "the bot has the call again")
        if taken.session != order.session:
            raise NotNowError("not_taken_over", f"{taken.by} has the call now")
        taken.until = now + LEASE_S

    def _hand_back(self, taken: _TakenOver) -> None:
        del self._taken[taken.call.call_id]
        taken.call.watch.taken_over_by = None
        if taken.call.conversation is not None:
            taken.call.conversation.hand_back()
        taken.call.watch.supervised(Act.HAND_BACK, taken.by)

    def voice(self, session: str, data: bytes) -> None:
        """What a supervisor says with this connection: int16 little-endian, mono, at the rate of the call it has."""
        taken = next((one for one in self._taken.values() if one.session == session), None)
        if taken is None or taken.call.conversation is None:
            return
        pcm = np.frombuffer(data[: len(data) - len(data) % 2], "<i2")
        if len(pcm) and not taken.call.conversation.relay(pcm):
            self._metrics.dropped.labels("voice").inc()

    @property
    def speaking(self) -> set[str]:
        """Connections whose supervisors speak in a call."""
        return {taken.session for taken in self._taken.values()}

    # Leases.

    def sweep(self, now: float) -> list[tuple[str, str]]:
        """End what nobody has renewed, and what was of calls that are over.

        Returns:
            The calls that the bot has again, each with the supervisor who had it.
        """
        open_calls = {id(call) for call in self._calls()}
        for call_id, heard in list(self._listening.items()):
            if id(heard.call) not in open_calls:
                self._close(call_id)
                continue
            for session in [one for one, (until, _) in heard.until.items() if until <= now]:
                self._stop_listening(call_id, session)
        lapsed = []
        for call_id, taken in list(self._taken.items()):
            if id(taken.call) not in open_calls:
                del self._taken[call_id]
            elif taken.until <= now:
                self._hand_back(taken)
                lapsed.append((call_id, taken.by))
        return lapsed

    def close(self) -> None:
        """The worker stops watching: the bots have all calls again."""
        for taken in list(self._taken.values()):
            self._hand_back(taken)
        for call_id in list(self._listening):
            self._close(call_id)

    def _close(self, call_id: str) -> None:
        heard = self._listening.pop(call_id)
        heard.call.watch.listened_to = False
        heard.call.watch.close_line(heard.line)
