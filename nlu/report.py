"""What an evaluation says beyond its four shares: by intent, by slot, what is taken for what, and how sure to be.

Values only; `nlu.report_page` draws them, `voicegate nlu eval --report` writes both. Lines are named by their number
in the file, never by their text: a report travels further than the data.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from nlu.data import Dataset, Example
from nlu.evaluation import Evaluation, Predictor, predict_all, score
from nlu.meaning import OUT_OF_SCOPE, Meaning

__all__ = [
    "CalibrationBin",
    "Confusion",
    "CurvePoint",
    "LabelFigures",
    "Report",
    "build_report",
    "rejection_curve",
    "report_on",
]

_BINS = 10
_LINES_SHOWN = 10
_SCORED_AT_ONCE = 32
_CURVE_LOSSES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFigures:
    """One intent or slot: `n` lines or spans have it, `given` were said to have it, `right` of these rightly."""

    name: str
    n: int
    given: int
    right: int

    @property
    def precision(self) -> float | None:
        """Of what was said to be it, the share that is; None where nothing was."""
        return self.right / self.given if self.given else None

    @property
    def recall(self) -> float | None:
        """Of what is it, the share that was found; None where nothing is."""
        return self.right / self.n if self.n else None

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where neither is."""
        return 2 * self.right / max(1, self.n + self.given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """`n` lines of intent `gold` were taken for `given`; `lines` are the first of them in the file."""

    gold: str
    given: str
    n: int
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Lines whose score lies in `low`..`high`: their mean score, and the share whose intent is right."""

    low: float
    high: float
    n: int
    score: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Rejecting `lost` (0..1) of the lines in scope finds `recall` (0..1) of those out of scope."""

    lost: float
    recall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An evaluation in detail.

    `intents` and `slots` in the order of their names, `confusions` commonest first. Calibration counts lines in
    scope that were not rejected; its error is the mean distance of score and accuracy, weighted by lines (ECE).
    """

    model: str
    version: str
    data: str
    evaluation: Evaluation
    intents: tuple[LabelFigures, ...]
    slots: tuple[LabelFigures, ...]
    confusions: tuple[Confusion, ...]
    calibration: tuple[CalibrationBin, ...]
    calibration_error: float | None
    rejection: tuple[CurvePoint, ...]

    def as_json(self) -> str:
        """One JSON document, indented."""
        document = dataclasses.asdict(self)
        for kind in ("intents", "slots"):
            figures: tuple[LabelFigures, ...] = getattr(self, kind)
            document[kind] = [
                {**dataclasses.asdict(f), "precision": f.precision, "recall": f.recall, "f1": f.f1} for f in figures
            ]
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


class Reportable(Predictor, Protocol):
    """What can be reported on: an `NluEngine`."""

    @property
    def name(self) -> str:
        """Of the model."""
        ...

    @property
    def version(self) -> str:
        """Of the model."""
        ...

    def scope_scores(self, texts: list[str]) -> list[float]:
        """How much each text is in scope."""
        ...


def report_on(model: Reportable, dataset: Dataset, progress: Callable[[int], None] | None = None) -> Report:
    """Evaluate a model (rejection as in `evaluate`) and report.

    Args:
        model: what is evaluated.
        dataset: labelled lines.
        progress: called after each batch with the number of lines done.
    """
    examples = dataset.examples
    scope_scores = []
    if {example.in_scope for example in examples} == {True, False}:
        for first in range(0, len(examples), _SCORED_AT_ONCE):
            scope_scores += model.scope_scores([e.text for e in examples[first : first + _SCORED_AT_ONCE]])
    return build_report(
        examples,
        predict_all(model, examples, progress),
        scope_scores,
        model=model.name,
        version=model.version,
        data=dataset.file,
    )


def build_report(
    examples: Sequence[Example],
    meanings: Sequence[Meaning],
    scope_scores: Sequence[float],
    *,
    model: str,
    version: str,
    data: str,
) -> Report:
    """The report of predictions.

    Args:
        examples: labelled lines.
        meanings: what the model made of each.
        scope_scores: how much each is in scope (`NluEngine.scope_scores`), for the curve; empty where the lines are
            of one kind only.
        model: its name.
        version: its version.
        data: the file of the lines.
    """
    pairs = list(zip(examples, meanings, strict=True))
    bins = tuple(_calibration((m.score, m.intent == e.intent) for e, m in pairs if e.in_scope and _kept(m)))
    judged = sum(b.n for b in bins)
    return Report(
        model=model,
        version=version,
        data=data,
        evaluation=score(examples, meanings),
        intents=_figures(
            [[example.intent] for example in examples],
            [[meaning.intent] for meaning in meanings],
        ),
        slots=_figures(
            [[(s.name, s.start, s.end) for s in e.slots] for e in examples if e.in_scope],
            [[(s.name, s.start, s.end) for s in m.slots] for e, m in pairs if e.in_scope],
        ),
        confusions=_confusions(pairs),
        calibration=bins,
        calibration_error=sum(b.n * abs(b.score - b.accuracy) for b in bins) / judged if judged else None,
        rejection=rejection_curve(
            [s for e, s in zip(examples, scope_scores, strict=False) if e.in_scope],
            [s for e, s in zip(examples, scope_scores, strict=False) if not e.in_scope],
        ),
    )


def rejection_curve(in_scope: Sequence[float], out_of_scope: Sequence[float]) -> tuple[CurvePoint, ...]:
    """What rejecting costs and brings, at losses from 0.5 to 50 %; empty where either kind of line is missing."""
    if not in_scope or not out_of_scope:
        return ()
    ordered = sorted(in_scope)
    points = []
    for lost in _CURVE_LOSSES:
        threshold = ordered[min(len(ordered) - 1, int(lost * len(ordered)))]
        points.append(CurvePoint(lost=lost, recall=sum(s < threshold for s in out_of_scope) / len(out_of_scope)))
    return tuple(points)


def _kept(meaning: Meaning) -> bool:
    return meaning.intent != OUT_OF_SCOPE


def _figures(gold: Sequence[Sequence[object]], given: Sequence[Sequence[object]]) -> tuple[LabelFigures, ...]:
    """Counts by label; what is counted is the label itself or a tuple that begins with it."""

    def name(item: object) -> str:
        return str(item[0] if isinstance(item, tuple) else item)

    n: Counter[str] = Counter()
    said: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for golden, found in zip(gold, given, strict=True):
        n.update(map(name, golden))
        said.update(map(name, found))
        right.update(name(item) for item in set(golden) & set(found))
    return tuple(
        LabelFigures(name=label, n=n[label], given=said[label], right=right[label]) for label in sorted(n | said)
    )


def _confusions(pairs: Iterable[tuple[Example, Meaning]]) -> tuple[Confusion, ...]:
    lines: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for example, meaning in pairs:
        if example.intent != meaning.intent:
            lines[example.intent, meaning.intent].append(example.line)
    return tuple(
        Confusion(gold=gold, given=given, n=len(found), lines=tuple(found[:_LINES_SHOWN]))
        for (gold, given), found in sorted(lines.items(), key=lambda item: (-len(item[1]), item[0]))
    )


def _calibration(scored: Iterable[tuple[float, bool]]) -> Iterable[CalibrationBin]:
    """Bins of equal width; those without a line are left out."""
    gathered: defaultdict[int, list[tuple[float, bool]]] = defaultdict(list)
    for value, right in scored:
        gathered[min(int(value * _BINS), _BINS - 1)].append((value, right))
    for index, members in sorted(gathered.items()):
        yield CalibrationBin(
            low=index / _BINS,
            high=(index + 1) / _BINS,
            n=len(members),
            score=sum(value for value, _ in members) / len(members),
            accuracy=sum(right for _, right in members) / len(members),
        )
