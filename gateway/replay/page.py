"""A replay's report as one HTML page that needs nothing else: no script, no font, no address but its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from gateway.replay.charts import histogram, over_time, time_chart
from gateway.replay.report import BUSY_CORE, LATE_MS, BudgetLine, Report, Verdict, percentile

__all__ = ["page"]

_BUCKETS = 60
_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2430; --muted: #5c6675; --grid: #e3e7ec;
  --line: #2563a8; --line-2: #b45f06; --limit: #b3261e; --good: #1d6b34; --box: #f5f7f9 }
@media (prefers-color-scheme: dark) { :root { --back: #14181d; --text: #e6e9ed; --muted: #9aa4b1; --grid: #2b323b;
  --line: #74b0f0; --line-2: #f0a85a; --limit: #ff8a80; --good: #7fd394; --box: #1c2229 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
h3 { font-size: .95rem; margin: 0 0 .25rem; font-weight: 600 }
p { margin: .4rem 0 } .muted, small { color: var(--muted) }
.met { color: var(--good) } .missed { color: var(--limit); font-weight: 600 } .not-measured { color: var(--muted) }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--grid); white-space: nowrap;
  overflow-wrap: normal }
th:first-child, td:first-child { text-align: left }
.words :is(td, th) { text-align: left; white-space: normal }
th { color: var(--muted); font-weight: 500 }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)) }
figure { margin: 0; padding: .75rem; background: var(--box); border-radius: .5rem }
svg { display: block; width: 100%; height: auto } svg text { font-size: 11px; fill: var(--muted) }
dl { display: grid; grid-template-columns: fit-content(45%) 1fr; gap: .2rem 1rem; margin: 0 } dt { color: var(--muted) }
dd { margin: 0 } @media (max-width: 30rem) { table { font-size: .8rem } th, td { padding: .3rem .25rem }
  .budgets td:first-child { white-space: normal } }
.warning { border-left: 4px solid var(--limit); padding-left: .75rem }
"""


