"""The torch engine beside the CTranslate2 engine: the same weights, the same words, scores and gates."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch

from audio.asr import AsrJob, Expectation, Transcript
from audio.files import read_audio
from audio.formats import Pcm16
from audio.torch_engine import TorchWhisperEngine
from audio.whisper import WhisperRecogniser
from audio.whisper_engine import WhisperEngine
from audio.whisper_profile import AsrModelError

pytestmark = pytest.mark.model

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT.parent / "shared" / "models" / "asr-start" / "hf"
RECORDINGS = sorted((ROOT / "gateway" / "demo").rglob("*.wav"))
PROFILE = {
    "name": "start",
    "languages": ["en"],
    "short_windows": True,
    "narrowband": True,
    "max_window_s": 3.0,
    "expectation_margin": 6.0,
    "gates": {"min_avg_logprob": -1.3, "no_speech_weight": 0.4, "min_evidence": -1.0},
}


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not WEIGHTS.is_dir():
        pytest.skip("no weights in Hugging Face form here: shared/models is not part of the project")
    folder = tmp_path_factory.mktemp("model") / "hf"
    shutil.copytree(WEIGHTS, folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    (folder / "voicegate.json").write_text(json.dumps(PROFILE))
    return folder


@pytest.fixture(scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def engine(hugging_face: Path, one_thread: None) -> TorchWhisperEngine:
    engine = TorchWhisperEngine(hugging_face, device="cpu")
    engine.warm_up()
    return engine


@pytest.fixture(scope="module")
def other(hugging_face: Path) -> WhisperEngine:
    converted = hugging_face.parent / "ct2"
    ctranslate2.converters.TransformersConverter(
        str(hugging_face), copy_files=["tokenizer.json", "preprocessor_config.json", "voicegate.json"]
    ).convert(str(converted), force=True)
    return WhisperEngine(converted, device="cpu", compute_type="float32")


def recordings() -> list[AsrJob]:
    """Two calls of the demo, and what gates are there for."""
    rng = np.random.default_rng(0)
    sounds: list[Pcm16] = [read_audio(path, 8000) for path in RECORDINGS]
    sounds += [rng.normal(0, level, 12000).astype(np.int16) for level in (3, 300, 3000)]
    sounds += [np.zeros(8000, np.int16), sounds[0][:500]]
    return [AsrJob(pcm=pcm) for pcm in sounds]


def assert_alike(heard: list[Transcript], others: list[Transcript], tolerance: float = 2e-3) -> None:
    assert [(t.text, t.language, t.gated_by) for t in heard] == [(t.text, t.language, t.gated_by) for t in others]
    for figure in ("avg_logprob", "no_speech_prob"):
        ours, theirs = ([getattr(t, figure) for t in side] for side in (heard, others))
        assert ours == pytest.approx(theirs, abs=tolerance), figure


def test_both_engines_hear_the_same(engine: TorchWhisperEngine, other: WhisperEngine) -> None:
    jobs = recordings()
    heard = engine.transcribe(jobs)
    assert_alike(heard, other.transcribe(jobs))
    assert all(t.text for t in heard[: len(RECORDINGS)])
    assert not any(t.text for t in heard[len(RECORDINGS) :])
    assert (engine.name, engine.sample_rate_hz) == (other.name, other.sample_rate_hz) == ("start", 8000)
    assert [engine.padded_frames(job) for job in jobs] == [other.padded_frames(job) for job in jobs]


def test_with_beams_both_engines_hear_the_same_and_more_likely_words(
    engine: TorchWhisperEngine, other: WhisperEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In noise: where words are sure, one beam finds them too."""
    noise = np.random.default_rng(5).normal(0, 900, 40000)
    clean = recordings()[: len(RECORDINGS)]
    jobs = [replace(job, pcm=(job.pcm + noise[: len(job.pcm)]).astype(np.int16)) for job in clean]
    greedy = engine.transcribe(jobs)
    for one in (engine, other):
        monkeypatch.setattr(one, "profile", replace(one.profile, beams=3))
    heard = engine.transcribe(jobs)
    assert_alike(heard, other.transcribe(jobs))
    assert_alike(heard, [engine.transcribe([job])[0] for job in jobs])

    def likelihood(found: Transcript) -> float:
        return found.avg_logprob * max(1, len(engine._encode_text(f" {found.text}")))

    changed = [(a, b) for a, b in zip(greedy, heard, strict=True) if a.text != b.text]
    assert changed and all(likelihood(b) >= likelihood(a) - 1e-3 for a, b in changed)


