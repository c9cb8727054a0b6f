"""What a person sees of a replay: a live line while it runs, a table when it is over."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column, Table

from gateway.replay.load import Load, Progress
from gateway.replay.report import BUSY_CORE, LATE_MS, BudgetLine, Report, percentile

__all__ = ["live_line", "ms_text", "print_report"]


@contextmanager
def live_line(load: Load) -> Iterator[Callable[[Progress], None]]:
    """One live line on stderr; a piped stderr gets the last of it only."""
    expected = {"alone": float(len(load.callers)), "load": load.duration_s or float(load.calls)}
    bar = Bar(
        TextColumn("{task.description}", table_column=Column(min_width=6, no_wrap=True)),
        BarColumn(20),
        TextColumn("{task.fields[figures]}"),
        console=Console(stderr=True, highlight=False),
        refresh_per_second=2,
    )
    tasks = {}

    def told(now: Progress) -> None:
        if now.phase not in tasks:
            tasks[now.phase] = bar.add_task(now.phase, total=expected[now.phase], figures="")
        replies = sorted(now.replies_ms)
        figures = f"{now.live} live, {now.done} done, [{'red' if now.failed else 'dim'}]{now.failed} failed[/]"
        if replies:
            figures += f", reply p50 {percentile(replies, 0.5):.0f} p99 {percentile(replies, 0.99):.0f} ms"
        if now.phase == "load":
            busy = now.busiest_share > BUSY_CORE or now.late_ms > LATE_MS
            client = f"client {now.busiest_share:.0%} of its core, {now.late_ms:.0f} ms late"
            figures += f", [red]{client}[/]" if busy else f", {client}"
        timed = now.phase == "load" and load.duration_s is not None
        bar.update(tasks[now.phase], completed=now.at_s if timed else now.done, figures=figures)

    with bar:
        yield told


_STYLE = {"met": "green", "missed": "bold red", "not measured": "dim"}


def print_report(result: Report, html: Path | None) -> None:
    """The budgets as a table, then what is to be said of calls, transcripts and the client."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    table = Table(title=f"{result.bot} at {result.url}, {result.dialect}", title_justify="left", header_style="bold")
    table.add_column("budget")
    for name in ("n", "p50", "p90", "p99", "max", "budget"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for line in result.budgets:
        style = _STYLE[line.verdict]
        name = line.name if line.under == "load" else f"{line.name} ({line.under})"
        table.add_row(name, str(line.n or "-"), *_figures(line), _limits(line), f"[{style}]{line.verdict}[/]")
    console.print(table)
    for name, note in {line.name: line.note for line in result.budgets}.items():
        console.print(f"[dim]{name}: {escape(note)}[/]", soft_wrap=True)
    console.print(
        f"\ncalls: {result.placed} placed, {result.ok} ok ({result.cut} of them cut when the time was over), "
        f"{'[red]' if result.failed else ''}{result.failed} failed{'[/]' if result.failed else ''}"
    )
    for reason, count in result.failures.items():
        console.print(f"  [red]{count}[/] x {escape(reason)}")
    if result.turns_compared:
        console.print(f"transcripts: {result.turns_differing} of {result.turns_compared} differ from the caller alone")
        for one in result.differences[:5]:
            console.print(f"  {one.recording}: alone {one.alone!r}, under load {one.heard!r}", markup=False)
    if result.endings_compared:
        console.print(f"endings: {result.endings_differing} of {result.endings_compared} differ from the caller alone")
        for ending in result.endings[:5]:
            console.print(f"  {ending.calls} x {ending}", markup=False)
    if result.client_verdict.kept_up:
        console.print(result.client_verdict.why)
    for warning in result.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}")
    if html is not None:
        console.print(f"page: {escape(str(html))}")


def _figures(line: BudgetLine) -> list[str]:
    if "lost" in line.figures:
        return ["-", "-", "-", f"{line.figures['lost']:.0f} lost"]
    return [ms_text(line.figures.get(name)) for name in ("p50", "p90", "p99", "max")]


def _limits(line: BudgetLine) -> str:
    return ", ".join(f"{name} ≤ {limit:g}" for name, limit in line.limits.items())


def ms_text(value: float | None) -> str:
    """A latency for a table; a dash where there is none."""
    if value is None or math.isinf(value):
        return "-" if value is None else "off scale"  # past the last bucket of a histogram of the gateway's
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
