"""A whole training in little: start, stop, go on, export, load in faster-whisper, test, card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import cast

import numpy as np
import pytest
import torch
from faster_whisper import WhisperModel
from numpy.typing import NDArray

from audio.asr import AsrJob, Transcript
from audio.recipe.card import CardFacts, write_card
from audio.recipe.evaluation_sets import CONDITIONS, build_tests, read_tests
from audio.recipe.examples import Mel, log_mel
from audio.recipe.export import export
from audio.recipe.plan import Shape, TrainingError, TrainingSettings
from audio.recipe.recordings import Recordings
from audio.recipe.scoring import score, summary
from audio.recipe.speech import SAMPLE_RATE_HZ, VoiceSet, to_pcm16
from audio.recipe.trainer import Checkpoint, Trainer, load_checkpoint
from audio.recipe.training import Progress, _loop, prepare, train
from audio.resampling import pcm16_to_float, resample
from audio.whisper import Hypothesis
from audio.whisper_engine import WhisperEngine
from tests.audio.recipe.tone_speaker import ToneSpeaker, write_data

pytestmark = pytest.mark.model

VOICES = VoiceSet(live=ToneSpeaker, slow=(ToneSpeaker(),), unheard=(("tones", ToneSpeaker()),))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def settings(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingSettings:
    return TrainingSettings(
        out=tmp_path_factory.mktemp("training"),
        data=data,
        minutes=0.02,
        shape=Shape(width=32, encoder_layers=1, decoder_layers=1),
        vocabulary_tokens=300,
        frame_budget=600,
        cached_sentences=5,
    )


@pytest.fixture(scope="module")
def trained(settings: TrainingSettings) -> Checkpoint:
    """Trained in one run for a second, in a second run for half a second more."""
    reports: list[Progress] = []
    prepare(settings, VOICES, lambda line: None)
    assert train(settings, ToneSpeaker, reports.append)
    first = load_checkpoint(settings.out)
    # a busy machine may have spent more than was asked for: go on from what it did spend
    assert train(replace(settings, minutes=first.minutes + 0.01), ToneSpeaker, reports.append)
    second = load_checkpoint(settings.out)
    assert second.step > first.step > 0 and second.presentations > first.presentations
    assert second.minutes >= first.minutes + 0.01
    lines = (settings.out / "progress.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [report.step for report in reports]
    return second


@pytest.fixture(scope="module")
def exported(trained: Checkpoint, settings: TrainingSettings) -> Path:
    return export(trained.network, trained.tokenizer, settings.out, name="tiny", version="3")


def test_a_finished_training_has_nothing_left_to_do(trained: Checkpoint, settings: TrainingSettings) -> None:
    assert train(settings, ToneSpeaker, lambda now: None)
    assert load_checkpoint(settings.out).step == trained.step


def test_the_export_loads_in_faster_whisper(exported: Path) -> None:
    model = WhisperModel(str(exported), device="cpu", compute_type="int8", cpu_threads=1)
    sound = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    segments, _ = model.transcribe(sound, language="en", without_timestamps=True, temperature=0.0, max_new_tokens=5)
    assert all(isinstance(segment.text, str) for segment in segments)


def test_the_export_tells_the_engine_how_to_use_it(exported: Path) -> None:
    engine = WhisperEngine(exported, device="cpu")
    assert engine.name == "tiny-3" and engine.profile.short_windows and engine.profile.telephone_band
    noise = np.random.default_rng(0).normal(0, 3000, SAMPLE_RATE_HZ).astype(np.int16)
    assert isinstance(engine.transcribe([AsrJob(pcm=noise)])[0], Transcript)


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_a_call_gives_the_features_that_training_learnt_from(
    exported: Path, rate_hz: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each hears through its own code: what one changes alone, the other is deaf to."""
    engine = WhisperEngine(exported, device="cpu")
    given: list[Mel] = []

    def deaf(features: NDArray[np.float32], *_: object) -> list[Hypothesis]:
        given.extend(features)
        return [Hypothesis(tokens=(), score=0.0, no_speech_prob=1.0, language=None)] * len(features)

    monkeypatch.setattr(engine, "_generate", deaf)
    time_s = np.arange(8000) / SAMPLE_RATE_HZ
    said = to_pcm16((np.sin(2 * np.pi * 120 * time_s) + np.sin(2 * np.pi * 900 * time_s)).astype(np.float32), peak=0.5)
    engine.transcribe([AsrJob(pcm=resample(said, SAMPLE_RATE_HZ, rate_hz), sample_rate_hz=rate_hz)])
    learnt = log_mel(pcm16_to_float(said))
    # what a telephone lets through, away from the ends where a second resampling differs
    heard = given[0][:, 5 : learnt.shape[1] - 5]
    assert heard == pytest.approx(learnt[:, 5:-5], abs=1e-5 if rate_hz == SAMPLE_RATE_HZ else 0.1)


