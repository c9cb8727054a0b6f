"""What the bot says, between the gateway's messages and the packets to the phone: audio and marks in one queue.

    empty --audio--> filling --60 ms of it, or three takes later--> playing --nothing left--> empty

The wait is for a machine that is late: its takes come in bursts, and a first frame that was alone would be followed by
a hole. A gateway that sends ahead, as ours does, ends it at once.

Bounded: audio beyond `limit_samples` is dropped, the newest first, as the products do that this one stands for.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Playback"]

_FILLED_TAKES: Final = 3


class Playback:
    """G.711 bytes, one a sample."""

    def __init__(self, limit_samples: int) -> None:
        self._limit = limit_samples
        self._queue: deque[bytes | str] = deque()
        self._waits = _FILLED_TAKES
        """Takes that a beginning may still be left waiting."""
        self.queued_samples = 0

    def put(self, audio: bytes) -> None:
        """Audio behind what waits."""
        audio = audio[: self._limit - self.queued_samples]
        if audio:
            self._queue.append(audio)
            self.queued_samples += len(audio)

    def mark(self, name: str) -> None:
        """A mark behind what waits: `take` gives it back when all before it was taken."""
        self._queue.append(name)

    def take(self, samples: int) -> tuple[bytes, list[str]]:
        """Up to `samples` of audio, and the marks that are reached with it."""
        if 0 < self.queued_samples < _FILLED_TAKES * samples and self._waits:
            self._waits -= 1
            return b"", []
        taken, marks = bytearray(), []
        while self._queue:
            first = self._queue[0]
            if isinstance(first, str):
                marks.append(first)
                self._queue.popleft()
                continue
            missing = samples - len(taken)
            if not missing:
                break
            taken += first[:missing]
            if len(first) > missing:
                self._queue[0] = first[missing:]
            else:
                self._queue.popleft()
        self.queued_samples -= len(taken)
        self._waits = 0 if self.queued_samples else _FILLED_TAKES
        return bytes(taken), marks

    def drop(self) -> list[str]:
        """Forget everything; the marks that were waiting."""
        marks = [one for one in self._queue if isinstance(one, str)]
        self._queue.clear()
        self.queued_samples = 0
        return marks
