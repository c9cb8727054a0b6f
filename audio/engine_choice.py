"""Which engine runs a speech model on this machine: CTranslate2 or torch, and on what device.

| asked | model's form | machine | taken |
| --- | --- | --- | --- |
| ctranslate2, torch | that engine's, or unknown | any | as asked |
| ctranslate2, torch | the other's only | any | refused with the mend |
| auto | Hugging Face only | any | torch |
| auto | both | GPU, no cuBLAS for CTranslate2, torch sees the GPU | torch |
| auto | CTranslate2 only | GPU, no cuBLAS, device auto | ctranslate2 on the CPU |
| auto | else | any | ctranslate2 |

CTranslate2 is the first choice: int8 on a CPU, and less work outside the model on a GPU. A hub id's form is known
once it is on this machine; before that it is taken for CTranslate2's.

Importing this module loads no model code; choosing and loading do.
"""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from audio.gates import GateSettings
from audio.whisper_profile import AsrModelError

if TYPE_CHECKING:  # soxr, tokenizers and more, which a gateway worker does without
    from audio.whisper import WhisperRecogniser

__all__ = ["CUBLAS", "Engine", "EngineChoice", "Machine", "choose_engine", "load_engine", "loads", "model_forms"]

log = logging.getLogger(__name__)

CUBLAS = "libcublas.so.12"
"""CTranslate2 opens it when it first computes on a GPU, and its package declares no dependency on it."""


_DEVICES = ("auto", "cpu", "cuda")


class Engine(StrEnum):
    """What computes; each reads weights in a form of its own."""

    CTRANSLATE2 = "ctranslate2"
    TORCH = "torch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What matters of this machine: whether each engine sees a GPU, and whether CTranslate2 can compute on it."""

    ctranslate2_gpu: bool
    torch_gpu: bool
    cublas: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """An engine, the device ("cpu", "cuda" or "auto": the engine's own choice), and why, in a few words."""

    engine: Engine
    device: str
    reason: str


def model_forms(model: Path | str) -> frozenset[Engine]:
    """The engines whose form of weights a model has; empty where that cannot be told.

    Args:
        model: a folder, a size such as "small" (which the hub has in both forms), or a hub id.
    """
    folder: Path | None = Path(model)
    if not Path(model).is_dir():
        from faster_whisper import available_models

        if str(model) in available_models():
            return frozenset(Engine)
        folder = _fetched(str(model))
    if folder is None:
        return frozenset()
    forms = set()
    if (folder / "model.bin").is_file():
        forms.add(Engine.CTRANSLATE2)
    if any(folder.glob("model*.safetensors")) or (folder / "pytorch_model.bin").is_file():
        forms.add(Engine.TORCH)
    return frozenset(forms)


def choose_engine(
    model: Path | str, *, engine: str = "auto", device: str = "auto", machine: Machine | None = None
) -> EngineChoice:
    """Decide by the table above.

    Args:
        model: as for `model_forms`.
        engine: "auto", "ctranslate2" or "torch".
        device: "auto", "cpu" or "cuda".
        machine: this one, unless said.

    Raises:
        AsrModelError: the engine asked for cannot read this model, or there is no such engine, device or folder.
    """
    if engine not in ("auto", *Engine):
        raise AsrModelError(f"no engine {engine!r:.20}; choose auto, {' or '.join(Engine)}")
    if device not in _DEVICES:
        raise AsrModelError(f"no device {device!r:.20}; choose {', '.join(_DEVICES[:-1])} or {_DEVICES[-1]}")
    if _is_path(str(model)) and not Path(model).is_dir():
        raise AsrModelError(f"speech model {str(model)!r}: no such folder; check the path")
    forms = model_forms(model)
    if engine != "auto":
        asked = Engine(engine)
        if forms and asked not in forms:
            raise AsrModelError(_wrong_form(model, asked))
        return EngineChoice(engine=asked, device=device, reason="as set")
    if forms == {Engine.TORCH}:
        return EngineChoice(engine=Engine.TORCH, device=device, reason="the model is in Hugging Face form")
    if device == "cpu":
        return EngineChoice(engine=Engine.CTRANSLATE2, device=device, reason="the faster one on a CPU")
    machine = machine or _this_machine()
    if not machine.ctranslate2_gpu or machine.cublas:
        reason = f"{CUBLAS} loads" if machine.ctranslate2_gpu else "no GPU"
        return EngineChoice(engine=Engine.CTRANSLATE2, device=device, reason=reason)
    missing = f"ctranslate2 cannot use this GPU: {CUBLAS} does not load"
    if Engine.TORCH in forms and machine.torch_gpu:
        return EngineChoice(engine=Engine.TORCH, device="cuda", reason=missing)
    if device == "auto":
        return EngineChoice(engine=Engine.CTRANSLATE2, device="cpu", reason=missing)
    return EngineChoice(engine=Engine.CTRANSLATE2, device=device, reason="the model has no form for torch")


