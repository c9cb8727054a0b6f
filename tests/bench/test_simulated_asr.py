"""The recogniser that is not there: which words it finds again, and how long it takes for them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from audio.asr import AsrJob, Transcript
from audio.formats import Pcm16
from bench.simulated_asr import (
    Book,
    GpuTime,
    LearningRecogniser,
    SimulatedRecogniser,
    Stretch,
    Stretches,
    words_not_known,
)
from gateway.replay.call_ear import Recording
from gateway.replay.load import Caller

pytestmark = pytest.mark.unit


def noise(seed: int, frames: int) -> Pcm16:
    return np.random.default_rng(seed).integers(-3000, 3000, frames * 160).astype(np.int16)


YES, BILL = noise(1, 50), np.concatenate([noise(2, 40), np.zeros(1600, np.int16), noise(3, 40)])
CALLERS = [Caller("anna", (Recording("yes.wav", YES), Recording("bill.wav", BILL)))]
QUIET = np.zeros(3200, np.int16)


def said(pcm: Pcm16) -> AsrJob:
    return AsrJob(pcm=np.concatenate([QUIET, pcm, QUIET]))


class Lengths:
    """A recogniser whose words are how long it was spoken to."""

    name = "lengths"

    def transcribe(self, jobs: list[AsrJob]) -> list[Transcript]:
        return [Transcript(text=str(len(job.pcm)), avg_logprob=-0.5) for job in jobs]

    def padded_frames(self, job: AsrJob) -> int:
        return 7


def test_an_utterance_is_known_by_its_samples_and_cut_short_it_is_another() -> None:
    stretches = Stretches(CALLERS)
    assert stretches.find(said(YES).pcm) == Stretch("anna/yes.wav", 0, 49)
    assert stretches.find(said(BILL).pcm) == Stretch("anna/bill.wav", 0, 89)
    assert stretches.find(said(BILL[: 40 * 160]).pcm) == Stretch("anna/bill.wav", 0, 39)
    assert stretches.find(said(noise(9, 20)).pcm) is None and stretches.find(QUIET) is None


def test_what_was_learned_is_given_again_and_what_was_not_is_counted(tmp_path: Path) -> None:
    stretches, learned = Stretches(CALLERS), Book()
    learning = LearningRecogniser(Lengths(), learned, stretches)
    jobs = [said(YES), said(BILL), said(BILL[: 40 * 160])]
    heard = learning.transcribe(jobs)
    assert [transcript.text for transcript in heard] == [str(len(job.pcm)) for job in jobs]
    assert learning.padded_frames(jobs[0]) == 7
    learned.write(tmp_path / "words.json")
    book = Book.read(tmp_path / "words.json")
    simulated = SimulatedRecogniser(book, stretches, GpuTime(first_ms=0.0))
    assert simulated.transcribe(jobs) == heard
    assert (book.guessed, book.unknown) == (0, 0)
    nearly = simulated.transcribe([said(BILL[: 43 * 160])])  # the pause has no frames of its own
    assert nearly == [heard[2]] and book.guessed == 0
    assert simulated.transcribe([said(BILL[: 70 * 160])]) == [heard[1]] and book.guessed == 1
    assert simulated.transcribe([said(noise(9, 20))])[0].text == "" and book.unknown == 1


def test_a_batch_takes_as_long_as_a_gpus() -> None:
    gpu = GpuTime(first_ms=40.0, more=0.25, short_s=5.0)
    assert gpu.batch_s(1, 1.0) == pytest.approx(0.04)
    assert gpu.batch_s(5, 4.9) == pytest.approx(0.08)
    assert gpu.batch_s(1, 10.0) == pytest.approx(0.08)
    begun = time.monotonic()
    SimulatedRecogniser(Book(), Stretches(CALLERS), gpu).transcribe([said(YES)] * 5)
    assert time.monotonic() - begun >= 0.08


def test_what_was_not_known_is_told_beside_the_engines_metrics() -> None:
    stats = 'a_total{b="c"} 1.0\nsimulated_guessed 2\nsimulated_unknown 0\n'
    assert words_not_known(stats) == {"guessed": 2, "unknown": 0}
    assert words_not_known('a_total{b="c"} 1.0\n') == {}


@pytest.mark.parametrize(("samples", "frames"), [(800, 50), (4000, 100), (16000, 250)])
def test_padding_is_the_bundled_models(samples: int, frames: int) -> None:
    simulated = SimulatedRecogniser(Book(), Stretches(CALLERS), GpuTime())
    assert simulated.padded_frames(AsrJob(pcm=np.zeros(samples, np.int16))) == frames
    assert simulated.padded_frames(AsrJob(pcm=np.zeros(2 * samples, np.int16), sample_rate_hz=16000)) == frames
