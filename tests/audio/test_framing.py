"""Bytes to samples and messages to frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.formats import AudioFormat, Encoding
from audio.framing import Framer, FrameSizeError, decode, encode, silence

pytestmark = pytest.mark.unit

PCM = np.array([0, 1, -1, 1000, -1000, 32767, -32768, 258], np.int16)


def test_pcm_is_little_endian() -> None:
    assert encode(AudioFormat(), np.array([258], np.int16)) == b"\x02\x01"
    assert decode(AudioFormat(), b"\x02\x01\xff\xff").tolist() == [258, -1]


@pytest.mark.parametrize("encoding", list(Encoding))
def test_what_is_encoded_decodes_to_the_same_codes(encoding: Encoding) -> None:
    fmt = AudioFormat(encoding=encoding)
    wire = encode(fmt, PCM)
    assert len(wire) == len(PCM) * fmt.bytes_per_sample
    assert encode(fmt, decode(fmt, wire)) == wire


@pytest.mark.parametrize("encoding", list(Encoding))
def test_of_two_channels_the_first_is_the_caller(encoding: Encoding) -> None:
    mono = AudioFormat(encoding=encoding)
    stereo = AudioFormat(encoding=encoding, channels=2)
    interleaved = np.column_stack([PCM, np.full_like(PCM, 77)]).ravel()
    assert decode(stereo, encode(mono, interleaved)).tolist() == decode(mono, encode(mono, PCM)).tolist()


@pytest.mark.parametrize("encoding", list(Encoding))
def test_silence_is_silent(encoding: Encoding) -> None:
    fmt = AudioFormat(encoding=encoding)
    pcm = decode(fmt, silence(fmt, 160))
    assert len(pcm) == 160
    assert np.abs(pcm).max() <= 8  # A-law has no zero


def test_half_a_sample_is_refused_with_the_mend() -> None:
    with pytest.raises(FrameSizeError, match=r"3 bytes are no whole number of 2-byte samples.*Framer"):
        decode(AudioFormat(), b"\0\0\0")
    with pytest.raises(FrameSizeError, match="2-byte"):
        decode(AudioFormat(encoding=Encoding.MULAW, channels=2), b"\xff")


@given(
    data=st.binary(max_size=2000),
    cuts=st.lists(st.integers(0, 2000), max_size=20),
    frame_bytes=st.integers(1, 400),
)
def test_frames_do_not_depend_on_messages(data: bytes, cuts: list[int], frame_bytes: int) -> None:
    framer = Framer(frame_bytes)
    frames: list[bytes] = []
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in zip(borders, borders[1:], strict=False):
        frames += framer.push(data[start:end])
        assert len(framer.carry) < frame_bytes
    assert all(len(frame) == frame_bytes for frame in frames)
    assert b"".join(frames) + framer.carry == data
