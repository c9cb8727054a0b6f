"""How well an exported model does on the tests of `audio.recipe.evaluation_sets`, as the engine runs it.

Gates included: what the engine keeps from the dialogue counts as not heard, in words and in noise alike.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile as sf

from audio.asr import AsrEngine, AsrJob
from audio.recipe.evaluation_sets import CONDITIONS, TestKind, read_tests
from audio.recipe.speech import SAMPLE_RATE_HZ
from audio.scoring import score as error_rates

__all__ = ["Figure", "score", "summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One test under one condition. `wer` is word errors by reference words, `exact` the share of clips
    without any, both None for rejection tests; `words_share` is the share of clips that gave words."""

    title: str
    condition: str
    count: int
    words_share: float
    wer: float | None = None
    exact: float | None = None
    real_time_factor: float = 0.0


def score(
    engine: AsrEngine,
    tests: Path,
    *,
    conditions: Sequence[str] = CONDITIONS,
    limit: int | None = None,
    report: Callable[[Figure], None] = lambda figure: None,
) -> list[Figure]:
    """Transcribe every test (its first `limit` clips) under each condition.

    Raises:
        FileNotFoundError: `tests` was not built, or not whole.
    """
    figures = []
    for kind in read_tests(tests):
        for condition in conditions[:1] if kind.rejection else conditions:
            figure = _score_one(engine, tests, kind, condition, limit)
            report(figure)
            figures.append(figure)
    return figures


def summary(figures: Sequence[Figure]) -> dict[str, float]:
    """Clean word error rates and shares of noise that gave words, in per cent, by title."""
    return {
        figure.title: round(100 * (figure.words_share if figure.wer is None else figure.wer), 1)
        for figure in figures
        if figure.condition == CONDITIONS[0]
    }


def _score_one(engine: AsrEngine, tests: Path, kind: TestKind, condition: str, limit: int | None) -> Figure:
    lines = (tests / kind.folder / f"{condition}.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines][:limit]
    jobs = [
        AsrJob(pcm=sf.read(tests / kind.folder / row["audio"], dtype="int16")[0], sample_rate_hz=SAMPLE_RATE_HZ)
        for row in rows
    ]
    started = time.perf_counter()
    heard = [engine.transcribe([job])[0].text for job in jobs]  # one by one, as a quiet gateway does
    spent_s = time.perf_counter() - started
    references = [row["text"] for row in rows]
    figure = Figure(
        title=kind.title,
        condition=condition,
        count=len(rows),
        words_share=sum(bool(text) for text in heard) / len(heard),
        real_time_factor=round(spent_s / sum(len(job.pcm) / SAMPLE_RATE_HZ for job in jobs), 4),
    )
    if kind.rejection:
        return figure
    return Figure(
        title=figure.title,
        condition=condition,
        count=figure.count,
        words_share=figure.words_share,
        wer=error_rates(references, heard, "en").wer,
        exact=sum(a == b for a, b in zip(references, heard, strict=True)) / len(heard),
        real_time_factor=figure.real_time_factor,
    )
