"""The level under a line's speech, followed frame by frame."""

from __future__ import annotations

import math

import numpy as np
import pytest

from audio.noise_floor import EVERY_FRAMES, WINDOW_MS, NoiseFloor, power

pytestmark = pytest.mark.unit

FRAME = 160


def hiss(dbfs: float, seconds: float) -> np.ndarray:
    return np.rint(np.random.default_rng(1).normal(0, 32768 * 10 ** (dbfs / 20), int(8000 * seconds))).astype(np.int16)


def follow(floor: NoiseFloor, pcm: np.ndarray) -> None:
    for at in range(0, len(pcm) - FRAME + 1, FRAME * EVERY_FRAMES):
        floor.push(pcm[at : at + FRAME].astype("<i2").tobytes())


def test_nothing_is_known_before_a_sound() -> None:
    floor = NoiseFloor()
    assert floor.dbfs == -math.inf
    follow(floor, np.zeros(16000, np.int16))
    assert floor.floor == 0.0, "digital silence says nothing"


@pytest.mark.parametrize("dbfs", [-70.0, -50.0, -30.0])
def test_steady_noise_reads_as_its_level(dbfs: float) -> None:
    floor = NoiseFloor()
    follow(floor, hiss(dbfs, 4))
    assert dbfs - 2 < floor.dbfs <= dbfs + 0.5
    assert floor.floor == pytest.approx(power(floor.dbfs))


def test_speech_with_pauses_does_not_raise_it() -> None:
    floor = NoiseFloor()
    follow(floor, hiss(-70, 1))
    for _ in range(10):
        follow(floor, hiss(-20, 2.5))
        follow(floor, hiss(-70, EVERY_FRAMES * 0.02))
    assert floor.dbfs < -68


def test_noise_that_begins_in_the_call_is_noticed_after_the_window_and_forgotten_at_once() -> None:
    floor = NoiseFloor()
    follow(floor, hiss(-70, 1))
    follow(floor, hiss(-40, WINDOW_MS / 1000 - 0.2))
    assert floor.dbfs < -65
    follow(floor, hiss(-40, 0.4))
    assert floor.dbfs > -45
    follow(floor, hiss(-70, EVERY_FRAMES * 0.02))
    assert floor.dbfs < -65


def test_silence_suppressed_between_words_leaves_the_floor_of_what_was_heard() -> None:
    floor = NoiseFloor()
    for _ in range(5):
        follow(floor, hiss(-45, 0.5))
        follow(floor, np.zeros(4000, np.int16))
    assert -48 < floor.dbfs < -44


def test_the_rate_does_not_matter() -> None:
    wide = NoiseFloor()
    for _ in range(100):
        wide.push(hiss(-50, 0.04).astype("<i2").tobytes())
    assert wide.dbfs == pytest.approx(-50, abs=1)
