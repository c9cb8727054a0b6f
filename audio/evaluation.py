"""How well and how fast does a recogniser hear? Over a manifest of recordings with their words.

A manifest is JSON Lines, `{"audio": path, "text": str}`, paths relative to the manifest; other keys are ignored,
empty lines skipped. Lines with empty text are recordings without speech: what is heard there counts as
insertions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from audio.asr import AsrEngine, AsrJob, Expectation
from audio.files import read_audio
from audio.formats import AudioError
from audio.phone_line import PhoneLine, over_line
from audio.scoring import score

__all__ = ["AsrEvaluation", "ManifestError", "ManifestLine", "evaluate", "read_manifest", "read_utterance"]

_BATCH = 16
_LEAD_MS, _TAIL_MS = 240, 200
_LINE_RATE_HZ = 8000


class ManifestError(AudioError):
    """A manifest that cannot be read; the message names file, line, reason and mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestLine:
    """One recording and what is said in it."""

    audio: Path
    text: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AsrEvaluation:
    """Result over a manifest. Gates are included: a gated utterance counts as nothing heard.

    `wer` and `cer` are shares (see `audio.scoring`); `real_time_factor` is seconds of computing over seconds
    of audio; `gated` is how many of the `n` recordings a gate stopped; `heard` are the transcripts, in order.
    """

    wer: float | None
    cer: float | None
    n: int
    real_time_factor: float
    audio_s: float
    gated: int
    heard: tuple[str, ...] = field(repr=False)


def read_manifest(path: Path) -> list[ManifestLine]:
    """Read and check a whole manifest before any work is done.

    Raises:
        ManifestError: no such file, a malformed line, a recording that is not there, or no line at all.
    """
    try:
        raw = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read ({error}); give a JSON Lines file in UTF-8") from error
    # Not `splitlines`: a text may hold U+2028, which ends no line of JSON.
    lines = [_parse(path, number, line) for number, line in enumerate(raw.split("\n"), 1) if line.strip()]
    if not lines:
        raise ManifestError(f'{path}: holds no lines; write one {{"audio": ..., "text": ...}} per recording')
    return lines


def _parse(path: Path, number: int, line: str) -> ManifestLine:
    shape = '{"audio": "file.wav", "text": "what is said"}'
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}:{number}: not JSON ({error}); write {shape}") from error
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in ("audio", "text")):
        raise ManifestError(f'{path}:{number}: needs the strings "audio" and "text"; write {shape}')
    audio = path.parent / item["audio"]
    if not audio.is_file():
        raise ManifestError(f"{path}:{number}: no such file {audio}; paths are relative to the manifest")
    return ManifestLine(audio=audio, text=item["text"], line=number)


def read_utterance(path: Path, sample_rate_hz: int) -> AsrJob:
    """A recording as a call's endpointer would hand it over: with silence around it.

    Recordings are often cut at the first and last sound, which no call is, and which costs a recogniser its
    first and last phonemes: of 300 tight FSDD digits the bundled model gets 247 right, 293 with silence around.

    Raises:
        AudioFileError: it cannot be read.
    """
    pcm = read_audio(path, sample_rate_hz)
    around = (sample_rate_hz * _LEAD_MS // 1000, sample_rate_hz * _TAIL_MS // 1000)
    return AsrJob(pcm=np.pad(pcm, around), sample_rate_hz=sample_rate_hz)


def evaluate(
    engine: AsrEngine,
    lines: Sequence[ManifestLine],
    *,
    sample_rate_hz: int,
    language: str = "en",
    expect: Expectation | None = None,
    line: PhoneLine | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> AsrEvaluation:
    """Transcribe every line and score.

    Args:
        engine: the recogniser; only its `transcribe` is timed, reading and resampling files is not.
        lines: of `read_manifest`.
        sample_rate_hz: 8000 or 16000, the rate to read recordings at.
        language: told to the recogniser, and decides how texts are compared.
        expect: told to the recogniser, as if a dialogue had asked for it.
        line: heard over this telephone line, at 8 kHz; None: as recorded. Noise goes by the place in the
            manifest, so it is the same for every model.
        progress: called with the number of lines done.

    Raises:
        AudioFileError: a recording cannot be read.
    """
    heard: list[str] = []
    gated = 0
    audio_s = compute_s = 0.0
    rate_hz = _LINE_RATE_HZ if line else sample_rate_hz
    for start in range(0, len(lines), _BATCH):
        jobs = [
            replace(read_utterance(one.audio, rate_hz), language=language, expect=expect)
            for one in lines[start : start + _BATCH]
        ]
        if line:
            jobs = [
                replace(job, pcm=over_line(line, job.pcm, np.random.default_rng(start + at)))
                for at, job in enumerate(jobs)
            ]
        began = time.perf_counter()
        transcripts = engine.transcribe(jobs)
        compute_s += time.perf_counter() - began
        audio_s += sum(len(job.pcm) for job in jobs) / rate_hz
        heard += [transcript.text for transcript in transcripts]
        gated += sum(transcript.gated_by is not None for transcript in transcripts)
        progress(len(heard))
    rates = score([one.text for one in lines], heard, language)
    return AsrEvaluation(
        wer=rates.wer,
        cer=rates.cer,
        n=len(lines),
        real_time_factor=compute_s / audio_s,
        audio_s=audio_s,
        gated=gated,
        heard=tuple(heard),
    )
