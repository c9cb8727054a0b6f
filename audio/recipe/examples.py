"""An endless, seeded stream of training examples: words -> speech -> telephone -> log-mel -> batches.

Features are those that faster-whisper computes (80 mels, 10 ms steps, 16 kHz), so what is learned here is
what is heard there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

from audio.recipe.channel import Background, non_speech, telephone
from audio.recipe.recordings import RecordedSet, Recordings
from audio.recipe.speech import SAMPLE_RATE_HZ, Clip, ClipStore, Samples, SpeechMaker
from audio.recipe.spoken_forms import DIGITS
from audio.recipe.texts import Texts, TextSource
from audio.recipe.warping import change_pace, move_formants
from audio.telephone_band import telephone_band
from audio.whisper_profile import TELEPHONE_FILTERS

__all__ = [
    "FRAME_S", "Example", "ExampleStream", "Mel", "log_mel", "spliced_digits",
]  # fmt: skip

Mel: TypeAlias = NDArray[np.float32]
"""Log-mel features, shape (80, frames), 10 ms a frame."""

FRAME_S = 0.01
LABEL_S = 0.02
"""One label for each encoder position: the network halves the frame rate."""

MAX_FRAMES = 950
NO_SPEECH_SHARE = 0.13
SOURCE_WEIGHTS = {"digits": 0.15, "cached": 0.12, "human": 0.23, "live": 0.37}
"""How often each source speaks, among examples with speech; absent ones leave their share to the rest."""
MANY_SPEAKERS_SHARE = 0.4
"""Of strings of digits: how many are joined from single digits of many people, who each said only a few.

