"""The two detectors in a row: WebRTC's on every frame, Silero's network only while WebRTC's says speech, and, by
default, only where the line is noisy.

WebRTC's costs 1-2 µs a frame and misses little, but takes half of all noise for speech; Silero tells noise from speech
and costs ten times more in batches, twenty-five times alone. Silence, most of what a caller sends, is judged by the
cheap one alone.

A frame is speech when WebRTC's detector says so and Silero's probability of the newest chunk *before* this frame is
at least `START` (`KEEP` once it was: hysteresis as in Silero's own VADIterator). Silero begins at WebRTC's first frame
of speech, with a chunk that reaches back before it, and goes on through gaps of up to `LINGER_FRAMES`: cut off at
every gap of a noise, it judges worse (bench/endpointing.py: 38 % late endpoints at 5 dB in place of 21 %).

Frames are 20 ms, chunks 32 ms: a chunk that a frame completes is put into the worker's `SileroPool` and judged when
the call's next frame asks for it, together with every chunk that other calls have put there meanwhile. So a batch forms
by itself, nobody waits for one, and what a call is told depends on its own audio alone, not on who was in the batch.

On a quiet line WebRTC's detector is right by itself and loses no word, where Silero misses a short one now and then
(2 turns in 100). So the detector that calls get by default (`noisy_from_dbfs`) follows the line's noise floor and asks
Silero only while that is above `NOISY_DBFS`. That level lies under the noise that first troubles WebRTC's
detector (40 dB under the speech of bench/endpointing.py, at -64) and over the hiss of a quiet line.

The price is that Silero's word is 20 to 52 ms old. Offsets stay those of the frames judged, with no shift to undo: an
onset reads up to 52 ms late, which the endpointer's padding covers many times over, and an end about as late as
WebRTC's own hang-over makes it anyway.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from audio.detection import DetectorKind, DetectorSettings, VoiceDetector, WebRtcDetector
from audio.noise_floor import EVERY_FRAMES, NoiseFloor, power
from audio.silero import SileroModel

__all__ = ["NOISY_DBFS", "CascadeDetector", "SileroPool", "SileroStream", "detector_maker"]

START = 0.5
KEEP = 0.35
LINGER_FRAMES = 10
NOISY_DBFS = -65.0
"""The noise floor from which on a line is noisy. A quiet line's hiss is at -70 and below, G.711's own steps at -72."""
MAX_BATCH = 64
"""Chunks judged in one go, 2 ms: as long as a worker's sockets may wait."""


class SileroStream:
    """One call's place in the pool: the network's state, the chunk that waits, the newest probability."""

    __slots__ = ("chunk", "probability", "state")

    def __init__(self) -> None:
        self.state = SileroModel.initial_states()
        self.chunk = b""
        """PCM16 with its context; empty while none waits."""
        self.probability = 0.0
        """Of the newest chunk judged."""


class SileroPool:
    """The chunks of a worker's calls, of one sample rate, that wait to be judged; at most one a call.

    For one thread. A batch's company changes nothing (tested). A call that ends with a chunk waiting leaves it to
    the next batch.
    """

    def __init__(self, model: SileroModel) -> None:
        self.model = model
        self._waiting: dict[SileroStream, None] = {}  # in order of arrival

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, stream: SileroStream, chunk: bytes) -> None:
        """Let `chunk` (PCM16: context, then the chunk) wait for the next batch."""
        stream.chunk = chunk
        self._waiting[stream] = None

    def judge(self, stream: SileroStream) -> None:
        """Judge the stream's chunk, and with it those that have waited longest; nothing if it has none waiting."""
        if stream not in self._waiting:
            return
        del self._waiting[stream]
        batch = [stream]
        for other in self._waiting:
            if len(batch) == MAX_BATCH:
                break
            batch.append(other)
        for other in batch[1:]:
            del self._waiting[other]
        pcm = np.frombuffer(b"".join([one.chunk for one in batch]), "<i2").reshape(len(batch), -1)
        chunks = pcm.astype(np.float32) / np.float32(32768)
        states = np.concatenate([one.state for one in batch], axis=1) if len(batch) > 1 else stream.state
        probabilities, after = self.model.probabilities(states, chunks)
        for index, one in enumerate(batch):
            one.chunk = b""
            one.probability = float(probabilities[index])
            one.state = after[:, index : index + 1].copy()  # a view would keep the whole batch's alive


