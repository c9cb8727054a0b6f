"""How long a caller has been silent: by the audio that came, of a line that brings its silence too.

    by the clock --audio at its pace, and no speech in it, at three looks in a row--> by audio

A stream that is paused and a network that stalls bring nothing at all, which says nothing of the caller. But nothing is
also what a line brings that leaves silence out: a phone that suppresses it, a microphone that is open in speech alone,
a caller who has keys alone. There it does mean that nobody speaks. What tells the two apart is what came before: once a
line has brought silence, it is taken to go on doing so. Until then the clock counts, for the bot must ask whether
anybody is there.

Pace is between four fifths and five quarters of real time: a burst after a stall is no proof, nor is what a test sends
at once.
"""

from __future__ import annotations

from typing import Final

from audio.detection import FRAME_MS

__all__ = ["CallerSilence"]

_SHARE: Final = 0.8
"""Of the audio due that must come: networks jitter, and a look may fall between two messages."""
_LOOKS: Final = 2
"""In a row at which audio had come at its pace, before a line is known: two seconds."""


class CallerSilence:
    """One call's. Frames are those heard since its start, `now` is monotonic seconds."""

    __slots__ = ("_begun_frames", "_by_audio", "_looked", "_paced")

    def __init__(self) -> None:
        self._by_audio = False
        self._looked: tuple[float, int] | None = None  # when nobody spoke, and the frames heard by then
        self._paced = 0  # looks in a row
        self._begun_frames = 0

    def look(self, frames: int, now: float, *, speech: bool) -> None:
        """How far the line is, about once a second; `speech`: somebody speaks."""
        if self._by_audio:
            return
        paced = False
        if self._looked is not None and not speech:
            came_s, due_s = (frames - self._looked[1]) * FRAME_MS / 1000, now - self._looked[0]
            paced = _SHARE * due_s <= came_s <= due_s / _SHARE and came_s > 0
        self._looked = None if speech else (now, frames)
        self._paced = self._paced + 1 if paced else 0
        self._by_audio = self._paced >= _LOOKS

    def begin(self, frames: int) -> None:
        """The caller could speak from now on."""
        self._begun_frames = frames

    def missing_ms(self, frames: int, wanted_ms: int) -> int:
        """What is still to be heard after `wanted_ms` by the clock until so much silence is; 0: that was it."""
        came_ms = (frames - self._begun_frames) * FRAME_MS
        return 0 if not self._by_audio or came_ms >= _SHARE * wanted_ms else wanted_ms - came_ms
