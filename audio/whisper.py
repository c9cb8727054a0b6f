"""What every Whisper engine shares, whatever computes it: audio in, windows, prompts, gates, transcript out.

    jobs -> gate by sound -> cut into windows -> features, padded -> batches of one length
         -> `_generate` of an engine -> `_generate_within` what the dialogue waits for, where it wrote other words
        -> gate by words -> windows joined -> transcripts

An engine adds how its weights are loaded and the two kinds of call of the model. So two engines on the same weights
differ by rounding and by nothing else.

A batch shares one feature length, as the model has no length mask: lengths are rounded up to half a second
and jobs of equal length go together.

Source: faster-whisper 1.2.1 `transcribe.py` (`generate_with_fallback`, `get_prompt`) for prompts and scores.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import soxr
from numpy.typing import NDArray
from tokenizers import Tokenizer

from audio.asr import AUTO_LANGUAGE, NEAREST_LANGUAGE, AsrJob, Expectation, Transcript, join_words, language_code
from audio.expectation import Vocabulary, hint, is_plausible
from audio.gates import GateSettings, gate_audio, gate_words, measure
from audio.resampling import pcm16_to_float
from audio.telephone_band import telephone_band
from audio.whisper_profile import TELEPHONE_FILTERS, AsrModelError, WhisperProfile

__all__ = ["MAX_BATCH", "HeldHypothesis", "Hypothesis", "WhisperRecogniser", "split_at_quiet"]

logger = logging.getLogger(__name__)

MAX_BATCH = 32
"""Windows in one call of a model, unless its engine is told otherwise."""

_MODEL_HZ = 16_000
_FRAME_MS = 10
_FULL_WINDOW = 3000
_BUCKET = 50
"""Frames that short windows are rounded up to: more share a batch, at little cost for each."""
_MIN_TAIL_FRAMES = 8
"""Padding that follows the last sample at least; without it a last word may be heard twice."""
_TOKENS_PER_S = 12
"""Faster than anybody speaks in any language, fast Chinese at a token a character included: where decoding stops when
it loops."""
_MOST_UNKNOWN = 50
"""Languages that are told once each; callers choose what they ask for."""
_MOST_TOKENS = 224
"""Half of a decoder's positions, which stock Whisper was trained to fill at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """What a model made of one window.

    `tokens` are all it wrote, without the end token. `score` is the natural log of their probability, the end token's
    included where it was reached, over the number of `tokens`. `language` is what it was decoded in.
    """

    tokens: Sequence[int]
    score: float
    no_speech_prob: float
    language: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldHypothesis:
    """What a model made of one window from allowed tokens only.

    `tokens` are without the end token; `logprobs` are theirs, natural log, as the model weighs them among all tokens.
    """

    tokens: Sequence[int]
    logprobs: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Piece:
    """One window of a job: features of shape (mels, frames), frames already padded."""

    job: int
    features: NDArray[np.float32]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Decoded:
    text: str
    tokens: Sequence[int]
    avg_logprob: float
    no_speech_prob: float
    language: str | None


class WhisperRecogniser(ABC):
    """A loaded Whisper model; see `audio.asr.AsrEngine`.

    Args:
        profile: how the model is to be used.
        gates: instead of the profile's.
        device: "cpu" or "cuda", where it runs.
        tokenizer: the model's; ids below `<|endoftext|>` are text.
        extract: mono float32 at 16 kHz to log-mel features (mels, frames + 1).
        multilingual: whether it is told a language; else its prompt has none.
        max_batch: windows in one call of the model.

    Raises:
        AsrModelError: the tokenizer lacks a token that Whisper needs.
    """

    run_mend: ClassVar[str]
    """What to do where the model loads and does not run."""

    def __init__(
        self,
        *,
        profile: WhisperProfile,
        gates: GateSettings | None,
        device: str,
        tokenizer: Tokenizer,
        extract: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        multilingual: bool,
        max_batch: int,
    ) -> None:
        self.device = device
        self.profile = profile
        self._gates = gates or profile.gates
        self._tokenizer = tokenizer
        self._extract = extract
        self._multilingual = multilingual
        self._max_batch = max_batch
        self._unknown_languages: set[str] = set()
        self._vocabularies: dict[tuple[Expectation, str | None], Vocabulary | None] = {}
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
                f"speech model {self.name} cannot run on {self.device} ({error}); {self.run_mend}"
            ) from error

    def transcribe(self, jobs: list[AsrJob]) -> list[Transcript]:
        """See `audio.asr.AsrEngine.transcribe`. Audio longer than a window is cut and joined, not dropped."""
        gated = [gate_audio(self._gates, measure(job.pcm, job.sample_rate_hz)) for job in jobs]
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
            else self._transcript(heard[index])
            for index, job in enumerate(jobs)
        ]

    @abstractmethod
    def _generate(
        self, features: NDArray[np.float32], languages: list[str | None], max_tokens: int, before: Sequence[int]
    ) -> Sequence[Hypothesis]:
        """One call of the model, with the beams of its profile.

        Args:
            features: shape (windows, mels, frames).
            languages: of each window; None where the model is to find out.
            max_tokens: of one window's text, where to stop a loop.
            before: opens every prompt, see `_hint`.
        """

    @abstractmethod
    def _generate_within(
        self, features: NDArray[np.float32], language: str | None, max_tokens: int, allowed: frozenset[int]
    ) -> Sequence[HeldHypothesis]:
        """One call of the model, greedy, that writes `allowed` tokens and the end token only."""

    def _model_audio(self, job: AsrJob) -> NDArray[np.float32]:
        """A job's audio as the model wants it: float32, 16 kHz."""
        audio, rate = pcm16_to_float(job.pcm), job.sample_rate_hz
        if self.profile.narrowband and rate != 8000:
            audio, rate = soxr.resample(audio, rate, 8000, quality="HQ"), 8000
        if self.profile.telephone_band:
            audio = telephone_band(audio, filters=TELEPHONE_FILTERS)
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
        """Decode pieces, those that may share a batch together; results in the order of the pieces."""
        hints = [self._hint(jobs[piece.job]) for piece in pieces]
        heard: dict[int, Hypothesis] = {}
        for batch in self._batches(pieces, dict(enumerate(hints))):
            hypotheses = self._generate(
                np.stack([pieces[index].features for index in batch]),
                [self._language(jobs[pieces[index].job]) for index in batch],
                _max_tokens(pieces[index] for index in batch),
                hints[batch[0]],
            )
            heard.update(zip(batch, hypotheses, strict=True))
        decoded = {index: self._read(hypothesis) for index, hypothesis in heard.items()}
        decoded.update(self._reconsider(pieces, jobs, decoded))
        return [decoded[index] for index in range(len(pieces))]

    def _batches(self, pieces: Sequence[_Piece], keys: Mapping[int, Hashable]) -> Iterator[list[int]]:
        """Indices of pieces, those of equal length and key together, at most `max_batch`."""
        alike: dict[Hashable, list[int]] = defaultdict(list)
        for index, key in keys.items():
            alike[pieces[index].features.shape[1], key].append(index)
        for indices in alike.values():
            for start in range(0, len(indices), self._max_batch):
                yield indices[start : start + self._max_batch]

    def _reconsider(
        self, pieces: Sequence[_Piece], jobs: Sequence[AsrJob], decoded: Mapping[int, _Decoded]
    ) -> Iterator[tuple[int, _Decoded]]:
        """Pieces whose caller was asked for something, where that is plausible and other words were heard.

        What comes back keeps the probabilities of the free hypothesis: they say how sure the model was that there
        were words at all, which is what the gates ask. So an expectation changes words and never makes any.
        """
        margin = self.profile.expectation_margin
        if margin is None:
            return
        asked = {}
        for index, heard in decoded.items():
            vocabulary = self._vocabulary(jobs[pieces[index].job].expect, heard.language)
            if vocabulary is not None and not vocabulary.settles(heard.text, heard.tokens):
                asked[index] = vocabulary
        for batch in self._batches(pieces, asked):
            vocabulary = asked[batch[0]]
            held = self._generate_within(
                np.stack([pieces[index].features for index in batch]),
                vocabulary.language,
                _max_tokens(pieces[index] for index in batch),
                vocabulary.tokens,
            )
            for index, hypothesis in zip(batch, held, strict=True):
                free = decoded[index]
                text = self._tokenizer.decode(hypothesis.tokens).strip()
                if (
                    vocabulary.spells(text)
                    and not vocabulary.shortens(text, free.text)
                    and is_plausible(hypothesis.logprobs, free.avg_logprob, margin)
                ):
                    yield index, replace(free, text=text, tokens=hypothesis.tokens)

    def _vocabulary(self, expect: Expectation | None, language: str | None) -> Vocabulary | None:
        """What a caller may have been asked for, in this model's tokens."""
        if expect is None:
            return None
        if (expect, language) not in self._vocabularies:
            self._vocabularies[expect, language] = Vocabulary.of(expect, language, self._encode_text)
        return self._vocabularies[expect, language]

    def _hint(self, job: AsrJob) -> tuple[int, ...]:
        """Tokens before a job's prompt: `<|startofprev|>` and words of the kind that is waited for, as if said before.

        A model that can be held to words needs none; a language still to be detected has none.
        """
        held = self.profile.expectation_margin is not None
        if job.expect is None or held or not self.profile.takes_hints:
            return ()
        text = hint(job.expect, self._language(job))
        return (self._token("<|startofprev|>"), *self._encode_text(" " + text)) if text else ()

    def _encode_text(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _read(self, hypothesis: Hypothesis) -> _Decoded:
        tokens = [token for token in hypothesis.tokens if token < self._end]
        return _Decoded(
            text=self._tokenizer.decode(tokens).strip(),
            tokens=tokens,
            # The score is over the tokens of the text; the end token was decided too.
            avg_logprob=hypothesis.score * len(tokens) / (len(tokens) + 1) if tokens else 0.0,
            no_speech_prob=hypothesis.no_speech_prob,
            language=hypothesis.language,
        )

    def _transcript(self, windows: list[_Decoded]) -> Transcript:
        """Join a job's windows, each gated by itself: noise in one must not cost the words of another."""
        gates = [
            gate_words(self._gates, window.text, window.avg_logprob, window.no_speech_prob) if window.text else None
            for window in windows
        ]
        passed = [window for window, gate in zip(windows, gates, strict=True) if gate is None and window.text]
        counted = passed or windows
        tokens = sum(len(window.tokens) + 1 for window in counted)
        return Transcript(
            text=join_words(*(window.text for window in passed)),
            language=windows[0].language,
            avg_logprob=sum(window.avg_logprob * (len(window.tokens) + 1) for window in counted) / tokens,
            no_speech_prob=min(window.no_speech_prob for window in counted),
            gated_by=None if passed else next((gate for gate in gates if gate), None),
        )

    def _prompt(self, language: str | None) -> list[int]:
        if not self._multilingual or language is None:
            return [self._sot, self._no_timestamps]
        return [self._sot, self._token(f"<|{language}|>"), self._token("<|transcribe|>"), self._no_timestamps]

    def _language(self, job: AsrJob) -> str | None:
        """The language to decode a job in; None: detect it."""
        if not self._multilingual:
            return self.profile.languages[0] if self.profile.languages else "en"
        language = language_code(job.language or AUTO_LANGUAGE)
        if language == AUTO_LANGUAGE:
            return None
        # Whisper has Cantonese from large-v3 on: the nearest is better than a guess an utterance.
        for code in (language, NEAREST_LANGUAGE.get(language)):
            if code is not None and self._tokenizer.token_to_id(f"<|{code}|>") is not None:
                return code
        if language not in self._unknown_languages and len(self._unknown_languages) < _MOST_UNKNOWN:
            self._unknown_languages.add(language)
            logger.warning(
                "speech model %s has no language %r and detects it in each utterance; set the call's language or "
                "asr.language to one that it has",
                self.name,
                language[:8],
            )
        return None

    def _likeliest(self, tokens: Sequence[str]) -> str:
        """The most probable language among those the profile allows, without its token's brackets.

        `tokens` are language tokens, most probable first.
        """
        names = [token.strip("<|>") for token in tokens]
        return next((name for name in names if name in self.profile.languages), names[0])

    def _token(self, word: str) -> int:
        token: Any = self._tokenizer.token_to_id(word)
        if token is None:
            raise AsrModelError(f"speech model {self.name} has no token {word}; is it a Whisper model?")
        return int(token)


def _max_tokens(pieces: Iterable[_Piece]) -> int:
    """Tokens that no speech of this length reaches."""
    return min(_MOST_TOKENS, 12 + int(_TOKENS_PER_S * max(piece.seconds for piece in pieces)))


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
