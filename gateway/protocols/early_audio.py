"""Audio that comes before it is known what it is: kept, the newest two seconds of it, until the start says so."""

from __future__ import annotations

from typing import Final

from audio.formats import AudioFormat

__all__ = ["EarlyAudio"]

_MAX_MS: Final = 2000
_WIDEST_BYTES_PER_MS: Final = 64  # 16 kHz, 16 bit, two channels
_BLOCK_BYTES: Final = 4  # whole samples of every channel, whatever the format turns out to be


class EarlyAudio:
    """Bytes in, and once out again."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = bytearray()

    def keep(self, data: bytes) -> None:
        """Add audio behind what is kept; the oldest goes where it is too much."""
        self._kept += data
        self._trim(_MAX_MS * _WIDEST_BYTES_PER_MS)

    def take(self, fmt: AudioFormat) -> bytes:
        """All of it, 2 s of `fmt` at most; nothing is kept then."""
        self._trim(_MAX_MS * fmt.bytes_per_ms)
        taken = bytes(self._kept)
        self._kept.clear()
        return taken

    def _trim(self, limit_bytes: int) -> None:
        if (surplus := len(self._kept) - limit_bytes) > 0:
            del self._kept[: -(-surplus // _BLOCK_BYTES) * _BLOCK_BYTES]
