"""The real espeak-ng: voices, threads, rates and its traps."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from audio.formats import Pcm16
from tts_stub.espeak import MAX_TEXT_CHARS, EspeakSynthesizer
from tts_stub.synthesis import SynthesisError, UnknownVoiceError, Voice

pytestmark = pytest.mark.unit

TEXT = "Is this a good time to talk?"


def alike(one: Pcm16, other: Pcm16) -> bool:
    """The same words by the same voice. espeak-ng varies pitch and length from one utterance to the next (over
    3,000 utterances at most 2 % of length and a correlation of 0.88), so loudness is compared in 50 ms steps."""
    if abs(len(one) - len(other)) > 0.04 * len(one):
        return False
    steps = min(len(one), len(other)) // 400
    loudness = [np.abs(pcm[: steps * 400].astype(float)).reshape(steps, 400).mean(axis=1) for pcm in (one, other)]
    return bool(np.corrcoef(*loudness)[0, 1] > 0.75)


@pytest.fixture(scope="module")
def engine() -> EspeakSynthesizer:
    return EspeakSynthesizer()


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_speaks_at_the_rate_asked_for(engine: EspeakSynthesizer, rate_hz: int) -> None:
    pcm = engine.synthesize(TEXT, Voice(), rate_hz)
    assert pcm.dtype == np.int16 and pcm.ndim == 1
    assert 1.0 < len(pcm) / rate_hz < 3.0


def test_nothing_folds_into_the_telephone_band(engine: EspeakSynthesizer) -> None:
    """Energy above 3.9 kHz in the 8 kHz signal is what a resampler without a filter would leave."""
    pcm = engine.synthesize("six sister ships", Voice(), 8000).astype(float)
    spectrum = np.abs(np.fft.rfft(pcm)) ** 2
    above = spectrum[int(len(spectrum) * 3900 / 4000) :].sum()
    assert above / spectrum.sum() < 0.01


def test_a_prompt_sounds_the_same_every_time_and_whoever_spoke_before(engine: EspeakSynthesizer) -> None:
    first = engine.synthesize(TEXT, Voice("en-us", 150, 40), 8000)
    engine.synthesize("您好", Voice("cmn", 200, 70), 8000)
    assert alike(engine.synthesize(TEXT, Voice("en-us", 150, 40), 8000), first)
    assert not alike(engine.synthesize("This is another prompt, then", Voice("en-us", 150, 40), 8000), first)


@pytest.mark.parametrize("name", ["en-us", "en", "en-gb-x-rp", "cmn", "en-us+f3", "en+m5", "en-us+Andy"])
def test_voices_that_the_project_uses_are_there(engine: EspeakSynthesizer, name: str) -> None:
    assert engine.synthesize("您好 hello", Voice(name), 8000).any()


@pytest.mark.parametrize("name", ["en-gb", "zh", "nosuch", "en-us+nosuch", "../etc/passwd"])
def test_an_unknown_voice_is_an_error_not_the_previous_voice(engine: EspeakSynthesizer, name: str) -> None:
    with pytest.raises(UnknownVoiceError, match="no voice"):
        engine.synthesize(TEXT, Voice(name), 8000)


@pytest.mark.parametrize("text", ["", "   ", "...", "\x00"])
def test_a_text_without_sound_is_an_error(engine: EspeakSynthesizer, text: str) -> None:
    with pytest.raises(SynthesisError, match="no sound"):
        engine.synthesize(text, Voice(), 8000)


def test_a_text_without_end_is_refused_and_not_quoted(engine: EspeakSynthesizer) -> None:
    with pytest.raises(SynthesisError, match=str(MAX_TEXT_CHARS)) as caught:
        engine.synthesize("secret " * MAX_TEXT_CHARS, Voice(), 8000)
    assert "secret" not in str(caught.value)


def test_a_nul_does_not_end_the_prompt(engine: EspeakSynthesizer) -> None:
    whole = engine.synthesize("good morning, good night", Voice(), 8000)
    assert alike(engine.synthesize("good morning,\x00good night", Voice(), 8000), whole)


def test_threads_get_each_their_own_words() -> None:
    """The library is one per process; without the lock, blocks of one prompt land in another."""
    engines = [EspeakSynthesizer() for _ in range(4)]
    texts = [
        " ".join(["account", "of", "Northern", "bananas", "tomorrow"][: 1 + n % 5] * (1 + n // 5)) for n in range(12)
    ]
    prompts = [(text, Voice("en-us" if n % 2 else "en", 120 + 10 * n)) for n, text in enumerate(texts)]
    alone = [engines[0].synthesize(text, voice, 8000) for text, voice in prompts]
    jobs = [(engines[i % 4], *prompts[i % 12]) for i in range(96)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: job[0].synthesize(job[1], job[2], 8000), jobs))
    assert all(alike(pcm, alone[i % 12]) for i, pcm in enumerate(together))
    assert not any(alike(alone[n], alone[m]) for n in range(12) for m in range(n))


def test_two_processes_say_the_same_samples() -> None:
    code = (
        "import zlib; from tts_stub.espeak import EspeakSynthesizer; from tts_stub.synthesis import Voice; "
        "print([zlib.crc32(EspeakSynthesizer().synthesize('hello', Voice(v), 8000)) for v in ('en-us+f3', 'en')])"
    )
    said = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in "ab"}
    assert len(said) == 1


@pytest.mark.parametrize(("out_of", "fault"), [(10, "cannot read its data"), (200, None)])
def test_data_folder_missing_or_deep_down(tmp_path: object, out_of: int, fault: str | None) -> None:
    """In a process of its own: the library is loaded once. A path beyond espeak-ng's buffer still works."""
    code = f"""
import os, pathlib, espeakng_loader, tts_stub.espeak as espeak
from tts_stub.synthesis import EngineUnavailableError, Voice
deep = pathlib.Path({str(tmp_path)!r}) / ("x" * {out_of})
deep.mkdir()
if {fault is None}:
    (deep / "data").symlink_to(espeakng_loader.get_data_path())
espeakng_loader.get_data_path = lambda: str(deep / "data")
try:
    print(espeak.EspeakSynthesizer().synthesize("hello", Voice(), 8000).any())
except EngineUnavailableError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (fault or "True") in done.stdout
