"""What a call's audio looks like on the wire, and the array type the rest of the code works with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["AudioError", "AudioFormat", "Encoding", "Pcm16", "UnsupportedFormatError"]

Pcm16: TypeAlias = NDArray[np.int16]
"""Linear PCM, int16, mono, shape (samples,)."""


class AudioError(Exception):
    """Root of this folder's exceptions.

    AudioError
    ├── UnsupportedFormatError   a format we do not speak, named in the message
    ├── FrameSizeError           audio bytes of the wrong length (audio.framing)
    └── AudioFileError           a file that cannot be read as audio (audio.files)
    """


class UnsupportedFormatError(AudioError):
    """An encoding, rate or channel count that calls cannot use."""

    def __init__(self, reason: str, given: str | None = None) -> None:
        """`reason`: what is wanted, in our own words, so it may be logged. `given`: what came instead, perhaps a peer's
        words."""
        super().__init__(reason if given is None else f"{reason}, not {given}")
        self.reason = reason
        self.given = given


class Encoding(StrEnum):
    """Sample encodings a call may use; the values are the words of the wire protocol."""

    PCM_S16LE = "pcm_s16le"
    MULAW = "mulaw"
    ALAW = "alaw"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFormat:
    """One call's audio format, the same in both directions.

    `channels` counts the caller's side: with two, channel 0 is the caller and channel 1 the other leg;
    the gateway always sends mono.
    """

    encoding: Encoding = Encoding.PCM_S16LE
    sample_rate_hz: int = 8000
    channels: int = 1

    def __post_init__(self) -> None:
        if self.sample_rate_hz not in (8000, 16000):
            raise UnsupportedFormatError("sample_rate must be 8000 or 16000", f"{self.sample_rate_hz!s:.20}")
        if self.channels not in (1, 2):
            raise UnsupportedFormatError("channels must be 1 or 2", f"{self.channels!s:.20}")

    @classmethod
    def parse(cls, encoding: str, sample_rate_hz: int, channels: int) -> AudioFormat:
        """Build a format from a peer's own words.

        Raises:
            UnsupportedFormatError: naming the value and the values that would do.
        """
        try:
            known = Encoding(encoding)
        except ValueError:
            names = ", ".join(e.value for e in Encoding)
            raise UnsupportedFormatError(f"encoding must be one of {names}", f"{encoding!r:.40}") from None
        return cls(encoding=known, sample_rate_hz=sample_rate_hz, channels=channels)

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of one sample of one channel."""
        return 2 if self.encoding is Encoding.PCM_S16LE else 1

    @property
    def bytes_per_ms(self) -> int:
        """Bytes of one millisecond, all channels."""
        return self.sample_rate_hz // 1000 * self.bytes_per_sample * self.channels

    def samples(self, ms: float) -> int:
        """Samples of one channel in `ms` milliseconds."""
        return int(self.sample_rate_hz * ms / 1000)