def page(report: Report) -> str:
    """The whole document."""
    title = f"{report.load['calls']:g} calls to the bot {report.bot}"
    parts = [
        f"<header><h1>{escape(title)}</h1>{_summary(report)}</header>",
        _section("Budgets", _budget_table(report.budgets) + _notes(report.budgets)),
        _section("Latency distributions", _grid(_distributions(report))),
        _section("Over the run", _grid(_time_series(report))),
        _section("Calls", _calls(report)),
        _section("Transcripts against the caller alone", _transcripts(report)),
        _section("Endings against the caller alone", _endings(report)),
        _section("Stages of a turn, ms", _stages(report)),
        _section("Measured on", _facts(report)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>voicegate replay: {escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{body}</section>"


def _summary(report: Report) -> str:
    missed = [line.name for line in report.budgets if line.verdict is Verdict.MISSED]
    said = f"missed: {', '.join(missed)}" if missed else "every measured budget met"
    kind = "missed" if report.verdict is Verdict.MISSED else "met"
    told = [warning for warning in report.warnings if warning != report.client_verdict.why]
    warnings = "".join(f'<p class="warning">{escape(warning)}</p>' for warning in told)
    return (
        f'<p class="{kind}">{escape(said)}; {report.ok} of {report.placed} calls ok, {report.failed} failed</p>'
        f'<p class="muted">{escape(report.date)} · {escape(report.machine.get("cpu", ""))}, '
        f"{escape(report.machine.get('cores', '?'))} cores · {escape(report.dialect)}</p>"
        f"{_client(report)}{warnings}"
    )


def _client(report: Report) -> str:
    """Whose results these are: as plain as the budgets."""
    verdict = report.client_verdict
    kind = "muted" if verdict.kept_up else "warning"
    return f'<p class="{kind}">{escape(verdict.why[:1].upper() + verdict.why[1:])}</p>'


def _budget_table(lines: Sequence[BudgetLine]) -> str:
    rows = []
    for line in lines:
        if "lost" in line.figures:
            figures = ["", "", "", f"{line.figures['lost']:.0f} lost"]
        else:
            figures = [_ms(line.figures.get(key)) for key in ("p50", "p90", "p99", "max")]
        limits = ", ".join(f"{key} ≤ {limit:g}" for key, limit in line.limits.items())
        verdict = f'<span class="{line.verdict.replace(" ", "-")}">{line.verdict}</span>'
        rows.append([escape(_name(line)), verdict, str(line.n or ""), *figures, escape(limits)])
    heads = ["budget", "", "n", "p50", "p90", "p99", "max", "limit"]
    return _table(heads, rows, kind="budgets")  # verdicts come second: a phone shows them without scrolling


def _notes(lines: Sequence[BudgetLine]) -> str:
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(note)}</dd>" for name, note in {x.name: x.note for x in lines}.items()
    )
    return f"<details><summary>How each is measured, or why not</summary><dl>{facts}</dl></details>"


def _name(line: BudgetLine) -> str:
    return line.name if line.under == "load" else f"{line.name} ({line.under})"


def _distributions(report: Report) -> Iterable[tuple[str, str]]:
    for line in report.budgets:
        if line.values:
            yield _name(line), histogram(_name(line), line.values, line.limits)


def _time_series(report: Report) -> Iterable[tuple[str, str]]:
    until_s = report.load["wall_s"] or 0.0
    replies = "endpoint_to_reply_ms" if report.dialect == "native" else "speech_end_to_reply_ms"
    limits = {line.name: line.limits.get("p99") for line in report.budgets if line.under != "alone"}
    for name in (replies, "first_utterance_ms"):
        stretches = over_time(
            [(point.at_s, point.ms) for point in report.points if point.name == name], until_s=until_s, buckets=_BUCKETS
        )
        if stretches:
            lines = {
                "p50": [(at_s, percentile(values, 0.5)) for at_s, values in stretches],
                "max": [(at_s, values[-1]) for at_s, values in stretches],
            }
            yield name, time_chart(name, lines, until_s=until_s, unit="ms", limit=limits.get(name))
    samples = report.samples
    for title, unit, limit, pairs in (
        ("calls in progress", "calls", None, [(sample.at_s, float(sample.calls)) for sample in samples]),
        (
            "client: busiest process",
            "% of its core",
            BUSY_CORE * 100,
            [(s.at_s, s.busiest_share * 100) for s in samples],
        ),
        ("client: latest send", "ms late", LATE_MS, [(sample.at_s, sample.late_ms) for sample in samples]),
    ):
        stretches = over_time(pairs, until_s=until_s, buckets=_BUCKETS)
        if stretches:
            worst = [(at_s, values[-1]) for at_s, values in stretches]
            chart = time_chart(title, {title: worst}, until_s=until_s, unit=unit, whole=unit == "calls", limit=limit)
            yield title, chart


def _calls(report: Report) -> str:
    ends = ", ".join(f"{escape(how)} {count}" for how, count in sorted(report.ended_by.items()))
    text = (
        f"<p>{report.placed} placed, {report.ok} ok, {report.failed} failed. Ended by: {ends}. "
        f"{report.cut} were cut when the time was over.</p>"
    )
    if report.failures:
        rows = [[escape(reason), str(count)] for reason, count in report.failures.items()]
        text += _table(["why calls failed", "times"], rows, kind="words")
    return text


def _transcripts(report: Report) -> str:
    if not report.turns_compared:
        return '<p class="muted">Not compared: no solo pass, or no turn in it, or a dialect that tells no words.</p>'
    text = f"<p>{report.turns_differing} of {report.turns_compared} turns were heard otherwise.</p>"
    if report.differences:
        rows = [[escape(one.recording), escape(one.alone), escape(one.heard)] for one in report.differences]
        text += _table(["recording", "alone", "under load"], rows, kind="words")
    return text


def _endings(report: Report) -> str:
    if not report.endings_compared:
        return '<p class="muted">Not compared: no solo pass, or no call that came to its end.</p>'
    text = f"<p>{report.endings_differing} of {report.endings_compared} calls ended otherwise.</p>"
    if report.endings:
        rows = [[escape(one.caller), escape(one.alone), escape(one.loaded), str(one.calls)] for one in report.endings]
        text += _table(["caller", "alone", "under load", "calls"], rows, kind="words")
    return text


def _stages(report: Report) -> str:
    if not report.stages:
        return '<p class="muted">Not told: no turn was answered, or not in our own dialect.</p>'
    rows = [
        [escape(name), *(_ms(figures[key]) for key in ("p50", "p90", "p99", "max"))]
        for name, figures in sorted(report.stages.items())
    ]
    return _table(["stage", "p50", "p90", "p99", "max"], rows)


def _facts(report: Report) -> str:
    load, client = report.load, report.client
    duration = f"{load['duration_s']:g} s" if load["duration_s"] else "one call each"
    processes = f"{client.processes} process{'es' if client.processes > 1 else ''}"
    facts = {
        "gateway": f"{report.url}{', started for this run on the same machine' if report.own_gateway else ''}",
        "load": f"{load['calls']:g} calls at once, begun over {load['ramp_s']:g} s, {duration}",
        "callers": "; ".join(f"{name} ({len(said)} recordings)" for name, said in report.callers.items()),
        "dialect": report.dialect,
        "speed": f"{load['speed']:g} times real time",
        "client": f"{processes}, {client.cpu_share:.0%} of a core, "
        f"{client.messages} messages, sent late by p50 {client.late_p50_ms:.1f}, p99 {client.late_p99_ms:.1f}, "
        f"at most {client.late_max_ms:.0f} ms",
        **report.machine,
    }
    return f"<dl>{''.join(f'<dt>{escape(key)}</dt><dd>{escape(value)}</dd>' for key, value in facts.items())}</dl>"


def _grid(charts: Iterable[tuple[str, str]]) -> str:
    drawn = "".join(f"<figure><h3>{escape(title)}</h3>{svg}</figure>" for title, svg in charts)
    return f'<div class="grid">{drawn}</div>' if drawn else '<p class="muted">Nothing was measured.</p>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Cells are markup already."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}"><tr>{head}</tr>{body}</table></div>'


def _ms(value: float | None) -> str:
    if value is None or math.isinf(value):
        return "" if value is None else "off scale"  # past the last bucket of a histogram of the gateway's
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