def load_engine(
    model: Path | str,
    *,
    engine: str = "auto",
    device: str = "auto",
    compute_type: str = "default",
    threads: int = 1,
    max_batch: int | None = None,
    gates: GateSettings | None = None,
) -> WhisperRecogniser:
    """Load a model into the engine of choice, warm; the log says which was taken and why.

    Args:
        model: a folder, a size or a hub id.
        engine: "auto", "ctranslate2" or "torch".
        device: "auto", "cpu" or "cuda".
        compute_type: the engine's, or "default".
        threads: of the CPU, for one batch. torch has one number for the whole process: it is set.
        max_batch: windows in one call of the model; None: the engine's own.
        gates: instead of the model's own.

    Raises:
        AsrModelError: the model cannot be read or run, with the mend.
    """
    from audio.whisper import MAX_BATCH

    choice = choose_engine(model, engine=engine, device=device)
    loaded: WhisperRecogniser
    if choice.engine is Engine.TORCH:
        import torch

        from audio.torch_engine import TorchWhisperEngine

        torch.set_num_threads(threads)
        loaded = TorchWhisperEngine(
            model,
            device=choice.device,
            compute_type=compute_type,
            gates=gates,
            max_batch=max_batch or MAX_BATCH,
        )
    else:
        from audio.whisper_engine import WhisperEngine

        loaded = WhisperEngine(
            model,
            device=choice.device,
            compute_type=compute_type,
            cpu_threads=threads,
            gates=gates,
            max_batch=max_batch or MAX_BATCH,
        )
    loaded.warm_up()
    log.info("speech model %s runs in %s on %s (%s)", loaded.name, choice.engine, loaded.device, choice.reason)
    return loaded


def loads(library: str) -> bool:
    """Whether a shared library can be loaded in this process.

    torch is imported first: built for CUDA 12 it brings cuBLAS along, and CTranslate2 then finds that copy.
    """
    import torch  # noqa: F401  (for the libraries it loads)

    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _this_machine() -> Machine:
    import ctranslate2

    if not ctranslate2.get_cuda_device_count():
        return Machine(ctranslate2_gpu=False, torch_gpu=False, cublas=False)
    import torch

    return Machine(ctranslate2_gpu=True, torch_gpu=torch.cuda.is_available(), cublas=loads(CUBLAS))


def _is_path(model: str) -> bool:
    """Whether a model can only be a folder's path: a hub id has one stroke at most and begins with neither."""
    return model.startswith(("/", ".", "~")) or model.count("/") > 1


def _fetched(hub_id: str) -> Path | None:
    """Folder of a hub model that has been fetched before."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _wrong_form(model: Path | str, asked: Engine) -> str:
    if asked is Engine.CTRANSLATE2:
        return (
            f"speech model {str(model)!r} is in Hugging Face form, which ctranslate2 cannot read; convert it "
            f"(ct2-transformers-converter --model {model} --output_dir CONVERTED "
            "--copy_files tokenizer.json preprocessor_config.json) or set asr.engine to torch"
        )
    return (
        f"speech model {str(model)!r} is in CTranslate2 form, which torch cannot read; name the Hugging Face "
        "folder it was converted from, or set asr.engine to ctranslate2"
    )
