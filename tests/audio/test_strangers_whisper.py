"""A model nobody here has trained: random weights in the stock layout, by path, through every path of the code.

It says "ba be bi bo bu da de" whatever it hears; what it hears shows in its probabilities, which both engines and
every way through them must agree on.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from audio.asr import AsrJob, Expectation, Transcript
from audio.engine_choice import load_engine
from audio.files import write_wav
from audio.formats import Pcm16
from audio.gates import GateSettings
from audio.torch_engine import TorchWhisperEngine
from audio.whisper import WhisperRecogniser
from audio.whisper_engine import WhisperEngine
from audio.whisper_profile import AsrModelError
from bench.random_whisper import WhisperShape, convert, make_whisper
from gateway.cli import asr

pytestmark = pytest.mark.model

SAID = "ba be bi bo bu da de"
FORMS = ("ct2", "hf")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """Both forms of a model of 80 mels, as most are, and of one of 128, as large-v3 is."""
    torch.set_num_threads(1)
    found = {}
    for mels in (80, 128):
        root = tmp_path_factory.mktemp(f"stranger-{mels}")
        found["hf", mels] = make_whisper(root / "hf", WhisperShape(64, 2), says=7, text_tokens=400, mels=mels)
        found["ct2", mels] = convert(root / "hf", root / "ct2")
    return found


def load(folder: Path, *, gates: GateSettings | None = None, **profile: object) -> WhisperRecogniser:
    """By path alone, its engine by its form; float32, so that engines can be compared."""
    (folder / "voicegate.json").unlink(missing_ok=True)
    if profile:
        (folder / "voicegate.json").write_text(json.dumps(profile))
    try:
        return load_engine(folder, device="cpu", compute_type="float32", gates=gates)
    finally:
        (folder / "voicegate.json").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def engines(folders: dict[tuple[str, int], Path]) -> dict[str, WhisperRecogniser]:
    return {form: load(folders[form, 80]) for form in FORMS}


def sound(seconds: float, seed: int = 0, hz: int = 8000) -> Pcm16:
    """Syllables of noise, four a second."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * hz)) / hz
    return (rng.normal(0, 3000, len(time)) * (1.001 + np.sin(2 * np.pi * 4 * time)) / 2).astype(np.int16)


def figures(heard: list[Transcript]) -> list[float]:
    return [figure for one in heard for figure in (one.avg_logprob, one.no_speech_prob)]


def assert_alike(heard: list[Transcript], others: list[Transcript]) -> None:
    assert [replace(t, avg_logprob=0, no_speech_prob=0) for t in heard] == [
        replace(t, avg_logprob=0, no_speech_prob=0) for t in others
    ]
    assert figures(heard) == pytest.approx(figures(others), rel=1e-3)


def test_each_form_loads_in_its_engine(engines: dict[str, WhisperRecogniser]) -> None:
    assert isinstance(engines["ct2"], WhisperEngine)
    assert isinstance(engines["hf"], TorchWhisperEngine)
    for form, engine in engines.items():
        assert (engine.name, engine.sample_rate_hz, engine.device) == (form, 16000, "cpu")
        assert engine.padded_frames(AsrJob(pcm=sound(1))) == 3000


@pytest.mark.parametrize("form", FORMS)
def test_languages_given_and_detected(
    engines: dict[str, WhisperRecogniser], form: str, caplog: pytest.LogCaptureFixture
) -> None:
    codes = ("en", "zh-CN", None, "xx", "en_GB", "cmn", "wuu", "auto")
    jobs = [AsrJob(pcm=sound(1), language=code) for code in codes]
    given_en, given_zh, detected, unknown, british, mandarin, wu, auto = engines[form].transcribe(jobs)
    assert (given_en.language, given_zh.language) == ("en", "zh")
    assert detected.language == unknown.language not in (None, "", "xx")
    assert (detected, british, mandarin, wu, auto) == (unknown, given_en, given_zh, given_zh, detected)
    assert {t.text for t in (given_en, given_zh, detected)} == {SAID}
    assert len({t.avg_logprob for t in (given_en, given_zh, detected)}) == 3  # the prompt is another each time
    assert [record.message for record in caplog.records] == [
        f"speech model {form} has no language 'xx' and detects it in each utterance; set the call's language or "
        "asr.language to one that it has"
    ]


