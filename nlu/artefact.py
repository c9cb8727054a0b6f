"""A trained model on disk: a folder with `config.json` and `model.safetensors`, checked whole when read.

The encoder's fine-tuned layers are stored as int8 with one scale a row (weights only: they compute in bf16 or
float32 again, which costs no accuracy that we could measure), everything else as float16. Word embeddings are
not stored; they come from the encoder that `config.json` names, whose hash must be the one trained on. So the
artefact of a 6-layer, 384-wide encoder takes 12 MB instead of 90.

The bytes depend only on data, settings, seed and machine: there is no date in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nlu.chinese_text import CHINESE_RULES_VERSION
from nlu.languages import primary_language
from nlu.meaning import NluError
from nlu.normalization import NORMALIZER_VERSION

__all__ = ["FORMAT", "ArtefactError", "Manifest", "read_artefact", "write_artefact"]

FORMAT = 3
"""Version of the folder's layout; readers refuse what they do not know. Formats 1 and 2 are still read: 2 lacks what
`nlu.agreement` knows."""

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_SCALE = ".scale"


class ArtefactError(NluError):
    """A model folder that is broken, altered, or does not fit this program or its encoder; with the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `config.json` says, but for the checksums."""

    name: str
    language: str
    encoder: str
    """Folder, package or hub id (see `nlu.encoders.find_encoder`)."""
    encoder_sha256: str
    intents: tuple[str, ...]
    slots: tuple[str, ...]
    head_size: int
    recurrence: str
    decoding: str
    """Shape of the head (see `nlu.model.HeadConfig`)."""
    max_tokens: int
    temperature: float
    oos_threshold: float
    created_by: str
    """Program and version that trained it."""
    training: dict[str, float | int | str]
    """Settings and figures of the training, for people; nothing reads them."""
    format: int = FORMAT
    normalizer: int = NORMALIZER_VERSION
    chinese_rules: int = CHINESE_RULES_VERSION
    """Counts where the language is Chinese. Models from before the key had version 1."""


def write_artefact(folder: Path, manifest: Manifest, state: dict[str, Tensor]) -> str:
    """Write a model; the folder is made if absent, and files of an earlier model in it are replaced.

    Args:
        folder: where to.
        manifest: what the model is.
        state: weights by name, float32; 2-d ones named "bert.layers..." become int8.

    Returns:
        The version: the first 12 hex digits of the checksum.

    Raises:
        ArtefactError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as scratch:
            weights = Path(scratch) / _WEIGHTS
            save_file(_packed(state), weights)
            config = dataclasses.asdict(manifest)
            if math.isinf(manifest.oos_threshold):
                config["oos_threshold"] = None  # JSON has no infinity
            config["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
            config["checksum"] = _checksum(config)
            written = Path(scratch) / _CONFIG
            written.write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            weights.chmod(0o644)
            # Weights first: until config.json follows, the checksum tells that the two do not belong together.
            os.replace(weights, folder / _WEIGHTS)
            os.replace(written, folder / _CONFIG)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        raise ArtefactError(f"{folder}: cannot be written ({reason}); name a folder that can") from None
    return str(config["checksum"])[:12]


def read_artefact(folder: Path) -> tuple[Manifest, dict[str, Tensor], str]:
    """Read a model and check all of it.

    Returns:
        Manifest, weights in float32 (shapes as trained), and the version.

    Raises:
        ArtefactError: missing, broken, altered, or made by a program that this one does not understand.
    """
    if not (folder / _CONFIG).is_file():
        raise ArtefactError(f"{folder}: no model here ({_CONFIG} is missing); `voicegate nlu train` makes one")
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        found_format = config["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtefactError(f"{folder / _CONFIG}: not a model's description; train again") from None
    if found_format not in (1, 2, FORMAT):
        raise ArtefactError(
            f"{folder}: format {found_format!r}, this program reads 1 to {FORMAT}; train again or use its program"
        )
    checksum = str(config.pop("checksum", ""))
    if checksum != _checksum(config):
        raise ArtefactError(f"{folder / _CONFIG}: altered since training; restore it or train again")
    weights_sha256 = config.pop("weights_sha256")
    if config["oos_threshold"] is None:
        config["oos_threshold"] = -math.inf
    config.setdefault("chinese_rules", 1)
    if found_format == 1:
        config |= {"head_size": config.pop("gru_size"), "recurrence": "gru", "decoding": "constrained"}
    manifest = Manifest(**config | {"intents": tuple(config["intents"]), "slots": tuple(config["slots"])})
    if manifest.normalizer != NORMALIZER_VERSION:
        raise ArtefactError(
            f"{folder}: trained under text rules version {manifest.normalizer}, this program has "
            f"{NORMALIZER_VERSION}; train again"
        )
    if primary_language(manifest.language) == "zh" and manifest.chinese_rules != CHINESE_RULES_VERSION:
        raise ArtefactError(
            f"{folder}: trained under rules for Chinese version {manifest.chinese_rules}, this program has "
            f"{CHINESE_RULES_VERSION}; train again"
        )
    weights = folder / _WEIGHTS
    try:
        if hashlib.sha256(weights.read_bytes()).hexdigest() != weights_sha256:
            raise ArtefactError(f"{weights}: altered since training; restore it or train again")
        state = _unpacked(load_file(weights))
        return manifest, _of_format_2(state) if found_format == 1 else state, checksum[:12]
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{weights}: cannot be read ({error}); restore it or train again") from None


def _checksum(config: dict[str, object]) -> str:
    canonical = json.dumps(config, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _packed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith("bert.layers.") and tensor.ndim == 2:
            scale = (tensor.abs().amax(dim=1) / 127).clamp_min(1e-12)
            packed[name] = (tensor / scale[:, None]).round().to(torch.int8).contiguous()
            packed[name + _SCALE] = scale.contiguous()
        else:
            packed[name] = tensor.to(torch.float16).contiguous()
    return packed


def _unpacked(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.float() * packed[name + _SCALE][:, None] if tensor.dtype is torch.int8 else tensor.float()
        for name, tensor in packed.items()
        if not name.endswith(_SCALE)
    }


def _of_format_2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a format 1 model, for today's head: what it did not read, it reads with weight zero.

    One thing differs: it took a word's first piece for the word, where now the mean of its pieces stands. It has no
    scope, so energy alone tells what is out of it, as it did.
    """
    renamed = {name.replace("head.gru.", "head.words."): tensor for name, tensor in state.items()}
    for name, tensor in renamed.items():
        if name == "head.intent.weight" or name.startswith("head.words.weight_ih"):
            renamed[name] = torch.cat([tensor, torch.zeros_like(tensor)], dim=1)
    return renamed
