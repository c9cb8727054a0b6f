"""The Whisper engine on the bundled model: a real model, real human digits from the demo where they exist."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jiwer
import numpy as np
import pytest

from audio.asr import AsrJob
from audio.bundled import bundled_model_path
from audio.files import read_audio
from audio.formats import Pcm16
from audio.gates import GateSettings
from audio.resampling import resample
from audio.whisper_engine import AsrModelError, WhisperEngine, split_at_quiet

pytestmark = pytest.mark.model

FSDD = Path(__file__).parents[3] / "shared" / "data" / "fsdd"
WORDS = "zero one two three four five six seven eight nine".split()


@pytest.fixture(scope="module")
def engine() -> WhisperEngine:
    engine = WhisperEngine(bundled_model_path(), device="cpu")
    engine.warm_up()
    return engine


def digit(name: str) -> Pcm16:
    path = FSDD / f"{name}.wav"
    if not path.is_file():
        pytest.skip("no recorded digits here: shared/data/fsdd is not part of the project")
    return np.pad(read_audio(path, 8000), (1900, 1600))


def string_of_digits(count: int) -> tuple[Pcm16, str]:
    """One speaker, short gaps, a little line noise."""
    rng = np.random.default_rng(11)
    digits = rng.integers(0, 10, count)
    parts = [digit(f"{d}_yweweler_{i % 50}")[1900:-1600] for i, d in enumerate(digits)]
    pcm = np.concatenate([part for clip in parts for part in (clip, np.zeros(800, np.int16))])
    pcm = np.pad(pcm, (1900, 1600))
    return (pcm + rng.normal(0, 8, len(pcm))).astype(np.int16), " ".join(WORDS[d] for d in digits)


def test_names_itself_and_its_costs(engine: WhisperEngine) -> None:
    assert engine.name == "en-small-4"
    assert engine.sample_rate_hz == 8000
    costs = [engine.padded_frames(AsrJob(pcm=np.zeros(int(s * 8000), np.int16))) for s in (0.1, 0.42, 0.45, 2, 10)]
    assert costs[:4] == [50, 50, 100, 250]
    assert costs[4] > 1000


def test_human_digits_are_heard(engine: WhisperEngine) -> None:
    names = [f"{d}_{speaker}_{i}" for d in range(10) for speaker in ("george", "yweweler") for i in (3, 8)]
    heard = engine.transcribe([AsrJob(pcm=digit(name)) for name in names])
    right = sum(t.text == WORDS[int(name[0])] for t, name in zip(heard, names, strict=True))
    assert right >= 38, [t.text for t in heard]


def test_a_batch_gives_what_each_job_gives_alone_in_the_order_of_the_jobs(engine: WhisperEngine) -> None:
    """Different lengths, rates and a gated one in one batch: no call hears another."""
    jobs = [AsrJob(pcm=digit(f"{d}_nicolas_{d}")) for d in (7, 0, 3)]
    jobs.insert(1, AsrJob(pcm=np.zeros(8000, np.int16)))
    jobs.append(AsrJob(pcm=resample(digit("5_jackson_2"), 8000, 16000), sample_rate_hz=16000))
    jobs.append(AsrJob(pcm=string_of_digits(4)[0]))
    together = engine.transcribe(jobs)
    alone = [engine.transcribe([job])[0] for job in jobs]
    assert [t.text for t in together] == [t.text for t in alone]
    assert [t.text for t in together[:5]] == ["seven", "", "zero", "three", "five"]
    assert together[1].gated_by == "energy"
    assert [t.avg_logprob for t in together] == pytest.approx([t.avg_logprob for t in alone], abs=0.02)


def test_long_audio_is_heard_to_its_end(engine: WhisperEngine) -> None:
    pcm, said = string_of_digits(40)
    assert len(pcm) > 15 * 8000
    (heard,) = engine.transcribe([AsrJob(pcm=pcm)])
    assert jiwer.wer(said, heard.text) < 0.2
    assert len(set(said.split()[-5:]) & set(heard.text.split()[-5:])) >= 2


def test_no_jobs_and_no_samples(engine: WhisperEngine) -> None:
    assert engine.transcribe([]) == []
    (heard,) = engine.transcribe([AsrJob(pcm=np.zeros(0, np.int16))])
    assert (heard.text, heard.gated_by) == ("", "duration")


@pytest.mark.parametrize("dbfs", [-80, -60, -45, -30, -15])
@pytest.mark.parametrize("smooth", [1, 8])
def test_steady_noise_gives_no_words(engine: WhisperEngine, dbfs: float, smooth: int) -> None:
    rng = np.random.default_rng(4)
    noise = np.convolve(rng.normal(0, 1, 12000), np.ones(smooth) / smooth, "same")
    pcm = np.clip(noise / noise.std() * 32768 * 10 ** (dbfs / 20), -32768, 32767).astype(np.int16)
    assert [t.text for t in engine.transcribe([AsrJob(pcm=pcm), AsrJob(pcm=pcm[:4000])])] == ["", ""]


def test_a_length_that_ctranslate2_mistakes_never_arises(engine: WhisperEngine) -> None:
    """159 and 160 frames become 80 in the encoder, which CTranslate2 takes for 80 mels when handed back to it."""
    lengths = {engine.padded_frames(AsrJob(pcm=np.zeros(n, np.int16))) for n in range(80, 24000, 80)}
    assert not lengths & {159, 160, 255, 256}


def test_stock_weights_path_and_language_detection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The bundled weights dressed as a multilingual stock model: no profile, 30 s windows, four-token prompt.

    CTranslate2 counts a model as multilingual if its vocabulary holds the empty token.
    """
    folder = tmp_path / "dressed"
    shutil.copytree(bundled_model_path(), folder)
    (folder / "voicegate.json").unlink()
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    vocabulary[vocabulary.index("Ġoctober")] = ""
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))
    config = json.loads((folder / "config.json").read_text())
    config["lang_ids"] = [vocabulary.index("<|en|>")]
    (folder / "config.json").write_text(json.dumps(config))

    engine = WhisperEngine(folder, device="cpu", gates=GateSettings(min_avg_logprob=-9))
    assert (engine.name, engine.sample_rate_hz) == ("dressed", 16000)
    pcm = digit("3_nicolas_1")
    assert engine.padded_frames(AsrJob(pcm=pcm)) == 3000
    jobs = [AsrJob(pcm=pcm, language=language) for language in (None, "en", "en-US", "xx")]
    heard = engine.transcribe(jobs)
    assert [(t.text, t.language) for t in heard] == [("three", "en")] * 4
    engine.transcribe(jobs)
    assert caplog.text.count("has no language 'xx'") == 1, "told once, not an utterance"


