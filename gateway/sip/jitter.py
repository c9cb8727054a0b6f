"""From packets as a network brings them to a call's audio without end: a jitter buffer on one line of samples.

    waiting --packet--> running --nothing for 200 ms--> waiting

Every packet is written at its timestamp's place, so order, repetition and packet size do not matter, and what never
comes is silence of the right length. `pull` is called once per 20 ms of wall clock. While packets are a little late it
gives nothing, and what was owed as soon as they are here: a recogniser that counts samples then hears no hole. After
200 ms without any it gives silence, so that a phone that sends none while its owner is silent, or a call on hold, still
has audio. The first packet then begins a new line, 40 ms behind its arrival.

Odd cases: a line that has become long, after a stall, is shortened by leaving out quiet frames, and above one second by
leaving out any; a timestamp far from the line, or ten late ones in a row, begin a new line.

One sample is one byte here: G.711 at 8 kHz.
"""

from __future__ import annotations

import sys
from typing import Final

from audio.formats import AudioFormat
from audio.framing import decode, silence
from audio.levels import peak_dbfs

__all__ = ["JitterBuffer"]

_FRAME_MS: Final = 20
_DELAY_MS: Final = 40
_PATIENCE_FRAMES: Final = 10
_LONG_MS: Final = 1000
_FAR_MS: Final = 2000
_LATE_IN_A_ROW: Final = 10
_JUDGED_FRAMES: Final = 50
_QUIET_DBFS: Final = -40.0


class JitterBuffer:
    """One stream's audio between the network and the call."""

    def __init__(self, fmt: AudioFormat) -> None:
        """`fmt`: G.711; its silence fills what is missing."""
        self._fmt = fmt
        self._frame = fmt.samples(_FRAME_MS)
        self._silence = silence(fmt, self._frame)
        self._line = bytearray()
        self._start = 0
        """Timestamp of the line's first sample."""
        self._running = False
        self._owed = 0
        self._late = 0
        self._shortest = sys.maxsize
        self._judged = 0
        self._surplus = 0
        self._too_long = False
        self.lost = 0
        """Packets that came when their time was over."""

    @property
    def waiting_samples(self) -> int:
        """How far what is heard lies behind what has come."""
        return len(self._line)

    def push(self, timestamp: int, payload: bytes) -> None:
        """One packet's audio."""
        far = self._fmt.samples(_FAR_MS)
        offset = (timestamp - self._start + 2**31) % 2**32 - 2**31
        if self._running and offset + len(payload) <= 0:
            self.lost += 1
            self._late += 1
            if self._late < _LATE_IN_A_ROW and offset > -far:
                return
        if not self._running or abs(offset) > far or self._late >= _LATE_IN_A_ROW:
            self._begin(timestamp)
            offset = len(self._line)
        self._late = 0
        payload, offset = payload[max(0, -offset) :], max(0, offset)
        if offset > len(self._line):
            self._line += self._silence[:1] * (offset - len(self._line))
        self._line[offset : offset + len(payload)] = payload

    def pull(self) -> bytes:
        """The audio of the next 20 ms: one frame as a rule, none while packets are late, several when they have come.

        Whole frames of 160 samples.
        """
        self._owed += 1
        given = bytearray()
        while self._owed and len(self._line) >= self._frame:
            given += self._take()
            self._owed -= 1
        if self._owed > _PATIENCE_FRAMES or (self._owed and not self._running):
            given += (self._line + self._silence * self._owed)[: self._owed * self._frame]
            self._owed = 0
            self._running = False
            self._line.clear()
        self._shorten()
        return bytes(given)

    def _begin(self, timestamp: int) -> None:
        """A new line whose first sample of this packet is heard after the delay."""
        delay = self._fmt.samples(_DELAY_MS)
        self._line[:] = self._silence[:1] * delay
        self._start = (timestamp - delay) % 2**32
        self._running = True
        self._surplus = 0
        self._judge_again()

    def _take(self) -> bytes:
        frame = bytes(self._line[: self._frame])
        del self._line[: self._frame]
        self._start = (self._start + self._frame) % 2**32
        return frame

    def _shorten(self) -> None:
        """Leave out frames of a line that was longer than needed for a whole second."""
        self._shortest = min(self._shortest, len(self._line))
        self._judged += 1
        if self._judged == _JUDGED_FRAMES:
            spare = (self._shortest - self._fmt.samples(_DELAY_MS)) // self._frame - 1
            self._surplus = max(0, spare)
            self._too_long = self._shortest > self._fmt.samples(_LONG_MS)
            self._judge_again()
        if self._surplus and len(self._line) >= self._frame and (self._too_long or self._quiet_ahead()):
            self._take()
            self._surplus -= 1

    def _judge_again(self) -> None:
        self._judged = 0
        self._shortest = sys.maxsize

    def _quiet_ahead(self) -> bool:
        return peak_dbfs(decode(self._fmt, bytes(self._line[: self._frame]))) < _QUIET_DBFS
