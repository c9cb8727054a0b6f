"""Tests of the bundled recogniser, from speakers, voices and templates that training never uses.

Built once into a folder, a manifest for each test and condition, in the form of `voicegate asr eval`:

    TESTS/index.json                     kinds, what each holds out, sizes
    TESTS/KIND/CONDITION.jsonl           {"audio", "text"} a line, paths relative to it
    TESTS/KIND/CONDITION/0000.wav        8 kHz, 16 bit

Conditions: `clean`; `mulaw` and `alaw` (300-3400 Hz, then G.711 there and back); `noise10` (band, noise at
10 dB, mu-law). Tests without words ("rejection") have one condition and no reference: any word is a fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np
import soundfile as sf

from audio.phone_line import add_noise
from audio.recipe.channel import Background, companding, non_speech, unit_noise
from audio.recipe.examples import spliced_digits
from audio.recipe.phrases import TOPICS, draw_sentence
from audio.recipe.recordings import Recordings
from audio.recipe.speech import SAMPLE_RATE_HZ, Clip, Samples, SpeechMaker, to_pcm16
from audio.recipe.spoken_forms import SLOTS
from audio.telephone_band import telephone_band

__all__ = ["CONDITIONS", "TestKind", "build_tests", "read_tests"]

CONDITIONS = ("clean", "mulaw", "alaw", "noise10")
SEED = 2024
DOMAIN_TOPICS = {
    name: weight
    for name, weight in TOPICS.items()
    if name in {"who", "bill_pay", "bill_paid", "dispute", "later", "refno", "prom", "busy", "agt", "idn"}
}
"""What callers say to the bundled bill reminder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestKind:
    """One test: its folder's name, what it is, whether it holds words, how many clips."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    folder: str
    title: str
    rejection: bool
    count: int


def build_tests(
    folder: Path,
    recordings: Recordings,
    unheard: Sequence[tuple[str, SpeechMaker]],
    texts: Sequence[tuple[str, Sequence[str]]],
    *,
    size: int = 150,
) -> list[TestKind]:
    """Write all tests that the data and engines at hand allow; the same inputs give the same files.

    Args:
        folder: to be made; `index.json` is written last.
        recordings: their test parts are used.
        unheard: name -> engine that speaks in voices kept from training.
        texts: name -> written utterances that training text does not hold.
        size: clips of each synthesised test.
    """
    rng = Random(SEED)
    kinds = [
        _write(folder, title, clips, rejection=False)
        for title, clips in _speech_tests(recordings, unheard, texts, rng, size)
    ]
    kinds += [
        _write(folder, title, [("", one) for one in sounds], rejection=True)
        for title, sounds in _rejection_tests(recordings, rng)
    ]
    (folder / "index.json").write_text(json.dumps([asdict(kind) for kind in kinds], indent=1) + "\n")
    return kinds


def read_tests(folder: Path) -> list[TestKind]:
    """The tests that lie in `folder`, none if it was never built."""
    index = folder / "index.json"
    return [TestKind(**row) for row in json.loads(index.read_text())] if index.exists() else []


def _speech_tests(
    recordings: Recordings,
    unheard: Sequence[tuple[str, SpeechMaker]],
    texts: Sequence[tuple[str, Sequence[str]]],
    rng: Random,
    size: int,
) -> Iterator[tuple[str, list[tuple[str, Samples]]]]:
    generator = np.random.default_rng(SEED)
    if recordings.digits_test:
        yield from _digit_tests(recordings.digits_test, "known speakers, unheard recordings", rng, generator)
    if recordings.digits_unheard:
        yield from _digit_tests(recordings.digits_unheard, "unheard speakers", rng, generator)
    for recorded, clips in recordings.test.items():
        chosen, label = rng.sample(clips, min(200, len(clips))), recorded.licence.split(",")[0]
        title = f"human, {label} (unheard speakers)"
        yield title, [(clip.text, clip.samples) for clip in chosen]
        digits = [clip for clip in clips if recorded.joined and clip.text in _DIGITS]
        if digits:
            yield (
                f"human, digits of {label} (unheard speakers)",
                [(c.text, c.samples) for c in digits],
            )
    for index, (name, maker) in enumerate(unheard):
        new = [draw_sentence(rng, test=True, topics=DOMAIN_TOPICS) for _ in range(size)]
        yield (
            f"{name}: bill reminder, new templates",
            [(text, maker.speak(text, rng).samples) for text in new],
        )
        if index > 0:
            continue
        new = [draw_sentence(rng, test=True) for _ in range(size)]
        yield (
            f"{name}: phone service, new templates",
            [(text, maker.speak(text, rng).samples) for text in new],
        )
        for title, written in texts:
            short = [text for text in written if len(text.split()) <= 12]
            chosen_texts = rng.sample(short, min(size, len(short)))
            if chosen_texts:
                yield (
                    f"{name}: {title}",
                    [(text, maker.speak(text, rng).samples) for text in chosen_texts],
                )
        for title, slots in (("dates", ["DATE"]), ("amounts", ["AMT"]), ("4-8 digits", ["D4", "D6", "D8"])):
            values = [SLOTS[rng.choice(slots)](rng) for _ in range(size * 2 // 3)]
            yield f"{name}: {title}", [(text, maker.speak(text, rng).samples) for text in values]


def _digit_tests(
    digits: Mapping[str, dict[int, list[Clip]]], whose: str, rng: Random, generator: np.random.Generator
) -> Iterator[tuple[str, list[tuple[str, Samples]]]]:
    """Of FSDD, speaker -> digit -> recordings: each recording by itself, and a hundred strings of one speaker each."""
    singles = [
        (clip.text, clip.samples) for by_digit in digits.values() for clips in by_digit.values() for clip in clips
    ]
    yield f"human, one digit (FSDD, {whose})", singles
    speakers = sorted(digits)
    strings = [
        spliced_digits(rng, digits[speakers[i % len(speakers)]], rng.randint(3, 6), generator) for i in range(100)
    ]
    yield f"human, 3-6 digits spliced (FSDD, {whose})", strings


_DIGITS = frozenset("zero one two three four five six seven eight nine".split())


def _rejection_tests(recordings: Recordings, rng: Random) -> Iterator[tuple[str, list[Samples]]]:
    generator = np.random.default_rng(SEED + 1)
    background = Background(noises=())
    yield "no words: made noise, tones, clicks", [non_speech(rng, generator, background) for _ in range(200)]
    pieces = []
    for noise in recordings.noise_test:
        count = min(len(noise), int(SAMPLE_RATE_HZ * rng.uniform(0.8, 2.5)))
        for _ in range(1 if len(noise) < 3 * SAMPLE_RATE_HZ else 60):
            start = rng.randrange(len(noise) - count + 1)
            piece = noise[start : start + count]
            level = 10 ** (rng.uniform(-40, -12) / 20)
            pieces.append(piece / np.float32(np.sqrt(float((piece**2).mean())) + 1e-6) * np.float32(level))
    if pieces:
        yield "no words: recorded noise, unheard", [np.clip(piece, -1, 1) for piece in pieces]


def _write(folder: Path, title: str, clips: Sequence[tuple[str, Samples]], *, rejection: bool) -> TestKind:
    name = "".join(char if char.isalnum() else "-" for char in title.lower())
    name = "-".join(part for part in name.split("-") if part)
    for condition in CONDITIONS[:1] if rejection else CONDITIONS:
        rng, generator = Random(SEED), np.random.default_rng(SEED)
        audio = folder / name / condition
        audio.mkdir(parents=True, exist_ok=True)
        rows = []
        for index, (text, samples) in enumerate(clips):
            if not rejection:
                samples = _as_utterance(samples)
            samples = _in_condition(samples, condition, rng, generator)
            sf.write(audio / f"{index:04d}.wav", to_pcm16(samples), SAMPLE_RATE_HZ)
            rows.append(json.dumps({"audio": f"{condition}/{index:04d}.wav", "text": text}) + "\n")
        (folder / name / f"{condition}.jsonl").write_text("".join(rows))
    return TestKind(folder=name, title=title, rejection=rejection, count=len(clips))


def _as_utterance(samples: Samples) -> Samples:
    """At a usual level, with the silence that an endpointer leaves around speech."""
    level = samples * np.float32(0.4 / (float(np.abs(samples).max(initial=0.0)) + 1e-9))
    return np.pad(level, (SAMPLE_RATE_HZ // 5, SAMPLE_RATE_HZ // 4))


def _in_condition(samples: Samples, condition: str, rng: Random, generator: np.random.Generator) -> Samples:
    if condition == "clean":
        return samples
    band = telephone_band(samples)
    if condition == "noise10":
        band = add_noise(band, unit_noise(rng, generator, len(band), Background()), 10)
    return companding(np.clip(band, -1, 1), law="alaw" if condition == "alaw" else "mulaw")
