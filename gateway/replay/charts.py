"""Small charts as inline SVG: values in, markup out, no library and no script.

Colours come from the page's CSS variables (`--line`, `--line-2`, `--limit`, `--muted`), so one chart serves light and
dark. Each is drawn 360 units wide: text stays readable where the page is as narrow as a phone.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["histogram", "log_bins", "nice_ticks", "over_time", "time_chart"]

WIDTH, HEIGHT = 360.0, 198.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 10.0, 22.0, 34.0
_PLOT_W, _PLOT_H = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
_NEAR = 4.0
"""A limit is near a line that reaches a quarter of it."""
_STROKES = ("var(--line)", "var(--line-2)")


def log_bins(
    values: Sequence[float], count: int, *, reach: float = 0.0, begin: float = math.inf
) -> tuple[list[float], list[int]]:
    """Counts in `count` bins of equal width on a logarithmic axis over all values.

    Args:
        values: at least one; what is below 0.01 is taken as 0.01.
        reach: the axis goes up to here at least.
        begin: it begins here at the latest.

    Returns:
        The count + 1 edges, ascending, and the values in each bin; the last bin holds its upper edge too.
    """
    raised = [max(0.01, value) for value in values]
    low, high = math.log10(max(0.01, min(begin, *raised))), math.log10(max(reach, *raised))
    if high - low < 0.3:  # less than a factor of two: a bin must be wider than a measuring error
        middle = (low + high) / 2
        low, high = middle - 0.15, middle + 0.15
    edges = [10 ** (low + (high - low) * index / count) for index in range(count + 1)]
    counts = [0] * count
    for value in raised:
        counts[min(max(0, bisect_right(edges, value) - 1), count - 1)] += 1
    return edges, counts


def nice_ticks(high: float, about: int = 4, *, whole: bool = False) -> list[float]:
    """Round numbers from 0 up to at least `high`: steps of 1, 2 or 5 times a power of ten, `whole` ones for counts."""
    if high <= 0:
        return [0.0, 1.0]
    rough = max(high / about, 1.0) if whole else high / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [round(step * index, 6) for index in range(math.ceil(high / step - 1e-9) + 1)]


def over_time(
    points: Sequence[tuple[float, float]], *, until_s: float, buckets: int
) -> list[tuple[float, list[float]]]:
    """Values of (at_s, value) gathered in equal stretches of time.

    Returns:
        (middle of the stretch, its values in ascending order); stretches without values are left out.
    """
    width = max(until_s, 1e-9) / buckets
    gathered: dict[int, list[float]] = {}
    for at_s, value in points:
        gathered.setdefault(min(int(at_s / width), buckets - 1), []).append(value)
    return [((index + 0.5) * width, sorted(values)) for index, values in sorted(gathered.items())]


def histogram(title: str, values: Sequence[float], limits: Mapping[str, float]) -> str:
    """Distribution of latencies in ms, logarithmic, and wide enough to show the budget's limits as dashed lines."""
    begin = min(limits.values(), default=math.inf) * 0.95
    edges, counts = log_bins(values, 40, reach=max(limits.values(), default=0.0) * 1.05, begin=begin)
    low, high = math.log10(edges[0]), math.log10(edges[-1])

    def x(ms: float) -> float:
        return LEFT + (math.log10(ms) - low) / (high - low) * _PLOT_W

    ticks = nice_ticks(max(counts), whole=True)
    body = _value_axis(ticks, "count")
    for decade in range(math.floor(low), math.ceil(high) + 1):
        factors = range(1, 10) if high - low < 0.6 else (1, 2, 5) if high - low < 2.2 else (1,)
        body += [
            _tick_below(x(ms), _short(ms))
            for factor in factors
            if low <= math.log10(ms := factor * 10.0**decade) <= high
        ]
    for at, count in enumerate(counts):
        if count:
            left, right, height = x(edges[at]), x(edges[at + 1]), count / ticks[-1] * _PLOT_H
            label = f"{_short(edges[at])} to {_short(edges[at + 1])} ms: {count}"
            body.append(
                f'<rect x="{left:.1f}" y="{TOP + _PLOT_H - height:.1f}" width="{max(1.0, right - left - 1):.1f}" '
                f'height="{height:.1f}" fill="var(--line)"><title>{label}</title></rect>'
            )
    body += [_limit_line(x(limit), f"{name} ≤ {limit:g}", row) for row, (name, limit) in enumerate(limits.items())]
    return _svg(f"{title}: distribution of {len(values)} values, ms, logarithmic", body, "ms (logarithmic)")


