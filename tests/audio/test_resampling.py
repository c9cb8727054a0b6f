"""Resampling: the cutting of a stream must not be heard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.resampling import StreamResampler, float_to_pcm16, resample

pytestmark = pytest.mark.unit

RATES = [(8000, 16000), (16000, 8000), (22050, 8000), (44100, 16000)]
SIGNAL = np.random.default_rng(3).normal(0, 4000, 6000).astype(np.int16)


def tone(rate: int, seconds: float = 1.0, hz: float = 440.0) -> np.ndarray:
    return (10000 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype(np.int16)


@pytest.mark.parametrize(("in_hz", "out_hz"), RATES)
@given(sizes=st.lists(st.integers(0, 900), max_size=30))
@settings(max_examples=25, deadline=None)
def test_output_does_not_depend_on_the_cutting(in_hz: int, out_hz: int, sizes: list[int]) -> None:
    whole = StreamResampler(in_hz, out_hz)
    expected = np.concatenate([whole.push(SIGNAL), whole.flush()])
    pieces, at, cut = [], 0, StreamResampler(in_hz, out_hz)
    for size in sizes:
        pieces.append(cut.push(SIGNAL[at : at + size]))
        at += size
    pieces += [cut.push(SIGNAL[at:]), cut.flush()]
    assert np.array_equal(np.concatenate(pieces), expected)


@pytest.mark.parametrize(("in_hz", "out_hz"), RATES)
def test_a_tone_in_20_ms_messages_comes_out_as_the_tone(in_hz: int, out_hz: int) -> None:
    """A click at a message border would be an error of thousands."""
    stream, pcm, step = StreamResampler(in_hz, out_hz), tone(in_hz), in_hz // 50
    out = np.concatenate([stream.push(pcm[i : i + step]) for i in range(0, len(pcm), step)] + [stream.flush()])
    expected = tone(out_hz)
    middle = slice(out_hz // 10, -out_hz // 10)  # the filter rings where the tone starts and stops
    assert abs(len(out) - len(expected)) <= 1
    assert np.abs(out[: len(expected)].astype(int) - expected[: len(out)])[middle].max() < 10


def test_stream_and_one_shot_agree() -> None:
    stream = StreamResampler(8000, 16000)
    assert np.array_equal(np.concatenate([stream.push(SIGNAL), stream.flush()]), resample(SIGNAL, 8000, 16000))


def test_a_flushed_stream_starts_afresh() -> None:
    stream = StreamResampler(8000, 16000)
    first = np.concatenate([stream.push(SIGNAL), stream.flush()])
    second = np.concatenate([stream.push(SIGNAL), stream.flush()])
    assert np.array_equal(first, second)


def test_equal_rates_change_nothing() -> None:
    assert resample(SIGNAL, 8000, 8000) is SIGNAL


def test_downsampling_removes_what_would_alias() -> None:
    """6 kHz cannot exist at 8 kHz; it must vanish, not fold down to 2 kHz."""
    assert np.abs(resample(tone(16000, hz=6000), 16000, 8000)[800:-800]).max() < 10


def test_loud_samples_clip_instead_of_wrapping() -> None:
    assert float_to_pcm16(np.array([1.5, -1.5, 1.0, 0.5], np.float32)).tolist() == [
        32767,
        -32768,
        32767,
        16384,
    ]
