"""Which engine is taken: every row of the table, on machines that need not be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from audio import engine_choice
from audio.bundled import bundled_model_path
from audio.engine_choice import Engine, Machine, choose_engine, loads, model_forms
from audio.whisper_profile import AsrModelError

pytestmark = pytest.mark.unit

NO_GPU = Machine(ctranslate2_gpu=False, torch_gpu=False, cublas=False)
CUDA_12 = Machine(ctranslate2_gpu=True, torch_gpu=True, cublas=True)
CUDA_13 = Machine(ctranslate2_gpu=True, torch_gpu=True, cublas=False)
CUDA_13_CPU_TORCH = Machine(ctranslate2_gpu=True, torch_gpu=False, cublas=False)
BUNDLED = str(bundled_model_path())


@pytest.fixture
def hugging_face(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("model", "engine", "device", "machine", "taken"),
    [
        (BUNDLED, "auto", "auto", NO_GPU, ("ctranslate2", "auto", "no GPU")),
        (BUNDLED, "auto", "auto", CUDA_12, ("ctranslate2", "auto", "libcublas.so.12 loads")),
        (BUNDLED, "auto", "auto", CUDA_13, ("ctranslate2", "cpu", "does not load")),
        (BUNDLED, "auto", "cuda", CUDA_13, ("ctranslate2", "cuda", "no form for torch")),
        (BUNDLED, "ctranslate2", "auto", CUDA_13, ("ctranslate2", "auto", "as set")),
        ("small", "auto", "auto", NO_GPU, ("ctranslate2", "auto", "no GPU")),
        ("small", "auto", "auto", CUDA_12, ("ctranslate2", "auto", "loads")),
        ("small", "auto", "auto", CUDA_13, ("torch", "cuda", "libcublas.so.12 does not load")),
        ("small", "auto", "cuda", CUDA_13, ("torch", "cuda", "does not load")),
        ("small", "auto", "cpu", CUDA_13, ("ctranslate2", "cpu", "faster one")),
        ("small", "auto", "auto", CUDA_13_CPU_TORCH, ("ctranslate2", "cpu", "does not load")),
        ("small", "torch", "cpu", NO_GPU, ("torch", "cpu", "as set")),
        ("nobody/has-fetched-this", "auto", "auto", NO_GPU, ("ctranslate2", "auto", "no GPU")),
        ("nobody/has-fetched-this", "torch", "auto", NO_GPU, ("torch", "auto", "as set")),
    ],
)
def test_the_table(model: str, engine: str, device: str, machine: Machine, taken: tuple[str, str, str]) -> None:
    choice = choose_engine(model, engine=engine, device=device, machine=machine)
    assert (choice.engine, choice.device) == taken[:2]
    assert taken[2] in choice.reason


@pytest.mark.parametrize("machine", [NO_GPU, CUDA_12, CUDA_13])
def test_a_hugging_face_folder_is_torchs_on_any_machine(hugging_face: Path, machine: Machine) -> None:
    choice = choose_engine(hugging_face, machine=machine)
    assert (choice.engine, choice.device) == (Engine.TORCH, "auto")


def test_the_other_engines_form_is_refused_with_the_mend(hugging_face: Path) -> None:
    with pytest.raises(AsrModelError, match=r"Hugging Face form.+ct2-transformers-converter --model .+ asr\.engine"):
        choose_engine(hugging_face, engine="ctranslate2")
    with pytest.raises(AsrModelError, match=r"CTranslate2 form.+converted from, or set asr\.engine to ctranslate2"):
        choose_engine(BUNDLED, engine="torch")
    with pytest.raises(AsrModelError, match=r"no engine 'tensorrt'; choose auto, ctranslate2 or torch"):
        choose_engine(BUNDLED, engine="tensorrt")


@pytest.mark.parametrize("path", ["/models/gone", "./gone", "models/whisper/gone"])
def test_a_path_that_leads_nowhere_is_no_hub_id(path: str) -> None:
    with pytest.raises(AsrModelError, match=f"'{path}': no such folder"):
        choose_engine(path, machine=NO_GPU)


def test_an_unknown_device_is_told_before_anything_is_loaded() -> None:
    with pytest.raises(AsrModelError, match="no device 'tpu'; choose auto, cpu or cuda"):
        choose_engine(BUNDLED, device="tpu")


def test_the_bundled_model_of_a_language() -> None:
    assert {bundled_model_path(tag) for tag in ("en", "en-GB", "en_US", "auto")} == {bundled_model_path()}
    with pytest.raises(AsrModelError, match="no bundled recogniser for 'yue'"):
        bundled_model_path("yue")


def test_forms(tmp_path: Path, hugging_face: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_forms(BUNDLED) == {Engine.CTRANSLATE2}
    assert model_forms(hugging_face) == {Engine.TORCH}
    (tmp_path / "empty").mkdir()
    assert model_forms(tmp_path / "empty") == model_forms("no-such-size") == model_forms("not/a/model") == frozenset()
    assert model_forms("large-v3") == set(Engine)
    monkeypatch.setattr(engine_choice, "_fetched", lambda hub_id: hugging_face)
    assert model_forms("someone/whisper-of-theirs") == {Engine.TORCH}


def test_libraries() -> None:
    assert loads("libc.so.6")
    assert not loads("libnosuchthing.so.12")
