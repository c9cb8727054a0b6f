"""A report as one HTML page that needs nothing else: no script, no font, no address."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from nlu.report import CalibrationBin, CurvePoint, LabelFigures, Report

__all__ = ["page"]

_CONFUSIONS_SHOWN = 50
_SIDE = 300.0  # of a plot, in its own units, without axes
_LEFT, _TOP, _BELOW = 44.0, 8.0, 40.0
_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2430; --muted: #5c6675; --grid: #e3e7ec; --line: #2563a8;
  --limit: #b3261e; --box: #f5f7f9 }
@media (prefers-color-scheme: dark) { :root { --back: #14181d; --text: #e6e9ed; --muted: #9aa4b1; --grid: #2b323b;
  --line: #74b0f0; --limit: #ff8a80; --box: #1c2229 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem } p { margin: .4rem 0 }
.muted { color: var(--muted) }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--grid) }
th:first-child, td:first-child, .words :is(td, th) { text-align: left } th { color: var(--muted); font-weight: 500 }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)) }
figure { margin: 0; padding: .75rem; background: var(--box); border-radius: .5rem }
figcaption { color: var(--muted) }
svg { display: block; width: 100%; max-width: 26rem; height: auto } svg text { font-size: 12px; fill: var(--muted) }
"""


def page(report: Report) -> str:
    """The whole document."""
    title = f"{report.model} {report.version} on {report.data}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _summary(report),
        _section("How sure it is", _plots(report)),
        _section("What is taken for what", _confusions(report)),
        _section("Intents", _labels("intent", report.intents, "lines")),
        _section("Slots", _labels("slot", report.slots, "spans")) if report.slots else "",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{body}</section>"


def _summary(report: Report) -> str:
    figures = report.evaluation
    named = (
        ("lines", str(figures.n)),
        ("intents right", _percent(figures.intent_accuracy)),
        ("slot F1", _percent(figures.slot_f1)),
        ("sentences right", _percent(figures.sentence_accuracy)),
        ("out of scope: recall", _percent(figures.oos_recall)),
        ("out of scope: precision", _percent(figures.oos_precision)),
    )
    return _table([name for name, _ in named], [[value for _, value in named]])


def _plots(report: Report) -> str:
    plots = []
    if report.calibration:
        caption = (
            f"Score against share right; the mean distance from the diagonal is {report.calibration_error:.3f}. "
            "Above the diagonal it is right more often than it says, below less often."
        )
        plots.append(_figure(_calibration_plot(report.calibration), caption))
    if report.rejection:
        caption = "Out of scope: lines found against lines in scope lost, for every threshold."
        plots.append(_figure(_rejection_plot(report.rejection), caption))
    return f'<div class="plots">{"".join(plots)}</div>'


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _calibration_plot(bins: Sequence[CalibrationBin]) -> str:
    marks = [_line((0.0, 0.0), (1.0, 1.0), "var(--muted)", dashed=True)]
    marks += [
        _dot(b.score, b.accuracy, f"{b.n} lines scored {b.low:.1f} to {b.high:.1f}: {b.accuracy:.1%} right")
        for b in bins
    ]
    return _plot("Share of intents right by score", marks, "score", "share right")


def _rejection_plot(points: Sequence[CurvePoint]) -> str:
    marks = [_line((0.03, 0.0), (0.03, 1.0), "var(--limit)", dashed=True)]
    path = [(0.0, 0.0), *((point.lost, point.recall) for point in points)]
    marks += [_line(one, other, "var(--line)") for one, other in pairwise(path)]
    marks += [_dot(p.lost, p.recall, f"{p.lost:.1%} lost, {p.recall:.1%} found") for p in points]
    return _plot("Out-of-scope recall by in-scope loss", marks, "share lost in scope", "share found")


def _plot(label: str, marks: Iterable[str], below: str, beside: str) -> str:
    """A unit square with ticks at quarters."""
    axes = []
    for quarter in range(5):
        value = quarter / 4
        x, y = _at(value, value)
        axes.append(
            f'<path d="M{_LEFT} {y:.1f}h{_SIDE}M{x:.1f} {_TOP}v{_SIDE}" stroke="var(--grid)"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
            f'<text x="{x:.1f}" y="{_TOP + _SIDE + 16}" text-anchor="middle">{value:g}</text>'
        )
    middle = _TOP + _SIDE / 2
    return (
        f'<svg viewBox="0 0 {_LEFT + _SIDE + 14} {_TOP + _SIDE + _BELOW}" role="img" aria-label="{escape(label)}">'
        f"{''.join(axes)}{''.join(marks)}"
        f'<text x="{_LEFT + _SIDE / 2}" y="{_TOP + _SIDE + 34}" text-anchor="middle">{escape(below)}</text>'
        f'<text transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{escape(beside)}</text></svg>'
    )


def _at(x: float, y: float) -> tuple[float, float]:
    return _LEFT + x * _SIDE, _TOP + (1 - y) * _SIDE


def _line(one: tuple[float, float], other: tuple[float, float], colour: str, *, dashed: bool = False) -> str:
    (x1, y1), (x2, y2) = _at(*one), _at(*other)
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashes}/>'


def _dot(x: float, y: float, told: str) -> str:
    cx, cy = _at(x, y)
    return f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="4" fill="var(--line)"><title>{escape(told)}</title></circle>'


def _confusions(report: Report) -> str:
    if not report.confusions:
        return "<p>None.</p>"
    rows = [
        [escape(c.gold), escape(c.given), str(c.n), ", ".join(map(str, c.lines)) + (" …" if c.n > len(c.lines) else "")]
        for c in report.confusions[:_CONFUSIONS_SHOWN]
    ]
    left_out = len(report.confusions) - len(rows)
    more = f'<p class="muted">and {left_out} more pairs, in the JSON report</p>' if left_out else ""
    return _table(["is", "was taken for", "times", "at lines"], rows, kind="words") + more


def _labels(heading: str, labels: Sequence[LabelFigures], counted: str) -> str:
    """The worst first: there is the work."""
    rows = [
        [escape(f.name), str(f.n), str(f.given), _percent(f.precision), _percent(f.recall), _percent(f.f1)]
        for f in sorted(labels, key=lambda figures: (figures.f1, figures.name))
    ]
    return _table([heading, counted, "said", "precision", "recall", "F1"], rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "figures") -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}"><tr>{head}</tr>{body}</table></div>'


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
