"""Callers' turns with hesitations, whose every stretch of speech is known: what endpointing benches listen to.

A turn is phrases of one human speaker with thinking pauses between them, some of which hold an "um" or an "ah" (from
espeak-ng: the recordings at hand have none). Phrases are digits, words, and sentences cut where their speakers
paused. Thinking pauses are 300-1,200 ms, drawn log-uniformly, since in speech short pauses are the more frequent.

Labels come from energy, on the clean clips and before any noise is added: 10 ms blocks within `SPEECH_RANGE_DB` of
the clip's loud ones are speech, gaps under `CLOSURE_MS` (stop consonants) too; breath and clicks, weaker or
shorter, are not. Clips are cut to their labelled speech,
so that their own background does not go on where the label says silence.
"""

from __future__ import annotations

import functools
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audio.files import read_audio
from audio.formats import AudioError, Pcm16
from audio.levels import rms_dbfs
from tts_stub.espeak import EspeakSynthesizer
from tts_stub.synthesis import Voice

__all__ = ["SAMPLE_RATE_HZ", "LabelledTurn", "Noises", "Phrase", "build_turns", "find_speech"]

SAMPLE_RATE_HZ = 8000
BLOCK = 80  # samples: the labels' grain, 10 ms
SPEECH_RANGE_DB = 24.0
CLOSURE_MS = 100
MIN_CONTRAST_DB = 36.0
"""Clips whose own background comes closer to their speech are left out: energy would label it wrong."""
MIN_QUIET_BLOCKS = 15
SENTENCE_CUT_MS = 200
SHORTEST_MS = 250
"""Nobody stops to think after less: a shorter piece of a sentence is a breath or half a word, and stays with it."""
LEVEL_DBFS = -24.0
LINE_DBFS = -72.0
"""A quiet line, in place of digital silence that no telephone has."""
PAUSE_MS = (300, 1200)
LEAD_MS = 1000
TRAIL_MS = 3000
FILLERS = ("um", "ah", "er", "hmm")
FILLER_VOICES = ("en-us", "en-us+f3", "en-gb-x-rp+m3", "en+f2")
FILLER_SHARE = 0.4

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Phrase:
    """A stretch of one speaker without a thinking pause: samples in [-1, 1], speech as (start, end) in samples."""

    samples: Floats
    speech: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledTurn:
    """A turn in silence: `LEAD_MS` before it, `TRAIL_MS` after.

    `speech` are its stretches of speech, as (start, end) in samples; `end` is where the turn ends. `pauses_ms` are
    the pauses put in, a hesitation's two sides apart.
    """

    kind: str
    pcm: Pcm16
    speech: tuple[tuple[int, int], ...]
    end: int
    pauses_ms: tuple[int, ...]

    def labels(self, frame_samples: int) -> npt.NDArray[np.bool_]:
        """Frame by frame: is at least half of it speech? Shape (whole frames,)."""
        mask = np.zeros(len(self.pcm), bool)
        for start, end in self.speech:
            mask[start:end] = True
        whole = len(mask) // frame_samples
        shares: npt.NDArray[np.float64] = mask[: whole * frame_samples].reshape(whole, frame_samples).mean(axis=1)
        return shares >= 0.5


def find_speech(samples: Floats, *, trimmed: bool = False) -> tuple[tuple[int, int], ...]:
    """Stretches of speech in a clean clip, by energy; none where the clip is no good as a reference.

    Args:
        samples: the clip in [-1, 1].
        trimmed: the clip begins and ends with its speech. Any other clip must have some silence to stand out from:
            one without is noise from end to end, and energy cannot tell its speech.
    """
    whole = len(samples) // BLOCK
    if whole < 10:
        return ()
    power = np.square(samples[: whole * BLOCK], dtype=np.float64).reshape(whole, BLOCK).mean(axis=1)
    levels = 10 * np.log10(np.maximum(power, 1e-10))
    loud = float(np.percentile(levels, 95))
    speech = levels > loud - SPEECH_RANGE_DB
    quiet = levels[~speech]
    if not trimmed and (len(quiet) < MIN_QUIET_BLOCKS or loud - float(np.median(quiet)) < MIN_CONTRAST_DB):
        return ()
    edges = np.flatnonzero(np.diff(np.concatenate(([False], speech, [False])).astype(np.int8)))
    spans: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if spans and (start - spans[-1][1]) * 10 < CLOSURE_MS:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return tuple((start * BLOCK, end * BLOCK) for start, end in spans if end - start >= 6)


