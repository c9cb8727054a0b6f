"""Bytes on the wire to samples and back, and messages of any size to frames of one size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audio import g711
from audio.formats import AudioError, AudioFormat, Encoding, Pcm16

__all__ = ["FrameSizeError", "Framer", "decode", "encode", "silence"]

_SILENCE = {
    Encoding.PCM_S16LE: b"\0",
    Encoding.MULAW: bytes([g711.MULAW_SILENCE]),
    Encoding.ALAW: bytes([g711.ALAW_SILENCE]),
}


class FrameSizeError(AudioError):
    """A block of audio bytes whose length is not what its reader needs."""


def decode(fmt: AudioFormat, data: bytes) -> Pcm16:
    """The caller's samples in `data`, channel 0 where there are two.

    Args:
        fmt: how `data` is coded.
        data: whole samples of every channel, interleaved.

    Returns:
        int16, shape (len(data) / fmt.bytes_per_sample / fmt.channels,), at the format's own rate; it may
        be a read-only view of `data`.

    Raises:
        FrameSizeError: `data` ends within a sample.
    """
    block = fmt.bytes_per_sample * fmt.channels
    if len(data) % block:
        raise FrameSizeError(f"{len(data)} bytes are no whole number of {block}-byte samples; cut messages with Framer")
    match fmt.encoding:
        case Encoding.PCM_S16LE:
            pcm = np.frombuffer(data, "<i2")
        case Encoding.MULAW:
            pcm = g711.mulaw_decode(data)
        case Encoding.ALAW:
            pcm = g711.alaw_decode(data)
    return pcm if fmt.channels == 1 else np.ascontiguousarray(pcm[:: fmt.channels])


def encode(fmt: AudioFormat, pcm: Pcm16) -> bytes:
    """Code samples for the wire. What we send is mono; `fmt.channels` is about what we receive."""
    match fmt.encoding:
        case Encoding.PCM_S16LE:
            return pcm.astype("<i2", copy=False).tobytes()
        case Encoding.MULAW:
            return g711.mulaw_encode(pcm)
        case Encoding.ALAW:
            return g711.alaw_encode(pcm)


def silence(fmt: AudioFormat, samples: int) -> bytes:
    """`samples` samples of digital silence, mono, as sent to the caller."""
    return _SILENCE[fmt.encoding] * (samples * fmt.bytes_per_sample)


class Framer:
    """Cuts a byte stream that arrives in messages of any size into frames of `frame_bytes`.

    What does not fill a frame, odd bytes included, is carried to the next message: fewer than
    `frame_bytes` bytes at any time.
    """

    __slots__ = ("carry", "frame_bytes")

    def __init__(self, frame_bytes: int) -> None:
        self.frame_bytes = frame_bytes
        self.carry = b""

    def push(self, data: bytes) -> Sequence[bytes]:
        """The frames that `data` completes, in order."""
        size = self.frame_bytes
        stream = self.carry + data if self.carry else data
        whole = len(stream) - len(stream) % size
        self.carry = stream[whole:]
        return [stream[at : at + size] for at in range(0, whole, size)]
