"""Whisper on torch: the second engine behind the ASR seam, for what CTranslate2 cannot run on.

CTranslate2 needs CUDA 12's cuBLAS; a GPU host with only a newer CUDA has a torch built for it. The weights are
transformers' Whisper with SDPA attention; encoder and decoder are called one by one, because `model.generate` insists
on 3,000 frames, so the short windows that telephone audio wants would be lost.

Greedy decoding over a whole batch with a key/value cache: every prompt of a batch has the same length, so no mask is
needed, and a window that has ended is fed end tokens until the last one has. Scores are kept in float32 whatever the
weights are in.

On a CPU CTranslate2 (int8) is faster: this engine is for GPUs, and for models that have no CTranslate2 form.

Source: transformers `models/whisper/modeling_whisper.py` for the encoder; CTranslate2 `src/models/whisper.cc` for the
order of suppression, softmax and the place where the no-speech probability is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from faster_whisper.feature_extractor import FeatureExtractor
from huggingface_hub import snapshot_download
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import WhisperForConditionalGeneration
from transformers.utils import logging as transformers_logging

from audio.gates import GateSettings
from audio.whisper import MAX_BATCH, Hypothesis, WhisperRecogniser
from audio.whisper_profile import PROFILE_FILE, AsrModelError, read_profile

__all__ = ["TORCH_COMPUTE_TYPES", "TorchWhisperEngine"]

TORCH_COMPUTE_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

_FILES = ["*.json", "model*.safetensors", PROFILE_FILE]
_FEATURE_KEYS = ("feature_size", "sampling_rate", "hop_length", "chunk_length", "n_fft")
_LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")


class TorchWhisperEngine(WhisperRecogniser):
    """A Whisper model on torch; see `audio.asr.AsrEngine`.

    Args:
        model: folder in Hugging Face form (config.json, model.safetensors, tokenizer.json), a size such as "small",
            or a hub id.
        device: "auto" takes CUDA when there is one.
        compute_type: "float32", "bfloat16" or "float16"; "default" (or "auto") is float16 on CUDA, float32 on a CPU.
        gates: instead of the model's own.
        max_batch: windows in one call of the model.

    Raises:
        AsrModelError: no such model, a broken one, no way to fetch it, or a compute type that is not torch's.
    """

    run_mend: ClassVar[str] = "lower asr.max_batch if memory ran out, update the GPU's driver, or ask for device cpu"

    def __init__(
        self,
        model: Path | str,
        *,
        device: str = "auto",
        compute_type: str = "default",
        gates: GateSettings | None = None,
        max_batch: int = MAX_BATCH,
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._dtype = _dtype(compute_type, device)
        try:
            folder = Path(model) if Path(model).is_dir() else _fetch(str(model))
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            transformers_logging.disable_progress_bar()  # a worker's stderr is its log
            weights = WhisperForConditionalGeneration.from_pretrained(
                folder, attn_implementation="sdpa", local_files_only=True
            )
            self._weights: Any = weights.to(device=device, dtype=self._dtype).eval()
            extract = _feature_extractor(folder, mels=weights.config.num_mel_bins)
        except Exception as error:  # transformers, tokenizers and the hub client share no narrower class
            reason = " ".join(str(error).split())
            raise AsrModelError(
                f"speech model {str(model)!r} cannot be loaded ({reason}); name a folder in Hugging Face form with "
                "config.json, model.safetensors and tokenizer.json, or a hub id this machine can reach"
            ) from error
        generation = weights.generation_config
        stated = getattr(generation, "is_multilingual", None)
        super().__init__(
            profile=read_profile(folder, name=Path(model).name),
            gates=gates,
            device=device,
            tokenizer=tokenizer,
            extract=extract,
            # CTranslate2's sign where the model does not say: only the multilingual vocabulary holds the empty token.
            multilingual=tokenizer.token_to_id("") is not None if stated is None else bool(stated),
            max_batch=max_batch,
        )
        self._no_speech = next(
            (i for i in map(tokenizer.token_to_id, ("<|nospeech|>", "<|nocaptions|>")) if i is not None), None
        )
        self._languages = self._language_tokens(getattr(generation, "lang_to_id", None))
        self._suppressed = list(getattr(generation, "suppress_tokens", None) or [])
        self._suppressed_first = list(getattr(generation, "begin_suppress_tokens", None) or [])

    def _language_tokens(self, stated: dict[str, int] | None) -> list[int]:
        """Ids of the languages, those that the model states or else those that stand where Whisper has them."""
        if stated:
            return sorted(stated.values())
        return sorted(
            number
            for token, number in self._tokenizer.get_vocab().items()
            if number > self._sot and _LANGUAGE.fullmatch(token)
        )

    @torch.inference_mode()
    def _generate(
        self, features: NDArray[np.float32], languages: list[str | None], max_length: int
    ) -> Sequence[Hypothesis]:
        """See `WhisperRecogniser._generate`."""
        hidden = self._encode(torch.from_numpy(features).to(self.device, self._dtype))
        if self._multilingual and None in languages:
            found = self._detect(hidden)
            languages = [known or best for known, best in zip(languages, found, strict=True)]
        prompts = torch.tensor([self._prompt(language) for language in languages], device=self.device)
        # As CTranslate2 counts: half of `max_length` at most is for what follows the prompt.
        tokens, scores, no_speech = self._greedy(hidden, prompts, max_length // 2)
        return [
            Hypothesis(tokens=ids[: ids.index(self._end)], score=score, no_speech_prob=silent, language=language)
            for ids, score, silent, language in zip(
                tokens.tolist(), scores.tolist(), no_speech.tolist(), languages, strict=True
            )
        ]

    def _encode(self, mel: Tensor) -> Tensor:
        """(B, mels, T) -> (B, T/2, width). Transformers insists on 3,000 frames, the weights do not."""
        encoder = self._weights.model.encoder
        hidden = F.gelu(encoder.conv1(mel))
        hidden = F.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            hidden = layer(hidden, None)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden  # a tuple before transformers 5
        normed: Tensor = encoder.layer_norm(hidden)
        return normed

    def _decode_step(self, tokens: Tensor, hidden: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Tokens (B, L) that follow those in the cache -> float32 logits (B, L, vocabulary), and the new cache."""
        decoded = self._weights.model.decoder(
            input_ids=tokens, encoder_hidden_states=hidden, past_key_values=cache, use_cache=True
        )
        return self._weights.proj_out(decoded.last_hidden_state).float(), decoded.past_key_values

    def _detect(self, hidden: Tensor) -> list[str]:
        """Each window's language: the likeliest token after the start token."""
        start = torch.full((len(hidden), 1), self._sot, device=self.device)
        logits, _ = self._decode_step(start, hidden, None)
        order = logits[:, 0, self._languages].argsort(dim=-1, descending=True).tolist()
        names = [str(self._tokenizer.id_to_token(number)) for number in self._languages]
        return [self._likeliest([names[index] for index in row]) for row in order]

    def _greedy(self, hidden: Tensor, prompts: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
        """Decode a batch to its end tokens, or `limit` tokens.

        Returns:
            tokens, int64 (B, limit + 1), an end token behind each; scores, float32 (B,), see `Hypothesis`;
            no-speech probabilities, float32 (B,).
        """
        limit = min(limit, self._weights.config.max_target_positions - prompts.shape[1])
        tokens = torch.full((len(prompts), limit + 1), self._end, device=self.device)
        total = torch.zeros(len(prompts), device=self.device)
        going = torch.ones(len(prompts), dtype=torch.bool, device=self.device)
        no_speech = torch.zeros(len(prompts), device=self.device)
        cache, step_tokens = None, prompts
        for step in range(limit):
            logits, cache = self._decode_step(step_tokens, hidden, cache)
            if step == 0 and self._no_speech is not None:
                no_speech = logits[:, 0].softmax(dim=-1)[:, self._no_speech]  # read at the start token, before masks
            logits = logits[:, -1]
            logits[:, self._suppressed + (self._suppressed_first if step == 0 else [])] = -torch.inf
            best, chosen = logits.log_softmax(dim=-1).max(dim=-1)
            total += torch.where(going, best, 0)
            chosen = torch.where(going, chosen, self._end)
            tokens[:, step] = chosen
            going &= chosen != self._end
            if not going.any():
                break
            step_tokens = chosen[:, None]
        return tokens, total / (tokens != self._end).sum(dim=1).clamp(min=1), no_speech


def _dtype(compute_type: str, device: str) -> torch.dtype:
    if compute_type in ("default", "auto"):
        return torch.float16 if device == "cuda" else torch.float32
    if compute_type not in TORCH_COMPUTE_TYPES:
        raise AsrModelError(
            f"compute type {compute_type!r} is not one of torch's ({', '.join(TORCH_COMPUTE_TYPES)}); "
            "choose one of them or leave asr.compute_type at its default"
        )
    if compute_type == "float16" and device == "cpu":
        raise AsrModelError("compute type 'float16' needs a GPU; choose float32 or bfloat16 on a CPU")
    return TORCH_COMPUTE_TYPES[compute_type]


def _fetch(model: str) -> Path:
    """A hub model's files on this machine; a bare size is one of OpenAI's, or of the distilled ones."""
    if "/" not in model:
        model = f"distil-whisper/{model}" if model.startswith("distil-") else f"openai/whisper-{model}"
    return Path(snapshot_download(model, allow_patterns=_FILES))


def _feature_extractor(folder: Path, mels: int) -> FeatureExtractor:
    """The same features as the other engine's, whatever the folder's own settings are."""
    path = folder / "preprocessor_config.json"
    stated = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return FeatureExtractor(**{"feature_size": mels, **{key: stated[key] for key in _FEATURE_KEYS if key in stated}})