def _phrases(pcm: Pcm16, cut_at_ms: int | None = None, *, trimmed: bool = False) -> list[Phrase]:
    """A clip at the common level: whole, or cut at its speaker's pauses of `cut_at_ms` and more."""
    samples = pcm.astype(np.float32) / np.float32(32768)
    spans = find_speech(samples, trimmed=trimmed)
    if not spans:
        return []
    spoken = np.concatenate([samples[start:end] for start, end in spans])
    gain = 10 ** (LEVEL_DBFS / 20) / max(1e-4, float(np.sqrt(np.mean(np.square(spoken)))))
    groups: list[list[tuple[int, int]]] = [[spans[0]]]
    for span in spans[1:]:
        pause_ms = (span[0] - groups[-1][-1][1]) * 1000 // SAMPLE_RATE_HZ
        spoken_ms = (groups[-1][-1][1] - groups[-1][0][0]) * 1000 // SAMPLE_RATE_HZ
        if cut_at_ms is None or pause_ms < cut_at_ms or spoken_ms < SHORTEST_MS:
            groups[-1].append(span)
        else:
            groups.append([span])
    if len(groups) > 1 and groups[-1][-1][1] - groups[-1][0][0] < SAMPLE_RATE_HZ * SHORTEST_MS // 1000:
        groups[-2:] = [groups[-2] + groups[-1]]
    phrases = []
    for group in groups:
        first, last = group[0][0], group[-1][1]
        cut = np.clip(samples[first:last] * gain, -1, 1)
        fade = np.linspace(0, 1, 40, dtype=np.float32)
        cut[:40] *= fade
        cut[-40:] *= fade[::-1]
        phrases.append(Phrase(cut, tuple((start - first, end - first) for start, end in group)))
    return phrases


