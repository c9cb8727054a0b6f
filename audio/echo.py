"""Is what comes from the line our own prompt come back? One-shot echo cancellation over a stretch of audio.

A telephone line returns a part of what it is sent: an analogue leg's hybrid some 10-30 dB down, a loudspeaker by its
microphone, each after the network's round trip. A detector takes that for speech. Here the stretch that was heard is
compared with what was played in the half second before: the delay is found by cross-correlation, the line's short
impulse response by least squares, and what these do not explain is looked for speech of the caller's own.

Cost: 1 ms for half a second of audio. It is meant for the moment in which a detector has said speech over a prompt,
never for every frame. What it cannot see: an echo that a codec for low rates (GSM, AMR, Opus with packet loss) has
bent on its way no longer correlates by waveform, and then counts as the caller's.

Source: the delay-then-filter arrangement of line echo cancellers (ITU-T G.168, sections 3 and 6), solved in one step
instead of adapted, since half a second is all there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio.formats import Pcm16

__all__ = ["MOST_DELAY_MS", "EchoReport", "find_echo"]

MOST_DELAY_MS = 500
"""The longest round trip that is looked for."""

_RATE_HZ = 8000
_TAPS = 64  # 8 ms: the response of a hybrid, from a little before the best delay on
_BEFORE = 20
_FRAME = _RATE_HZ // 50
_LEAST_CORRELATION = 0.3
_FLOOR_DBFS = -55.0  # quieter than this is nobody's speech
_QUIET_SHARE = 20  # per cent of the frames that are taken for the line's own noise
_OVER_NOISE = 4.0  # 6 dB above that is sound, not noise
_NEAR_RATIO = 0.5  # what is left of a frame, to its echo, from which on somebody else speaks in it


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoReport:
    """What a stretch of audio has of the prompt that was played, and what else."""

    delay_ms: float
    """From played to heard."""
    loss_db: float
    """How much quieter than played it came back."""
    explained: float
    """Share of the stretch's energy that is echo, 0 to 1."""
    near_ms: int
    """How much of it, in frames of 20 ms, holds sound that is no echo."""
    near_from_ms: int
    """Where the first such frame begins; the stretch's length where there is none."""

    @property
    def is_all(self) -> bool:
        """Whether the stretch is echo and nothing else that could be speech.

        Measured on the trials of tests/audio/test_echo.py (half a second, 10 to 40 dB down, straight or through a
        hybrid): of echo alone at least 0.83 is explained and at most 100 ms are something else, or 0.96 is explained;
        with its last 200 ms spoken over at most 0.53 is explained, and at least 120 ms are something else.
        """
        return self.explained >= 0.95 or (self.explained >= 0.6 and self.near_ms <= 100)


def find_echo(heard: Pcm16, played: Pcm16, sample_rate_hz: int) -> EchoReport | None:
    """Look for `played` in `heard`.

    Args:
        heard: int16 mono, the line's audio.
        played: int16 mono, what was sent; begins `MOST_DELAY_MS` before `heard` does and ends with it.
        sample_rate_hz: of both, 8000 or 16000.

    Returns:
        None where there is no echo: nothing was played, or what came back is something else.

    Raises:
        ValueError: `played` is not as much longer than `heard` as it has to be.
    """
    if len(played) - len(heard) != sample_rate_hz * MOST_DELAY_MS // 1000:
        raise ValueError(
            f"played has {len(played)} samples; it must have {MOST_DELAY_MS} ms more than heard's {len(heard)}"
        )
    near, far = _at_8k(heard, sample_rate_hz), _at_8k(played, sample_rate_hz)
    energy = float(near @ near)
    if not energy or not far.any():
        return None
    lag, correlation = _best_lag(near, far)
    if correlation < _LEAST_CORRELATION:
        return None
    echo = _fit(near, far, lag)
    rest = near - echo
    echo_energy = float(echo @ echo)
    source = far[lag : lag + len(near)]
    is_near = _frames_with_more_than_echo(rest, echo)
    return EchoReport(
        delay_ms=MOST_DELAY_MS - lag * 1000 / _RATE_HZ,
        loss_db=10 * float(np.log10(max(float(source @ source), 1e-9) / max(echo_energy, 1e-9))),
        explained=max(0.0, 1 - float(rest @ rest) / energy),
        near_ms=20 * int(is_near.sum()),
        near_from_ms=20 * int(is_near.argmax() if is_near.any() else len(is_near)),
    )


def _at_8k(pcm: Pcm16, sample_rate_hz: int) -> NDArray[np.float64]:
    """Without the offset that cheap converters add: no detector hears it, and no echo explains it."""
    samples = pcm.astype(np.float64)
    samples -= samples.mean()
    if sample_rate_hz == _RATE_HZ:
        return samples
    # The mean of two is filter enough: both sides go through the same one.
    step = sample_rate_hz // _RATE_HZ
    whole = len(samples) // step * step
    mean: NDArray[np.float64] = samples[:whole].reshape(-1, step).mean(axis=1)
    return mean


def _best_lag(near: NDArray[np.float64], far: NDArray[np.float64]) -> tuple[int, float]:
    """Where `near` fits best into `far`, and its normalised correlation there, 0 to 1 (an echo may be inverted)."""
    size = 1 << (len(far) - 1).bit_length()
    spectrum = np.fft.rfft(far, size) * np.conj(np.fft.rfft(near, size))
    products = np.fft.irfft(spectrum, size)[: len(far) - len(near) + 1]
    energies = np.concatenate([[0.0], np.cumsum(far * far)])
    windows = energies[len(near) :] - energies[: len(energies) - len(near)]
    scale = np.sqrt(np.maximum(windows, windows.max() * 1e-3) * float(near @ near))
    scores = np.abs(products) / scale
    lag = int(scores.argmax())
    return lag, float(scores[lag])


def _fit(near: NDArray[np.float64], far: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    """The part of `near` that a short filter makes of `far` around `lag`."""
    padded = np.concatenate([np.zeros(_TAPS), far, np.zeros(_TAPS)])
    start = lag + _TAPS - (_TAPS - 1 - _BEFORE)
    delayed = np.lib.stride_tricks.sliding_window_view(padded[start : start + len(near) + _TAPS - 1], _TAPS)
    rows = np.ascontiguousarray(delayed)  # a view of overlapping rows would go past BLAS: 80 ms instead of one
    gram = rows.T @ rows
    gram += np.eye(_TAPS) * (np.trace(gram) / _TAPS * 1e-4 + 1e-9)
    fitted: NDArray[np.float64] = rows @ np.linalg.solve(gram, rows.T @ near)
    return fitted


def _frames_with_more_than_echo(rest: NDArray[np.float64], echo: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Per whole frame of 20 ms: is what the echo leaves loud, by itself, over the line's noise and beside the echo?"""
    count = len(rest) // _FRAME
    left, back = (np.square(part[: count * _FRAME].reshape(count, _FRAME)).mean(axis=1) for part in (rest, echo))
    noise = float(np.percentile(left, _QUIET_SHARE)) if count else 0.0
    floor = max((32768 * 10 ** (_FLOOR_DBFS / 20)) ** 2, _OVER_NOISE * noise)
    loud: NDArray[np.bool_] = left > np.maximum(floor, back * _NEAR_RATIO)
    return loud
