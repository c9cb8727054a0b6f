"""WebRTC's detector behind the seam."""

from __future__ import annotations

import numpy as np
import pytest

from audio.detection import FRAME_MS, FrameSizeError, WebRtcDetector

pytestmark = pytest.mark.unit


def frames(pcm: np.ndarray, rate: int) -> list[bytes]:
    size = rate * FRAME_MS // 1000
    return [pcm[i : i + size].astype("<i2").tobytes() for i in range(0, len(pcm) - size + 1, size)]


def buzz(rate: int, seconds: float) -> np.ndarray:
    """A harmonic sound at a voice's pitch: what the detector takes for speech."""
    t = np.arange(int(rate * seconds)) / rate
    return sum(6000 / k * np.sin(2 * np.pi * 140 * k * t) for k in range(1, 12))


@pytest.mark.parametrize("rate", [8000, 16000])
def test_tells_a_voice_like_sound_from_silence(rate: int) -> None:
    detector = WebRtcDetector(rate)
    assert not any(detector.is_speech(frame) for frame in frames(np.zeros(rate), rate))
    assert all(detector.is_speech(frame) for frame in frames(buzz(rate, 0.5), rate))


def test_the_first_sound_of_a_call_fools_it_for_four_frames() -> None:
    """Why `EndpointSettings.min_speech_ms` is 100: one wrong frame and the hang-over read as 80 ms."""
    noise = np.random.default_rng(7).normal(0, 50, 8000)
    detector = WebRtcDetector(8000)
    judged = [detector.is_speech(frame) for frame in frames(noise, 8000)]
    assert 0 < sum(judged) <= 4


def test_a_wrong_length_is_refused_with_the_right_one() -> None:
    detector = WebRtcDetector(8000)
    for size in (0, 318, 319, 640):
        with pytest.raises(FrameSizeError, match=rf"{size} bytes; 20 ms at 8000 Hz are 320 bytes"):
            detector.is_speech(bytes(size))
    assert detector.is_speech(bytes(320)) is False
