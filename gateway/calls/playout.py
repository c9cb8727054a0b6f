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
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["AudioDue", "Playout", "PlayoutItem", "PlayoutStep", "PromptSent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayoutItem:
    """One prompt, encoded for the call.

    `first_sound_byte` is where the prompt becomes audible (budgets count from there); `mark` names its end.
    """

    audio: memoryview
    mark: str
    first_sound_byte: int = 0
    interruptible: bool = True


@dataclass(frozen=True, slots=True)
class AudioDue:
    """Send this audio now. `first_sound`: it holds the first audible sample of the item; heard from `heard_at` on."""

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


class Playout:
    """One call's playout. Times are monotonic seconds, positions bytes since the call's first prompt."""

    __slots__ = (
        "_anchor",
        "_anchor_position",
        "_bytes_per_s",
        "_forgotten",
        "_frame_bytes",
        "_held",
        "_items",
        "_lead_s",
        "_queued",
        "_sent",
        "lag_s",
    )

    def __init__(self, *, bytes_per_ms: int, ptime_ms: int = 20, lead_ms: int = 100) -> None:
        self._frame_bytes = bytes_per_ms * ptime_ms
        self._bytes_per_s = bytes_per_ms * 1000
        self._lead_s = lead_ms / 1000
        self._items: deque[tuple[int, PlayoutItem]] = deque()  # (position of its first byte, item), not yet heard out
        self.lag_s = 0.0
        """How much later than sent at its pace the peer plays, seconds."""
        self._queued = 0
        self._sent = 0
        self._forgotten = 0  # what lies before was heard, and is gone
        self._anchor = 0.0
        self._anchor_position = 0
        self._held = False

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
        return (self._queued - self._heard(now)) / self._bytes_per_s

    def enqueue(self, item: PlayoutItem, now: float) -> None:
        """Queue a prompt behind those already waiting."""
        self._forget_heard(now)
        if not self._held and not self.playing and self._time_of(self._queued) <= now:
            self._anchor, self._anchor_position = now, self._queued
        self._items.append((self._queued, item))
        self._queued += len(item.audio)

    def get_timer(self) -> float | None:
        """When `poll` next has something to do; None: nothing to send."""
        if self._held or self._sent >= self._queued:
            return None
        return self._time_of(self._sent) - self._lead_s

    def poll(self, now: float) -> Sequence[PlayoutStep]:
        """Everything that is due at `now`, in order."""
        due = self.get_timer()
        if due is None or due > now:
            return ()
        steps: list[PlayoutStep] = []
        for start, item in self._items:
            end = start + len(item.audio)
            while start <= self._sent < end and self._time_of(self._sent) - self._lead_s <= now:
                begin = self._sent - start
                audio = item.audio[begin : begin + self._frame_bytes]
                heard_at = self._time_of(self._sent)
                self._sent += len(audio)
                steps.append(AudioDue(audio, item, begin <= item.first_sound_byte < begin + len(audio), heard_at))
                if self._sent == end:
                    steps.append(PromptSent(item, self._time_of(end)))
        self._forget_heard(now)
        return steps

    def hold(self, now: float) -> None:
        """Stop sending and go back to what has been heard; the peer is to drop the rest."""
        if not self._held:
            heard = self._heard(now)
            self._held = True
            self._sent = heard
            self._anchor_position = heard

    def resume(self, now: float) -> None:
        """Go on from where `hold` stopped."""
        if self._held:
            self._held = False
            self._anchor = now

    def drop(self) -> list[PlayoutItem]:
        """Forget everything not yet sent or held; returns the items that will never be heard to their end."""
        dropped = [item for start, item in self._items if start + len(item.audio) > self._sent]
        self._items.clear()
        self._held = False
        self._sent = self._anchor_position = self._forgotten = self._queued
        return dropped

    def _time_of(self, position: int) -> float:
        return self._anchor + (position - self._anchor_position) / self._bytes_per_s

    def _heard(self, now: float) -> int:
        """Position heard at `now`, to a whole frame since the anchor, never beyond what was sent."""
        if self._held:
            return self._sent
        frames = int((now - self.lag_s - self._anchor) * self._bytes_per_s / self._frame_bytes + 1e-6)
        heard = self._anchor_position + max(0, frames) * self._frame_bytes
        return max(self._forgotten, min(self._sent, heard))

    def _forget_heard(self, now: float) -> None:
        heard = self._heard(now)
        while self._items and (end := self._items[0][0] + len(self._items[0][1].audio)) <= heard:
            self._items.popleft()
            self._forgotten = end
