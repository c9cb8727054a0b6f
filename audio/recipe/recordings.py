"""Human recordings that the bundled model may be trained on, split by speaker, and recorded noise.

Layout of the data folder (each set is optional but `fsdd` and one of `speech/*`):

    banking77/{train,test}.jsonl     text only: requests written by people        CC BY 4.0
    fsdd/DIGIT_SPEAKER_INDEX.wav     single digits, 8 kHz                          CC BY-SA 4.0
    speech/SET/manifest.jsonl        {"audio", "text", "speaker"} a line; see `SETS` for sets and licences
    speech/noise/*.flac              background noise and near silence             CC BY 4.0, Apache-2.0

Licences are those of the sources; every set here may be shipped in a model with attribution. Every tenth
speaker (by a checksum of the name) is held out for tests. Of FSDD, recordings 0-4 of each digit and speaker
are held out, the split that its authors use: *known speakers, unheard recordings*. Its speakers are too few to lose
one for good; a training that is told which to hold out says how it hears people it never heard.
"""

from __future__ import annotations

import json
import logging
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from audio.recipe.phrases import plain_words
from audio.recipe.plan import TrainingDataError
from audio.recipe.speech import SAMPLE_RATE_HZ, Clip, Samples, to_pcm16
from audio.recipe.spoken_forms import DIGITS

__all__ = ["FSDD_LICENCE", "NOISE_LICENCE", "RecordedSet", "Recordings", "SETS", "is_test_speaker"]

log = logging.getLogger(__name__)

MAX_CLIP_S = 9.0
FSDD_TEST_RECORDINGS = 5
TEST_NOISES = ("running_tap", "kitchen")
"""Recordings of noise kept for the rejection test, by a part of their names."""
FSDD_LICENCE = "Free Spoken Digit Dataset, CC BY-SA 4.0"
NOISE_LICENCE = "Speech Commands v0.02 (CC BY 4.0), Picovoice wake-word-benchmark (Apache-2.0)"

SPELLING = {
    "eightteen": "eighteen", "fourty": "forty", "twelveth": "twelfth",
    "nineth": "ninth", "febuary": "february",
}  # fmt: skip
"""Slips in the transcripts of the prompts."""
LEFT_OUT = re.compile(r"\b(douche|syphilis|suck|ass)\b")
"""Jokes among the prompts that a bot for customers need not write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSet:
    """A set of recordings: its folder under `speech/`, licence, and weight in the mixture.

    `joined`: single words, often strung together into strings of words.
    """

    name: str
    licence: str
    weight: float
    joined: bool = False


SETS = (
    RecordedSet(name="speech_commands", licence="Speech Commands v0.02, CC BY 4.0", weight=9, joined=True),
    RecordedSet(name="common_voice", licence="Common Voice, CC0", weight=2),
    RecordedSet(name="librispeech", licence="LibriSpeech, CC BY 4.0", weight=1),
    # more than this, and its fixed grammar ("bin blue at f two now") leaks into other output
    RecordedSet(name="grid", licence="GRID, CC BY 4.0", weight=1.5),
    RecordedSet(name="phone_prompts", licence="FreeSWITCH sounds (Callie), CC BY 3.0", weight=4, joined=True),
)


def is_test_speaker(speaker: str) -> bool:
    """Whether a speaker is held out for tests; fixed for ever by the name."""
    return zlib.crc32(speaker.encode()) % 10 == 0


@dataclass(slots=True)
class Recordings:
    """All recordings of a data folder, in memory (about 150 MB), trimmed, int16 at 8 kHz."""

    train: dict[RecordedSet, list[Clip]] = field(default_factory=dict)
    test: dict[RecordedSet, list[Clip]] = field(default_factory=dict)
    digits_train: dict[str, dict[int, list[Clip]]] = field(default_factory=dict)
    """FSDD: speaker -> digit -> recordings."""
    digits_test: dict[str, dict[int, list[Clip]]] = field(default_factory=dict)
    digits_unheard: dict[str, dict[int, list[Clip]]] = field(default_factory=dict)
    """FSDD, speakers held out whole."""
    noise_train: list[Samples] = field(default_factory=list)
    noise_test: list[Samples] = field(default_factory=list)

    @classmethod
    def load(cls, data: Path, held_out: Sequence[str] = ()) -> Recordings:
        """Read every set that is there; `held_out` speakers are for tests, whatever their names' checksum.

        Raises:
            TrainingDataError: neither FSDD nor any recorded set in `data`, or no such speaker there.
        """
        cls.check(data)
        recordings = cls()
        for recorded in SETS:
            for clip in _read_set(data / "speech" / recorded.name):
                tested = is_test_speaker(clip.speaker) or clip.speaker in held_out
                side = recordings.test if tested else recordings.train
                side.setdefault(recorded, []).append(clip)
        for clip, digit, index in _read_fsdd(data / "fsdd"):
            if clip.speaker in held_out:
                side_digits = recordings.digits_unheard
            else:
                side_digits = recordings.digits_test if index < FSDD_TEST_RECORDINGS else recordings.digits_train
            side_digits.setdefault(clip.speaker, {}).setdefault(digit, []).append(clip)
        for name, noise in _read_noise(data / "speech" / "noise"):
            kept = any(part in name for part in TEST_NOISES) or zlib.crc32(name.encode()) % 4 == 0
            (recordings.noise_test if kept else recordings.noise_train).append(noise)
        recordings._check_speakers(held_out)
        return recordings

    def _check_speakers(self, held_out: Sequence[str]) -> None:
        sets = (*self.train.values(), *self.test.values())
        digits = sorted({*self.digits_train, *self.digits_test, *self.digits_unheard})
        known = {clip.speaker for clips in sets for clip in clips} | set(digits)
        for speaker in held_out:
            if speaker not in known:
                raise TrainingDataError(
                    f"nobody called {speaker!r:.40} to hold out in these recordings; FSDD has "
                    f"{', '.join(digits) or 'nobody here'}, other sets name theirs in manifest.jsonl"
                )

    def single_digits(self) -> dict[int, list[Clip]]:
        """Digits that people said alone, digit -> recordings, of sets of single words; without FSDD's."""
        digits: dict[int, list[Clip]] = {}
        for recorded, clips in self.train.items():
            for clip in clips if recorded.joined else ():
                if clip.text in DIGITS:
                    digits.setdefault(DIGITS.index(clip.text), []).append(clip)
        return digits

    @staticmethod
    def check(data: Path) -> None:
        """Whether there is anything to train on, before hours are spent.

        Raises:
            TrainingDataError: there is not.
        """
        manifests = [data / "speech" / recorded.name / "manifest.jsonl" for recorded in SETS]
        if not any(path.exists() for path in manifests) and not any((data / "fsdd").glob("*_*_*.wav")):
            raise TrainingDataError(
                f"no recordings in {data}: training needs fsdd/ (Free Spoken Digit Dataset, WAV files) or "
                f"speech/SET/manifest.jsonl with SET among {', '.join(s.name for s in SETS)}; "
                "`voicegate asr train --help` says where they come from"
            )

    def sources(self) -> list[str]:
        """One line a set, with licence and counts, for the model card."""
        lines = [
            f"{recorded.licence}: {len(clips)} recordings, {len({clip.speaker for clip in clips})} speakers"
            for recorded, clips in self.train.items()
        ]
        if self.digits_train:
            count = sum(len(clips) for by_digit in self.digits_train.values() for clips in by_digit.values())
            lines.append(f"{FSDD_LICENCE}: {count} recordings, {len(self.digits_train)} speakers")
        if self.noise_train:
            lines.append(f"Background noise: {NOISE_LICENCE}: {len(self.noise_train)} recordings")
        return lines