def test_a_batch_gives_what_each_job_gives_alone(engine: TorchWhisperEngine) -> None:
    jobs = recordings()[:6]
    assert_alike(engine.transcribe(jobs), [engine.transcribe([job])[0] for job in jobs])


def test_batches_are_bounded(hugging_face: Path, engine: TorchWhisperEngine) -> None:
    narrow = TorchWhisperEngine(hugging_face, device="cpu", max_batch=2)
    sizes: list[int] = []
    encode = narrow._weights.model.encoder.conv1.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    jobs = [AsrJob(pcm=recordings()[0].pcm)] * 5
    assert_alike(narrow.transcribe(jobs), engine.transcribe(jobs))
    assert sizes == [2, 2, 1]
    encode.remove()


def test_long_audio_is_heard_to_its_end(engine: TorchWhisperEngine, other: WhisperEngine) -> None:
    jobs = [AsrJob(pcm=np.concatenate([job.pcm for job in recordings()[: len(RECORDINGS)]]))]
    heard = engine.transcribe(jobs)
    assert_alike(heard, other.transcribe(jobs))
    assert len(heard[0].text.split()) > 20


def test_expected_words(engine: TorchWhisperEngine, other: WhisperEngine) -> None:
    """What an expectation makes of noisy recordings, it makes the same in both engines; of some, other words."""
    noise = np.random.default_rng(5).normal(0, 800, 40000)
    jobs = [
        AsrJob(pcm=(job.pcm + noise[: len(job.pcm)]).astype(np.int16), expect=expect)
        for job in recordings()[:6]
        for expect in Expectation
    ]
    held = engine.transcribe(jobs)
    assert_alike(held, other.transcribe(jobs))
    free = engine.transcribe([replace(job, expect=None) for job in jobs])
    assert sum(a.text != b.text for a, b in zip(held, free, strict=True)) >= 2


def test_bfloat16_hears_the_same_words(hugging_face: Path, engine: TorchWhisperEngine) -> None:
    half = TorchWhisperEngine(hugging_face, device="cpu", compute_type="bfloat16")
    jobs = recordings()[: len(RECORDINGS)]
    assert_alike(half.transcribe(jobs), engine.transcribe(jobs), tolerance=0.05)


def test_no_jobs(engine: TorchWhisperEngine) -> None:
    assert engine.transcribe([]) == []


@pytest.mark.gpu
@pytest.mark.parametrize("compute_type", ["float16", "bfloat16"])
def test_on_a_gpu(hugging_face: Path, engine: WhisperRecogniser, compute_type: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    on_gpu = TorchWhisperEngine(hugging_face, device="cuda", compute_type=compute_type)
    on_gpu.warm_up()
    jobs = recordings()[: len(RECORDINGS)]
    assert_alike(on_gpu.transcribe(jobs), engine.transcribe(jobs), tolerance=0.1)


@pytest.mark.parametrize(
    ("compute_type", "words"),
    [
        ("int8", r"'int8' is not one of torch's \(float32, float16, bfloat16\)"),
        ("float16", "'float16' needs a GPU; choose float32"),
    ],
)
def test_compute_types_that_cannot_be(tmp_path: Path, compute_type: str, words: str) -> None:
    with pytest.raises(AsrModelError, match=words):
        TorchWhisperEngine(tmp_path, device="cpu", compute_type=compute_type)


def test_what_cannot_be_loaded_is_named_with_the_mend(tmp_path: Path, hugging_face: Path) -> None:
    with pytest.raises(AsrModelError, match=r"speech model '.+' cannot be loaded .+model\.safetensors"):
        TorchWhisperEngine(tmp_path, device="cpu")
    for name in ("config.json", "tokenizer.json", "model.safetensors", "preprocessor_config.json"):
        broken = tmp_path / f"broken-{name}"
        shutil.copytree(hugging_face, broken)
        (broken / name).write_text("{")
        with pytest.raises(AsrModelError, match=f"broken-{name}' cannot be loaded"):
            TorchWhisperEngine(broken, device="cpu")
