"""From a checkpoint to what ships: a Hugging Face folder to go on from, a CTranslate2 folder to load.

OUT/model/   model.safetensors, config.json, tokenizer.json, training.json, ...   for `--init-from`
OUT/ct2/     model.bin (int8), tokenizer.json, voicegate.json, MODEL_CARD.md   for `--model`
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
from tokenizers import Tokenizer
from transformers import GenerationConfig, PreTrainedTokenizerFast, WhisperFeatureExtractor
from transformers.utils import logging as transformers_logging

from audio.recipe.network import SpeechNetwork
from audio.recipe.plan import TrainingError
from audio.whisper_profile import PROFILE_FILE

__all__ = ["export", "read_never_heard"]

TRAINING_FILE = "training.json"
"""What a training that goes on from the weights must know of them."""
GATES = {"min_avg_logprob": -2.5, "no_speech_weight": 0.4, "min_evidence": 1.5}
"""The fourth model's, of bench/asr_gates.py: look again with `--evidence`. Stock Whisper's turned one caller in ten at
10 dB away."""


def export(
    network: SpeechNetwork,
    tokenizer: Tokenizer,
    out: Path,
    *,
    name: str,
    version: str,
    never_heard: Sequence[str] = (),
) -> Path:
    """Write `out/model` and `out/ct2` anew; returns the latter.

    Args:
        network: its heads are left out.
        tokenizer: the one it was trained with.
        out: folder of the training.
        name: what reports call the model.
        version: its version.
        never_heard: speakers held out of all that it learnt, who may be held out of a training that goes on from it.
    """
    hugging_face, converted = out / "model", out / "ct2"
    shutil.rmtree(hugging_face, ignore_errors=True)
    hugging_face.mkdir(parents=True)
    whisper = network.whisper
    config: Any = whisper.config
    generation = GenerationConfig(
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        bos_token_id=config.bos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
    )
    generation.suppress_tokens = []
    generation.begin_suppress_tokens = []
    whisper.generation_config = generation
    whisper.save_pretrained(hugging_face)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(hugging_face)
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, bos_token=end, unk_token=end, pad_token=end
    ).save_pretrained(hugging_face)
    # Without tokenizer.json faster-whisper would ask a hub for one; transformers rewrites it, ours goes over.
    tokenizer.save(str(hugging_face / "tokenizer.json"))
    (hugging_face / TRAINING_FILE).write_text(json.dumps({"never_heard": [*never_heard]}, indent=2) + "\n")
    transformers_logging.disable_progress_bar()
    ctranslate2.converters.TransformersConverter(
        str(hugging_face), copy_files=["tokenizer.json", "preprocessor_config.json"]
    ).convert(str(converted), quantization="int8", force=True)
    profile = {
        "name": name,
        "version": version,
        "languages": ["en"],
        "short_windows": True,
        "narrowband": True,
        "telephone_band": True,
        "max_window_s": 3.0,  # as long as most of the training: long strings in 9 s windows lost two words in five
        "expectation_margin": 2.0,  # the second model's, of bench/asr_expectation.py: look again with `--margins`
        "beams": 3,
        "takes_hints": False,
        "gates": GATES,
    }
    (converted / PROFILE_FILE).write_text(json.dumps(profile, indent=2) + "\n")
    return converted


def read_never_heard(model: Path) -> tuple[str, ...]:
    """Speakers that an exported model says it never heard; none where it says nothing.

    Args:
        model: `out/model` of `export`.

    Raises:
        TrainingError: its training.json is damaged.
    """
    path = model / TRAINING_FILE
    if not path.is_file():
        return ()
    try:
        return tuple(str(speaker) for speaker in json.loads(path.read_text(encoding="utf-8"))["never_heard"])
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is no list of speakers never heard ({error!r:.80}); export it again") from error