FSDD has hundreds of digits of hardly anyone. Left to chance, the digits of the ninety others were one word in a
hundred, and digits are what callers are asked for.
"""

BABBLE_VOICES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """`mel` (80, frames); `text` is empty where there is no speech; `phones` int16, one label every 20 ms
    (index into the maker's `phone_names`), or None where unknown."""

    mel: Mel
    text: str
    phones: NDArray[np.int16] | None = None


_extractor: Any = None


def log_mel(samples: Samples) -> Mel:
    """Features of 8 kHz speech, shape (80, frames): as `audio.whisper` has them of a model with `telephone_band`."""
    global _extractor
    if _extractor is None:
        from faster_whisper.feature_extractor import FeatureExtractor

        _extractor = FeatureExtractor()
    wide = soxr.resample(telephone_band(samples, filters=TELEPHONE_FILTERS), SAMPLE_RATE_HZ, 16000, quality="HQ")
    return np.asarray(_extractor(wide)[:, :-1], np.float32)


def spliced_digits(
    rng: Random, speaker_digits: dict[int, list[Clip]], count: int, generator: np.random.Generator
) -> tuple[str, Samples]:
    """`count` digits put in a row, with one habit of pausing; `speaker_digits` are one speaker's or many's."""
    even, usual_gap_s = rng.random() < 0.5, abs(rng.gauss(0.05, 0.08))
    words, parts = [], []
    for _ in range(count):
        digit = rng.choice(sorted(speaker_digits))
        level = rng.uniform(0.8, 1) if even else rng.uniform(0.5, 1)
        gap = np.zeros(int(SAMPLE_RATE_HZ * abs(generator.normal(usual_gap_s, 0.06))), np.float32)
        words.append(DIGITS[digit])
        parts += [rng.choice(speaker_digits[digit]).samples * np.float32(level), gap]
    return " ".join(words), np.concatenate(parts[:-1])


class ExampleStream:
    """Examples for one training process; the same seed gives the same examples."""

    def __init__(
        self,
        *,
        seed: int,
        maker: SpeechMaker,
        recordings: Recordings,
        cached: Sequence[ClipStore],
        texts: Texts,
    ) -> None:
        self._rng = Random(seed)
        self._generator = np.random.default_rng(seed)
        self._maker = maker
        self._phone_ids = {name: index for index, name in enumerate(maker.phone_names)}
        self._text = TextSource(self._rng, texts)
        self._recordings = recordings
        self._cached = [store for store in cached if len(store)]
        self._babble: list[Samples] = []
        self._many_speakers_digits = recordings.single_digits()
        have = {
            "digits": recordings.digits_train or self._many_speakers_digits,
            "cached": self._cached,
            "human": recordings.train,
        }
        self._sources = {name: share for name, share in SOURCE_WEIGHTS.items() if have.get(name, True)}
        self.max_words = 12

    def draw(self) -> Example:
        """The next example."""
        rng = self._rng
        background = Background(noises=self._recordings.noise_train, voices=self._babble)
        if rng.random() < NO_SPEECH_SHARE:
            return Example(mel=log_mel(non_speech(rng, self._generator, background)), text="")
        source = rng.choices(list(self._sources), list(self._sources.values()))[0]
        phones: tuple[tuple[float, str], ...] = ()
        if source == "digits":
            count = rng.choice([1, 1, 1, 2, 3, 4, 4, 5, 6, 6, 8])
            text, samples = spliced_digits(rng, self._digits(), count, self._generator)
            samples = self._warp(samples)
        elif source == "cached":
            clip = self._choose(rng.choice(self._cached))
            text, samples = clip.text, self._warp(clip.samples)
        elif source == "human":
            text, samples = self._human()
        else:
            text = self._text.draw(self.max_words)
            speech = self._maker.speak(text, rng)
            samples, phones = speech.samples, speech.phones
            self._remember(samples)
        lead_s, tail_s = min(1.0, rng.expovariate(5)), min(1.0, 0.05 + rng.expovariate(6))
        samples = np.pad(samples, (int(SAMPLE_RATE_HZ * lead_s), int(SAMPLE_RATE_HZ * tail_s)))
        mel = log_mel(telephone(samples, rng, self._generator, background))
        if rng.random() < 0.5:
            mel = move_formants(mel, rng.uniform(0.9, 1.1))
        if not phones and rng.random() < 0.5:  # the synthesiser has a pace of its own, and says when it said what
            mel = change_pace(mel, rng.uniform(0.8, 1.2))
        return Example(mel=mel, text=text, phones=self._labels(phones, lead_s, mel.shape[1]) if phones else None)

    def batches(self, count: int, frame_budget: int) -> list[list[Example]]:
        """`count` batches, each of at most `frame_budget` padded frames and of examples alike in length."""
        pool: list[Example] = []
        frames = 0
        while frames < count * frame_budget * 0.93:
            example = self.draw()
            if example.mel.shape[1] <= MAX_FRAMES:
                pool.append(example)
                frames += example.mel.shape[1] + 12
        pool.sort(key=lambda example: example.mel.shape[1] + self._rng.random() * 20)
        batches: list[list[Example]] = [[]]
        for example in pool:
            if batches[-1] and (len(batches[-1]) + 1) * (example.mel.shape[1] + 12) > frame_budget:
                batches.append([])
            batches[-1].append(example)
        while len(batches) < count:  # every process must take the same number of steps
            longest = max(batches, key=len)
            batches.remove(longest)
            batches += [longest[: len(longest) // 2], longest[len(longest) // 2 :]]
        batches = sorted(batches, key=len)[-count:]
        self._rng.shuffle(batches)
        return batches

    def _digits(self) -> dict[int, list[Clip]]:
        """Single digits to join: one speaker's of FSDD, or those of many."""
        few = self._recordings.digits_train
        if self._many_speakers_digits and (not few or self._rng.random() < MANY_SPEAKERS_SHARE):
            return self._many_speakers_digits
        return few[self._rng.choice(sorted(few))]

    def _human(self) -> tuple[str, Samples]:
        """A recording; single words of a set of words are often joined into a string of them."""
        rng = self._rng
        sets: list[RecordedSet] = list(self._recordings.train)
        chosen = rng.choices(sets, [recorded.weight for recorded in sets])[0]
        clips = self._recordings.train[chosen]
        first = self._choose(clips)
        text, samples = first.text, self._warp(first.samples)
        if chosen.joined and " " not in text and rng.random() < 0.5:
            for _ in range(rng.choice([0, 1, 2, 3])):
                word = self._choose(clips)
                if " " in word.text:
                    continue
                gap = np.zeros(int(SAMPLE_RATE_HZ * abs(rng.gauss(0.05, 0.1))), np.float32)
                level = np.float32(rng.uniform(0.6, 1))
                text = f"{text} {word.text}"
                samples = np.concatenate([samples, gap, self._warp(word.samples) * level])
        return text, samples

    def _choose(self, clips: Sequence[Clip] | ClipStore) -> Clip:
        return clips[self._rng.randrange(len(clips))]

    def _warp(self, samples: Samples) -> Samples:
        """Pace, pitch and formants moved together by up to 14 %, three times in four."""
        factor = self._rng.uniform(0.86, 1.14)
        if self._rng.random() < 0.25:
            return samples
        return np.asarray(soxr.resample(samples, SAMPLE_RATE_HZ * factor, SAMPLE_RATE_HZ, quality="LQ"), np.float32)

    def _remember(self, samples: Samples) -> None:
        """Keep some voices for babble."""
        voice = samples / np.float32(np.sqrt(float((samples**2).mean())) + 1e-9)
        if len(self._babble) < BABBLE_VOICES:
            self._babble.append(voice)
        elif self._rng.random() < 0.02:
            self._babble[self._rng.randrange(BABBLE_VOICES)] = voice

    def _labels(self, phones: Sequence[tuple[float, str]], lead_s: float, frames: int) -> NDArray[np.int16]:
        labels = np.zeros((frames + 1) // 2, np.int16)
        ends_s = [start_s for start_s, _ in phones[1:]] + [phones[-1][0] + 5 * LABEL_S]
        for (start_s, phone), end_s in zip(phones, ends_s, strict=True):
            first, last = int((start_s + lead_s) / LABEL_S), int((end_s + lead_s) / LABEL_S)
            labels[first:last] = self._phone_ids.get(phone, 0)
        return labels
