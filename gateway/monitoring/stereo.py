"""Both sides of a call as one stretch of stereo sound: the caller left, the bot (or who speaks in its place) right.

    caller's frames, as they come ----.
                                       >-- one line of time, silence in the gaps --take--> (samples, 2)
    prompts, for when they are heard -'

The caller's frames are put one behind the other, as they were spoken, whatever the network did to their pace; only
where the caller's audio stops for longer than jitter does a gap begin. What the bot sends ahead lies in the future of
the line until then, and is taken out again where the peer drops it. Pure; times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from audio.formats import AudioFormat, Pcm16
from audio.framing import decode

__all__ = ["AudioTap", "Stereo16", "StereoLine"]

Stereo16: TypeAlias = NDArray[np.int16]
"""int16, shape (samples, 2): caller, bot."""

_CALLER: Final = 0
_BOT: Final = 1
_KEPT_S: Final = 8.0
"""Longest stretch that may wait: what a caller may be ahead, and a reader behind."""
_JITTER_S: Final = 0.25
_ROUNDING_S: Final = 0.002


class StereoLine:
    """One reader's line. What is not taken within eight seconds is lost, and counted."""

    def __init__(self, sample_rate_hz: int, *, since: float) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.taken = 0
        """Samples given out: the position of the next."""
        self.dropped = 0
        """Samples that found no room, or came for a time that had been taken."""
        self._since = since
        self._ring: Stereo16 = np.zeros((int(_KEPT_S * sample_rate_hz), 2), np.int16)
        self._next: list[int | None] = [None, None]  # where each side goes on

    def caller(self, pcm: Pcm16, at: float) -> None:
        """The caller's next samples, which have come by now."""
        at_position = self._position(at) - len(pcm)
        following = self._next[_CALLER]
        if following is not None and at_position - following < _JITTER_S * self.sample_rate_hz:
            at_position = following
        self._write(_CALLER, max(at_position, self.taken), pcm)

    def bot(self, pcm: Pcm16, heard_at: float) -> None:
        """Samples that the caller hears from `heard_at` on."""
        at_position = self._position(heard_at)
        following = self._next[_BOT]
        if following is not None and abs(at_position - following) <= _ROUNDING_S * self.sample_rate_hz:
            at_position = following
        self._write(_BOT, at_position, pcm)

    def bot_cleared(self, at: float) -> None:
        """What the caller would have heard after `at` is not heard."""
        first = max(self._position(at), self.taken)
        for place in self._places(first, self.taken + len(self._ring) - first):
            self._ring[place, _BOT] = 0
        self._next[_BOT] = None

    def take(self, until: float) -> Stereo16:
        """Everything up to `until` that was not taken before."""
        wanted = max(0, self._position(until) - self.taken)
        count = min(wanted, len(self._ring))
        places = self._places(self.taken, count)
        stretch = np.concatenate([self._ring[place] for place in places])
        for place in places:
            self._ring[place] = 0
        self.taken += wanted
        self.dropped += wanted - count
        return stretch

    def rest(self, now: float) -> Stereo16:
        """The last of it: up to `now`, or to the last sample that came from a caller who was ahead."""
        said_until = self._since + (self._next[_CALLER] or 0) / self.sample_rate_hz
        return self.take(max(now, said_until))

    def _position(self, at: float) -> int:
        return round((at - self._since) * self.sample_rate_hz)

    def _places(self, position: int, count: int) -> tuple[slice, slice]:
        """Where `count` samples from a position on lie in the ring: to its end, and from its beginning."""
        first = position % len(self._ring)
        to_end = min(max(0, count), len(self._ring) - first)
        return slice(first, first + to_end), slice(0, max(0, count) - to_end)

    def _write(self, side: int, position: int, pcm: Pcm16) -> None:
        self._next[side] = position + len(pcm)
        early = max(0, self.taken - position)
        fitting = pcm[early : max(early, self.taken + len(self._ring) - position)]
        before, behind = self._places(position + early, len(fitting))
        self._ring[before, side] = fitting[: before.stop - before.start]
        self._ring[behind, side] = fitting[before.stop - before.start :]
        self.dropped += len(pcm) - len(fitting)


class AudioTap:
    """A call's audio in its own encoding, decoded for those who want it; there only while somebody does."""

    def __init__(self, fmt: AudioFormat, *, on_empty: Callable[[], None]) -> None:
        """`on_empty` is called when the last line has been closed."""
        self._caller_format = fmt
        self._bot_format = AudioFormat(encoding=fmt.encoding, sample_rate_hz=fmt.sample_rate_hz)
        self._block = fmt.bytes_per_sample * fmt.channels
        self._carry = b""
        self._lines: tuple[StereoLine, ...] = ()
        self._on_empty = on_empty

    def open_line(self, now: float) -> StereoLine:
        """A line that gets both sides from now on."""
        line = StereoLine(self._caller_format.sample_rate_hz, since=now)
        self._lines = (*self._lines, line)
        return line

    def close_line(self, line: StereoLine) -> None:
        """This line gets no more."""
        self._lines = tuple(one for one in self._lines if one is not line)
        if not self._lines:
            self._on_empty()

    def caller(self, data: bytes, now: float) -> None:
        """One message of the caller's audio, any number of bytes."""
        data = self._carry + data
        whole = len(data) - len(data) % self._block
        self._carry = data[whole:]
        pcm = decode(self._caller_format, data[:whole])
        for line in self._lines:
            line.caller(pcm, now)

    def bot(self, data: bytes | memoryview, heard_at: float) -> None:
        """A frame that was sent to the caller."""
        pcm = decode(self._bot_format, bytes(data))
        for line in self._lines:
            line.bot(pcm, heard_at)

    def bot_cleared(self, now: float) -> None:
        """The peer drops what it has not played."""
        for line in self._lines:
            line.bot_cleared(now)
