"""The detector's events without those that the line's echo of our own prompts has made.

    silent --SpeechStarted, echo alone--> echo --words over it--> speech --UtteranceEnded--> silent
                        |                   `--UtteranceEnded--> silent: nothing is told of it
                        `--anything else--> speech --Pause, then echo: the prompt went on--> echo

Whether it is echo is asked when a detector says speech and when that lasts (`SpeechSustained`); then, while it is,
every 80 ms in which audio came, since speech over echo brings no event of its own. In silence, and while no prompt has
been played lately, nothing is computed. What the caller says over echo begins where the echo stops explaining the
sound: the utterance is told from there, and partials are of what is from there on (`so_far`), so that the recogniser
does not hear the bot.

A prompt that goes on within the tail of a backchannel brings its echo into the same utterance: the utterance is told as
ended where it paused, and the rest of it is echo.

Odd case: echo that is taken for speech at its first 100 ms and known for what it is at 200 ms has been told as a
`SpeechStarted`; no `UtteranceEnded` follows, but `echo_ended` does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from audio.detection import FRAME_MS
from audio.echo import MOST_DELAY_MS, EchoReport, find_echo
from audio.endpointing import EndpointState, EndReason
from audio.formats import Pcm16
from audio.inbound import (
    InboundChain,
    InboundEvent,
    Pause,
    SpeechResumed,
    SpeechStarted,
    SpeechSustained,
    UtteranceEnded,
)
from gateway.calls.speaker import Speaker

__all__ = ["EchoFilter"]

_Heard = TypeVar("_Heard", Pause, UtteranceEnded)

_LOOK_EVERY_S = 0.08
_LOOK_BACK_MS = 500
_LATEST_MS = 240
_PADDING_MS = 240  # kept from before the caller's first sound over echo, as endpointing does
_UNKNOWN_SPEECH_MS = 200  # speech over echo that left no trace of the echo has lasted about so long


class EchoFilter:
    """One call's. `speech_over_echo` gets the events of speech that was found in the midst of echo, on the loop."""

    def __init__(
        self,
        chain: InboundChain,
        sample_rate_hz: int,
        *,
        speech_over_echo: Callable[[InboundEvent, float], None],
        echo_ended: Callable[[], None],
    ) -> None:
        """`echo_ended` is told of each utterance that was echo and nothing else."""
        self._chain = chain
        self._rate = sample_rate_hz
        self._frame = sample_rate_hz * FRAME_MS // 1000
        self._speech_over_echo = speech_over_echo
        self._echo_ended = echo_ended
        self._loop = asyncio.get_running_loop()
        self._speaker: Speaker | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_echo = False
        self._looked_at = 0  # how much had been heard at the last look, in samples
        # Of the utterance in progress: whether its beginning has been told, and where it ceased to be echo alone.
        self._told = False
        self._speech_from = 0
        self._pause: Pause | None = None

    def listen_to(self, speaker: Speaker) -> None:
        """Whose echo it would be."""
        self._speaker = speaker

    def close(self) -> None:
        """Look no more."""
        self._is_echo = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def so_far(self) -> Pcm16 | None:
        """What the caller has said of the utterance in progress, int16 at the call's rate; None: nothing but echo."""
        heard = None if self._is_echo else self._chain.so_far()
        if heard is None:
            return None
        return heard[max(0, self._speech_from - (self._chain.samples_seen - len(heard))) :]

    def push(self, event: InboundEvent, now: float) -> Sequence[InboundEvent]:
        """What is left of an event in audio that arrived at `now`."""
        match event:
            case SpeechStarted():
                self._speech_from = 0
                self._pause = None
                self._told = not self._begins_as_echo(now)
                return (event,) if self._told else ()
            case SpeechSustained():
                if self._is_echo:
                    self._look(now)
                    return ()
                return () if self._begins_as_echo(now) else (event,)
            case SpeechResumed() if not self._is_echo and self._pause is not None and self._begins_as_echo(now):
                return (self._ended_at_pause(self._pause),)
            case UtteranceEnded() if self._is_echo:
                self.close()
                self._echo_ended()
                return ()
            case Pause() if not self._is_echo:
                self._pause = self._from_speech_on(event)
                return (self._pause,)
            case UtteranceEnded() if not self._is_echo:
                return (self._from_speech_on(event),)
        return () if self._is_echo else (event,)

    def _begins_as_echo(self, now: float) -> bool:
        report, _ = self._report(now)
        self._is_echo = report is not None and report.is_all
        if self._is_echo:
            self._look_later()
        return self._is_echo

    def _look_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_LOOK_EVERY_S, lambda: self._look(time.monotonic()))

    def _look(self, now: float) -> None:
        """Has the caller begun to speak over it?"""
        if self._chain.samples_seen == self._looked_at:
            # The uplink stalls. What we play has moved on, so the same audio would no longer find its prompt there.
            self._look_later()
            return
        report, looked_ms = self._report(now)
        if self._chain.state is not EndpointState.SPEECH or (report is not None and report.is_all):
            self._look_later()
            return
        self.close()
        spoken_ms = looked_ms - report.near_from_ms if report is not None else _UNKNOWN_SPEECH_MS
        at = max(0, self._chain.samples_seen - self._samples(spoken_ms))
        self._speech_from = max(0, at - self._samples(_PADDING_MS))
        if not self._told:
            self._told = True
            self._speech_over_echo(SpeechStarted(at), now)
        self._speech_over_echo(SpeechSustained(at), now)

    def _report(self, now: float) -> tuple[EchoReport | None, int]:
        """What the last half second of the utterance has of our prompts (None: nothing), and how long that is in ms."""
        heard, speaker = self._chain.so_far(), self._speaker
        self._looked_at = self._chain.samples_seen
        if heard is None or speaker is None:
            return None, 0
        heard = heard[-self._samples(_LOOK_BACK_MS) :]
        report = self._compare(heard, now, speaker)
        if report is not None and not report.is_all:
            # A peer whose buffer ran dry plays later from there on, and two delays fit no filter: what came last is
            # looked at by itself. Speech over echo would be in there too.
            latest = self._compare(heard[-self._samples(_LATEST_MS) :], now, speaker)
            report = latest if latest is not None and latest.is_all else report
        return report, len(heard) * 1000 // self._rate

    def _compare(self, heard: Pcm16, now: float, speaker: Speaker) -> EchoReport | None:
        played = speaker.played(now, len(heard) + self._samples(MOST_DELAY_MS))
        return None if played is None else find_echo(heard, played, self._rate)

    def _ended_at_pause(self, pause: Pause) -> UtteranceEnded:
        self._pause, self._told = None, False
        return UtteranceEnded(
            start=pause.start,
            end=pause.end,
            decided_at=self._chain.samples_seen,
            reason=EndReason.TAIL,
            pcm=pause.pcm,
        )

    def _from_speech_on(self, event: _Heard) -> _Heard:
        """The event without the echo that the utterance began with."""
        if self._speech_from <= event.start:
            return event
        start = min(self._speech_from, event.end)
        return replace(event, start=start, pcm=event.pcm[start - event.start :])

    def _samples(self, ms: int) -> int:
        """So many samples as fill whole frames."""
        return self._rate * ms // 1000 // self._frame * self._frame
