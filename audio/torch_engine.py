"""Whisper on torch: the second engine behind the ASR seam, for what CTranslate2 cannot run on.

CTranslate2 needs CUDA 12's cuBLAS; a GPU host with only a newer CUDA has a torch built for it. The weights are
transformers' Whisper with SDPA attention; encoder and decoder are called one by one, because `model.generate` insists
on 3,000 frames, so the short windows that telephone audio wants would be lost.

Decoding over a whole batch with a key/value cache: every prompt of a batch has the same length, so no mask is needed,
and a window that has ended goes on for nothing until the last one has. Scores are kept in float32 whatever the weights
are in.

On a CPU CTranslate2 (int8) is faster: this engine is for GPUs, and for models that have no CTranslate2 form.

Source: transformers `models/whisper/modeling_whisper.py` for the encoder; CTranslate2 `src/models/whisper.cc` for the
order of suppression, softmax and the place where the no-speech probability is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import itemgetter
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
from audio.whisper import MAX_BATCH, HeldHypothesis, Hypothesis, WhisperRecogniser
from audio.whisper_profile import PROFILE_FILE, AsrModelError, read_profile

__all__ = ["TORCH_COMPUTE_TYPES", "TorchWhisperEngine"]

TORCH_COMPUTE_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

_FILES = ["*.json", "model*.safetensors", PROFILE_FILE]
_FEATURE_KEYS = ("feature_size", "sampling_rate", "hop_length", "chunk_length", "n_fft")
_LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """What was written of one window, without the end token; `total` is the natural log of it all, end included."""

    tokens: list[int]
    total: float
    logprobs: Sequence[float] = ()
    """Of each token, where they were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """What was written of a batch, and each window's no-speech probability."""

    windows: list[_Window]
    no_speech: list[float]


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
        self, features: NDArray[np.float32], languages: list[str | None], max_tokens: int, before: Sequence[int]
    ) -> Sequence[Hypothesis]:
        """See `WhisperRecogniser._generate`."""
        hidden = self._encode(features)
        if self._multilingual and None in languages:
            found = self._detect(hidden)
            languages = [known or best for known, best in zip(languages, found, strict=True)]
        prompts = [[*before, *self._prompt(language)] for language in languages]
        decode = self._greedy if self.profile.beams == 1 else self._beam_search
        written = decode(hidden, prompts, max_tokens, sot_at=len(before))
        return [
            # the end token's probability counts, the token does not
            Hypothesis(
                tokens=one.tokens, score=one.total / max(1, len(one.tokens)), no_speech_prob=silent, language=said
            )
            for one, silent, said in zip(written.windows, written.no_speech, languages, strict=True)
        ]

    @torch.inference_mode()
    def _generate_within(
        self, features: NDArray[np.float32], language: str | None, max_tokens: int, allowed: frozenset[int]
    ) -> Sequence[HeldHypothesis]:
        """See `WhisperRecogniser._generate_within`."""
        prompts = [self._prompt(language)] * len(features)
        written = self._greedy(self._encode(features), prompts, max_tokens, allowed=allowed)
        return [HeldHypothesis(tokens=one.tokens, logprobs=one.logprobs) for one in written.windows]

    def _encode(self, features: NDArray[np.float32]) -> Tensor:
        """(B, mels, T) -> (B, T/2, width). Transformers insists on 3,000 frames, the weights do not."""
        encoder = self._weights.model.encoder
        hidden = F.gelu(encoder.conv1(torch.from_numpy(features).to(self.device, self._dtype)))
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

    def _greedy(
        self,
        hidden: Tensor,
        prompts: list[list[int]],
        max_tokens: int,
        *,
        sot_at: int = 0,
        allowed: frozenset[int] | None = None,
    ) -> _Written:
        """Decode a batch until every window has its end token, or has written `max_tokens`.

        Without `allowed` the model's suppressed tokens are masked and the
        probabilities are among the others; with it all but those and the end token are masked, and the probabilities
        are among all tokens.

        Args:
            hidden: of `_encode`.
            prompts: of one length.
            max_tokens: see `WhisperRecogniser._generate`.
            sot_at: place of the start token in the prompts, where the no-speech probability is read.
            allowed: text tokens to choose from.
        """
        limit = min(max_tokens, self._weights.config.max_target_positions - len(prompts[0]))
        size = (len(prompts), limit)
        tokens = torch.full(size, self._end, device=self.device)
        logprobs = torch.zeros(size, device=self.device)
        going = torch.ones(len(prompts), dtype=torch.bool, device=self.device)
        no_speech = torch.zeros(len(prompts), device=self.device)
        later_mask = self._mask(allowed)
        mask = later_mask.clone()
        mask[self._suppressed_first] = True
        cache, step_tokens = None, torch.tensor(prompts, device=self.device)
        for step in range(limit):
            logits, cache = self._decode_step(step_tokens, hidden, cache)
            if step == 0 and self._no_speech is not None:
                no_speech = logits[:, sot_at].softmax(dim=-1)[:, self._no_speech]
            logits = logits[:, -1]
            masked = logits.masked_fill(mask, -torch.inf)
            chosen = masked.argmax(dim=-1, keepdim=True)
            weighed = masked if allowed is None else logits
            best = weighed.log_softmax(dim=-1).gather(-1, chosen)[:, 0]
            logprobs[:, step] = torch.where(going, best, 0)
            tokens[:, step] = torch.where(going, chosen[:, 0], self._end)
            going &= tokens[:, step] != self._end
            if not going.any():
                break
            step_tokens, mask = tokens[:, step : step + 1], later_mask
        texts = [[*takewhile(lambda token: token != self._end, ids)] for ids in tokens.tolist()]
        return _Written(
            windows=[
                _Window(tokens=text, total=sum(values), logprobs=values[: len(text)])
                for text, values in zip(texts, logprobs.tolist(), strict=True)
            ],
            no_speech=no_speech.tolist(),
        )

    def _beam_search(self, hidden: Tensor, prompts: list[list[int]], max_tokens: int, *, sot_at: int = 0) -> _Written:
        """Decode a batch with several beams a window; the likeliest whole text of each, whatever its length.

        A text's probability only falls as it grows, so a window is done once its best whole text is likelier than
        every beginning that is still followed. One that writes `max_tokens` counts as whole.
        """
        windows, beams = len(prompts), self.profile.beams
        limit = min(max_tokens, self._weights.config.max_target_positions - len(prompts[0]))
        later_mask = self._mask(None)
        mask = later_mask.clone()
        mask[self._suppressed_first] = True
        logits, cache = self._decode_step(torch.tensor(prompts, device=self.device), hidden, None)
        no_speech = [0.0] * windows
        if self._no_speech is not None:
            no_speech = logits[:, sot_at].softmax(dim=-1)[:, self._no_speech].tolist()
        # From here on row w * beams + b is beam b of window w; at first one of each is alive, the others its shadows.
        hidden = hidden.repeat_interleave(beams, dim=0)
        cache.batch_repeat_interleave(beams)
        logits = logits[:, -1].repeat_interleave(beams, dim=0)
        totals = torch.full((windows, beams), -torch.inf, device=self.device)
        totals[:, 0] = 0
        texts = torch.empty((windows, beams, 0), dtype=torch.long, device=self.device)
        best: list[tuple[float, list[int]]] = [(-float("inf"), [])] * windows
        offset = torch.arange(windows, device=self.device)[:, None] * beams
        for step in range(limit):
            weighed = logits.masked_fill(mask, -torch.inf).log_softmax(dim=-1).view(windows, beams, -1)
            mask = later_mask
            ended = totals + weighed[:, :, self._end]
            weighed[:, :, self._end] = -torch.inf
            for window, (values, written) in enumerate(zip(ended.tolist(), texts.tolist(), strict=True)):
                best[window] = max(best[window], *zip(values, written, strict=True), key=itemgetter(0))
            totals, places = (totals[:, :, None] + weighed).flatten(1).topk(beams, dim=-1)
            rows, chosen = places // weighed.shape[-1], places % weighed.shape[-1]
            texts = torch.cat([texts.gather(1, rows[:, :, None].expand(-1, -1, step)), chosen[:, :, None]], dim=-1)
            if all(total >= alive for (total, _), alive in zip(best, totals[:, 0].tolist(), strict=True)):
                break
            cache.reorder_cache((rows + offset).flatten())
            logits = self._decode_step(chosen.reshape(-1, 1), hidden, cache)[0][:, -1]
        else:
            for window, (total, written) in enumerate(zip(totals[:, 0].tolist(), texts[:, 0].tolist(), strict=True)):
                best[window] = max(best[window], (total, written), key=itemgetter(0))
        return _Written(windows=[_Window(tokens=tokens, total=total) for total, tokens in best], no_speech=no_speech)

    def _mask(self, allowed: frozenset[int] | None) -> Tensor:
        """Bool (vocabulary,): tokens that may not be written."""
        mask = torch.full((self._weights.config.vocab_size,), allowed is not None)
        mask[self._suppressed if allowed is None else [*allowed, self._end]] = allowed is None
        return mask.to(self.device)


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