def test_an_export_is_where_another_training_starts(
    exported: Path, trained: Checkpoint, settings: TrainingSettings, tmp_path: Path
) -> None:
    warm = replace(settings, out=tmp_path, init_from=settings.out / "model", minutes=1e-4, cached_sentences=0)
    prepare(warm, VOICES, lambda line: None)
    train(warm, ToneSpeaker, lambda now: None)
    start, now = trained.network.state_dict(), load_checkpoint(tmp_path).network.state_dict()
    name = "whisper.model.encoder.conv1.weight"
    assert torch.allclose(start[name], now[name], atol=1e-3)  # one step at the foot of the warm-up


def test_who_was_never_heard_is_remembered(
    settings: TrainingSettings, trained: Checkpoint, exported: Path, tmp_path: Path
) -> None:
    """From training to training, and by an export alone: else a figure for strangers would be one for acquaintances."""
    first = replace(settings, out=tmp_path / "first", held_out=("ann",), minutes=1e-4, cached_sentences=0)
    prepare(first, VOICES, lambda line: None)
    train(first, ToneSpeaker, lambda now: None)
    kept = load_checkpoint(first.out)
    assert kept.never_heard == ("ann",)
    export(kept.network, kept.tokenizer, first.out, name="a", version="1", never_heard=kept.never_heard)
    second = replace(first, out=tmp_path / "second", init_from=first.out / "model")
    prepare(second, VOICES, lambda line: None)
    for heard_them in (
        replace(first, held_out=("ann", "bob")),
        replace(second, held_out=("bob",)),
        replace(second, init_from=settings.out / "model"),
        replace(settings, held_out=("ann",)),
    ):
        with pytest.raises(TrainingError, match="cannot be held out"):
            prepare(heard_them, VOICES, lambda line: None)


def test_a_damaged_note_of_who_was_never_heard_is_named(settings: TrainingSettings, tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text("[]")
    with pytest.raises(TrainingError, match=r"training\.json.*export it again"):
        prepare(replace(settings, out=tmp_path / "out", init_from=tmp_path), VOICES, lambda line: None)


def test_a_start_of_another_shape_is_refused(exported: Path, settings: TrainingSettings, tmp_path: Path) -> None:
    wider = replace(settings, out=tmp_path, init_from=settings.out / "model", shape=Shape(width=64))
    prepare(replace(wider, cached_sentences=0), VOICES, lambda line: None)
    with pytest.raises(TrainingError, match="same width"):
        train(wider, ToneSpeaker, lambda now: None)


def test_a_checkpoint_of_another_shape_is_refused(trained: Checkpoint, settings: TrainingSettings) -> None:
    with pytest.raises(TrainingError, match="another --out"):
        train(replace(settings, shape=Shape(width=64)), ToneSpeaker, lambda now: None)


def test_no_checkpoint_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="train first"):
        load_checkpoint(tmp_path)


def test_a_start_folder_without_a_model_is_refused(settings: TrainingSettings, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="model.safetensors"):
        prepare(replace(settings, out=tmp_path / "out", init_from=tmp_path), VOICES, lambda line: None)


class EchoEngine:
    """An engine that knows the answers of one test and is deaf in the others."""

    name = "echo"

    def __init__(self, answers: list[str]) -> None:
        self._answers = answers

    def transcribe(self, jobs: list[AsrJob]) -> list[Transcript]:
        return [Transcript(text=self._answers.pop(0) if self._answers else "") for _ in jobs]

    def padded_frames(self, job: AsrJob) -> int:
        return 0


@pytest.fixture(scope="module")
def tests_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tests")
    texts = [("requests", ["where's my card"])]
    build_tests(folder, Recordings.load(data), VOICES.unheard, texts, size=3)
    return folder


def test_tests_are_manifests_in_every_condition(tests_folder: Path) -> None:
    kinds = read_tests(tests_folder)
    assert {kind.rejection for kind in kinds} == {True, False}
    for kind in kinds:
        for condition in CONDITIONS[:1] if kind.rejection else CONDITIONS:
            lines = (tests_folder / kind.folder / f"{condition}.jsonl").read_text().splitlines()
            rows = [json.loads(line) for line in lines]
            assert len(rows) == kind.count
            assert all((tests_folder / kind.folder / row["audio"]).exists() for row in rows)
            assert all(bool(row["text"]) != kind.rejection for row in rows)


