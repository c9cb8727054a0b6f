"""G.711: the two companding laws of telephone networks, as lookup tables.

Decoding is a table of 256 linear values, encoding a table over all 65,536 PCM16 values, so both are one
`numpy.take` per message. The values are those of CPython 3.11's `audioop` (removed from Python in 3.13):
μ-law spans ±32124 (14-bit codes scaled to 16), A-law ±32256.

Silence is 0xFF in μ-law and 0xD5 in A-law. Zero bytes are full-scale noise in μ-law.

Source: ITU-T G.711 (11/88), tables 1a, 1b, 2a, 2b.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audio.formats import Pcm16

__all__ = [
    "ALAW_SILENCE",
    "ALAW_TABLE",
    "MULAW_SILENCE",
    "MULAW_TABLE",
    "alaw_decode",
    "alaw_encode",
    "mulaw_decode",
    "mulaw_encode",
]

MULAW_SILENCE = 0xFF
ALAW_SILENCE = 0xD5


def _mulaw_decode_table() -> Pcm16:
    """Linear value of each code: int16, shape (256,)."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF  # the wire carries the complement
    magnitude = (((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)
    values: Pcm16 = np.where(code & 0x80, 0x84 - magnitude, magnitude - 0x84).astype(np.int16)
    return values


def _alaw_decode_table() -> Pcm16:
    """Linear value of each code: int16, shape (256,)."""
    code = np.arange(256, dtype=np.int32) ^ 0x55  # the wire inverts every second bit
    segment = (code & 0x70) >> 4
    step = (code & 0x0F) << 4
    magnitude = np.where(segment == 0, step + 8, (step + 0x108) << np.maximum(segment - 1, 0))
    values: Pcm16 = np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)
    return values


def _mulaw_encode_table() -> NDArray[np.uint8]:
    """Code of each PCM16 value, indexed by its 16 bits read as unsigned: uint8, shape (65536,)."""
    value = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32) >> 2  # 14-bit law
    magnitude = np.minimum(np.abs(value), 8158) + 33  # clipped to the last step of the last segment
    segment = np.searchsorted([0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF], magnitude)
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F)
    codes: NDArray[np.uint8] = (code ^ np.where(value < 0, 0x7F, 0xFF)).astype(np.uint8)
    return codes


def _alaw_encode_table() -> NDArray[np.uint8]:
    """Code of each PCM16 value, indexed by its 16 bits read as unsigned: uint8, shape (65536,)."""
    value = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32) >> 3  # 13-bit law
    magnitude = np.where(value < 0, -value - 1, value)
    segment = np.searchsorted([0x1F, 0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF], magnitude)
    code = (segment << 4) | ((magnitude >> np.maximum(segment, 1)) & 0x0F)
    codes: NDArray[np.uint8] = (code ^ np.where(value < 0, 0x55, 0xD5)).astype(np.uint8)
    return codes


MULAW_TABLE = _mulaw_decode_table()
ALAW_TABLE = _alaw_decode_table()
_MULAW_CODES = _mulaw_encode_table()
_ALAW_CODES = _alaw_encode_table()


def mulaw_decode(data: bytes) -> Pcm16:
    """μ-law bytes to PCM16, one sample a byte."""
    return MULAW_TABLE.take(np.frombuffer(data, np.uint8))


def mulaw_encode(pcm: Pcm16) -> bytes:
    """PCM16 to μ-law bytes, one byte a sample."""
    return _MULAW_CODES.take(pcm.view(np.uint16)).tobytes()


def alaw_decode(data: bytes) -> Pcm16:
    """A-law bytes to PCM16, one sample a byte."""
    return ALAW_TABLE.take(np.frombuffer(data, np.uint8))


def alaw_encode(pcm: Pcm16) -> bytes:
    """PCM16 to A-law bytes, one byte a sample."""
    return _ALAW_CODES.take(pcm.view(np.uint16)).tobytes()
