"""Where does the caller's utterance begin and end? A state machine over speech/no-speech frames.

States and transitions, one frame at a time (times are those of `EndpointSettings`):

| state       | on                                               | to      | event                           |
| ----------- | ------------------------------------------------ | ------- | ------------------------------- |
| SILENCE     | `min_speech_ms` of speech in `onset_window_ms`   | SPEECH  | `SpeechStarted`                 |
| SPEECH      | speech so far reaches `sustained_ms`             | SPEECH  | `SpeechSustained`               |
| SPEECH      | a frame without speech                           | TAIL    |                                 |
| TAIL        | `rejoin_ms` of speech, at most one frame missing | SPEECH  |                                 |
| TAIL paused | `resume_ms` of speech, at most one frame missing | SPEECH  | `SpeechResumed`                 |
| TAIL        | `pause_ms` since the last speech, once           | TAIL    | `Pause`                         |
| TAIL        | `tail_ms` since the last speech                  | SILENCE | `UtteranceEnded`, tail          |
| not SILENCE | the utterance is `max_utterance_ms` long         | SILENCE | `UtteranceEnded`, max_length    |
| not SILENCE | `flush()`: the call's audio stopped              | SILENCE | `UtteranceEnded`, flush         |

The odd cases:

- A noise that a detector takes for less than `min_speech_ms` of speech never becomes an utterance, and less than
  `resume_ms` of it after a `Pause` neither prolongs the tail nor undoes what the pause began: a cup put down is
  80 ms of speech to WebRTC's detector, which holds on for 60. One frame missing from speech does not end it.
- Where speech may be beginning again as the tail closes, the end waits for as long as it takes to know, `resume_ms`.
- `Pause` and `UtteranceEnded("tail")` cut alike, from `onset_padding_ms` before the first speech to
  `keep_after_ms` after the last, so work begun at the pause is valid at the end if nobody spoke between.
- Speech that runs on over `max_utterance_ms` goes on as a new utterance, which begins where the last was cut:
  utterances never overlap and no speech falls between them.
- A tail shorter than `pause_ms` ends the utterance without a `Pause`.
- `set_tail_ms` holds from the next frame on, in the middle of a tail too.

Positions are samples since the call's start; all times are rounded up to whole frames, so every position
falls on a frame border. Time here is audio received: when packets stop, so does this clock, and the session's
wall clock must call `flush()`.

Source: hysteresis after Silero's VADIterator; the pause within the tail is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from audio.detection import FRAME_MS

__all__ = [
    "EndReason",
    "EndpointEvent",
    "EndpointSettings",
    "EndpointState",
    "Endpointer",
    "Pause",
    "SpeechResumed",
    "SpeechStarted",
    "SpeechSustained",
    "UtteranceEnded",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """The times, in milliseconds, that decide where utterances begin and end."""

    tail_ms: int = 800
    """Silence that ends an utterance. A dialogue node may ask for another (`Endpointer.set_tail_ms`)."""
    pause_ms: int = 250
    """Silence after which the utterance so far is worth transcribing on speculation."""
    min_speech_ms: int = 100
    """Speech, within `onset_window_ms`, that begins an utterance. WebRTC's detector holds on for 60 ms, so
    one frame that fooled it reads as 80 ms of speech; it does that on the first sound of every call."""
    onset_window_ms: int = 160
    rejoin_ms: int = 40
    """Speech within the tail, before a pause, that continues the utterance."""
    resume_ms: int = 100
    """The same after a pause: more than a click, since it undoes what the pause began. With 120 ms a weak last word
    in noise was lost in one turn of 150 (bench/endpointing.py), with 100 in none."""
    sustained_ms: int = 200
    """Speech in one utterance that is an interruption of a prompt rather than a cough or a "mhm"."""
    onset_padding_ms: int = 240
    """Audio kept from before the first speech frame: detectors are late on weak first phonemes."""
    keep_after_ms: int = 200
    """Audio kept from after the last speech frame."""
    max_utterance_ms: int = 30_000
    """Length, padding included, at which an utterance is cut while the caller speaks on."""

    def __post_init__(self) -> None:
        faults = [
            f"{name}={getattr(self, name)} must be at least {least}"
            for name, least in (
                ("tail_ms", FRAME_MS),
                ("pause_ms", FRAME_MS),
                ("min_speech_ms", FRAME_MS),
                ("rejoin_ms", FRAME_MS),
                ("resume_ms", FRAME_MS),
                ("sustained_ms", FRAME_MS),
                ("onset_padding_ms", 0),
                ("keep_after_ms", 0),
                ("onset_window_ms", self.min_speech_ms),
                ("max_utterance_ms", self.onset_padding_ms + self.onset_window_ms + FRAME_MS),
            )
            if getattr(self, name) < least
        ]
        if self.pause_ms < self.keep_after_ms:
            faults.append(
                f"pause_ms={self.pause_ms} must be at least keep_after_ms={self.keep_after_ms}, "
                "or the pause and the end would cut differently"
            )
        if faults:
            raise ValueError("endpoint settings: " + "; ".join(faults))


class EndpointState(StrEnum):
    """What the caller is doing."""

    SILENCE = "silence"
    SPEECH = "speech"
    TAIL = "tail"


# To find a member by its class takes 0.15 µs (Python 3.11), and every frame asks for one or more.
_SILENCE, _SPEECH, _TAIL = EndpointState.SILENCE, EndpointState.SPEECH, EndpointState.TAIL


class EndReason(StrEnum):
    """Why an utterance was cut."""

    TAIL = "tail"
    MAX_LENGTH = "max_length"
    FLUSH = "flush"


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """An utterance began; told once it is sure. `at` is its first speech sample, padding not counted."""

    at: int


@dataclass(frozen=True, slots=True)
class SpeechSustained:
    """The utterance holds `sustained_ms` of speech: no cough. `at` is its first speech sample."""

    at: int


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """The caller went on after a `Pause`: what was concluded from it is void. `at` is where."""

    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """The caller is silent; if nothing more comes, the utterance is `start` to `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceEnded:
    """The endpoint. `decided_at` is the sample count at which it was known."""

    start: int
    end: int
    decided_at: int
    reason: EndReason


EndpointEvent: TypeAlias = SpeechStarted | SpeechSustained | SpeechResumed | Pause | UtteranceEnded

_NOTHING: tuple[EndpointEvent, ...] = ()


def _frames(ms: int) -> int:
    """Frames that hold at least `ms`."""
    return -(-ms // FRAME_MS)


class Endpointer:
    """One call's state machine; see the table above. Costs 0.2 µs for a frame on which nothing happens."""

    __slots__ = (
        "_earliest",
        "_frame",
        "_frame_samples",
        "_first",
        "_keep_after",
        "_kept",
        "_last",
        "_limit",
        "_max",
        "_min_speech",
        "_padding",
        "_paused",
        "_pause",
        "_recent",
        "_rejoin",
        "_resume",
        "_speech",
        "_start",
        "_state",
        "_sustained",
        "_tail",
        "_window",
    )

    def __init__(self, settings: EndpointSettings, sample_rate_hz: int) -> None:
        self._frame_samples = sample_rate_hz * FRAME_MS // 1000
        self._tail = _frames(settings.tail_ms)
        self._pause = _frames(settings.pause_ms)
        self._min_speech = _frames(settings.min_speech_ms)
        self._rejoin = _frames(settings.rejoin_ms)
        self._resume = _frames(settings.resume_ms)
        self._sustained = _frames(settings.sustained_ms)
        self._padding = _frames(settings.onset_padding_ms)
        self._keep_after = _frames(settings.keep_after_ms)
        self._max = _frames(settings.max_utterance_ms)
        # Frames of the recent past as bits, the newest lowest: counting speech in a window is a bit_count().
        self._window = (1 << _frames(settings.onset_window_ms)) - 1
        self._kept = self._window | ((1 << (max(self._rejoin, self._resume) + 1)) - 1)
        self._recent = 0

        self._state = _SILENCE
        self._frame = 0  # frames seen; the newest is number _frame - 1
        self._earliest = 0  # where the last utterance was cut: the next may not begin before
        # Of the utterance in progress, in frames: its start with padding, its first and last speech, how much
        # speech it holds, and where it will be cut.
        self._start = self._first = self._last = self._speech = self._limit = 0
        self._paused = False

    @property
    def state(self) -> EndpointState:
        """Silence, speech or tail, after the frames so far."""
        return self._state

    @property
    def frames_seen(self) -> int:
        """Frames pushed since the call's start."""
        return self._frame

    @property
    def samples_seen(self) -> int:
        """The present, as a position."""
        return self._frame * self._frame_samples

    @property
    def speech_ms(self) -> int:
        """Speech in the utterance in progress, its silences not counted; 0 in silence."""
        return self._speech * FRAME_MS

    @property
    def onset_frames(self) -> int:
        """Frames before the present that an utterance not yet begun may still reach back to."""
        return self._padding + self._window.bit_length()

    def set_tail_ms(self, tail_ms: int) -> None:
        """Change the silence that ends an utterance, from the next frame on."""
        if tail_ms < FRAME_MS:
            raise ValueError(f"tail_ms={tail_ms} must be at least {FRAME_MS}")
        self._tail = _frames(tail_ms)

    def push(self, is_speech: bool) -> Sequence[EndpointEvent]:
        """Advance by one frame; the events that it brought about, in order, mostly none."""
        frame = self._frame
        self._frame = frame + 1
        recent = self._recent = (self._recent << 1 | is_speech) & self._kept
        if self._state is _SILENCE:
            onset = recent & self._window
            if onset.bit_count() < self._min_speech:
                return _NOTHING
            return self._begin(frame, onset)
        if is_speech and self._continues(recent):
            return self._speak(frame, recent)
        return self._wait(frame, recent)

    def flush(self) -> Sequence[EndpointEvent]:
        """End the utterance in progress, if any: the call's audio stopped."""
        if self._state is _SILENCE:
            return _NOTHING
        return (self._end(min(self._last + 1 + self._keep_after, self._frame), EndReason.FLUSH),)

    def _begin(self, frame: int, recent: int) -> Sequence[EndpointEvent]:
        self._state = _SPEECH
        self._first = frame + 1 - recent.bit_length()
        self._start = max(self._first - self._padding, self._earliest)
        self._limit = self._start + self._max
        self._last = frame
        self._paused = False
        self._speech = recent.bit_count()
        started = SpeechStarted(self._first * self._frame_samples)
        if self._speech >= self._sustained:
            return started, SpeechSustained(started.at)
        return (started,)

    def _continues(self, recent: int) -> bool:
        """Whether a frame of speech belongs to the utterance, or may be a click in the tail."""
        return self._state is _SPEECH or (recent & self._burst_window).bit_count() >= self._needed

    @property
    def _needed(self) -> int:
        """Frames of speech that continue the utterance from where its tail is."""
        return self._resume if self._paused else self._rejoin

    @property
    def _burst_window(self) -> int:
        """Frames in which they may lie: one may be missing."""
        return (1 << (self._needed + 1)) - 1

    def _speak(self, frame: int, recent: int) -> Sequence[EndpointEvent]:
        before = self._speech
        events = _NOTHING
        if self._state is _SPEECH:
            self._speech = before + 1
        else:
            self._state = _SPEECH
            burst = recent & self._burst_window
            # After one missing frame the window still holds speech that was counted before the tail.
            burst &= (1 << (frame - self._last)) - 1
            self._speech = before + burst.bit_count()
            if self._paused:
                self._paused = False
                events = (SpeechResumed((frame + 1 - burst.bit_length()) * self._frame_samples),)
        self._last = frame
        if before < self._sustained <= self._speech:
            events = (*events, SpeechSustained(self._first * self._frame_samples))
        if frame + 1 >= self._limit:
            events = (*events, self._end(frame + 1, EndReason.MAX_LENGTH))
        return events

    def _wait(self, frame: int, recent: int) -> Sequence[EndpointEvent]:
        self._state = _TAIL
        silent = frame - self._last
        end = self._last + 1 + self._keep_after
        begins = recent & 0b11 and silent <= self._tail + self._needed
        if silent >= self._tail and not begins:
            return (self._end(min(end, frame + 1), EndReason.TAIL),)
        if frame + 1 >= self._limit:
            return (self._end(min(end, frame + 1), EndReason.MAX_LENGTH),)
        if silent >= self._pause and not self._paused:
            self._paused = True
            return (Pause(start=self._start * self._frame_samples, end=end * self._frame_samples),)
        return _NOTHING

    def _end(self, end: int, reason: EndReason) -> UtteranceEnded:
        """Cut the utterance before frame `end`."""
        ended = UtteranceEnded(
            start=self._start * self._frame_samples,
            end=end * self._frame_samples,
            decided_at=self._frame * self._frame_samples,
            reason=reason,
        )
        self._state = _SILENCE
        self._earliest = end
        self._recent = 0
        self._speech = 0
        return ended