class CascadeDetector:
    """WebRTC's detector, and where that says speech, Silero's word for it. See the module's text.

    Args:
        sample_rate_hz: 8000 or 16000, and the pool's.
        pool: shared by the calls of this worker.
        aggressiveness: of the WebRTC detector.
        noisy_from_dbfs: the noise floor from which on Silero is asked; None: always.
    """

    __slots__ = (
        "_buffer",
        "_chunk_bytes",
        "_countdown",
        "_floor",
        "_idle_frames",
        "_noisy_from",
        "_pool",
        "_previous",
        "_speaking",
        "_step_bytes",
        "_stream",
        "_webrtc",
    )

    def __init__(
        self, sample_rate_hz: int, pool: SileroPool, aggressiveness: int = 2, *, noisy_from_dbfs: float | None = None
    ) -> None:
        self._webrtc = WebRtcDetector(sample_rate_hz, aggressiveness)
        self._floor = None if noisy_from_dbfs is None else NoiseFloor()
        self._countdown = 1  # frames to the next that the floor hears
        self._noisy_from = 0.0 if noisy_from_dbfs is None else power(noisy_from_dbfs)
        self._pool = pool
        self._stream = SileroStream()
        self._step_bytes = pool.model.chunk_samples * 2
        self._chunk_bytes = self._step_bytes + pool.model.context_samples * 2
        self._previous = bytes(self._chunk_bytes)
        self._buffer = b""  # what Silero has not used up yet; empty while it is not asked
        self._idle_frames = 0  # since WebRTC's detector last said speech
        self._speaking = False

    def is_speech(self, frame: bytes) -> bool:
        """See `VoiceDetector.is_speech`."""
        is_candidate = self._webrtc.is_speech(frame)
        if self._floor is not None:
            self._countdown -= 1
            if not self._countdown:
                self._countdown = EVERY_FRAMES
                self._floor.push(frame)
        if not self._buffer:
            if is_candidate and (self._floor is None or self._floor.floor >= self._noisy_from):
                self._begin(frame)
            self._previous = frame
            return is_candidate  # on its first frame, while Silero has said nothing, WebRTC's detector is believed
        stream = self._stream
        if stream.chunk:
            self._pool.judge(stream)
        self._speaking = stream.probability >= (KEEP if self._speaking else START)
        self._previous = frame
        self._idle_frames = 0 if is_candidate else self._idle_frames + 1
        if self._idle_frames > LINGER_FRAMES:
            self._buffer = b""
        else:
            self._listen(self._buffer + frame)
        return is_candidate and self._speaking

    def _begin(self, frame: bytes) -> None:
        """Ask Silero from here on; the first chunk reaches back into the frame before and ends with this one."""
        self._idle_frames = 0
        self._speaking = False
        self._listen((self._previous + frame)[-self._chunk_bytes :])

    def _listen(self, pcm: bytes) -> None:
        if len(pcm) >= self._chunk_bytes:
            self._pool.submit(self._stream, pcm[: self._chunk_bytes])
            pcm = pcm[self._step_bytes :]
        self._buffer = pcm


def detector_maker(settings: DetectorSettings) -> Callable[[int], VoiceDetector]:
    """What makes a call's detector from its sample rate; a worker keeps one, since its calls share it.

    Where Silero may be asked, its network is loaded here, so that a missing model stops the start and no call, and no
    call waits for it.

    Raises:
        SileroError: it cannot be had.
    """
    if settings.kind is DetectorKind.WEBRTC:
        return lambda sample_rate_hz: WebRtcDetector(sample_rate_hz, settings.aggressiveness)
    noisy_from_dbfs = NOISY_DBFS if settings.kind is DetectorKind.AUTO else None
    narrow = SileroModel(8000)
    pools = {8000: SileroPool(narrow), 16000: SileroPool(SileroModel(16000, other=narrow))}

    def make(sample_rate_hz: int) -> VoiceDetector:
        pool = pools[sample_rate_hz]
        return CascadeDetector(sample_rate_hz, pool, settings.aggressiveness, noisy_from_dbfs=noisy_from_dbfs)

    return make
