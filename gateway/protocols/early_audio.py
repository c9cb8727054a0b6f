"""Audio of one connection, whose format may not be known yet: kept until the start says so, then heard first.

    waiting --begin--> heard

The newest two seconds are kept. What came before the start comes out behind it (`release`), or in front of the next
audio where the start was the gateway's own decision, which has no message to answer. Where the start may be left out,
the first audio says how long it is waited for (`StartAwaited`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from audio.formats import AudioFormat
from gateway.protocols.seam import AudioReceived, StartAwaited

__all__ = ["EarlyAudio"]

_MAX_MS: Final = 2000
_WIDEST_BYTES_PER_MS: Final = 64  # 16 kHz, 16 bit, two channels
_BLOCK_BYTES: Final = 4  # whole samples of every channel, whatever the format turns out to be


class EarlyAudio:
    """Every byte in comes out once, in order, but for what is too early by more than two seconds."""

    __slots__ = ("_kept", "_start_within_ms", "begun")

    def __init__(self, *, start_within_ms: int | None = None) -> None:
        """`start_within_ms`: from the first audio; None: as long as the dialect waits anyway."""
        self._kept = bytearray()
        self._start_within_ms = start_within_ms
        self.begun = False
        """Whether the format is known, and audio heard as it comes."""

    def begin(self, fmt: AudioFormat) -> None:
        """The call has started, with this format; nothing changes where it had."""
        if not self.begun:
            self.begun = True
            self._trim(_MAX_MS * fmt.bytes_per_ms)

    def hear(self, data: bytes) -> Sequence[AudioReceived | StartAwaited]:
        """A message's audio, with what still waits in front of it; kept where the call has not begun."""
        if self.begun and not self._kept:
            return (AudioReceived(data),)
        first = not self._kept
        self._kept += data
        if self.begun:
            return self.release()
        self._trim(_MAX_MS * _WIDEST_BYTES_PER_MS)
        return (StartAwaited(self._start_within_ms),) if first and data and self._start_within_ms is not None else ()

    def release(self) -> Sequence[AudioReceived]:
        """What waits, if anything does, of a call that has begun."""
        taken = bytes(self._kept)
        self._kept.clear()
        return (AudioReceived(taken),) if taken else ()

    def _trim(self, limit_bytes: int) -> None:
        if (surplus := len(self._kept) - limit_bytes) > 0:
            del self._kept[: -(-surplus // _BLOCK_BYTES) * _BLOCK_BYTES]