def test_what_cannot_be_loaded_is_named_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(AsrModelError, match=r"speech model '.+' cannot be loaded .+ct2-transformers-converter"):
        WhisperEngine(tmp_path, device="cpu")
    with pytest.raises(AsrModelError, match="'no-such-size' cannot be loaded"):
        WhisperEngine("no-such-size", device="cpu")
    shutil.copytree(bundled_model_path(), tmp_path / "broken")
    for name in ("tokenizer.json", "model.bin"):
        (tmp_path / "broken" / name).write_text("{")
        with pytest.raises(AsrModelError, match="broken' cannot be loaded"):
            WhisperEngine(tmp_path / "broken", device="cpu")


@pytest.mark.parametrize("seconds", [0.01, 2.9, 3.0, 3.01, 3.4, 3.6, 7.5, 31.7])
def test_windows_hold_every_sample_once(seconds: float) -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, int(seconds * 16000)).astype(np.float32)
    windows = list(split_at_quiet(audio, 16000, 3.0))
    assert np.array_equal(np.concatenate(windows), audio)
    assert all(len(window) <= 48000 for window in windows)
    assert len(windows) == 1 or len(windows[-1]) >= 8000


def test_windows_are_cut_in_the_pause() -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 80000).astype(np.float32)
    audio[36000:39000] = 0
    first, _ = split_at_quiet(audio, 16000, 3.0)
    assert 36000 <= len(first) <= 39000


def test_a_gpu_that_cannot_be_used_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(*_args: object, **_options: object) -> None:
        raise RuntimeError("CUDA failed with error CUDA driver version is insufficient for CUDA runtime version")

    monkeypatch.setattr("audio.whisper_engine.WhisperModel", no_driver)
    with pytest.raises(AsrModelError, match="driver version is insufficient .+; use the device cpu"):
        WhisperEngine(bundled_model_path(), device="cuda")