def test_engines_agree_on_a_mixed_batch(engines: dict[str, WhisperRecogniser]) -> None:
    """Lengths, rates, languages, a gated sound and one of three windows, together and one by one."""
    jobs = [
        AsrJob(pcm=sound(0.5), language="en"),
        AsrJob(pcm=np.zeros(8000, np.int16)),
        AsrJob(pcm=sound(4, seed=1), language="yue"),
        AsrJob(pcm=sound(2, seed=2, hz=16000), sample_rate_hz=16000),
        AsrJob(pcm=sound(62, seed=3), language="de"),
    ]
    heard = engines["ct2"].transcribe(jobs)
    assert [t.text for t in heard] == [SAID, "", SAID, SAID, " ".join([SAID] * 3)]
    assert [t.gated_by for t in heard] == [None, "energy", None, None, None]
    assert heard[2].language not in (None, "yue")  # of 80 mels only Mandarin is known
    assert len({t.no_speech_prob for t in heard}) == len(jobs)
    for engine in engines.values():
        assert_alike(engine.transcribe(jobs), heard)
        assert_alike([engine.transcribe([job])[0] for job in jobs], heard)


@pytest.mark.parametrize(
    ("gate", "settings"),
    [
        ("duration", GateSettings(min_audio_ms=2000)),
        ("energy", GateSettings(min_loudest_dbfs=-3)),
        ("logprob", GateSettings(min_avg_logprob=-0.001)),
        ("no_speech", GateSettings(no_speech_weight=0.1, min_evidence=9)),
        ("no_speech", GateSettings(max_no_speech_prob=0, no_speech_logprob=0)),
        ("compression", GateSettings(compression_chars=1, max_compression_ratio=0.1)),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_every_gate(folders: dict[tuple[str, int], Path], form: str, gate: str, settings: GateSettings) -> None:
    engine = load(folders[form, 80], gates=settings, short_windows=True)
    (heard,) = engine.transcribe([AsrJob(pcm=sound(1), language="en")])
    assert (heard.text, heard.gated_by) == ("", gate)


@pytest.mark.parametrize("mels", [80, 128])
def test_short_windows_of_any_length(folders: dict[tuple[str, int], Path], mels: int) -> None:
    """Lengths around those that CTranslate2 mistakes for features when an encoding is handed back to it: 159 and 160
    frames with 80 mels, 255 and 256 with 128. Language detection hands it back; torch never does."""
    ours, theirs = (load(folders[form, mels], short_windows=True, max_window_s=5.0) for form in FORMS)
    jobs = [
        AsrJob(pcm=sound(frames / 100, seed=frames), language=language)
        for frames in (1, 40, 150, 151, 152, 159, 160, 247, 248, 255, 256, 257, 480, 499, 500, 501, 900)
        for language in (None, "en")
        if frames > 12
    ]
    assert {ours.padded_frames(job) % 50 for job in jobs} == {0}
    heard = ours.transcribe(jobs)
    assert_alike(heard, theirs.transcribe(jobs))
    assert {t.text for t in heard} == {SAID, f"{SAID} {SAID}"}


@pytest.mark.parametrize("mels", [80, 128])
def test_features_are_those_of_the_weights_whatever_the_folder_says(
    folders: dict[tuple[str, int], Path], tmp_path: Path, mels: int
) -> None:
    """`ct2-transformers-converter` copies preprocessor_config.json only where it is told to."""
    shutil.copytree(folders["ct2", mels], tmp_path / "bare")
    (tmp_path / "bare" / "preprocessor_config.json").unlink()
    job = AsrJob(pcm=sound(1), language="en")
    (heard,) = load(tmp_path / "bare", short_windows=True).transcribe([job])
    assert_alike([heard], load(folders["ct2", mels], short_windows=True).transcribe([job]))


@pytest.mark.parametrize("name", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
def test_a_missing_file_is_named_and_no_hub_is_asked(
    folders: dict[tuple[str, int], Path], tmp_path: Path, name: str
) -> None:
    shutil.copytree(folders["ct2", 128], tmp_path / "part")
    (tmp_path / "part" / name).unlink()
    with pytest.raises(AsrModelError, match=rf"cannot be loaded \(no {name} in it\).+--copy_files tokenizer.json"):
        WhisperEngine(tmp_path / "part", device="cpu")


@pytest.mark.parametrize(
    ("form", "able"), [("ct2", "choose what this cpu computes with: .*int8"), ("hf", "needs a GPU")]
)
def test_half_precision_on_a_cpu_is_refused_with_what_it_has(
    folders: dict[tuple[str, int], Path], form: str, able: str
) -> None:
    if "float16" in ctranslate2.get_supported_compute_types("cpu"):
        pytest.skip("this CPU has float16")
    with pytest.raises(AsrModelError, match=able):
        load_engine(folders[form, 80], device="cpu", compute_type="float16")


def test_large_v3_knows_cantonese(folders: dict[tuple[str, int], Path]) -> None:
    for form in FORMS:
        engine = load(folders[form, 128], short_windows=True)
        assert [t.language for t in engine.transcribe([AsrJob(pcm=sound(1), language="yue")])] == ["yue"]


@pytest.mark.parametrize("form", FORMS)
def test_a_loop_is_cut(tmp_path: Path, form: str) -> None:
    """Of a model that never stops, text as long as fast speech of that length."""
    folder = make_whisper(tmp_path / "hf", WhisperShape(64, 1), says=440, text_tokens=700)
    engine = load(folder if form == "hf" else convert(folder, tmp_path / "ct2"), short_windows=True)
    for seconds, words in ((2, 12 + 12 * 2), (3, 12 + 12 * 3)):
        (heard,) = engine.transcribe([AsrJob(pcm=sound(seconds), language="en")])
        assert len(heard.text.split()) == words


def test_what_a_dialogue_waits_for(tmp_path: Path) -> None:
    """As a hint in the prompt, and as the only words allowed: both engines take both."""
    folder = make_whisper(tmp_path / "hf", WhisperShape(64, 1), says=60, text_tokens=400)
    both = folder, convert(folder, tmp_path / "ct2")
    jobs = [AsrJob(pcm=sound(1), language=code, expect=Expectation.DIGITS) for code in ("en", "zh", None)]
    hinted, also = (load(one, short_windows=True).transcribe(jobs) for one in both)
    assert_alike(hinted, also)
    assert [t.text.startswith(SAID) for t in hinted] == [False, False, True]  # an unknown language has no hint
    held, also = (load(one, short_windows=True, expectation_margin=50.0).transcribe(jobs) for one in both)
    assert_alike(held, also)
    assert all(t.text.startswith(SAID) for t in held)  # what it was held to spelled no digit


@pytest.mark.parametrize("form", FORMS)
def test_at_the_command_line(folders: dict[tuple[str, int], Path], tmp_path: Path, form: str) -> None:
    write_wav(tmp_path / "one.wav", sound(1), 8000)
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"audio": "one.wav", "text": SAID}))
    app = typer.Typer(pretty_exceptions_enable=False)
    asr.register(app)
    model = ["--model", str(folders[form, 80]), "--device", "cpu", "--language", "fr", "--json"]
    done = CliRunner().invoke(app, ["asr", "transcribe", *model, str(tmp_path / "one.wav")])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["model"], document["results"][0]["text"], document["results"][0]["language"]) == (form, SAID, "fr")
    done = CliRunner().invoke(app, ["asr", "eval", *model, "--manifest", str(tmp_path / "manifest.jsonl")])
    assert done.exit_code == 0, done.output
    assert (json.loads(done.stdout)["wer"], json.loads(done.stdout)["n"]) == (0, 1)
    wrong = "torch" if form == "ct2" else "ctranslate2"
    done = CliRunner().invoke(app, ["asr", "transcribe", *model, "--engine", wrong, str(tmp_path / "one.wav")])
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"set asr.engine to {'ctranslate2' if form == 'ct2' else 'torch'}" in done.stderr


def test_the_log_says_which_engine_and_why(
    folders: dict[tuple[str, int], Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "audio.engine_choice"):
        load(folders["hf", 80])
    assert "speech model hf runs in torch on cpu (the model is in Hugging Face form)" in caplog.text