def _joined(phrases: Sequence[Phrase], gaps_ms: Sequence[int]) -> Phrase:
    """Phrases in one breath, `gaps_ms` of silence between them."""
    parts: list[Floats] = []
    speech: list[tuple[int, int]] = []
    at = 0
    for phrase, gap_ms in zip(phrases, (*gaps_ms, 0), strict=True):
        speech += [(at + start, at + end) for start, end in phrase.speech]
        silence = np.zeros(SAMPLE_RATE_HZ * gap_ms // 1000, np.float32)
        parts += [phrase.samples, silence]
        at += len(phrase.samples) + len(silence)
    return Phrase(np.concatenate(parts), tuple(speech))


def _digit_turns(data: Path, rng: random.Random) -> Iterator[list[Phrase]]:
    """Account numbers in groups of two to four digits."""
    by_speaker: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((data / "fsdd").glob("*_*_*.wav")):
        by_speaker[path.stem.split("_")[1]].append(path)
    while by_speaker:
        paths = by_speaker[rng.choice(sorted(by_speaker))]
        groups = []
        for _ in range(rng.randint(2, 3)):
            digits = [phrase for path in rng.sample(paths, rng.randint(2, 4)) for phrase in _read(path, trimmed=True)]
            if digits:
                groups.append(_joined(digits, [rng.randint(40, 160) for _ in digits[1:]]))
        yield groups


def _recorded_turns(
    data: Path, rng: random.Random, sets: Sequence[str], clips: int, cut_at_ms: int | None
) -> Iterator[list[Phrase]]:
    """Up to `clips` clips of one speaker, whole or cut into phrases."""
    by_speaker: dict[str, list[Path]] = defaultdict(list)
    for name in sets:
        manifest = data / "speech" / name / "manifest.jsonl"
        for line in manifest.read_text().splitlines() if manifest.exists() else ():
            row = json.loads(line)
            by_speaker[row["speaker"]].append(manifest.parent / row["audio"])
    while by_speaker:
        paths = by_speaker[rng.choice(sorted(by_speaker))]
        yield [phrase for path in rng.sample(paths, min(clips, len(paths))) for phrase in _read(path, cut_at_ms)]


def _read(path: Path, cut_at_ms: int | None = None, *, trimmed: bool = False) -> list[Phrase]:
    try:
        return _phrases(read_audio(path, SAMPLE_RATE_HZ), cut_at_ms, trimmed=trimmed)
    except AudioError:  # a few recordings in the wild are broken
        return []


@functools.cache  # espeak-ng says the same word a little differently each time
def _fillers() -> list[Phrase]:
    engine = EspeakSynthesizer()
    voices = [Voice(name=name, rate_wpm=110) for name in FILLER_VOICES]
    said = [engine.synthesize(text, voice, SAMPLE_RATE_HZ) for text in FILLERS for voice in voices]
    return [phrase for pcm in said for phrase in _phrases(pcm, trimmed=True)]


def _turn(kind: str, phrases: Sequence[Phrase], fillers: Sequence[Phrase], rng: random.Random) -> LabelledTurn:
    """Phrases with thinking pauses, and hesitations in some of those, on a quiet line."""

    def pause() -> int:
        low, high = PAUSE_MS
        return int(low * (high / low) ** rng.random())

    pieces, pauses = [phrases[0]], []
    for phrase in phrases[1:]:
        if rng.random() < FILLER_SHARE:
            pieces.append(rng.choice(fillers))
            pauses.append(pause())
        pieces.append(phrase)
        pauses.append(pause())
    spoken = _joined(pieces, pauses)
    lead, trail = (SAMPLE_RATE_HZ * ms // 1000 for ms in (LEAD_MS, TRAIL_MS))
    samples = np.concatenate([np.zeros(lead, np.float32), spoken.samples, np.zeros(trail, np.float32)])
    line = np.random.default_rng(rng.getrandbits(32)).normal(0, 10 ** (LINE_DBFS / 20), len(samples))
    speech = tuple((lead + start, lead + end) for start, end in spoken.speech)
    return LabelledTurn(
        kind=kind,
        pcm=_to_pcm16(samples + line),
        speech=speech,
        end=speech[-1][1],
        pauses_ms=tuple(pauses),
    )


def build_turns(data: Path, count: int, seed: int = 1) -> list[LabelledTurn]:
    """`count` turns, a third each of digits, words and sentences, the same for the same seed.

    Args:
        data: folder with `fsdd/` and `speech/SET/manifest.jsonl`; kinds that are not there are left out.

    Raises:
        FileNotFoundError: none of them is there.
    """
    rng = random.Random(seed)
    kinds = {
        "digits": _digit_turns(data, rng),
        "words": _recorded_turns(data, rng, ["speech_commands"], 3, None),
        "sentences": _recorded_turns(data, rng, ["librispeech", "common_voice", "grid"], 2, SENTENCE_CUT_MS),
    }
    fillers = _fillers()
    turns: list[LabelledTurn] = []
    for attempt in range(count * 20):
        if len(turns) == count or not kinds:
            break
        kind = sorted(kinds)[attempt % len(kinds)]
        phrases = next(kinds[kind], None)
        if phrases is None:
            del kinds[kind]
        elif phrases:
            turns.append(_turn(kind, phrases[:4], fillers, rng))
    if not turns:
        raise FileNotFoundError(f"{data}: holds neither fsdd/ nor speech/*/manifest.jsonl with clean recordings")
    return turns


class Noises:
    """Recorded backgrounds (`speech/noise`, those of 10 s and more), mixed in at a signal-to-noise ratio."""

    def __init__(self, data: Path) -> None:
        read = (read_audio(path, SAMPLE_RATE_HZ) for path in sorted((data / "speech" / "noise").glob("*.flac"))
                if not path.name.startswith("silence_"))  # fmt: skip
        self._recordings = [
            pcm.astype(np.float32) / np.float32(32768) for pcm in read if len(pcm) >= 10 * SAMPLE_RATE_HZ
        ]

    def __len__(self) -> int:
        return len(self._recordings)

    def mix(self, turn: LabelledTurn, snr_db: float | None, seed: int) -> Pcm16:
        """The turn with a piece of one recording under all of it; SNR over the speech alone. None: clean."""
        if snr_db is None:
            return turn.pcm
        rng = random.Random(seed)
        noise = rng.choice(self._recordings)
        at = rng.randrange(len(noise))
        piece = np.resize(np.roll(noise, -at), len(turn.pcm))
        spoken = np.concatenate([turn.pcm[start:end] for start, end in turn.speech])
        wanted_dbfs = rms_dbfs(spoken) - snr_db
        level = float(np.sqrt(np.mean(np.square(piece)))) or 1.0
        return _to_pcm16(turn.pcm / np.float32(32768) + piece * (10 ** (wanted_dbfs / 20) / level))


def _to_pcm16(samples: npt.NDArray[np.floating]) -> Pcm16:
    pcm: Pcm16 = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    return pcm
