"""Our own prompt come back, with and without the caller over it: by prompts of espeak-ng and recorded callers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from audio import g711
from audio.echo import MOST_DELAY_MS, EchoReport, find_echo
from audio.files import read_audio
from audio.formats import Pcm16
from tts_stub.espeak import EspeakSynthesizer
from tts_stub.synthesis import Voice

pytestmark = pytest.mark.unit

DEMO = Path(__file__).parent.parent.parent / "gateway" / "demo"
PROMPTS = (
    "Hello, this is River Energy, about your account.",
    "Your bill of 84 dollars and 50 cents is due on Friday. Which day will you pay it?",
    "What are the last four digits of your account number?",
)
Samples = NDArray[np.float64]


@cache
def prompt(text: str, rate: int) -> Samples:
    pcm = EspeakSynthesizer().synthesize(text, Voice("en-us", 160), rate).astype(np.float64)
    return np.concatenate([np.zeros(rate), pcm, np.zeros(rate)])


@cache
def callers(rate: int) -> tuple[Samples, ...]:
    """Recorded callers from their first sound on."""
    found = []
    for path in sorted(DEMO.glob("*.wav")):
        pcm = read_audio(path, rate).astype(np.float64)
        found.append(pcm[int(np.flatnonzero(np.abs(pcm) > 600)[0]) :])
    return tuple(found)


def hybrid(rate: int, rng: np.random.Generator) -> Samples:
    """A line's impulse response: 5 ms of noise that dies away, of unit energy."""
    taps = np.arange(rate * 5 // 1000)
    response = rng.normal(size=len(taps)) * np.exp(-taps * 4 / len(taps))
    return np.asarray(response / np.sqrt(np.sum(response**2)))


def over_the_line(samples: Samples, rng: np.random.Generator, *, noise: float = 6, offset: float = 0) -> Pcm16:
    """With noise and an offset, in samples, and through G.711."""
    noisy = np.clip(np.rint(samples + offset + rng.normal(size=len(samples)) * noise), -32768, 32767).astype(np.int16)
    return g711.mulaw_decode(g711.mulaw_encode(noisy))


def trial(
    seed: int,
    rate: int,
    loss_db: float,
    *,
    dispersed: bool,
    near_ms: int = 0,
    echoes: bool = True,
    noise: float = 6,
    offset: float = 0,
) -> tuple[EchoReport | None, float]:
    """Half a second of the line while a prompt plays, and the delay in it; the caller speaks in the last `near_ms`."""
    rng = np.random.default_rng(seed)
    text = PROMPTS[seed % len(PROMPTS)]
    line = prompt(text, rate)
    length, most = rate // 2, rate * MOST_DELAY_MS // 1000
    delay = int(rng.integers(0, most - rate // 100))
    start = int(rng.integers(rate + most // 2, len(line) - rate - length))
    played = line[start - most : start + length]
    lead = rate // 10
    heard = line[start - delay - lead : start - delay + length] * 10 ** (-loss_db / 20) * echoes
    if dispersed:
        heard = np.convolve(heard, hybrid(rate, rng))[: len(heard)]
    heard = heard[lead:].copy()
    if near_ms:
        spoken = rate * near_ms // 1000
        heard[-spoken:] += callers(rate)[seed % len(callers(rate))][:spoken]
    clipped = np.clip(np.rint(played), -32768, 32767).astype(np.int16)
    return find_echo(over_the_line(heard, rng, noise=noise, offset=offset), clipped, rate), delay * 1000 / rate


TRIALS = range(24)


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("dispersed", [False, True])
@pytest.mark.parametrize("loss_db", [10, 20, 30, 40])
def test_echo_is_known_for_what_it_is(rate: int, dispersed: bool, loss_db: float) -> None:
    for seed in TRIALS:
        report, delay_ms = trial(seed, rate, loss_db, dispersed=dispersed)
        assert report is not None and report.is_all, (seed, report)
        assert report.delay_ms == pytest.approx(delay_ms, abs=6 if dispersed else 1)
        if loss_db <= 30:
            assert report.loss_db == pytest.approx(loss_db, abs=8 if dispersed else 1), "a hybrid has a colour"


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("dispersed", [False, True])
@pytest.mark.parametrize("loss_db", [10, 20, 30, 40])
@pytest.mark.parametrize("near_ms", [200, 400])
def test_a_caller_who_speaks_over_the_echo_is_heard(rate: int, dispersed: bool, loss_db: float, near_ms: int) -> None:
    for seed in TRIALS:
        report, _ = trial(seed, rate, loss_db, dispersed=dispersed, near_ms=near_ms)
        assert report is None or not report.is_all, (seed, report)


LINES = {"noise at -54 dBFS": (65, 0), "noise at -50 dBFS": (104, 0), "an offset": (6, 400)}


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("dispersed", [False, True])
@pytest.mark.parametrize("loss_db", [10, 20])
@pytest.mark.parametrize("line", LINES)
def test_a_lines_own_noise_and_offset_are_no_caller(rate: int, dispersed: bool, loss_db: float, line: str) -> None:
    """Each pause between the prompt's words was somebody else's sound: the bot interrupted itself."""
    noise, offset = LINES[line]
    known = [
        report is not None and report.is_all
        for report, _ in (trial(s, rate, loss_db, dispersed=dispersed, noise=noise, offset=offset) for s in TRIALS)
    ]
    assert sum(known) >= len(known) - 1


@pytest.mark.parametrize("loss_db", [10, 20, 30])
@pytest.mark.parametrize("near_ms", [200, 400])
@pytest.mark.parametrize("line", LINES)
def test_a_caller_is_heard_over_echo_and_noise(loss_db: float, near_ms: int, line: str) -> None:
    noise, offset = LINES[line]
    for seed in TRIALS:
        report, _ = trial(seed, 8000, loss_db, dispersed=False, near_ms=near_ms, noise=noise, offset=offset)
        assert report is None or not report.is_all, (seed, report)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_caller_without_echo_is_no_echo(rate: int) -> None:
    for seed in TRIALS:
        report, _ = trial(seed, rate, 0, dispersed=False, near_ms=500, echoes=False)
        assert report is None or not report.is_all, (seed, report)


def test_where_the_caller_began_over_the_echo() -> None:
    found = [trial(seed, 8000, 10, dispersed=False, near_ms=200)[0] for seed in TRIALS]
    begins = [report.near_from_ms for report in found if report is not None]
    assert len(begins) >= 12 and np.median(begins) == pytest.approx(300, abs=40)


def test_what_was_never_played_or_never_came_back_is_no_echo() -> None:
    heard, played = np.full(4000, 900, np.int16), np.zeros(8000, np.int16)
    assert find_echo(heard, played, 8000) is None
    assert find_echo(played[:4000], np.full(8000, 900, np.int16), 8000) is None


def test_a_stretch_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="must have 500 ms more"):
        find_echo(np.zeros(4000, np.int16), np.zeros(7999, np.int16), 8000)
