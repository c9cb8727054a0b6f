"""Whisper on CTranslate2: stock weights and our own small model through one path.

`faster_whisper.WhisperModel` loads (a folder or a hub id) and computes features; decoding calls
CTranslate2 itself, because `WhisperModel.transcribe` pads all audio to 30 s (400 ms on a core for what
takes 10) and takes one call's audio at a time.

Raw features are handed to `generate`; encoder output is only reused where a language must be detected, and
its length must then differ from the number of mels, or CTranslate2 takes it for features (lengths of whole
half seconds never hit that).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from audio.gates import GateSettings
from audio.whisper import MAX_BATCH, HeldHypothesis, Hypothesis, WhisperRecogniser, split_at_quiet
from audio.whisper_profile import AsrModelError, read_profile

__all__ = ["AsrModelError", "WhisperEngine", "split_at_quiet"]

_LONGEST_PROMPT = 4
"""Start, language, task, no timestamps."""
_FILES = ("model.bin", "config.json", "tokenizer.json")


class WhisperEngine(WhisperRecogniser):
    """A Whisper model on CTranslate2; see `audio.asr.AsrEngine`.

    Args:
        model: folder of a CTranslate2 model, a size such as "small", or a hub id.
        device: "auto" takes CUDA when there is one.
        compute_type: CTranslate2's; "default" is int8 on a CPU, float16 on CUDA.
        cpu_threads: threads of one batch.
        gates: instead of the model's own.
        max_batch: windows in one call of the model.

    Raises:
        AsrModelError: no such model, a broken one, or no way to fetch it.
    """

    run_mend: ClassVar[str] = (
        "on a GPU host install voicegate[gpu] and put its libraries on LD_LIBRARY_PATH, or ask for device cpu"
    )

    def __init__(
        self,
        model: Path | str,
        *,
        device: str = "auto",
        compute_type: str = "default",
        cpu_threads: int = 1,
        gates: GateSettings | None = None,
        max_batch: int = MAX_BATCH,
    ) -> None:
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        if compute_type == "default":
            compute_type = "float16" if device == "cuda" else "int8"
        _check_files(Path(model))
        try:
            loaded = WhisperModel(str(model), device=device, compute_type=compute_type, cpu_threads=cpu_threads)
        except Exception as error:  # CTranslate2, tokenizers and the hub client share no narrower class
            reason = " ".join(str(error).split())
            mend = "name a folder made by ct2-transformers-converter, or a hub id this machine can reach"
            if "CUDA" in reason:
                mend = "use the device cpu, or ask `voicegate doctor` what the GPU lacks"
            elif "compute type" in reason:
                able = ", ".join(sorted(ctranslate2.get_supported_compute_types(device)))
                mend = f"leave asr.compute_type at its default, or choose what this {device} computes with: {able}"
            raise AsrModelError(f"speech model {str(model)!r} cannot be loaded ({reason}); {mend}") from error
        self._model = loaded.model
        super().__init__(
            profile=read_profile(Path(model), name=Path(model).name),
            gates=gates,
            device=device,
            tokenizer=loaded.hf_tokenizer,
            extract=_feature_extractor(loaded),
            multilingual=loaded.model.is_multilingual,
            max_batch=max_batch,
        )

    def _generate(
        self, features: NDArray[np.float32], languages: list[str | None], max_tokens: int, before: Sequence[int]
    ) -> Sequence[Hypothesis]:
        """See `WhisperRecogniser._generate`."""
        view = ctranslate2.StorageView.from_array(features)
        if self._multilingual and None in languages:
            view = self._model.encode(view)
            found = self._model.detect_language(view)
            languages = [
                known or self._likeliest([token for token, _ in best])
                for known, best in zip(languages, found, strict=True)
            ]
        results = self._model.generate(
            view,
            [[*before, *self._prompt(language)] for language in languages],
            beam_size=self.profile.beams,
            # By default a text is weighed by its mean token: that prefers two likely halves of a wrong word to the
            # right one.
            length_penalty=0,
            max_length=_max_length(max_tokens, len(before) + _LONGEST_PROMPT),
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [
            Hypothesis(
                tokens=result.sequences_ids[0],
                score=result.scores[0] / max(1, len(result.sequences_ids[0])),
                no_speech_prob=result.no_speech_prob,
                language=language,
            )
            for result, language in zip(results, languages, strict=True)
        ]

    def _generate_within(
        self, features: NDArray[np.float32], language: str | None, max_tokens: int, allowed: frozenset[int]
    ) -> Sequence[HeldHypothesis]:
        """See `WhisperRecogniser._generate_within`.

        The scores of `generate` are of no use here, since it masks before it normalises: `align` weighs the tokens.
        """
        view = self._model.encode(ctranslate2.StorageView.from_array(features))
        prompt = self._prompt(language)
        results = self._model.generate(
            view,
            [prompt] * len(features),
            beam_size=1,
            max_length=_max_length(max_tokens, len(prompt)),
            suppress_tokens=sorted(set(range(self._tokenizer.get_vocab_size())) - allowed - {self._end}),
        )
        texts = [[token for token in result.sequences_ids[0] if token < self._end] for result in results]
        start = prompt[:-1]  # `align` adds the last token, no timestamps, itself
        weighed = self._model.align(view, start, texts, features.shape[2])
        return [
            HeldHypothesis(tokens=tokens, logprobs=np.log(np.maximum(weights.text_token_probs, 1e-30)).tolist())
            for tokens, weights in zip(texts, weighed, strict=True)
        ]


def _check_files(folder: Path) -> None:
    """Refuse a folder in which a file is missing.

    Without tokenizer.json faster-whisper would ask the hub for that of whisper-tiny, whose numbers are not large-v3's;
    without config.json CTranslate2 loads and cannot run.

    Raises:
        AsrModelError: naming the files. Of what is no folder, a size or a hub id, nothing is known here.
    """
    if not folder.is_dir():
        return
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if not any(folder.glob("vocabulary.*")):
        missing.append("vocabulary.json")
    if missing:
        raise AsrModelError(
            f"speech model '{folder}' cannot be loaded (no {', '.join(missing)} in it); make it again with "
            "ct2-transformers-converter --copy_files tokenizer.json preprocessor_config.json"
        )


def _feature_extractor(loaded: WhisperModel) -> FeatureExtractor:
    """Features as the weights want them: 128 mels for large-v3, also where no preprocessor_config.json says so."""
    extractor, mels = loaded.feature_extractor, loaded.model.n_mels
    return extractor if len(extractor.mel_filters) == mels else FeatureExtractor(feature_size=mels)


def _max_length(max_tokens: int, prompt_tokens: int) -> int:
    """What to ask of CTranslate2 for `max_tokens` of text: of a length L it writes min(L / 2, L - prompt).

    Source: CTranslate2 4.8 `src/models/whisper.cc`, `WhisperReplica::generate`.
    """
    return max(2 * max_tokens, max_tokens + prompt_tokens)