def _read_set(folder: Path) -> Iterator[Clip]:
    manifest = folder / "manifest.jsonl"
    if not manifest.exists():
        return
    for number, line in enumerate(manifest.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            audio, written, speaker = row["audio"], row["text"], row["speaker"]
        except (ValueError, KeyError) as error:
            raise TrainingDataError(f'{manifest}:{number}: want {{"audio", "text", "speaker"}}: {error}') from None
        text = " ".join(SPELLING.get(word, word) for word in plain_words(written).split())
        if not re.fullmatch(r"[a-z' ]+", text) or LEFT_OUT.search(text):
            continue
        samples = _read_samples(folder / audio)
        if samples is not None and (trimmed := _trim(samples)) is not None:
            yield Clip(text=text, speaker=speaker, pcm=to_pcm16(trimmed, peak=0.9))


def _read_fsdd(folder: Path) -> Iterator[tuple[Clip, int, int]]:
    """(clip, digit, index of the recording)."""
    for path in sorted(folder.glob("*_*_*.wav")):
        digit, speaker, index = path.stem.split("_")
        samples = _read_samples(path)
        if samples is not None and len(samples) > 400:
            clip = Clip(text=DIGITS[int(digit)], speaker=speaker, pcm=to_pcm16(samples, peak=0.9))
            yield clip, int(digit), int(index)


def _read_noise(folder: Path) -> Iterator[tuple[str, Samples]]:
    for path in sorted(folder.glob("*.flac")):
        samples = _read_samples(path)
        if samples is not None and len(samples) >= SAMPLE_RATE_HZ // 4 and np.abs(samples).max() > 1e-4:
            yield path.stem, samples


def _read_samples(path: Path) -> Samples | None:
    """A file as 8 kHz mono; None (logged) where it is broken, as a few in the wild are."""
    try:
        samples, rate_hz = sf.read(path, dtype="float32", always_2d=True)
    except (sf.LibsndfileError, OSError) as error:
        log.warning("skipped recording %s: %s", path.name, error)
        return None
    mono = samples.mean(axis=1)
    if rate_hz != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
    return np.asarray(mono, np.float32)


def _trim(samples: Samples) -> Samples | None:
    """Without long silences at its ends (they cost training time); None if too short, long or faint."""
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max(initial=0.0))
    if len(loud) < 400 or len(samples) > MAX_CLIP_S * SAMPLE_RATE_HZ:
        return None
    return samples[max(0, int(loud[0]) - 400) : int(loud[-1]) + 800]