def time_chart(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    until_s: float,
    unit: str,
    whole: bool = False,
    limit: float | None = None,
) -> str:
    """One or two lines over the seconds of the run, each drawn with its name in the colour of its line.

    Args:
        limit: drawn dashed where the lines come near it; far below it they are to be seen themselves.
    """
    highest = max((value for line in series.values() for _, value in line), default=0.0)
    if limit is not None and limit > _NEAR * highest:
        limit = None
    highest = max(highest, limit or 0.0)
    ticks = nice_ticks(highest, whole=whole)
    until_s = max(until_s, 1e-9)

    def place(at_s: float, value: float) -> str:
        return f"{LEFT + at_s / until_s * _PLOT_W:.1f},{TOP + _PLOT_H - value / ticks[-1] * _PLOT_H:.1f}"

    body = _value_axis(ticks, unit)
    body += [
        _tick_below(LEFT + at / until_s * _PLOT_W, _short(at)) for at in nice_ticks(until_s, 5) if at <= until_s * 1.001
    ]
    if limit is not None:
        y = TOP + _PLOT_H - limit / ticks[-1] * _PLOT_H
        body.append(
            f'<line x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--limit)" '
            f'stroke-dasharray="4 3"/><text x="{LEFT + 4:g}" y="{y - 4 if y > TOP + 14 else y + 13:.1f}" '
            f'style="fill:var(--limit)">{_short(limit)}</text>'
        )
    for index, (name, line) in enumerate(series.items()):
        colour = _STROKES[index % len(_STROKES)]
        drawn = " ".join(place(at_s, value) for at_s, value in line)
        body.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        for at_s, value in line if len(line) <= 60 else ():
            cx, cy = place(at_s, value).split(",")
            told = f"{_short(at_s)} s: {name} {_short(value)} {unit}"
            body.append(f'<circle cx="{cx}" cy="{cy}" r="2" fill="{colour}"><title>{escape(told)}</title></circle>')
        if len(series) > 1:
            body.append(
                f'<text x="{WIDTH - RIGHT - 36 * (len(series) - 1 - index):g}" y="12" text-anchor="end" '
                f'style="fill:{colour}">{escape(name)}</text>'
            )
    return _svg(f"{title} over {until_s:.0f} s, {unit}", body, "seconds")


def _svg(label: str, body: Sequence[str], below: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(label)}">{"".join(body)}'
        f'<text x="{LEFT + _PLOT_W / 2:g}" y="{HEIGHT - 4:g}" text-anchor="middle">{escape(below)}</text></svg>'
    )


def _value_axis(ticks: Sequence[float], unit: str) -> list[str]:
    drawn = []
    for tick in ticks:
        y = TOP + _PLOT_H - tick / ticks[-1] * _PLOT_H
        drawn.append(
            f'<line x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--grid)"/>'
            f'<text x="{LEFT - 5:g}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
        )
    drawn.append(f'<text x="{LEFT:g}" y="12">{escape(unit)}</text>')
    return drawn


def _tick_below(x: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{TOP + _PLOT_H + 15:g}" text-anchor="middle">{text}</text>'


def _limit_line(x: float, text: str, row: int) -> str:
    """A dashed line with its name beside it, a row lower for each, so that close limits do not cover each other."""
    anchor, shift = ("end", -4) if x > WIDTH - 90 else ("start", 4)
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP:g}" y2="{TOP + _PLOT_H:g}" stroke="var(--limit)" '
        f'stroke-dasharray="4 3"/><text x="{x + shift:.1f}" y="{TOP + 16 + 13 * row:g}" text-anchor="{anchor}" '
        f'style="fill:var(--limit)">{escape(text)}</text>'
    )


def _short(value: float) -> str:
    """Three figures at most."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"
