"""Telephone lines to measure over: what passes, what does not, and how loud the noise is."""

from __future__ import annotations

import numpy as np
import pytest

from audio.formats import Pcm16
from audio.phone_line import PhoneLine, over_line
from audio.telephone_band import telephone_band

pytestmark = pytest.mark.unit


def tone(hz: float, seconds: float = 0.5, level: int = 8000) -> Pcm16:
    return (level * np.sin(2 * np.pi * hz * np.arange(int(8000 * seconds)) / 8000)).astype(np.int16)


def power(pcm: Pcm16) -> float:
    return float((pcm.astype(float) ** 2).mean())


def heard(line: PhoneLine, pcm: Pcm16, seed: int = 0) -> Pcm16:
    return over_line(line, pcm, np.random.default_rng(seed))


@pytest.mark.parametrize("line", [PhoneLine.MULAW, PhoneLine.ALAW])
@pytest.mark.parametrize(("hz", "passes"), [(100, False), (150, False), (500, True), (3000, True), (3700, False)])
def test_a_line_passes_its_band(line: PhoneLine, hz: float, passes: bool) -> None:
    ratio = power(heard(line, tone(hz))) / power(tone(hz))
    assert 0.95 < ratio < 1.05 if passes else ratio < 0.01


def test_the_two_laws_differ_and_both_are_near() -> None:
    said = tone(1000)
    mulaw, alaw = heard(PhoneLine.MULAW, said), heard(PhoneLine.ALAW, said)
    assert not np.array_equal(mulaw, alaw)
    sent = (telephone_band((said / 32768).astype(np.float32)) * 32768).astype(np.int16)
    for one in (mulaw, alaw):
        assert one.dtype == np.int16 and len(one) == len(said)
        assert power(one - sent) < 0.002 * power(said), "36 dB is what G.711 has"


def test_noise_lies_ten_db_under_the_voice_and_in_its_pauses() -> None:
    said = np.concatenate([np.zeros(4000, np.int16), tone(1013), np.zeros(4000, np.int16)])
    noisy = heard(PhoneLine.NOISE_10DB, said)
    pause = power(noisy[:3000])
    # A voice's power over words and gaps is a quarter of that of its loud parts, of which a tone is all.
    assert 10 * np.log10(power(tone(1013)) / 4 / pause) == pytest.approx(10, abs=0.7)


def test_a_seed_fixes_the_noise() -> None:
    said = tone(500)
    np.testing.assert_array_equal(heard(PhoneLine.NOISE_10DB, said, 3), heard(PhoneLine.NOISE_10DB, said, 3))
    assert not np.array_equal(heard(PhoneLine.NOISE_10DB, said, 3), heard(PhoneLine.NOISE_10DB, said, 4))


@pytest.mark.parametrize("line", list(PhoneLine))
@pytest.mark.parametrize("count", [0, 1, 7])
def test_hardly_a_sample_is_no_fault(line: PhoneLine, count: int) -> None:
    assert len(heard(line, np.full(count, -32768, np.int16))) == count


@pytest.mark.parametrize("line", list(PhoneLine))
def test_what_is_too_loud_is_clipped_not_wrapped(line: PhoneLine) -> None:
    square = np.where(np.arange(4000) % 8 < 4, 32767, -32768).astype(np.int16)
    carried = telephone_band((square / 32768).astype(np.float32))
    loud = np.abs(carried) > 1.0  # the band rounds a square's corners and overshoots behind them
    assert loud.sum() > 500
    assert (np.sign(heard(line, square)[loud]) == np.sign(carried[loud])).all()
