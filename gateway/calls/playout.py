"""Sending prompts at the pace they are heard: a pure core with the clock as an argument.

    idle --enqueue--> playing --all sent--> idle
    playing --hold--> held --resume--> playing
    held | playing --drop--> idle

All prompts of a call lie on one line of bytes. Three positions move along it: `heard <= sent <= queued`. Byte p of a
stretch that began at `anchor` with position `anchor_position` is heard at `anchor + (p - anchor_position) / rate`
and may be sent `lead_ms` earlier, so at most that much waits at the peer and a clear loses no more. Times come from
that anchor, never from the frame before: the rate stays exact over an hour. A peer that plays from a buffer of its own
is behind by `lag_s`, known from its marks: what it has been sent it has not yet played, and a hold goes back to that.

Odd cases: `hold` takes `sent` back to `heard`, since the peer is told to drop the rest, and `resume` sends it
again; a prompt whose end was sent but not heard comes back the same way; what is enqueued while held waits; a last
frame shorter than ptime is sent as it is; after a stall, what is due is sent at once and the pace goes on.

What was heard in the last `KEPT_S` can be asked for. It is known by stretches of the line, not by frames: a hundred
objects for each call that talks made every garbage collection of a worker stop all its calls for 20 to 60 ms
(docs/performance.md). `poll` is on the way of every frame out, so it touches as few objects as it can, and what all
calls of a kind have in common they share (`_Pace`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeAlias

__all__ = ["KEPT_S", "AudioDue", "Playout", "PlayoutItem", "PlayoutStep", "PromptSent"]

KEPT_S = 2.0
"""Of what was heard: as far back as echo is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayoutItem:
    """One prompt, encoded for the call.

    `first_sound_byte` is where the prompt becomes audible (budgets count from there); `mark` names its end.
    """

    audio: memoryview
    mark: str
    first_sound_byte: int = 0
    interruptible: bool = True


class AudioDue(NamedTuple):
    """Send this audio now. `first_sound`: it holds the first audible sample of the item; heard from `heard_at` on.

    A tuple, since one is made for every frame out: a third of what a frozen dataclass costs.
    """

    audio: memoryview
    item: PlayoutItem
    first_sound: bool
    heard_at: float


@dataclass(frozen=True, slots=True)
class PromptSent:
    """The item's last audio has been sent; the caller hears its end at `heard_at`."""

    item: PlayoutItem
    heard_at: float


PlayoutStep: TypeAlias = AudioDue | PromptSent


@dataclass(frozen=True, slots=True)
class _Pace:
    """What the calls of one format share."""

    frame_bytes: int
    bytes_per_s: int
    lead_s: float


