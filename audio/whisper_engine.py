"""Whisper behind the ASR seam: stock weights and our own small model through one path.

`faster_whisper.WhisperModel` loads (a folder or a hub id) and computes features; decoding calls
CTranslate2 itself, because `WhisperModel.transcribe` pads all audio to 30 s (400 ms on a core for what
takes 10) and takes one call's audio at a time.

A batch shares one feature length, as the model has no length mask: lengths are rounded up to half a second
and jobs of equal length go together. Raw features are handed to `generate`; encoder output is only reused
where a language must be detected, and its length must then differ from the number of mels, or CTranslate2
takes it for features (lengths of whole half seconds never hit that).

Source: faster-whisper 1.2.1 `transcribe.py` (`generate_with_fallback`, `get_prompt`) for prompts and scores.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import soxr
from faster_whisper import WhisperModel
from numpy.typing import NDArray

from audio.asr import AsrJob, Transcript
from audio.gates import GateSettings, Sound, gate_audio, gate_words, measure
from audio.resampling import pcm16_to_float
from audio.whisper_profile import AsrModelError, read_profile

__all__ = ["AsrModelError", "WhisperEngine", "split_at_quiet"]

logger = logging.getLogger(__name__)

_MODEL_HZ = 16_000
_FRAME_MS = 10
_FULL_WINDOW = 3000
_BUCKET = 50
"""Frames that short windows are rounded up to: more share a batch, at little cost for each."""
_MIN_TAIL_FRAMES = 8
"""Padding that follows the last sample at least; without it a last word may be heard twice."""
_MAX_BATCH = 32
_TOKENS_PER_S = 12
"""Faster than anybody speaks in any language: where decoding stops when it loops."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """One window of a job: features of shape (mels, frames), frames already padded."""

    job: int
    features: NDArray[np.float32]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Decoded:
    text: str
    tokens: int
    avg_logprob: float
    no_speech_prob: float
    language: str | None


class WhisperEngine:
    """A loaded Whisper model; see `audio.asr.AsrEngine`.

    Args:
        model: folder of a CTranslate2 model, a size such as "small", or a hub id.
        device: "auto" takes CUDA when there is one.
        compute_type: CTranslate2's; "default" is int8 on a CPU, float16 on CUDA.
        cpu_threads: threads of one batch.
        gates: instead of the model's own.

    Raises:
        AsrModelError: no such model, a broken one, or no way to fetch it.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        device: str = "auto",
        compute_type: str = "default",
        cpu_threads: int = 1,
        gates: GateSettings | None = None,
    ) -> None:
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        if compute_type == "default":
            compute_type = "float16" if device == "cuda" else "int8"
        try:
            loaded = WhisperModel(str(model), device=device, compute_type=compute_type, cpu_threads=cpu_threads)
        except Exception as error:  # CTranslate2, tokenizers and the hub client share no narrower class
            reason = " ".join(str(error).split())
            raise AsrModelError(
                f"speech model {str(model)!r} cannot be loaded ({reason}); name a folder made by "
                "ct2-transformers-converter, or a hub id this machine can reach"
            ) from error
        self.device = device
        self.profile = read_profile(Path(model), name=Path(model).name)
        self._gates = gates or self.profile.gates
        self._model = loaded.model
        self._tokenizer = loaded.hf_tokenizer
        self._extract = loaded.feature_extractor
        self._sot, self._no_timestamps, self._end = (
            self._token(word) for word in ("<|startoftranscript|>", "<|notimestamps|>", "<|endoftext|>")
        )

    @property
    def name(self) -> str:
        """Model name and version."""
        return f"{self.profile.name}-{self.profile.version}" if self.profile.version else self.profile.name

    @property
    def sample_rate_hz(self) -> int:
        """The rate to read recordings at: 8000 where the model hears through a telephone anyway."""
        return 8000 if self.profile.narrowband else _MODEL_HZ

    def padded_frames(self, job: AsrJob) -> int:
        """See `audio.asr.AsrEngine.padded_frames`."""
        whole, rest = divmod(len(job.pcm) / job.sample_rate_hz, self.profile.max_window_s)
        window = self._padded(int(self.profile.max_window_s * 1000) // _FRAME_MS)
        return int(whole) * window + (self._padded(int(rest * 1000) // _FRAME_MS) if rest else 0)

    def warm_up(self) -> None:
        """Run once, so that the first caller does not pay for lazy set-up.

        Raises:
            AsrModelError: the model loads but cannot run here.
        """
        noise = np.random.default_rng(0).normal(0, 1000, 8000).astype(np.int16)
        try:
            self._decode([self._piece(0, pcm16_to_float(noise))], [AsrJob(pcm=noise)])
        except RuntimeError as error:
            raise AsrModelError(
                f"speech model {self.name} cannot run on {self.device} ({error}); on a GPU host install "
                "voicegate[gpu] and put its libraries on LD_LIBRARY_PATH, or ask for device cpu"
            ) from error

    def transcribe(self, jobs: list[AsrJob]) -> list[Transcript]:
        """See `audio.asr.AsrEngine.transcribe`. Audio longer than a window is cut and joined, not dropped."""
        sounds = [measure(job.pcm, job.sample_rate_hz) for job in jobs]
        gated = [gate_audio(self._gates, sound) for sound in sounds]
        pieces = [
            self._piece(index, window)
            for index, job in enumerate(jobs)
            if gated[index] is None
            for window in split_at_quiet(self._model_audio(job), _MODEL_HZ, self.profile.max_window_s)
        ]
        heard: dict[int, list[_Decoded]] = defaultdict(list)
        for piece, decoded in zip(pieces, self._decode(pieces, jobs), strict=True):
            heard[piece.job].append(decoded)
        return [
            Transcript(text="", language=self._language(job), gated_by=gated[index])
            if gated[index]
            else self._transcript(heard[index], sounds[index])
            for index, job in enumerate(jobs)
        ]

    def _model_audio(self, job: AsrJob) -> NDArray[np.float32]:
        """A job's audio as the model wants it: float32, 16 kHz."""
        audio, rate = pcm16_to_float(job.pcm), job.sample_rate_hz
        if self.profile.narrowband and rate != 8000:
            audio, rate = soxr.resample(audio, rate, 8000, quality="HQ"), 8000
        return audio if rate == _MODEL_HZ else soxr.resample(audio, rate, _MODEL_HZ, quality="HQ")

    def _padded(self, frames: int) -> int:
        """Frames after padding."""
        if not self.profile.short_windows:
            return _FULL_WINDOW
        return min(_FULL_WINDOW, -(-(frames + _MIN_TAIL_FRAMES) // _BUCKET) * _BUCKET)

    def _piece(self, job: int, audio: NDArray[np.float32]) -> _Piece:
        features = self._extract(audio)[:, :-1].astype(np.float32)
        frames = self._padded(features.shape[1])
        features = features[:, :frames]
        # Zeros in the feature domain, as faster-whisper pads and as the bundled model was trained.
        features = np.pad(features, ((0, 0), (0, frames - features.shape[1])))
        return _Piece(job, features, len(audio) / _MODEL_HZ)

    def _decode(self, pieces: list[_Piece], jobs: list[AsrJob]) -> list[_Decoded]:
        """Decode pieces, those of equal length together; results in the order of the pieces."""
        buckets: dict[int, list[int]] = defaultdict(list)
        for index, piece in enumerate(pieces):
            buckets[piece.features.shape[1]].append(index)
        decoded: dict[int, _Decoded] = {}
        for indices in buckets.values():
            for start in range(0, len(indices), _MAX_BATCH):
                batch = indices[start : start + _MAX_BATCH]
                languages = [self._language(jobs[pieces[index].job]) for index in batch]
                decoded.update(zip(batch, self._generate([pieces[i] for i in batch], languages), strict=True))
        return [decoded[index] for index in range(len(pieces))]

    def _generate(self, pieces: list[_Piece], languages: list[str | None]) -> Iterator[_Decoded]:
        """One call of the model. `languages` holds None where the model is to find out."""
        features = ctranslate2.StorageView.from_array(np.stack([piece.features for piece in pieces]))
        if self._model.is_multilingual and None in languages:
            features = self._model.encode(features)
            found = self._model.detect_language(features)
            languages = [known or self._likeliest(best) for known, best in zip(languages, found, strict=True)]
        results = self._model.generate(
            features,
            [self._prompt(language) for language in languages],
            beam_size=1,  # beams brought nothing on telephone utterances and cost their number
            max_length=24 + int(_TOKENS_PER_S * max(piece.seconds for piece in pieces)),
            return_scores=True,
            return_no_speech_prob=True,
        )
        for result, language in zip(results, languages, strict=True):
            tokens = [token for token in result.sequences_ids[0] if token < self._end]
            yield _Decoded(
                text=self._tokenizer.decode(tokens).strip(),
                tokens=len(tokens),
                # CTranslate2 divides by the tokens of the text; the end token was decided too.
                avg_logprob=result.scores[0] * len(tokens) / (len(tokens) + 1) if tokens else 0.0,
                no_speech_prob=result.no_speech_prob,
                language=language,
            )

    def _transcript(self, windows: list[_Decoded], sound: Sound) -> Transcript:
        """Join a job's windows, each gated by itself: noise in one must not cost the words of another."""
        gates = [
            gate_words(self._gates, sound, window.text, window.avg_logprob, window.no_speech_prob)
            if window.text
            else None
            for window in windows
        ]
        passed = [window for window, gate in zip(windows, gates, strict=True) if gate is None and window.text]
        counted = passed or windows
        tokens = sum(window.tokens + 1 for window in counted)
        return Transcript(
            text=" ".join(window.text for window in passed),
            language=windows[0].language,
            avg_logprob=sum(window.avg_logprob * (window.tokens + 1) for window in counted) / tokens,
            no_speech_prob=min(window.no_speech_prob for window in counted),
            gated_by=None if passed else next((gate for gate in gates if gate), None),
        )

    def _prompt(self, language: str | None) -> list[int]:
        if not self._model.is_multilingual or language is None:
            return [self._sot, self._no_timestamps]
        return [self._sot, self._token(f"<|{language}|>"), self._token("<|transcribe|>"), self._no_timestamps]

    def _language(self, job: AsrJob) -> str | None:
        """The language to decode a job in; None: detect it."""
        if not self._model.is_multilingual:
            return self.profile.languages[0] if self.profile.languages else "en"
        if job.language is None:
            return None
        language = job.language.lower().split("-")[0]
        if self._tokenizer.token_to_id(f"<|{language}|>") is None:
            logger.warning("speech model %s has no language %r; detecting instead", self.name, language[:8])
            return None
        return language

    def _likeliest(self, found: list[tuple[str, float]]) -> str:
        """The most probable language among those the profile allows, without its token's brackets."""
        names = [token.strip("<|>") for token, _ in found]
        return next((name for name in names if name in self.profile.languages), names[0])

    def _token(self, word: str) -> int:
        token: Any = self._tokenizer.token_to_id(word)
        if token is None:
            raise AsrModelError(f"speech model {self.name} has no token {word}; is it a Whisper model?")
        return int(token)


def split_at_quiet(
    audio: NDArray[np.float32], sample_rate_hz: int, max_window_s: float
) -> Iterator[NDArray[np.float32]]:
    """Cut audio into windows of at most `max_window_s`, each cut in the
    quietest 100 ms of a window's last half.

    Every sample is in exactly one window; the last is at least half a second, or all there is.
    """
    longest = int(max_window_s * sample_rate_hz)
    block = sample_rate_hz // 10
    while len(audio) > longest:
        start, stop = longest // 2, min(longest, len(audio) - 5 * block)
        blocks = audio[start : start + (stop - start) // block * block].reshape(-1, block)
        cut = start + int(np.argmin(np.square(blocks).mean(axis=1))) * block + block // 2
        yield audio[:cut]
        audio = audio[cut:]
    if len(audio):
        yield audio
