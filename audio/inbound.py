"""One call's inbound audio: wire bytes in, endpointing events with the utterance's samples out.

The hot path of the gateway: it runs for every 20 ms of every call, so the usual message (exactly one frame,
nothing carried over) touches as little Python as it can. Memory is bounded: in silence only what an onset
may reach back to is kept, during an utterance at most `max_utterance_ms` of PCM16.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from audio import endpointing, g711
from audio.detection import FRAME_MS, VoiceDetector, WebRtcDetector
from audio.endpointing import (
    Endpointer,
    EndpointEvent,
    EndpointSettings,
    EndpointState,
    SpeechResumed,
    SpeechStarted,
    SpeechSustained,
)
from audio.formats import AudioFormat, Encoding, Pcm16
from audio.framing import Framer

__all__ = [
    "InboundChain",
    "InboundEvent",
    "Pause",
    "SpeechResumed",
    "SpeechStarted",
    "SpeechSustained",
    "UtteranceEnded",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(endpointing.Pause):
    """`endpointing.Pause` with the samples from `start` to `end`: int16, at the call's rate."""

    pcm: Pcm16 = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceEnded(endpointing.UtteranceEnded):
    """`endpointing.UtteranceEnded` with the samples from `start` to `end`: int16, at the call's rate."""

    pcm: Pcm16 = field(repr=False, compare=False)


InboundEvent: TypeAlias = SpeechStarted | SpeechSustained | SpeechResumed | Pause | UtteranceEnded

_NOTHING: tuple[InboundEvent, ...] = ()


def _pcm_reader(fmt: AudioFormat) -> Callable[[bytes], bytes] | None:
    """What turns one wire frame into the caller's PCM16 bytes; None where it is that already.

    Works from bytes to bytes because that is what detectors read; 1.3 µs for 160 bytes of G.711.
    """
    step = fmt.channels
    if fmt.encoding is Encoding.PCM_S16LE:
        return None if step == 1 else lambda frame: np.frombuffer(frame, "<i2")[::step].tobytes()
    lookup = (g711.MULAW_TABLE if fmt.encoding is Encoding.MULAW else g711.ALAW_TABLE).take
    return lambda frame: lookup(np.frombuffer(frame, np.uint8)[::step]).tobytes()


class InboundChain:
    """Framing, decoding, detection and endpointing of one call.

    The same bytes in messages of any size give the same events with the same samples.

    Args:
        fmt: the call's format. With two channels only the caller's, channel 0, is heard.
        settings: times of the endpointer.
        detector: made for this call; WebRTC's unless given.
    """

    __slots__ = (
        "_detector",
        "_endpointer",
        "_frame_bytes",
        "_frame_samples",
        "_framer",
        "_keep",
        "_kept",
        "_kept_from",
        "_onset",
        "_split",
        "_to_pcm",
    )

    def __init__(self, fmt: AudioFormat, settings: EndpointSettings, detector: VoiceDetector | None = None) -> None:
        self._detector: VoiceDetector = detector or WebRtcDetector(fmt.sample_rate_hz)
        self._endpointer = Endpointer(settings, fmt.sample_rate_hz)
        self._to_pcm = _pcm_reader(fmt)
        self._frame_bytes = fmt.bytes_per_ms * FRAME_MS
        self._frame_samples = fmt.samples(FRAME_MS)
        self._framer = Framer(self._frame_bytes)
        self._split = False  # whether it holds the beginning of a frame
        # In silence frames go round a ring that an onset may reach back into; from an onset on, `_keep`
        # appends to the utterance instead. Rebinding `_keep` spares the hot path a test of the state.
        self._onset: deque[bytes] = deque(maxlen=self._endpointer.onset_frames)
        self._kept: list[bytes] = []
        self._kept_from = 0  # frame number of _kept[0]
        self._keep = self._onset.append

    @property
    def frames_seen(self) -> int:
        """Whole frames the endpointer has judged."""
        return self._endpointer.frames_seen

    @property
    def samples_seen(self) -> int:
        """Samples the endpointer has judged: the present, as a position in the stream."""
        return self._endpointer.samples_seen

    @property
    def state(self) -> EndpointState:
        """Silence, speech or tail."""
        return self._endpointer.state

    @property
    def speech_ms(self) -> int:
        """Speech in the utterance in progress; 0 in silence."""
        return self._endpointer.speech_ms

    def set_tail_ms(self, tail_ms: int) -> None:
        """Change the silence that ends an utterance, from the next frame on."""
        self._endpointer.set_tail_ms(tail_ms)

    def so_far(self) -> Pcm16 | None:
        """The utterance in progress as far as it was heard, int16 at the call's rate; None in silence."""
        if self.state is EndpointState.SILENCE:
            return None
        return np.frombuffer(b"".join(self._kept), "<i2")

    def push(self, data: bytes) -> Sequence[InboundEvent]:
        """Take one message of the call's audio.

        Args:
            data: bytes in the call's format, any number of them, cut anywhere.

        Returns:
            Events in stream order; positions in samples since the call's start.
        """
        if len(data) == self._frame_bytes and not self._split:
            return self._hear(data)
        events = _NOTHING
        for frame in self._framer.push(data):
            events = (*events, *self._hear(frame))
        self._split = bool(self._framer.carry)
        return events

    def flush(self) -> Sequence[InboundEvent]:
        """End the utterance in progress, if any: the call's audio stopped.

        An incomplete frame stays carried over, should the audio go on.
        """
        return self._with_audio(self._endpointer.flush())

    def _hear(self, frame: bytes) -> Sequence[InboundEvent]:
        if self._to_pcm is not None:
            frame = self._to_pcm(frame)
        self._keep(frame)
        events = self._endpointer.push(self._detector.is_speech(frame))
        return self._with_audio(events) if events else _NOTHING

    def _with_audio(self, events: Sequence[EndpointEvent]) -> Sequence[InboundEvent]:
        """The endpointer's events with samples where they name a stretch of audio."""
        heard: list[InboundEvent] = []
        for event in events:
            match event:
                case SpeechStarted():
                    self._begin()
                    heard.append(event)
                case endpointing.Pause(start=start, end=end):
                    heard.append(Pause(start=start, end=end, pcm=self._cut(start, end)))
                case endpointing.UtteranceEnded(start=start, end=end):
                    heard.append(
                        UtteranceEnded(
                            start=start,
                            end=end,
                            decided_at=event.decided_at,
                            reason=event.reason,
                            pcm=self._cut(start, end),
                        )
                    )
                    self._finish(end)
                case _:
                    heard.append(event)
        return heard

    def _begin(self) -> None:
        self._kept = list(self._onset)
        self._kept_from = self.frames_seen - len(self._kept)
        self._keep = self._kept.append

    def _cut(self, start: int, end: int) -> Pcm16:
        first = start // self._frame_samples - self._kept_from
        last = end // self._frame_samples - self._kept_from
        return np.frombuffer(b"".join(self._kept[first:last]), "<i2")

    def _finish(self, end: int) -> None:
        """Forget the utterance; what came after it may belong to the next one's onset."""
        self._onset.clear()
        self._onset.extend(self._kept[end // self._frame_samples - self._kept_from :])
        self._kept = []
        self._keep = self._onset.append
