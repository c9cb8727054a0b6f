"""Both sides of a call on one line of time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.formats import AudioFormat, Encoding, Pcm16
from audio.framing import encode
from gateway.monitoring.stereo import AudioTap, StereoLine

pytestmark = pytest.mark.unit

RATE = 8000


def numbers(count: int, first: int = 1) -> Pcm16:
    return np.arange(first, first + count, dtype=np.int16)


@given(st.lists(st.floats(-0.1, 0.1), min_size=5, max_size=40))
def test_the_callers_frames_follow_one_another_whatever_their_pace(lateness: list[float]) -> None:
    line = StereoLine(RATE, since=100.0)
    spoken = numbers(160 * len(lateness))
    for index, late_s in enumerate(lateness):
        line.caller(spoken[160 * index : 160 * (index + 1)], 100.12 + index * 0.02 + late_s)
    heard = line.take(100.3 + len(lateness) * 0.02)[:, 0]
    first = np.flatnonzero(heard)[0]
    assert np.array_equal(heard[first : first + len(spoken)], spoken)
    assert line.dropped == 0


def test_where_the_callers_audio_stops_there_is_silence() -> None:
    line = StereoLine(RATE, since=0.0)
    line.caller(numbers(160), 1.0)
    line.caller(numbers(160), 3.0)
    heard = line.take(3.0)[:, 0]
    assert len(heard) == 3 * RATE
    assert np.array_equal(heard[RATE - 160 : RATE], numbers(160)) and not heard[RATE : 3 * RATE - 160].any()
    assert np.array_equal(heard[3 * RATE - 160 :], numbers(160))


def test_prompts_stand_where_they_are_heard_and_what_is_cleared_is_not() -> None:
    line = StereoLine(RATE, since=0.0)
    for index in range(10):
        line.bot(numbers(160, 1 + 160 * index), 1.0 + index * 0.02)
    line.bot_cleared(1.1)
    heard = line.take(2.0)[:, 1]
    assert np.array_equal(heard[RATE : RATE + 800], numbers(800)) and not heard[RATE + 800 :].any()


def test_taking_in_pieces_is_taking_at_once() -> None:
    whole, pieces = StereoLine(RATE, since=0.0), StereoLine(RATE, since=0.0)
    taken = []
    for index in range(50):
        at = 0.02 * (index + 1)
        for line in (whole, pieces):
            line.caller(numbers(160, 160 * index), at)
            line.bot(numbers(160, 160 * index), at + 0.1)
        taken.append(pieces.take(at))
    assert np.array_equal(np.concatenate([*taken, pieces.take(2.0)]), whole.take(2.0))


def test_what_nobody_takes_is_lost_and_counted() -> None:
    line = StereoLine(RATE, since=0.0)
    for index in range(1000):
        line.caller(numbers(160), 0.02 * (index + 1))
    assert len(line.take(20.0)) == 8 * RATE
    assert line.taken == 20 * RATE
    assert line.dropped >= 12 * RATE


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("channels", [1, 2])
def test_a_tap_decodes_messages_cut_anywhere_and_goes_with_its_last_line(encoding: Encoding, channels: int) -> None:
    fmt = AudioFormat(encoding=encoding, channels=channels)
    empty: list[bool] = []
    tap = AudioTap(fmt, on_empty=lambda: empty.append(True))
    one, other = tap.open_line(0.0), tap.open_line(0.0)
    spoken = (numbers(800) * 40).astype(np.int16)
    wire = np.frombuffer(encode(fmt, spoken), f"V{fmt.bytes_per_sample}")
    data = np.repeat(wire, channels).tobytes()
    for at in range(0, len(data), 333):
        tap.caller(data[at : at + 333], 0.1)
    tap.bot(memoryview(encode(AudioFormat(encoding=encoding), spoken)), 0.0)
    heard = one.take(0.3)
    caller = heard[np.flatnonzero(heard[:, 0])[0] :, 0][:800]
    assert np.abs(caller[:800].astype(int) - spoken[:800]).max() < 1200  # G.711 is that coarse when loud
    assert np.array_equal(caller, heard[np.flatnonzero(heard[:, 1])[0] :, 1][:800])
    assert np.array_equal(heard, other.take(0.3))
    tap.close_line(one)
    assert not empty
    tap.close_line(other)
    assert empty == [True]