@cache
def _pace(bytes_per_ms: int, ptime_ms: int, lead_ms: int) -> _Pace:
    return _Pace(bytes_per_ms * ptime_ms, bytes_per_ms * 1000, lead_ms / 1000)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Bytes of the line, `begin` to `end`, that were heard without a gap: byte p at `origin + p / rate`."""

    begin: int
    end: int
    origin: float


class Playout:
    """One call's playout. Times are monotonic seconds, positions bytes since the call's first prompt."""

    __slots__ = (
        "_begin",
        "_forgotten",
        "_held",
        "_items",
        "_origin",
        "_pace",
        "_past",
        "_queued",
        "_sending",
        "_sent",
        "_stretches",
        "lag_s",
        "next_at",
    )

    def __init__(self, *, bytes_per_ms: int, ptime_ms: int = 20, lead_ms: int = 100) -> None:
        self._pace = _pace(bytes_per_ms, ptime_ms, lead_ms)
        # (position of its first byte, item): not yet heard out, or heard in the last `KEPT_S`.
        self._items: deque[tuple[int, PlayoutItem]] = deque()
        self.lag_s = 0.0
        """How much later than sent at its pace the peer plays, seconds."""
        self._queued = 0
        self._sent = 0
        self.next_at = math.inf
        """When what is next to be sent will be heard; inf: nothing to send."""
        self._sending: tuple[int, int, PlayoutItem] | None = None  # the item of byte `_sent`, from and to where
        self._forgotten = 0  # what lies before was heard, and nothing takes it back
        # The stretch in progress: where it began, and when byte 0 would have been heard at its pace.
        self._begin = 0
        self._origin = 0.0
        self._held = False
        self._stretches: deque[_Stretch] = deque()  # those before it
        self._past: list[tuple[float, memoryview]] = []  # what was heard of prompts that are gone

    @property
    def playing(self) -> bool:
        """Something is still to be sent, or held."""
        return self._sent < self._queued

    @property
    def held(self) -> bool:
        """Between `hold` and `resume` or `drop`."""
        return self._held

    def current(self, now: float) -> PlayoutItem | None:
        """The item the caller is hearing at `now`, or would if it were not held; None in silence."""
        heard = self._heard(now)
        for start, item in self._items:
            if heard < start + len(item.audio):
                return item
        return None

    def share_heard(self, now: float) -> float:
        """How much of the current item has been heard, 0 to 1; 1 in silence."""
        heard = self._heard(now)
        for start, item in self._items:
            if heard < start + len(item.audio):
                return (heard - start) / len(item.audio)
        return 1.0

    def left_s(self, now: float) -> float:
        """From what is heard at `now` to the end of all that is queued, seconds of audio."""
        return (self._queued - self._heard(now)) / self._pace.bytes_per_s

    def ends_in_s(self, now: float) -> float:
        """From `now` until all that is queued has been sent at its pace, to the byte; 0 or less: it has been.

        Not for prompts that are held. Unlike `left_s` it knows neither frames, which may be seconds long, nor the lag
        of the peer.
        """
        return self._time_of(self._queued) - now

    def heard_since(self, since: float) -> list[tuple[float, memoryview]]:
        """What was sent to be heard at `since` or later, held and dropped audio left out: (heard at, audio) in order.

        Of the last `KEPT_S` that the peer has played. Where it plays late it is heard by `lag_s` later.
        """
        rate = self._pace.bytes_per_s
        pieces = [(at, audio) for at, audio in self._past if at + len(audio) / rate > since]
        for stretch in (*self._stretches, _Stretch(self._begin, self._sent, self._origin)):
            # Cut at whole samples of any encoding.
            first = max(stretch.begin, math.ceil((since - stretch.origin) * rate / 2) * 2)
            for start, item in self._items:
                begin, end = max(first, start), min(stretch.end, start + len(item.audio))
                if begin < end:
                    pieces.append((stretch.origin + begin / rate, item.audio[begin - start : end - start]))
        return pieces

    def enqueue(self, item: PlayoutItem, now: float) -> None:
        """Queue a prompt behind those already waiting."""
        self._forget_heard(now)
        if not self._held and not self.playing and self._time_of(self._queued) <= now:
            self._begin_stretch(now)
        self._items.append((self._queued, item))
        self._queued += len(item.audio)
        self._look_ahead()

    def get_timer(self) -> float | None:
        """When `poll` next has something to do; None: nothing to send."""
        return None if self.next_at == math.inf else self.next_at - self._pace.lead_s

    def poll(self, now: float) -> Sequence[PlayoutStep]:
        """Everything that is due at `now`, in order."""
        pace = self._pace
        ahead = now + pace.lead_s
        if self.next_at > ahead:
            return ()
        steps: list[PlayoutStep] = []
        while (heard_at := self.next_at) <= ahead:
            start, end, item = self._sending or self._find_next()
            begin = self._sent - start
            audio = item.audio[begin : begin + pace.frame_bytes]
            steps.append(AudioDue(audio, item, begin <= item.first_sound_byte < begin + len(audio), heard_at))
            self._sent = sent = self._sent + len(audio)
            if sent < end:
                self.next_at = self._origin + sent / pace.bytes_per_s
            else:
                self._sending = None
                steps.append(PromptSent(item, self._time_of(end)))
                self._look_ahead()
                self._forget_heard(now)
        return steps

    def hold(self, now: float) -> None:
        """Stop sending and go back to what has been heard; the peer is to drop the rest."""
        if not self._held:
            heard = self._heard(now)
            self._end_stretch(heard)
            self._held = True
            self._sent = heard
            self._look_ahead()

    def resume(self, now: float) -> None:
        """Go on from where `hold` stopped."""
        if self._held:
            self._held = False
            self._begin_stretch(now)
            self._look_ahead()

    def drop(self) -> list[PlayoutItem]:
        """Forget everything not yet sent or held; returns the items that will never be heard to their end."""
        dropped = [item for start, item in self._items if start + len(item.audio) > self._sent]
        begun_at = self._time_of(self._begin)
        self._end_stretch(self._sent)
        self._held = False
        self._sent = self._begin = self._forgotten = self._queued
        self._origin = begun_at - self._queued / self._pace.bytes_per_s  # over, whatever was queued
        self._look_ahead()
        return dropped

    def let_go(self, now: float) -> None:
        """All has been heard: keep the last `KEPT_S` in memory of their own, since prompts are long."""
        if not self.playing:
            self._past = [(at, memoryview(bytes(audio))) for at, audio in self.heard_since(now - self._kept_s)]
            self._stretches.clear()
            self._items.clear()
            self._begin = self._forgotten = self._sent

    @property
    def _kept_s(self) -> float:
        return KEPT_S + self.lag_s

    def _time_of(self, position: int) -> float:
        return self._origin + position / self._pace.bytes_per_s

    def _heard(self, now: float) -> int:
        """Position heard at `now`, to a whole frame since the stretch began, never beyond what was sent."""
        if self._held:
            return self._sent
        frame_bytes = self._pace.frame_bytes
        begun_at = self._time_of(self._begin) + self.lag_s
        frames = int((now - begun_at) * self._pace.bytes_per_s / frame_bytes + 1e-6)
        heard = self._begin + max(0, frames) * frame_bytes
        return max(self._forgotten, min(self._sent, heard))

    def _begin_stretch(self, now: float) -> None:
        """From `now` on the line is heard again, from where it stands."""
        self._end_stretch(self._sent)
        self._begin = self._sent
        self._origin = now - self._sent / self._pace.bytes_per_s

    def _end_stretch(self, end: int) -> None:
        if end > self._begin:
            self._stretches.append(_Stretch(self._begin, end, self._origin))
            self._begin = end

    def _look_ahead(self) -> None:
        """What is next to be sent, and when, after anything but a frame has changed."""
        self._sending = None
        waits = not self._held and self._sent < self._queued
        self.next_at = self._time_of(self._sent) if waits else math.inf

    def _find_next(self) -> tuple[int, int, PlayoutItem]:
        for start, item in self._items:
            if start <= self._sent < start + len(item.audio):
                self._sending = (start, start + len(item.audio), item)
                return self._sending
        raise AssertionError(f"byte {self._sent} of {self._queued} is in no item")

    def _forget_heard(self, now: float) -> None:
        """Let go of what was heard longer than `KEPT_S` ago; from what was heard to its end there is no way back."""
        heard = self._heard(now)
        for start, item in self._items:
            if self._forgotten < (end := start + len(item.audio)) <= heard:
                self._forgotten = end
        rate, since = self._pace.bytes_per_s, now - self._kept_s
        self._past = [(at, audio) for at, audio in self._past if at + len(audio) / rate > since]
        while self._stretches and self._stretches[0].origin + self._stretches[0].end / rate < since:
            self._stretches.popleft()
        oldest = self._stretches[0] if self._stretches else _Stretch(self._begin, self._sent, self._origin)
        kept_from = min(self._forgotten, max(oldest.begin, int((since - oldest.origin) * rate)))
        while self._items and self._items[0][0] + len(self._items[0][1].audio) <= kept_from:
            self._items.popleft()
