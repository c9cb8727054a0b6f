"""Whisper models of any size with random weights, in the stock layout: for speed, and for every path of the code.

Speed does not depend on what weights say, except through how long they speak: an untrained decoder goes on to its
bound. So these say a given number of tokens and stop, as a trained one does: each decoder position leans towards one
text token, and those after the last towards the end token.

The layout is the one of OpenAI's multilingual models: 50,257 text tokens of which the last is empty, then
`<|endoftext|>`, `<|startoftranscript|>`, the languages, tasks, `<|notimestamps|>` and 1,501 timestamps. The text tokens
are made up; fewer of them make a small model for tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ctranslate2
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES
from transformers.utils import logging as transformers_logging

__all__ = ["SHAPES", "STOCK_TEXT_TOKENS", "WhisperShape", "convert", "make_whisper"]

STOCK_TEXT_TOKENS: Final = 50_257
_TIMESTAMPS: Final = 1501
_PROMPT_TOKENS: Final = 4
_LEANING: Final = 1 / 16
"""Length of a position's vector towards its token, over the width: what layers add grows with that, and points nowhere
in particular."""
_SURENESS: Final = 15.0
"""Logit of the token leant towards: sure enough to pass the gates of stock models."""
_INIT_STD: Final = 0.02


@dataclass(frozen=True, slots=True)
class WhisperShape:
    """As many layers in the encoder as in the decoder; heads are 64 wide."""

    width: int
    layers: int


SHAPES: Final = {"tiny": WhisperShape(384, 4), "base": WhisperShape(512, 6), "small": WhisperShape(768, 12)}
"""OpenAI's."""


def make_whisper(
    folder: Path,
    shape: WhisperShape,
    *,
    says: int,
    text_tokens: int = STOCK_TEXT_TOKENS,
    mels: int = 80,
    seed: int = 0,
) -> Path:
    """Write a multilingual model in Hugging Face form; returns `folder`.

    Args:
        folder: made if absent.
        shape: its size.
        says: tokens of text it says before it stops, whatever it hears.
        text_tokens: size of its text vocabulary, at least 300.
        mels: 80, or 128 as large-v3 has; that one knows Cantonese too.
        seed: of the weights.
    """
    transformers_logging.disable_progress_bar()
    languages = [code for code in LANGUAGES if code != "yue" or mels == 128]
    tokenizer = _tokenizer(text_tokens, languages)
    token = tokenizer.token_to_id
    end, start = token("<|endoftext|>"), token("<|startoftranscript|>")
    torch.manual_seed(seed)
    whisper: Any = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=tokenizer.get_vocab_size(),
            d_model=shape.width,
            encoder_layers=shape.layers,
            decoder_layers=shape.layers,
            encoder_attention_heads=max(1, shape.width // 64),
            decoder_attention_heads=max(1, shape.width // 64),
            encoder_ffn_dim=4 * shape.width,
            decoder_ffn_dim=4 * shape.width,
            num_mel_bins=mels,
            init_std=_INIT_STD,
            pad_token_id=end,
            bos_token_id=end,
            eos_token_id=end,
            decoder_start_token_id=start,
        )
    )
    positions, tokens = whisper.model.decoder.embed_positions.weight, whisper.model.decoder.embed_tokens.weight
    with torch.no_grad():
        tokens[end].normal_(std=_INIT_STD)  # it is the padding token too, and those begin as zeros
        for place in range(_PROMPT_TOKENS - 1, len(positions)):
            said = place - (_PROMPT_TOKENS - 1)
            towards = tokens[256 + said % (text_tokens - 257) if said < says else end]
            positions[place] += _LEANING * shape.width * towards / towards.norm()
        whisper.model.decoder.layer_norm.weight *= _SURENESS / (_INIT_STD * shape.width)
        for layer in whisper.model.decoder.layers:
            # A vector of length one whatever the width: less, and the sound would hardly matter in a narrow model.
            layer.encoder_attn.out_proj.weight *= 5 * (64 / shape.width) ** 1.5
    space = token("Ġ")
    whisper.generation_config = GenerationConfig(
        pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start, max_length=448
    )
    for name, value in {
        "is_multilingual": True,
        "lang_to_id": {f"<|{code}|>": token(f"<|{code}|>") for code in languages},
        "no_timestamps_token_id": token("<|notimestamps|>"),
        "suppress_tokens": [token("!"), token('"'), start, token("<|translate|>"), token("<|transcribe|>")],
        "begin_suppress_tokens": [space, end],
    }.items():
        setattr(whisper.generation_config, name, value)
    whisper.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=mels).save_pretrained(folder)
    word = "<|endoftext|>"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=word, bos_token=word, unk_token=word, pad_token=word
    ).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def convert(folder: Path, out: Path, *, quantization: str = "float32") -> Path:
    """A CTranslate2 form of a folder in Hugging Face form; returns `out`."""
    ctranslate2.converters.TransformersConverter(
        str(folder), copy_files=["tokenizer.json", "preprocessor_config.json"]
    ).convert(str(out), quantization=quantization, force=True)
    return out


def _tokenizer(text_tokens: int, languages: list[str]) -> Tokenizer:
    """Bytes, made-up words, the empty token, and Whisper's special tokens in their order."""
    words = sorted(pre_tokenizers.ByteLevel.alphabet())
    words += [f"Ġ{_made_up(number)}" for number in range(text_tokens - len(words) - 1)]
    tokenizer = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate([*words, ""])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [
        "endoftext", "startoftranscript", *languages, "translate", "transcribe", "startoflm", "startofprev",
        "nospeech", "notimestamps",
    ]  # fmt: skip
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in special])
    tokenizer.add_tokens([AddedToken(f"<|{index * 0.02:.2f}|>") for index in range(_TIMESTAMPS)])
    return tokenizer


def _made_up(number: int) -> str:
    """A pronounceable word of its own for each number: ba, be, ..., baba, ..."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    word = syllables[number % len(syllables)]
    while number := number // len(syllables):
        word += syllables[number % len(syllables)]
    return word