def test_digits_of_speakers_held_out_are_tests_beside_the_others(
    tests_folder: Path, data: Path, tmp_path: Path
) -> None:
    build_tests(tmp_path, Recordings.load(data, ("ann",)), VOICES.unheard, [("requests", ["where's my card"])], size=3)
    known, unheard = ({kind.title: kind.count for kind in read_tests(folder)} for folder in (tests_folder, tmp_path))
    of_fsdd = {title: count for title, count in unheard.items() if title not in known}
    assert of_fsdd == {
        "human, one digit (FSDD, unheard speakers)": 30,
        "human, 3-6 digits spliced (FSDD, unheard speakers)": 100,
    }
    assert {title for title in known if "unheard recordings" in title} == known.keys() - unheard.keys()


def test_scores_count_word_errors_and_words_in_noise(tests_folder: Path) -> None:
    first = read_tests(tests_folder)[0]
    manifest = tests_folder / first.folder / "clean.jsonl"
    answers = [json.loads(line)["text"] for line in manifest.read_text().splitlines()]
    figures = score(EchoEngine(["wrong", *answers[1:]]), tests_folder, conditions=CONDITIONS[:1])
    assert figures[0].wer == pytest.approx(1 / len(answers)) and figures[0].exact == 1 - 1 / len(answers)
    assert all(figure.wer == 1 for figure in figures[1:] if figure.wer is not None)
    assert [figure.words_share for figure in figures if figure.wer is None] == [0.0, 0.0]
    assert summary(figures)[first.title] == pytest.approx(10)


def test_the_card_has_every_figure_and_licence(
    tests_folder: Path, data: Path, tmp_path: Path, make_facts: Callable[..., CardFacts]
) -> None:
    figures = score(EchoEngine([]), tests_folder)
    sources = Recordings.load(data).sources()
    write_card(tmp_path / "card.md", make_facts(figures=figures, recordings=sources, baseline_figures=figures))
    card = (tmp_path / "card.md").read_text()
    assert all(kind.title in card for kind in read_tests(tests_folder))
    assert all(source in card for source in sources)
    assert "100.0" in card and "(before: 0.0 %)" in card


def test_the_card_says_what_a_warm_start_means(tmp_path: Path, make_facts: Callable[..., CardFacts]) -> None:
    write_card(tmp_path / "card.md", make_facts(started_from="older/model"))
    assert "counts as heard here too, recordings that are tests here among it. " in (tmp_path / "card.md").read_text()
    write_card(tmp_path / "card.md", make_facts(started_from="older/model", held_out=["ann"]))
    assert "it never heard ann either" in (tmp_path / "card.md").read_text()
    write_card(tmp_path / "card.md", make_facts())
    assert "random weights" in (tmp_path / "card.md").read_text()


@pytest.fixture
def make_facts() -> Callable[..., CardFacts]:
    base = CardFacts(
        name="tiny", version="3", parameters=1_000_000, size_bytes=2_000_000, presentations=5000, minutes=3,
        seed="1", started_from="", voices=["tones (ours)"], test_voices=["tones"], recordings=[], figures=[],
        baseline="before",
    )  # fmt: skip
    return lambda **changes: replace(base, **changes)


def test_two_processes_train_together(settings: TrainingSettings, tmp_path: Path) -> None:
    pair = replace(settings, out=tmp_path, ranks=2, cached_sentences=0, meet_every_s=0.3, minutes=0.03)
    prepare(pair, VOICES, lambda line: None)
    reports: list[Progress] = []
    assert train(pair, ToneSpeaker, reports.append)
    assert reports[-1].presentations > reports[-1].step  # both processes' examples are counted


def test_a_draw_of_the_tone_speaker_is_the_same_each_time() -> None:
    first, second = (ToneSpeaker().speak("a cat", Random(1)) for _ in range(2))
    np.testing.assert_array_equal(first.samples, second.samples)


class LateMeeting:
    """A trainer whose steps take a second, and who once waits six for another process at their meeting."""

    rank = 1
    presentations = 0
    spent_s = 0.0

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings
        self.now_s = 100.0
        self.stretches: list[int] = []
        self._steps = 0

    @property
    def progress(self) -> float:
        return min(1.0, len(self.stretches) / 5)

    def learn(self) -> tuple[float, float, float]:
        self.now_s += 1.0
        self._steps += 1
        return 0.0, 0.0, 0.0

    def meet(self, *, stop: bool) -> bool:
        self.now_s += 6.0 if not self.stretches else 0.0
        self.stretches.append(self._steps)
        self._steps = 0
        return stop


def test_who_waited_for_another_process_trains_as_long_as_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """He came six seconds early to every meeting after that, and waited: a second core was half idle."""
    trainer = LateMeeting(TrainingSettings(out=tmp_path, data=tmp_path, meet_every_s=10.0))
    monkeypatch.setattr("audio.recipe.training.time.monotonic", lambda: trainer.now_s)
    _loop(cast(Trainer, trainer), [], None)
    assert trainer.stretches == [10, 10, 10, 10, 10]
