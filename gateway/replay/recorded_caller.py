"""A caller made of recordings: what is said when, as values; who sends it is somebody else.

It behaves like a person in a quiet room: audio in 20 ms messages from the first moment to the last, silence while the
bot speaks, the next recording when its prompt has been heard; or over it, where the recording wants that.

    listening --prompt heard, or none came, or time to interrupt--> speaking --recording over--> listening
    listening --nothing left to say, a second after the last prompt--> over
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from audio.formats import AudioFormat
from audio.framing import Framer, encode, silence
from audio.levels import last_sound
from gateway.replay.call_ear import Ear, Recording
from gateway.replay.tape import TapeRecorder
from gateway.sip.line import Line, Messages

__all__ = ["FRAME_S", "Microphone", "RecordedCaller", "Said", "as_said"]

FRAME_S: Final = 0.02
_LINGER_S: Final = 1.0


class Microphone(Protocol):
    """What goes from a caller into a call, and when."""

    due: float
    """When `tick` wants to be called next."""

    def tick(self, now: float) -> Messages | None:
        """What to send now; None: the call is over for this caller, and is to be hung up."""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """A recording as messages hold it: made once, said in a thousand calls."""

    name: str
    frames: Sequence[bytes]
    """Of 20 ms, in the call's format."""
    loud_frame: int
    """Which of them holds the last sample above -50 dBFS."""
    keys: str
    over_ms: int | None = None
    """As in `Recording`."""


def as_said(recordings: Iterable[Recording], fmt: AudioFormat) -> list[Said]:
    """Recordings in a call's format; where it has two channels, the other leg is silent.

    One that comes again is made once: an hour's caller says the same few things over and over.
    """
    said, made = [], dict[int, Said]()
    for recording in recordings:
        if id(recording) not in made:
            made[id(recording)] = _as_said(recording, fmt)
        said.append(made[id(recording)])
    return said


def _as_said(recording: Recording, fmt: AudioFormat) -> Said:
    pcm = recording.pcm
    if fmt.channels == 2:
        pcm = np.repeat(pcm, 2)
        pcm[1::2] = 0
    coded = encode(fmt, pcm)
    frame = _quiet(fmt)
    frames = list(Framer(len(frame)).push(coded))
    if rest := coded[len(frames) * len(frame) :]:
        frames.append(rest + frame[len(rest) :])
    last = last_sound(recording.pcm)
    loud_frame = (last if last is not None else 0) // fmt.samples(20)
    return Said(recording.name, frames, loud_frame, recording.keys, recording.over_ms)


def _quiet(fmt: AudioFormat) -> bytes:
    return silence(fmt, fmt.samples(20) * fmt.channels)


class RecordedCaller:
    """One call's."""

    def __init__(
        self,
        line: Line,
        ear: Ear,
        said: Sequence[Said],
        *,
        now: float,
        speed: float = 1.0,
        reply_timeout_s: float = 12.0,
        recorder: TapeRecorder | None = None,
    ) -> None:
        """
        Args:
            line: the product's end of the dialect.
            said: one after the other, in the line's format.
            now: when the call was accepted.
            speed: of the caller's audio, times real time. The bot's own voice keeps its pace.
            reply_timeout_s: longest wait for a prompt after a recording was spoken; then the next one is spoken.
            recorder: keeps what is sent, to be replayed.
        """
        self._line = line
        self._ear = ear
        self._queue = list(said)
        self._period_s = FRAME_S / speed
        self._reply_timeout_s = reply_timeout_s
        self._recorder = recorder
        self._quiet = _quiet(line.format)
        self._frames: Sequence[bytes] = ()
        self._position = 0
        self._loud_frame = -1
        self._silent_since = now
        self.due = now
        ear.result.unspoken = [one.name for one in self._queue]

    def tick(self, now: float) -> Messages | None:
        """The messages of one frame; None: everything was said and answered."""
        ear, result = self._ear, self._ear.result
        self.due += self._period_s
        result.frames_after_last_mark += 1
        messages = ear.due(now)
        speaking = self._position < len(self._frames)
        frame = self._frames[self._position] if speaking else self._quiet
        messages += self._line.speak(frame)
        if self._recorder is not None:
            self._recorder.audio(frame, now)
        if speaking:
            if self._position == self._loud_frame:
                ear.speech_ended(now)
            self._position += 1
            self._silent_since = now
        else:
            quiet_s = now - max(self._silent_since, ear.playing_until)
            if ear.prompt_heard or quiet_s > self._reply_timeout_s:
                if not ear.prompt_heard:
                    what = f"to {ear.spoken}" if ear.spoken else "of the call's start"
                    result.errors.append(f"no prompt within {self._reply_timeout_s:g} s {what}")
                if self._queue:
                    messages += self._begin(self._queue.pop(0), now)
                # The bot may hang up now: it waits for the mark that says its goodbye was heard.
                elif now - ear.heard_since > _LINGER_S:
                    return None
            elif self._interrupts(now):
                messages += self._begin(self._queue.pop(0), now)
        result.frames_sent += 1
        return messages

    def _interrupts(self, now: float) -> bool:
        """Whether what comes next is to be said over the prompt that is being heard."""
        over_ms, since = (self._queue[0].over_ms if self._queue else None), self._ear.talking_since
        return over_ms is not None and since is not None and (now - since) * 1000 >= over_ms

    def _begin(self, said: Said, now: float) -> Messages:
        """From the next frame on, say this; its keys are pressed now."""
        self._ear.result.unspoken.pop(0)
        self._ear.spoke(said.name, keys=bool(said.keys))
        self._frames, self._loud_frame, self._position = said.frames, said.loud_frame, 0
        if self._recorder is not None:
            self._recorder.said(said.name, now)
            for key in said.keys:
                self._recorder.key(key, now)
        return [message for key in said.keys for message in self._line.press(key)]
